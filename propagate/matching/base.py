"""What every way of finding points of one image in another offers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from propagate.types import Frame, Matches

if TYPE_CHECKING:
    from jaxtyping import Float


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
