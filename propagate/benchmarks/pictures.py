"""Predictions drawn beside the truth, for the sheet of worst cases."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from propagate.output.overlay import draw_overlay

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Integer, UInt8

TRUE_COLOUR = (255, 255, 255)
PREDICTED_COLOUR = (255, 60, 60)
_ROWS_PER_WIDTH = 240


def compared_masks(
    rgb: UInt8[np.ndarray, "h w 3"],
    pred: Integer[np.ndarray, "h w"],
    true: Integer[np.ndarray, "h w"],
) -> UInt8[np.ndarray, "h w 3"]:
    """Predicted masks tinted, and the outlines of the true ones in white."""
    drawn = draw_overlay(rgb, pred, contour=False)
    width = max(1, round(rgb.shape[0] / _ROWS_PER_WIDTH))
    for object_id in np.unique(true[true > 0]):
        outlines, _ = cv2.findContours(
            (true == object_id).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE
        )
        cv2.drawContours(drawn, outlines, -1, TRUE_COLOUR, width, cv2.LINE_AA)
    return drawn


def compared_points(
    rgb: UInt8[np.ndarray, "h w 3"],
    pred: Float[np.ndarray, "k 2"],
    true: Float[np.ndarray, "k 2"],
    counts: Bool[np.ndarray, " k"],
) -> UInt8[np.ndarray, "h w 3"]:
    """Predicted points in red, true ones as white rings, and a line from each to its own.

    Args:
        rgb: the frame.
        pred: (x, y) in pixels; NaN is not drawn.
        true: (x, y) in pixels.
        counts: which of them are scored.
    """
    drawn = rgb.copy()
    width = max(1, round(rgb.shape[0] / _ROWS_PER_WIDTH))
    for found, place, scored in zip(pred, true, counts, strict=True):
        if not scored or not np.isfinite(place).all():
            continue
        centre = _pixel(place)
        if np.isfinite(found).all():
            cv2.line(drawn, _pixel(found), centre, TRUE_COLOUR, width, cv2.LINE_AA)
            cv2.circle(drawn, _pixel(found), 2 * width, PREDICTED_COLOUR, -1, cv2.LINE_AA)
        cv2.circle(drawn, centre, 3 * width, TRUE_COLOUR, width, cv2.LINE_AA)
    return drawn


def compared_sides(
    left: UInt8[np.ndarray, "h w 3"], right: UInt8[np.ndarray, "h2 w2 3"]
) -> UInt8[np.ndarray, "h3 w3 3"]:
    """Two pictures side by side, of the height of the lower one."""
    height = min(left.shape[0], right.shape[0])
    scaled = [
        cv2.resize(
            rgb,
            (max(round(rgb.shape[1] * height / rgb.shape[0]), 1), height),
            interpolation=cv2.INTER_AREA,
        )
        for rgb in (left, right)
    ]
    return np.concatenate(scaled, axis=1)


def compared_corners(
    rgb: UInt8[np.ndarray, "h w 3"],
    pred: Float[np.ndarray, "4 2"] | None,
    true: Float[np.ndarray, "4 2"],
) -> UInt8[np.ndarray, "h w 3"]:
    """Outline of another image as estimated (red) and as it is (white).

    Args:
        rgb: the picture.
        pred: (x, y) of the corners in pixels, around the image; None where there is no estimate.
        true: the same.
    """
    drawn = rgb.copy()
    width = max(2, round(rgb.shape[0] / _ROWS_PER_WIDTH))
    for corners, colour in ((true, TRUE_COLOUR), (pred, PREDICTED_COLOUR)):
        if corners is not None and np.isfinite(corners).all():
            outline = np.array([_pixel(corner) for corner in corners])
            cv2.polylines(drawn, [outline], isClosed=True, color=colour, thickness=width)
    return drawn


def _pixel(place: Float[np.ndarray, " xy"]) -> tuple[int, int]:
    x, y = np.clip(np.floor(place), -(2**14), 2**14)
    return int(x), int(y)
