"""PCK: the share of keypoints whose predicted place is close enough to the true one.

Close enough is a share (alpha) of some side: of the image, of the object's box, of the box around
the keypoints, or the root of the mask's area. Data sets and papers differ in the side and in
whether a point exactly on the threshold counts, so both are arguments here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from propagate.errors import InputError
from propagate.types import Size

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Shaped


def image_side(size: Size) -> float:
    """Longer side of an image, in pixels."""
    return float(max(size))


def box_side(box: Sequence[float]) -> float:
    """Longer side of a box (left, top, right, bottom), in pixels."""
    left, top, right, bottom = box
    return float(max(right - left, bottom - top))


def keypoint_side(xy: Float[np.ndarray, "n 2"]) -> float:
    """Longer side of the box around some keypoints; those without a place (NaN) are left out."""
    known = np.asarray(xy, dtype=np.float64)
    known = known[np.isfinite(known).all(axis=1)]
    if not len(known):
        raise InputError("There is no keypoint with a place, so the box around them has no side.")
    return float(np.ptp(known, axis=0).max())


def mask_side(mask: Shaped[np.ndarray, "h w"]) -> float:
    """Square root of a mask's area, in pixels; BADJA's measure."""
    return float(np.sqrt(np.count_nonzero(mask)))


def correct_points(
    predicted: Float[np.ndarray, "n 2"],
    true: Float[np.ndarray, "n 2"],
    *,
    side: float,
    alpha: float = 0.1,
    strict: bool = False,
) -> Bool[np.ndarray, " n"]:
    """Whether each predicted point lies within `alpha` times `side` of the true one.

    Args:
        predicted: (x, y) in pixels; NaN where nothing was found, which is wrong.
        true: (x, y) in pixels.
        side: see the functions above, in pixels.
        alpha: share of it, greater than 0.
        strict: whether a point exactly on the threshold is wrong (`<`) instead of right (`<=`).

    Raises:
        InputError: the shapes differ, or `side` or `alpha` is not greater than 0.
    """
    if predicted.shape != true.shape or true.ndim != 2 or true.shape[1] != 2:
        raise InputError(
            f"The predicted points are {list(predicted.shape)} and the true ones "
            f"{list(true.shape)}; both must be the same [n, 2]."
        )
    for name, value in (("side", side), ("alpha", alpha)):
        if not value > 0:
            raise InputError(f"{name} is {value}; it must be greater than 0.")
    off = np.asarray(predicted, dtype=np.float64) - np.asarray(true, dtype=np.float64)
    share = np.sqrt((off**2).sum(axis=1)) / side
    return np.asarray(share < alpha if strict else share <= alpha)


@dataclass(frozen=True)
class Pck:
    """PCK of some pairs, each value from 0 to 1.

    Args:
        per_image: mean over pairs of the share of correct points.
        per_point: share of correct points of all pairs together.
        pairs: how many have a point.
        points: of all pairs.
    """

    per_image: float
    per_point: float
    pairs: int
    points: int


@dataclass(frozen=True)
class PckSummary:
    """PCK of a data set.

    Args:
        overall: over all pairs, whatever their category.
        categories: of each category.
    """

    overall: Pck
    categories: Mapping[str, Pck]

    @property
    def category_mean(self) -> Pck:
        """Means over categories of both figures; pairs and points are those of all."""
        parts = list(self.categories.values())
        return Pck(
            float(np.mean([part.per_image for part in parts])),
            float(np.mean([part.per_point for part in parts])),
            self.overall.pairs,
            self.overall.points,
        )


def summarise(pairs: Sequence[tuple[str, Bool[np.ndarray, " n"]]]) -> PckSummary:
    """PCK per image, per point and per category.

    Args:
        pairs: category, and which points are correct; a pair without points counts nowhere.

    Raises:
        InputError: no pair has a point.
    """
    scored = [(category, correct) for category, correct in pairs if len(correct)]
    if not scored:
        raise InputError("No pair has a point, so there is nothing to score.")
    categories: dict[str, list[Bool[np.ndarray, " n"]]] = {}
    for category, correct in scored:
        categories.setdefault(category, []).append(correct)
    return PckSummary(
        _pck([correct for _, correct in scored]),
        {name: _pck(categories[name]) for name in sorted(categories)},
    )


def _pck(pairs: Sequence[Bool[np.ndarray, " n"]]) -> Pck:
    together = np.concatenate(pairs)
    per_image = float(np.mean([np.mean(correct) for correct in pairs]))
    return Pck(per_image, float(together.mean()), len(pairs), len(together))
