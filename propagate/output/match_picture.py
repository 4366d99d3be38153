"""Matches of two pictures drawn side by side, and what resembles one point."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from matplotlib import colormaps

from propagate.types import Matches

if TYPE_CHECKING:
    from jaxtyping import Bool, Float64, UInt8

_HEIGHT = 720  # of the higher picture, at most
_GAP = 8
_SHIFT = 4  # OpenCV draws to 1/16 of a pixel
_OUTLIER = (150, 150, 150)
_HUES = colormaps["hsv"]
_HEAT = colormaps["inferno"]
_MARK = (0, 255, 255)


def draw_matches(
    source: UInt8[np.ndarray, "h w 3"],
    target: UInt8[np.ndarray, "h2 w2 3"],
    matches: Matches,
    *,
    inliers: Bool[np.ndarray, " n"] | None = None,
) -> UInt8[np.ndarray, "h3 w3 3"]:
    """Both pictures side by side, with a line from each point to its match.

    Points have hues by their order; outliers are thin and grey.

    Args:
        source: picture of `matches.source_xy`.
        target: picture of `matches.target_xy`.
        matches: in pixels.
        inliers: which matches agree with the transform; None where none was fitted.
    """
    sheet, scale, offset = _side_by_side(source, target)
    kept = np.ones(len(matches), dtype=np.bool_) if inliers is None else inliers
    asked = max(int(matches.query.max(initial=0)) + 1, 1)
    for row in np.concatenate([np.flatnonzero(~kept), np.flatnonzero(kept)]):
        hue = tuple(int(255 * v) for v in _HUES(matches.query[row] / asked)[:3])
        color = hue if kept[row] else _OUTLIER
        ends = matches.source_xy[row] * scale, matches.target_xy[row] * scale + (offset, 0)
        start, end = (_fixed(xy) for xy in ends)
        cv2.line(sheet, start, end, color, 1, cv2.LINE_AA, _SHIFT)
        if kept[row]:
            for place in (start, end):
                _disc(sheet, place, 4, color)
    return sheet


def draw_similarity(
    source: UInt8[np.ndarray, "h w 3"],
    target: UInt8[np.ndarray, "h2 w2 3"],
    xy: Float64[np.ndarray, " 2"],
    similarity: Float64[np.ndarray, "h2 w2"],
) -> UInt8[np.ndarray, "h3 w3 3"]:
    """The source with a point in it, and the target with how much each pixel resembles it.

    Args:
        source: picture with the point.
        target: the other picture.
        xy: the point in pixels.
        similarity: of every pixel of the target; black for the lowest, bright for the highest.
    """
    low, high = float(similarity.min()), float(similarity.max())
    share = (similarity - low) / max(high - low, 1e-12)
    heat = (255 * _HEAT(share)[..., :3]).astype(np.uint8)
    mixed = cv2.addWeighted(target, 0.35, heat, 0.65, 0)
    sheet, scale, offset = _side_by_side(source, np.asarray(mixed))
    row, column = np.unravel_index(int(similarity.argmax()), similarity.shape)
    best = np.array([column + 0.5, row + 0.5])
    for place in (np.asarray(xy) * scale, best * scale + (offset, 0)):
        _disc(sheet, _fixed(place), 6, _MARK)
    return sheet


def _side_by_side(
    source: UInt8[np.ndarray, "h w 3"], target: UInt8[np.ndarray, "h2 w2 3"]
) -> tuple[UInt8[np.ndarray, "h3 w3 3"], float, int]:
    """The sheet, the scale of both pictures in it, and the column where the target starts."""
    scale = min(_HEIGHT / max(source.shape[0], target.shape[0]), 1.0)
    pictures = [_scaled(picture, scale) for picture in (source, target)]
    height = max(picture.shape[0] for picture in pictures)
    offset = pictures[0].shape[1] + _GAP
    sheet = np.full((height, offset + pictures[1].shape[1], 3), 255, dtype=np.uint8)
    for picture, left in zip(pictures, (0, offset), strict=True):
        sheet[: picture.shape[0], left : left + picture.shape[1]] = picture
    return sheet, scale, offset


def _scaled(picture: UInt8[np.ndarray, "h w 3"], scale: float) -> UInt8[np.ndarray, "h w 3"]:
    if scale == 1.0:
        return picture
    height, width = (max(round(side * scale), 1) for side in picture.shape[:2])
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA))


def _disc(
    sheet: UInt8[np.ndarray, "h w 3"], place: tuple[int, int], radius: int, color: tuple[int, ...]
) -> None:
    for size, paint in ((radius + 1, (0, 0, 0)), (radius, color)):
        cv2.circle(sheet, place, size << _SHIFT, paint, -1, cv2.LINE_AA, _SHIFT)


def _fixed(xy: Float64[np.ndarray, " 2"]) -> tuple[int, int]:
    """OpenCV's fixed point, which counts from the centre of the first pixel."""
    x, y = np.round((xy - 0.5) * (1 << _SHIFT)).astype(int)
    return int(x), int(y)
