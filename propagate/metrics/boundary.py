"""Boundary accuracy F: how well the outlines of two binary masks agree within a tolerance.

Source: Perazzi et al., CVPR 2016, section 5.1; numbers as `db_eval_boundary` of
davis2017-evaluation.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np

from propagate.errors import InputError
from propagate.metrics.region import as_binary
from propagate.types import Size

if TYPE_CHECKING:
    from jaxtyping import Bool, Float64, Shaped, UInt8

DAVIS_BOUND_TH = 0.008
"""Tolerance of the DAVIS benchmark, a fraction of the image diagonal."""


def boundary_f(
    pred: Shaped[np.ndarray, "*t h w"],
    gt: Shaped[np.ndarray, "*t h w"],
    *,
    bound_th: float = DAVIS_BOUND_TH,
    void: Shaped[np.ndarray, "*t h w"] | None = None,
) -> Float64[np.ndarray, "*t"]:
    """F of each frame, in [0, 1]: the harmonic mean of boundary precision and recall.

    F is 1 where neither mask has a boundary (a mask that fills the frame has none) and 0 where
    one of them has none. Void pixels are set to background first, so a void region that cuts a
    mask makes a new boundary, as in the official code.

    Args:
        pred: predicted mask, non-zero inside the object; [h, w] or a stack of frames.
        gt: true mask of the same shape.
        bound_th: tolerance; see `tolerance_radius`.
        void: non-zero where a pixel is unknown.

    Raises:
        InputError: the shapes differ, or `bound_th` is unusable.
    """
    inside_pred, inside_gt = as_binary(pred, gt, void=void)
    height, width = gt.shape[-2:]
    radius = tolerance_radius(Size(height, width), bound_th)
    frames = zip(
        inside_pred.reshape(-1, height, width), inside_gt.reshape(-1, height, width), strict=True
    )
    values = [frame_boundary_f(*crop_to_objects(p, g), radius=radius) for p, g in frames]
    return np.array(values, dtype=np.float64).reshape(gt.shape[:-2])


def tolerance_radius(size: Size, bound_th: float = DAVIS_BOUND_TH) -> int:
    """How many pixels two outlines may lie apart and still match.

    Args:
        size: frame size in pixels.
        bound_th: below 1, a fraction of the frame diagonal, rounded up; from 1, whole pixels.

    Raises:
        InputError: `bound_th` is not positive, or is a broken number of pixels.
    """
    if not (0 < bound_th < 1 or (bound_th >= 1 and float(bound_th).is_integer())):
        raise InputError(
            f"bound_th is {bound_th}; it must be a fraction of the frame diagonal in (0, 1) "
            "or a whole number of pixels."
        )
    if bound_th >= 1:
        return int(bound_th)
    return math.ceil(bound_th * float(np.linalg.norm(size)))


def crop_to_objects(
    pred: Shaped[np.ndarray, "h w"], gt: Shaped[np.ndarray, "h w"]
) -> tuple[Shaped[np.ndarray, "y x"], Shaped[np.ndarray, "y x"]]:
    """Both maps cut to the smallest box that holds every boundary pixel of either.

    The box has a margin of one pixel (where the frame goes on) since the boundary map may lie one
    pixel north-west of a mask, and its own south-eastern edge must not look like the frame's.
    """
    boxes = [box for box in (_non_zero_box(pred), _non_zero_box(gt)) if box is not None]
    if not boxes:
        return pred[:0, :0], gt[:0, :0]
    top, left = (max(min(box[i] for box in boxes) - 1, 0) for i in (0, 1))
    bottom, right = (max(box[i] for box in boxes) + 1 for i in (2, 3))
    return pred[top:bottom, left:right], gt[top:bottom, left:right]


def _non_zero_box(values: Shaped[np.ndarray, "h w"]) -> tuple[int, int, int, int] | None:
    """Top, left, bottom and right (exclusive) of the non-zero pixels, or None without any."""
    if values.dtype != np.uint8:
        values = (values if values.dtype == np.bool_ else values != 0).view(np.uint8)
    left, top, width, height = cv2.boundingRect(values)
    return (top, left, top + height, left + width) if width else None


def frame_boundary_f(
    pred: Bool[np.ndarray, "h w"], gt: Bool[np.ndarray, "h w"], *, radius: int
) -> float:
    """F of one frame for a tolerance of `radius` pixels."""
    pred_boundary, gt_boundary = boundary_map(pred), boundary_map(gt)
    n_pred, n_gt = np.count_nonzero(pred_boundary), np.count_nonzero(gt_boundary)
    if n_pred == 0 or n_gt == 0:
        return float(n_pred == n_gt)
    precision = np.count_nonzero(pred_boundary & dilate_by_disk(gt_boundary, radius)) / n_pred
    recall = np.count_nonzero(gt_boundary & dilate_by_disk(pred_boundary, radius)) / n_gt
    if precision + recall == 0:
        return 0.0
    return 2 * precision * recall / (precision + recall)


def boundary_map(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Pixels that differ from their east, south or south-east neighbour inside the frame."""
    boundary = np.zeros_like(mask)
    boundary[:, :-1] = mask[:, :-1] ^ mask[:, 1:]
    boundary[:-1] |= mask[:-1] ^ mask[1:]
    boundary[:-1, :-1] |= mask[:-1, :-1] ^ mask[1:, 1:]
    return boundary


def dilate_by_disk(mask: Bool[np.ndarray, "h w"], radius: int) -> Bool[np.ndarray, "h w"]:
    """Dilation by the disk dx^2 + dy^2 <= radius^2, as a union of shifted row dilations.

    Every row of the disk is a run of pixels, and the runs widen from its pole to its equator, so
    each run's row dilation grows out of the one before: O(radius) work per pixel, not O(radius^2).
    """
    height, width = mask.shape
    grown: UInt8[np.ndarray, "h w"] = mask.view(np.uint8)
    union = np.zeros((height + 2 * radius, width), dtype=np.uint8)
    reach = 0
    for dy in range(radius, -1, -1):
        run = math.isqrt(radius * radius - dy * dy)
        if run > reach:
            grown = cv2.dilate(grown, np.ones((1, 2 * (run - reach) + 1), dtype=np.uint8))
            reach = run
        for top in {radius - dy, radius + dy}:
            union[top : top + height] |= grown
    return union[radius : radius + height].view(np.bool_)
