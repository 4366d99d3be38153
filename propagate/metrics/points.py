"""PCK: the share of keypoints that lie near enough to the truth, by the protocols of video.

Sources: `eval_pck.py` of videowalk for JHMDB; BADJA (Biggs et al., ACCV 2018) for sqrt(mask area).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from propagate.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Float, Float64, Shaped

JHMDB_BOX_SHARE = 0.6
"""JHMDB's distances count in this share of the diagonal of the box around the true joints."""


def jhmdb_distances(
    pred: Float[np.ndarray, "t k 2"], true: Float[np.ndarray, "t k 2"]
) -> Float64[np.ndarray, "t k"]:
    """Distances to the true joints, in 0.6 diagonals of each frame's box.

    As in videowalk a joint counts where the *prediction* has a place, and the box of a frame is
    that of the true places of those joints. Frame 0, which was given, doesn't count.

    Args:
        pred: (x, y) in pixels; NaN where no place was predicted.
        true: (x, y) in pixels of the same image; places beyond its border count too.

    Returns:
        NaN where nothing counts.

    Raises:
        InputError: the shapes differ.
    """
    _check(pred, true)
    predicted = np.isfinite(pred).all(2)
    places = np.where(predicted[..., None], true, np.nan).astype(np.float64)
    some = predicted.any(1)
    diagonal = np.full(len(true), np.nan)
    extent = np.nanmax(places[some], axis=1) - np.nanmin(places[some], axis=1)
    diagonal[some] = JHMDB_BOX_SHARE * np.linalg.norm(extent, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        # A single joint has a box without extent; it is right only where it is met exactly.
        distances = np.asarray(np.linalg.norm(pred - places, axis=2) / diagonal[:, None])
    distances[np.isnan(distances) & predicted] = 0.0
    distances[0] = np.nan
    return distances


def jhmdb_pck(
    distances: Float[np.ndarray, "n k"], thresholds: Sequence[float]
) -> Float64[np.ndarray, "thresholds k"]:
    """Percentage of each joint's distances that are at most the threshold, clips pooled.

    The published number is the mean over the joints. A joint that never counts is NaN, where
    videowalk divides by zero.

    Args:
        distances: of all frames of all clips; see `jhmdb_distances`.
        thresholds: 0.1 and 0.2 are published.
    """
    distances = np.asarray(distances, dtype=np.float64)
    counts = np.isfinite(distances).sum(0)
    found = np.full((len(thresholds), distances.shape[1]), np.nan)
    for row, threshold in enumerate(thresholds):
        right = (distances <= threshold).sum(0)
        np.divide(100.0 * right, counts, out=found[row], where=counts > 0)
    return found


def mask_scale(mask: Shaped[np.ndarray, "h w"]) -> float:
    """BADJA's unit of distance: the square root of the area of the animal, in pixels."""
    return math.sqrt(np.count_nonzero(mask))


def scaled_distances(
    pred: Float[np.ndarray, "*t k 2"],
    true: Float[np.ndarray, "*t k 2"],
    scale: Float[np.ndarray, "*t"],
) -> Float64[np.ndarray, "*t k"]:
    """Distances to the true points in units of `scale`; infinite where there is no prediction.

    Args:
        pred: (x, y) in pixels, NaN for a point that was lost.
        true: (x, y) in pixels of the same image; NaN for a point that doesn't count.
        scale: pixels per unit, for each frame; `mask_scale`, a side of the image or of a box.

    Returns:
        NaN where the truth is.

    Raises:
        InputError: the shapes differ, or a scale is not positive.
    """
    _check(pred, true)
    scale = np.asarray(scale, dtype=np.float64)
    if not (scale > 0).all():
        raise InputError(
            "A unit of distance is 0 pixels, as for an empty mask; leave that frame out."
        )
    distances = np.linalg.norm(pred.astype(np.float64) - true, axis=-1) / scale[..., None]
    counts = np.isfinite(true).all(-1)
    return np.where(counts, np.where(np.isfinite(distances), distances, np.inf), np.nan)


def pck(distances: Float[np.ndarray, "*n"], threshold: float) -> float:
    """Percentage of the distances that are at most `threshold`; NaN ones don't count.

    Raises:
        InputError: none counts.
    """
    counting = distances[~np.isnan(distances)]
    if counting.size == 0:
        raise InputError("No point counts, so there is no PCK; give at least one true point.")
    return 100 * float((counting <= threshold).mean())


def _check(pred: np.ndarray, true: np.ndarray) -> None:
    if pred.shape != true.shape or pred.shape[-1:] != (2,):
        raise InputError(
            f"The predicted points have shape {list(pred.shape)} and the true ones "
            f"{list(true.shape)}; both must be the same, with (x, y) last."
        )
