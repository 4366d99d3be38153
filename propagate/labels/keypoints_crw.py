"""Keypoints on the grid as CRW has them on JHMDB, rounding included.

Cells are counted so that pixel 0's *centre* is the place of cell 0, with no half cell between; the
decoding counts the same way. Source: `draw_labelmap_np` and `process_pose` of videowalk. Its
background channel is left out: no channel of a point depends on it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from propagate.labels.keypoints import best_cells
from propagate.types import Keypoints, LabelField, PointName, Size

if TYPE_CHECKING:
    from jaxtyping import Float64

_PIXEL_CENTRE = 0.5
_REACH = 3  # sigmas


def encode_crw(
    keypoints: Keypoints, grid: Size, *, image_size: Size, sigma: float = 0.5
) -> LabelField:
    """Soft labels: one channel per point, a small Gaussian patch with peak 1 on a whole cell.

    The patch reaches 3 sigma to each side, cut off towards zero, so that near the left and upper
    border it is off by a cell. A point off the grid may have an empty channel.

    Args:
        keypoints: of an image; those that are not visible get a channel of zeros.
        grid: feature grid, in cells.
        image_size: size of the image, in pixels.
        sigma: in cells.
    """
    scale = np.array([grid.width / image_size.width, grid.height / image_size.height])
    cells = (keypoints.xy.astype(np.float64) - _PIXEL_CENTRE) * scale
    scores = np.zeros((len(keypoints.names), *grid), dtype=np.float32)
    for channel, (x, y), visible in zip(scores, cells, keypoints.visible, strict=True):
        if visible:
            rows, columns = _patch(y, grid.height, sigma), _patch(x, grid.width, sigma)
            channel[:] = rows[:, None] * columns
    return LabelField(torch.from_numpy(scores), tuple(range(1, len(scores) + 1)))


def _patch(place: float, length: int, sigma: float) -> Float64[np.ndarray, " n"]:
    """Weights of the cells along an axis."""
    start, stop = int(place - _REACH * sigma), int(place + _REACH * sigma + 1)
    size = 2 * _REACH * sigma + 1
    weights = np.zeros(length)
    cells = np.arange(max(start, 0), min(stop, length, start + math.ceil(size)))
    weights[cells] = np.exp(-((cells - start - size // 2) ** 2) / (2 * sigma**2))
    return weights


def decode_crw(
    field: LabelField, image_size: Size, *, names: tuple[PointName, ...], cells: int = 3
) -> Keypoints:
    """The place of each point: mean of its highest cells, weighted by their scores.

    Args:
        field: soft labels; channels follow `names`.
        image_size: size of the image, in pixels.
        names: of the points.
        cells: how many of the highest cells count.

    Returns:
        Points; without a place (NaN), and not visible, where no cell has any score.
    """
    scores = field.scores.double().cpu().numpy()
    scale = np.array([image_size.width / field.grid.width, image_size.height / field.grid.height])
    xy = np.full((len(names), 2), np.nan)
    for place, channel in zip(xy, scores, strict=True):
        if channel.max() > 0:
            rows, columns, weights = best_cells(channel, cells)
            place[:] = np.array([weights @ columns, weights @ rows]) * scale + _PIXEL_CENTRE
    return Keypoints(names, xy.astype(np.float32), np.isfinite(xy[:, 0]))
