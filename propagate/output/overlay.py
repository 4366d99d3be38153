"""Masks drawn over their frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from propagate.errors import InputError
from propagate.labels.palette import bright_colors, full_palette, palette_index

if TYPE_CHECKING:
    from jaxtyping import Bool, Integer, UInt8

HALO = (20, 20, 20)
"""Near black, just outside an object's bright line: one of the two shows on any background."""


def draw_overlay(
    rgb: UInt8[np.ndarray, "h w 3"],
    ids: Integer[np.ndarray, "h w"],
    *,
    opacity: float = 0.5,
    contour: bool = True,
    palette: UInt8[np.ndarray, "n 3"] | None = None,
) -> UInt8[np.ndarray, "h w 3"]:
    """A copy of `rgb` with every object tinted and outlined in its colour.

    Args:
        rgb: the frame.
        ids: id of each pixel; 0 is left alone.
        opacity: 0 (no tint) to 1 (flat colour).
        contour: draw a line along the inner edge of each object, brighter than its colour and
            about a pixel wide for every 480 rows, and a dark one around it.
        palette: colours of the first n ids; those left out have the VOC colours.

    Raises:
        InputError: `opacity` is out of range, or the sizes differ.
    """
    if not 0 <= opacity <= 1:
        raise InputError(f"opacity is {opacity}; it must be from 0 to 1.")
    if rgb.shape[:2] != ids.shape:
        raise InputError(
            f"The frame is {list(rgb.shape[:2])} and its mask {list(ids.shape)} [h, w]; "
            "both must have the same size."
        )
    drawn: UInt8[np.ndarray, "h w 3"] = rgb.copy()
    index = np.ascontiguousarray(palette_index(ids))
    width = max(1, round(rgb.shape[0] / 480))
    box = _box_around(index, margin=width)
    colors = full_palette(palette)
    _tint(drawn[box], index[box], colors, opacity)
    if contour:
        _outline(drawn[box], index[box], bright_colors(colors), width)
    return drawn


def _box_around(index: UInt8[np.ndarray, "h w"], *, margin: int) -> tuple[slice, slice]:
    """The part of the frame that has anything to draw."""
    left, top, width, height = cv2.boundingRect(index)
    rows = slice(max(top - margin, 0), top + height + margin)
    return rows, slice(max(left - margin, 0), left + width + margin)


def _tint(
    rgb: UInt8[np.ndarray, "h w 3"],
    index: UInt8[np.ndarray, "h w"],
    colors: UInt8[np.ndarray, "256 3"],
    opacity: float,
) -> None:
    """Blend, in place, each object with its colour."""
    blend = cv2.addWeighted(rgb, 1 - opacity, _painted(index, colors), opacity, 0)
    _copy(blend, rgb, where=index > 0)


def _outline(
    rgb: UInt8[np.ndarray, "h w 3"],
    index: UInt8[np.ndarray, "h w"],
    colors: UInt8[np.ndarray, "256 3"],
    width: int,
) -> None:
    """Draw, in place, a line inside each object and a dark one where it meets background."""
    square = np.ones((2 * width + 1, 2 * width + 1), dtype=np.uint8)
    lowest, highest = cv2.erode(index, square), cv2.dilate(index, square)
    edge = lowest != highest
    _copy(_painted(index, colors), rgb, where=edge & (index > 0))
    rgb[edge & (index == 0)] = HALO


def _painted(
    index: UInt8[np.ndarray, "h w"], colors: UInt8[np.ndarray, "256 3"]
) -> UInt8[np.ndarray, "h w 3"]:
    """The colour of every pixel's id; many times faster than `colors[index]`."""
    painted: UInt8[np.ndarray, "h w 3"] = cv2.applyColorMap(index, colors.reshape(256, 1, 3))
    return painted


def _copy(
    source: UInt8[np.ndarray, "h w 3"],
    target: UInt8[np.ndarray, "h w 3"],
    *,
    where: Bool[np.ndarray, "h w"],
) -> None:
    cv2.copyTo(source, where.view(np.uint8), target)
