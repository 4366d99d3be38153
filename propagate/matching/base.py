"""What every way of finding points of one image in another offers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from propagate.errors import InputError
from propagate.types import Frame, Matches, Size

if TYPE_CHECKING:
    from jaxtyping import Float, Float64


class PairMatcher(Protocol):
    """Finds points of one image in another; may keep what it worked out for an image.

    An image is known by its source and index.
    """

    @property
    def identity(self) -> str:
        """Everything that changes the matches: weights, layers, settings, seed."""
        ...

    def match(
        self,
        source: Frame,
        target: Frame,
        xy: Float[np.ndarray, "n 2"],
        *,
        subject: str | None = None,
    ) -> Matches:
        """Where points of one image are in the other.

        Args:
            source: the image with the points.
            target: the other one, of any size.
            xy: the points, in pixels of the source from the outer corner of the top-left pixel.
            subject: what both images show, such as "cat", for matchers that read text.

        Returns:
            In the order of `xy`, best place first; fewer where matches were dropped.

        Raises:
            InputError: a point lies outside of the source.
        """
        ...


def checked_points(xy: Float[np.ndarray, "n 2"], size: Size) -> Float64[np.ndarray, "n 2"]:
    """Points as float64.

    Raises:
        InputError: they are no [n, 2], or one lies outside of an image of `size`.
    """
    points = np.asarray(xy, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 2:
        raise InputError(f"Points must be [n, 2], one x and y each, not {list(points.shape)}.")
    inside = ((points >= 0) & (points <= (size.width, size.height))).all(axis=1)
    if not inside.all():
        x, y = points[int((~inside).argmax())]
        raise InputError(
            f"The point ({x:g}, {y:g}) lies outside of the image of {size} pixels; give points "
            "inside of it."
        )
    return points
