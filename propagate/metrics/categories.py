"""Mean intersection over union of categories over a whole data set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from propagate.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Float64, Int64, Integer


def confusion(
    pred: Integer[np.ndarray, "h w"],
    true: Integer[np.ndarray, "h w"],
    count: int,
    *,
    void: int = 255,
) -> Int64[np.ndarray, "true pred"]:
    """How many pixels of each true category were given each category.

    Args:
        pred: category of each pixel; from `count` on it is wrong whatever the truth.
        true: true category of each pixel.
        count: categories there are, background included.
        void: true category of pixels that don't count.

    Returns:
        int64 [count, count + 1]; the last column is for predictions from `count` on.

    Raises:
        InputError: the shapes differ, or a true category is out of range.
    """
    if pred.shape != true.shape:
        raise InputError(
            f"The predicted categories are {list(pred.shape)} and the true ones "
            f"{list(true.shape)}; both must be the same [h, w]."
        )
    known = true != void
    rows, columns = true[known].astype(np.int64), pred[known].astype(np.int64)
    if rows.size and (rows.max() >= count or rows.min() < 0):
        raise InputError(
            f"The truth has category {rows.max() if rows.max() >= count else rows.min()}; there "
            f"are {count}, from 0."
        )
    pairs = rows * (count + 1) + np.minimum(columns, count)
    return np.bincount(pairs, minlength=count * (count + 1)).reshape(count, count + 1)


def category_iou(confused: Int64[np.ndarray, "true pred"]) -> Float64[np.ndarray, " true"]:
    """Intersection over union of each category, in [0, 1]; NaN where nobody has a pixel of it."""
    count = len(confused)
    intersection = np.diagonal(confused).astype(np.float64)
    union = confused.sum(1) + confused[:, :count].sum(0) - intersection
    found = np.full(count, np.nan)
    np.divide(intersection, union, out=found, where=union > 0)
    return found
