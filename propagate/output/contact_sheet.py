"""Many small captioned pictures on one sheet, to judge a whole clip at a glance."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from propagate.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import UInt8

PAPER = (250, 250, 250)
INK = (20, 20, 20)
GAP = 8
FONT_SIZE = 14
CAPTION_HEIGHT = 22
TILE_WIDTH = 320


def contact_sheet(
    tiles: Sequence[tuple[UInt8[np.ndarray, "h w 3"], str]],
    *,
    columns: int,
    tile_width: int = TILE_WIDTH,
) -> UInt8[np.ndarray, "h2 w2 3"]:
    """All `tiles` in rows of `columns`, each picture above its caption.

    Args:
        tiles: RGB pictures of any sizes, and what to write below each; a caption that is too long
            for its tile is cut off with an ellipsis.
        columns: tiles per row; fewer tiles make a narrower sheet.
        tile_width: width of every picture on the sheet, in pixels; heights follow.

    Raises:
        InputError: there is no tile, or `columns` or `tile_width` is less than 1.
    """
    if not tiles or columns < 1 or tile_width < 1:
        raise InputError(
            f"A sheet of {len(tiles)} tiles in {columns} columns of {tile_width} pixels is empty; "
            "each must be 1 or more."
        )
    pictures = [tile_of(rgb, tile_width) for rgb, _ in tiles]
    cell = max(picture.shape[0] for picture in pictures) + CAPTION_HEIGHT
    columns = min(columns, len(tiles))
    rows = math.ceil(len(tiles) / columns)
    size = (GAP + columns * (tile_width + GAP), GAP + rows * (cell + GAP))
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(FONT_SIZE)
    for number, (picture, (_, caption)) in enumerate(zip(pictures, tiles, strict=True)):
        row, column = divmod(number, columns)
        left, top = GAP + column * (tile_width + GAP), GAP + row * (cell + GAP)
        sheet.paste(Image.fromarray(picture), (left, top))
        text = _cut(caption, draw, font, tile_width)
        middle = top + picture.shape[0] + CAPTION_HEIGHT // 2
        draw.text((left, middle), text, fill=INK, font=font, anchor="lm")
    return np.array(sheet)


def tile_of(
    rgb: UInt8[np.ndarray, "h w 3"], width: int = TILE_WIDTH
) -> UInt8[np.ndarray, "h2 w2 3"]:
    """A picture as it is on a sheet, for who has not the memory to keep large ones until then."""
    height = max(1, round(rgb.shape[0] * width / rgb.shape[1]))
    shrink = width < rgb.shape[1]
    method = cv2.INTER_AREA if shrink else cv2.INTER_LINEAR
    scaled: UInt8[np.ndarray, "h2 w2 3"] = cv2.resize(rgb, (width, height), interpolation=method)
    return scaled


def _cut(
    caption: str,
    draw: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    width: int,
) -> str:
    """`caption`, shortened until it fits into `width` pixels."""
    if draw.textlength(caption, font) <= width:
        return caption
    while caption and draw.textlength(caption + "...", font) > width:
        caption = caption[:-1]
    return caption + "..."
