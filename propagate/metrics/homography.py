"""How far an estimated homography moves the corners of an image from where they belong.

The corner error as `eval_homography.py` of DIFT has it; the area under the curve as in SuperGlue.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from propagate.errors import InputError
from propagate.types import Size

if TYPE_CHECKING:
    from jaxtyping import Float, Float64

THRESHOLDS = (1.0, 3.0, 5.0)
"""Pixels, as papers on HPatches report them."""


def warp(
    matrix: Float[np.ndarray, "3 3"], xy: Float[np.ndarray, "n 2"]
) -> Float64[np.ndarray, "n 2"]:
    """Places that a homography takes (x, y) to."""
    points = np.column_stack([np.asarray(xy, dtype=np.float64), np.ones(len(xy))])
    moved = points @ np.asarray(matrix, dtype=np.float64).T
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(moved[:, :2] / moved[:, 2:])


def corner_errors(
    estimate: Float[np.ndarray, "3 3"] | None, truth: Float[np.ndarray, "3 3"], size: Size
) -> Float64[np.ndarray, " 4"]:
    """Distance, in the other image, between a corner moved by the estimate and by the truth.

    Args:
        estimate: homography from the first image to the other, or None where none was found.
        truth: the true one. Both count pixels from the centre of the first one, as HPatches does.
        size: of the first image, in pixels.

    Returns:
        Pixels, for the centres of the corner pixels: top left, bottom left, top right, bottom
        right. Infinite without an estimate, or where it sends a corner to infinity.
    """
    if estimate is None:
        return np.full(4, np.inf)
    right, bottom = size.width - 1, size.height - 1
    corners = np.array([[0, 0], [0, bottom], [right, 0], [right, bottom]], dtype=np.float64)
    with np.errstate(invalid="ignore"):
        errors = np.linalg.norm(warp(estimate, corners) - warp(truth, corners), axis=1)
    return np.where(np.isfinite(errors), errors, np.inf)


def accuracy(
    errors: Float[np.ndarray, " n"], thresholds: Sequence[float] = THRESHOLDS
) -> Float64[np.ndarray, " t"]:
    """Share of errors up to each threshold (`<=`).

    Raises:
        InputError: there is no error.
    """
    errors = _checked(errors)
    return np.array([np.mean(errors <= threshold) for threshold in thresholds])


def area_under_curve(
    errors: Float[np.ndarray, " n"], thresholds: Sequence[float] = THRESHOLDS
) -> Float64[np.ndarray, " t"]:
    """Area under the share of errors up to e, for e from 0 to each threshold, divided by it.

    The share is joined by straight lines between the sorted errors, from 0 at 0.

    Raises:
        InputError: there is no error.
    """
    errors = np.sort(_checked(errors))
    shares = np.arange(1, len(errors) + 1) / len(errors)
    found = []
    for threshold in thresholds:
        below = int(np.searchsorted(errors, threshold))
        x = np.concatenate([[0.0], errors[:below], [threshold]])
        y = np.concatenate([[0.0], shares[:below], shares[below - 1 : below] if below else [0.0]])
        found.append(float(((x[1:] - x[:-1]) * (y[1:] + y[:-1])).sum() / 2 / threshold))
    return np.array(found)


def _checked(errors: Float[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    errors = np.asarray(errors, dtype=np.float64)
    if errors.ndim != 1 or not len(errors) or np.isnan(errors).any():
        raise InputError(
            f"Errors must be one number per pair, and at least one, not {list(errors.shape)}."
        )
    return errors
