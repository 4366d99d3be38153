"""Soft labels pulled to the outlines of the picture by a guided filter.

Source: He, Sun, Tang: Guided Image Filtering (2010), with a colour picture as the guide, and the
statistics taken from a smaller copy (He, Sun: Fast Guided Filter, 2015). In every window the labels
are approximated by a linear function of the colour; a pixel takes the mean of the functions of the
windows that it lies in, applied to its own colour. So labels change where the colour does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from propagate.errors import InputError
from propagate.types import Size

if TYPE_CHECKING:
    from jaxtyping import Float32, UInt8

# Rows and columns of a picture.
Part = tuple[slice, slice]

# Chosen on DAVIS-2016 train at 480p: windows of 13 pixels, of which the statistics see 7 x 7.
_RADIUS_SHARE = 6 / 480
_EPSILON = 1e-3
_COARSE_RADIUS = 3
# Entries of a symmetric matrix.
_UPPER = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))


@dataclass(frozen=True, kw_only=True)
class GuideSettings:
    """The filter's strength.

    Args:
        radius: of the windows, in pixels.
        epsilon: squared contrast, of colours from 0 to 1, from which on the labels follow an edge.
        step: pixels of the picture, along each side, for one of the statistics; 1 is exact.
    """

    radius: int
    epsilon: float = _EPSILON
    step: int = 1

    def __post_init__(self) -> None:
        for name in ("radius", "step"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be 1 or more.")
        if not self.epsilon > 0:
            raise InputError(f"epsilon is {self.epsilon}; it must be greater than 0.")

    @classmethod
    def of(cls, size: Size) -> GuideSettings:
        """Windows that are the same part of every picture, whatever its size."""
        radius = max(round(_RADIUS_SHARE * min(size)), 1)
        return cls(radius=radius, step=max(round(radius / _COARSE_RADIUS), 1))

    @property
    def coarse_radius(self) -> int:
        """Radius of the windows in the statistics' own pixels."""
        return max(round(self.radius / self.step), 1)

    @property
    def reach(self) -> int:
        """Pixels that a label's influence reaches at most."""
        return 2 * self.step * (self.coarse_radius + 1)


class Guide:
    """A picture that labels follow.

    Args:
        rgb: the picture, or a part of it; its sides are multiples of the settings' step.
        settings: of the filter.

    Raises:
        InputError: they aren't.
    """

    def __init__(self, rgb: UInt8[np.ndarray, "h w 3"], settings: GuideSettings) -> None:
        if any(side % settings.step for side in rgb.shape[:2]):
            raise InputError(
                f"The picture is {Size(*rgb.shape[:2])}; its sides must be multiples of the "
                f"step, {settings.step}."
            )
        self._settings = settings
        self._colours = [plane.astype(np.float32) / 255 for plane in cv2.split(rgb)]
        self._coarse = [self._shrunk(plane) for plane in self._colours]
        self._means = [self._windowed(plane) for plane in self._coarse]
        self._inverse = _inverse(
            [
                self._windowed(self._coarse[i] * self._coarse[j]) - self._means[i] * self._means[j]
                for i, j in _UPPER
            ],
            settings.epsilon,
        )

    def refine(
        self, scores: Float32[np.ndarray, "h w"], part: Part | None = None
    ) -> Float32[np.ndarray, "h w"]:
        """Scores of one label, filtered; constant ones stay, and a sum of labels stays their sum.

        Args:
            scores: one per pixel of the part. They may leave their range a little.
            part: rows and columns of the picture, which begin and end at whole steps. Where scores
                are 0 all along its border, `reach` deep, the result is that of the whole picture.
        """
        rows, columns = part or (slice(0, scores.shape[0]), slice(0, scores.shape[1]))
        step = self._settings.step
        at = (
            slice(rows.start // step, rows.stop // step),
            slice(columns.start // step, columns.stop // step),
        )
        means = [plane[at] for plane in self._means]
        coarse = self._shrunk(scores)
        mean = self._windowed(coarse)
        joint = [
            self._windowed(plane[at] * coarse) - middle * mean
            for plane, middle in zip(self._coarse, means, strict=True)
        ]
        slopes = [sum(self._inverse[i, j][at] * joint[j] for j in range(3)) for i in range(3)]
        offset = mean - sum(s * m for s, m in zip(slopes, means, strict=True))
        result = self._grown(offset)
        for slope, plane in zip(slopes, self._colours, strict=True):
            cv2.accumulateProduct(self._grown(slope), plane[rows, columns], result)
        return result

    def _shrunk(self, plane: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h2 w2"]:
        step = self._settings.step
        if step == 1:
            return plane
        height, width = (side // step for side in plane.shape)
        return np.asarray(cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA))

    def _grown(self, plane: Float32[np.ndarray, "h2 w2"]) -> Float32[np.ndarray, "h w"]:
        """The mean of the functions of a pixel's windows, at every pixel."""
        step = self._settings.step
        size = plane.shape[1] * step, plane.shape[0] * step
        return np.asarray(cv2.resize(self._windowed(plane), size))

    def _windowed(self, plane: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
        """Mean over the window around each place; the picture is mirrored at its border."""
        side = 2 * self._settings.coarse_radius + 1
        return np.asarray(cv2.blur(plane, (side, side), borderType=cv2.BORDER_REFLECT))


def _inverse(
    covariance: Sequence[Float32[np.ndarray, "h w"]], epsilon: float
) -> dict[tuple[int, int], Float32[np.ndarray, "h w"]]:
    """Entries of the inverse of covariance + epsilon, from the `_UPPER` ones; it is symmetric."""
    a, b, c, d, e, f = covariance
    a, d, f = a + epsilon, d + epsilon, f + epsilon
    cofactors = (
        *(d * f - e * e, c * e - b * f, b * e - c * d),
        *(a * f - c * c, b * c - a * e, a * d - b * b),
    )
    determinant = a * cofactors[0] + b * cofactors[1] + c * cofactors[2]
    entries = {place: plane / determinant for place, plane in zip(_UPPER, cofactors, strict=True)}
    return entries | {(j, i): plane for (i, j), plane in entries.items()}
