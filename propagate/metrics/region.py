"""Region similarity J: intersection over union of two binary masks.

Source: Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object
Segmentation", CVPR 2016, section 5.1; numbers as `db_eval_iou` of davis2017-evaluation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from propagate.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Bool, Float64, Shaped


def jaccard(
    pred: Shaped[np.ndarray, "*t h w"],
    gt: Shaped[np.ndarray, "*t h w"],
    *,
    void: Shaped[np.ndarray, "*t h w"] | None = None,
) -> Float64[np.ndarray, "*t"]:
    """J of each frame, in [0, 1]; 1 where both masks are empty.

    Args:
        pred: predicted mask, non-zero inside the object; [h, w] or a stack of frames.
        gt: true mask of the same shape.
        void: non-zero where a pixel counts for neither side.

    Raises:
        InputError: the shapes differ.
    """
    inside_pred, inside_gt = as_binary(pred, gt, void=void)
    intersection = np.count_nonzero(inside_pred & inside_gt, axis=(-2, -1))
    union = np.count_nonzero(inside_pred | inside_gt, axis=(-2, -1))
    return np.where(union == 0, 1.0, intersection / np.maximum(union, 1))


def as_binary(
    pred: Shaped[np.ndarray, "*t h w"],
    gt: Shaped[np.ndarray, "*t h w"],
    *,
    void: Shaped[np.ndarray, "*t h w"] | None,
) -> tuple[Bool[np.ndarray, "*t h w"], Bool[np.ndarray, "*t h w"]]:
    """Both masks as booleans, with the void pixels taken out.

    Raises:
        InputError: the shapes differ, or a mask has fewer than two axes.
    """
    for name, other in (("predicted", pred), ("void", void)):
        if other is not None and (other.shape != gt.shape or other.ndim < 2):
            raise InputError(
                f"The {name} mask has shape {list(other.shape)} and the true mask "
                f"{list(gt.shape)}; both must be the same [h, w] or [t, h, w]."
            )
    inside_pred, inside_gt = pred != 0, gt != 0
    if void is None:
        return inside_pred, inside_gt
    known = void == 0
    return inside_pred & known, inside_gt & known
