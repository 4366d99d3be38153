"""Keypoints to soft labels on a feature grid, and back."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
import torch

from propagate.config import KeypointSettings
from propagate.geometry import map_points
from propagate.types import Keypoints, LabelField, PointName, Size

if TYPE_CHECKING:
    from jaxtyping import Float64, Int

# Cells; the scores are smoothed by this much to find where most of them are, since the highest
# single cell is often a stray one.
_PEAK_BLUR = 1.0


class _Line(NamedTuple):
    bias: float
    slope: float


_CALIBRATION = _Line(bias=0.676, slope=0.673)


def encode_keypoints(
    keypoints: Keypoints, grid: Size, *, image_size: Size, sigma: float = 1.0
) -> LabelField:
    """Soft labels of keypoints: one channel per point, a Gaussian around its exact place.

    A background channel, which CRW has, is left out: channels don't influence each other in the
    vote, and a point's place is read from its own alone.

    Args:
        keypoints: of an image; points that are not visible get a channel of zeros.
        grid: feature grid, in cells.
        image_size: size of the image, in pixels.
        sigma: of the Gaussian, in cells.

    Returns:
        Scores that sum to 1 in the channel of each visible point; ids are 1, 2, ... in the order
        of the points.
    """
    cells = map_points(keypoints.xy.astype(np.float64), image_size, grid)
    scores = np.zeros((len(keypoints.names), *grid), dtype=np.float32)
    for channel, (x, y), visible in zip(scores, cells, keypoints.visible, strict=True):
        if visible:
            rows, columns = (
                _gaussian(length, centre, sigma)
                for length, centre in ((grid.height, y), (grid.width, x))
            )
            channel[:] = rows[:, None] * columns
    return LabelField(torch.from_numpy(scores), tuple(range(1, len(scores) + 1)))


def _gaussian(length: int, centre: float, sigma: float) -> Float64[np.ndarray, " n"]:
    """Weights of the cells along an axis, with sum 1.

    Less the distance of the nearest cell in the exponent, so that a narrow one never vanishes.
    """
    squares = (np.arange(length) + 0.5 - centre) ** 2
    weights = np.exp((squares.min() - squares) / (2 * sigma**2))
    return np.asarray(weights / weights.sum())


def decode_keypoints(
    field: LabelField,
    image_size: Size,
    *,
    names: tuple[PointName, ...],
    settings: KeypointSettings | None = None,
) -> Keypoints:
    """The place of each point, to a fraction of a cell.

    The confidence is how probable it is that the place is right (see `calibrated_confidence`). It
    follows from two shares: of the reference's scores that is around the place, and of the frame's
    scores for the point that is. It falls when few votes are for the point or they disagree about
    the place. The likeness of the voters, which helps with masks, tells nothing about points.

    Args:
        field: soft labels; channels follow `names`.
        image_size: size of the image, in pixels.
        names: of the points.
        settings: how to decode; None for the defaults.

    Returns:
        Points inside the image; without a place (NaN) where no cell has any score.
    """
    settings = settings or KeypointSettings()
    scores = field.scores.double().cpu().numpy()
    cells = np.full((len(names), 2), np.nan)
    confidence = np.zeros(len(names), dtype=np.float32)
    for index, channel in enumerate(scores):
        if channel.max() > 0:
            place, mass = _centre_around_peak(channel, settings.reach)
            cells[index] = place
            confidence[index] = calibrated_confidence(
                float(np.sqrt(min(mass, 1.0) * mass / channel.sum()))
            )
            if settings.decoding == "weighted":
                cells[index] = _centre_of_best(channel, settings.cells)
    xy = map_points(cells, field.grid, image_size).astype(np.float32)
    visible = np.isfinite(cells[:, 0]) & (confidence >= settings.visible_from)
    return Keypoints(names, xy, visible, confidence)


def calibrated_confidence(share: float) -> float:
    """How often a point is within 0.2 sqrt(area of the object) of the truth.

    A line through the log-odds, fitted on BADJA by `benchmarks/keypoint_confidence.py`.

    Args:
        share: geometric mean of the two shares that speak for the place, 0 to 1.
    """
    odds: float = (
        math.exp(_CALIBRATION.bias) * (share / max(1 - share, 1e-12)) ** _CALIBRATION.slope
    )
    return odds / (1 + odds)


def _centre_around_peak(
    channel: Float64[np.ndarray, "gh gw"], reach: int
) -> tuple[Float64[np.ndarray, " 2"], float]:
    """Centre of mass (x, y) of the cells around the peak, and their sum."""
    smooth = cv2.GaussianBlur(channel, (0, 0), _PEAK_BLUR, borderType=cv2.BORDER_CONSTANT)
    row, column = divmod(int(smooth.argmax()), smooth.shape[1])
    top, left = max(row - reach, 0), max(column - reach, 0)
    around = channel[top : row + reach + 1, left : column + reach + 1]
    mass = float(around.sum())
    if mass == 0:
        # A ring of scores may have its peak in the empty middle.
        return np.array([column + 0.5, row + 0.5]), mass
    x = around.sum(0) @ (np.arange(left, left + around.shape[1]) + 0.5)
    y = around.sum(1) @ (np.arange(top, top + around.shape[0]) + 0.5)
    return np.array([x, y]) / mass, mass


def _centre_of_best(channel: Float64[np.ndarray, "gh gw"], count: int) -> Float64[np.ndarray, " 2"]:
    """Mean place (x, y) of the `count` highest cells, weighted by their scores."""
    rows, columns, weights = best_cells(channel, count)
    return np.array([weights @ (columns + 0.5), weights @ (rows + 0.5)])


def best_cells(
    channel: Float64[np.ndarray, "gh gw"], count: int
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    """Rows and columns of the `count` highest cells, and their scores, made to sum to 1."""
    flat = channel.ravel()
    best = np.argsort(-flat, kind="stable")[:count]
    rows, columns = np.unravel_index(best, channel.shape)
    return rows, columns, flat[best] / flat[best].sum()
