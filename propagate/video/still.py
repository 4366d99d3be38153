"""Still pictures, whatever their mode, as RGB of 8 bits."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from propagate.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import UInt8, UInt16

_JPEG_START = b"\xff\xd8"
_JPEG_END = b"\xff\xd9"

UNREADABLE = (
    *(OSError, ValueError, SyntaxError, TypeError, IndexError, struct.error),
    *(Image.DecompressionBombError, cv2.error),
)
"""What Pillow and OpenCV raise for a picture that can't be decoded; an `InputError` is one too."""


def decode_still(data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """Decode the first picture of an image file.

    JPEG goes through OpenCV, as the usual DAVIS code has it; everything else through Pillow. EXIF
    orientation is applied, colour profiles are not; see `to_rgb` for the other choices.

    Args:
        data: the bytes of the file.

    Returns:
        uint8 [h, w, 3].

    Raises:
        One of `UNREADABLE`: no known format, broken, truncated, or of floating point.
    """
    if data.startswith(_JPEG_START):
        return _decode_jpeg(data)
    with open_image(io.BytesIO(data)) as image:
        if image.mode in ("RGB", "RGBA", "LA") and ";16" in str(image.tile):
            return _decode_deep_colour(data, image)
        return to_rgb(image)


def open_image(source: Path | io.BytesIO) -> ImageFile.ImageFile:
    """`Image.open`, but for the words of its error.

    Raises:
        One of `UNREADABLE`.
    """
    try:
        return Image.open(source)
    except UnidentifiedImageError as error:
        raise InputError("it is in no image format that Pillow knows") from error


def to_rgb(image: Image.Image) -> UInt8[np.ndarray, "h w 3"]:
    """A picture opened by Pillow, in any mode but floating point, as upright RGB.

    16 bits become 8 by the full range, v / 257. Where alpha is not opaque everywhere the picture
    is laid on black; else alpha is dropped.

    Raises:
        One of `UNREADABLE`.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format != "TIFF"):
        grey = _to_8_bits(np.asarray(image).astype(np.uint16))
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise InputError(
            "its pixels are 32-bit numbers of unknown range; save it with 8 or 16 bits"
        )
    if image.has_transparency_data:
        return _on_black(np.asarray(image.convert("RGBA")))
    return np.array(image.convert("RGB"))


def _decode_jpeg(data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if bgr is None or not data.rstrip(b"\0").endswith(_JPEG_END):
        # OpenCV 4 fills the rest of a truncated file with grey, which Pillow refuses to do.
        with open_image(io.BytesIO(data)) as image:
            image.load()
    if bgr is None:
        raise InputError("OpenCV can't decode it; save it again")
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))


def _decode_deep_colour(data: bytes, image: Image.Image) -> UInt8[np.ndarray, "h w 3"]:
    """Colour of 16 bits per channel, of which Pillow would drop the lower 8."""
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR)
    if bgr is None:
        raise InputError("OpenCV can't decode its 16-bit colour; save it with 8 bits")
    rgb = _to_8_bits(np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)))
    if image.mode == "RGB":
        return rgb
    alpha = np.asarray(ImageOps.exif_transpose(image).getchannel("A"))
    return _on_black(np.dstack([rgb, alpha]))


def _to_8_bits(values: UInt16[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _on_black(rgba: UInt8[np.ndarray, "h w 4"]) -> UInt8[np.ndarray, "h w 3"]:
    colour, alpha = rgba[..., :3], rgba[..., 3:]
    if (alpha == 255).all():
        return np.ascontiguousarray(colour)
    shaded: UInt16[np.ndarray, "h w 3"] = (colour.astype(np.uint16) * alpha + 127) // 255
    return shaded.astype(np.uint8)
