"""Colours of object ids.

Source: the PASCAL VOC colour map (`VOClabelcolormap.m` of the VOC development kit), whose first 22
entries DAVIS took over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Integer, UInt8


def _voc_palette() -> UInt8[np.ndarray, "256 3"]:
    """Deal the bits of an id out to R, G, B in turn; lowest bit first into the highest bit."""
    ids = np.arange(256)
    palette = np.zeros((256, 3), dtype=np.uint8)
    for significance in range(8):
        for channel in range(3):
            bit = (ids >> (3 * significance + channel)) & 1
            palette[:, channel] |= (bit << (7 - significance)).astype(np.uint8)
    palette.setflags(write=False)
    return palette


def _davis_palette() -> UInt8[np.ndarray, "256 3"]:
    """The palette found in the annotations of DAVIS: 191 instead of 192, and greys from id 22."""
    palette = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    palette[:22] = np.minimum(VOC_PALETTE[:22], 191)
    palette.setflags(write=False)
    return palette


VOC_PALETTE = _voc_palette()
"""uint8 [256, 3], read-only: the colour of each id in files and pictures written here."""

DAVIS_PALETTE = _davis_palette()
"""uint8 [256, 3], read-only: recognised when colour-coded masks are read."""


def palette_index(ids: Integer[np.ndarray, "*n"]) -> UInt8[np.ndarray, "*n"]:
    """Palette entry of each id: itself up to 255; larger ids start over at 1, not at background."""
    if ids.dtype == np.uint8:
        return ids
    return np.where(ids > 255, (ids - 1) % 255 + 1, ids).astype(np.uint8)


def color_of(object_id: int) -> tuple[int, int, int]:
    """RGB colour of an id of 0 or more."""
    red, green, blue = VOC_PALETTE[palette_index(np.array(object_id))].tolist()
    return red, green, blue


def bright_colors(colors: UInt8[np.ndarray, "n 3"]) -> UInt8[np.ndarray, "n 3"]:
    """The same hues as bright as they get, a fifth lighter since pure blue still looks dark."""
    strongest = np.maximum(colors.max(axis=1, keepdims=True), 1).astype(np.float64)
    bright: UInt8[np.ndarray, "n 3"] = np.round(51 + colors * (204 / strongest)).astype(np.uint8)
    return bright


def full_palette(palette: UInt8[np.ndarray, "n 3"] | None) -> UInt8[np.ndarray, "256 3"]:
    """The VOC palette with its first n colours replaced, or as it is for None."""
    if palette is None:
        return VOC_PALETTE
    full = VOC_PALETTE.copy()
    full[: len(palette)] = palette
    return full
