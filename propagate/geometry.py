"""The only place that maps pixels to grid cells and resizes images.

Convention: an image and its grid cover the same rectangle, edge to edge. A point at pixel
coordinate x (0 = outer edge of the first pixel) lies at x * grid / image in cells. This is
`align_corners=False` in torch and `INTER_LINEAR` in OpenCV.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image

from propagate.config import Resizing
from propagate.errors import InputError
from propagate.types import Size

if TYPE_CHECKING:
    from jaxtyping import Float, Float32, UInt8


@dataclass(frozen=True, kw_only=True)
class InputSize:
    """Which size an image is resized to before a network sees it.

    The short side becomes `short_side`; the long side follows the aspect ratio; both are then
    floored to a multiple of `multiple`, so the image is stretched a little. Source: `read_frame`
    in DIFT's `eval_davis.py`, which scales smaller images up too.

    Args:
        short_side: pixels, or None to keep the native size before flooring.
        multiple: what both sides are floored to a multiple of.
        exact: use this very size instead, whatever the image.
        resizing: how; see `resize_rgb`.
    """

    short_side: int | None = 480
    multiple: int = 32
    exact: Size | None = None
    resizing: Resizing = "bilinear"

    def __post_init__(self) -> None:
        if self.multiple < 1:
            raise InputError(f"multiple is {self.multiple}; it must be 1 or more.")
        if self.short_side is not None and self.short_side < self.multiple:
            raise InputError(
                f"short_side is {self.short_side}; it must be at least {self.multiple}, "
                "one multiple of the network's stride."
            )
        if self.exact is not None and min(self.exact) < 1:
            raise InputError(f"The input size {self.exact} must be at least 1x1.")

    def of(self, native: Size) -> Size:
        """Network input size for an image of size `native`, at least one multiple each way."""
        if self.exact is not None:
            return self.exact
        short = min(native) if self.short_side is None else self.short_side
        height, width = native
        if height <= width:
            height, width = short, int(short * width / height)
        else:
            height, width = int(short * height / width), short
        return Size(self._floor(height), self._floor(width))

    def _floor(self, side: int) -> int:
        return max(side // self.multiple, 1) * self.multiple

    def __str__(self) -> str:
        how = "" if self.resizing == "bilinear" else f"/{self.resizing}"
        if self.exact is not None:
            return f"exact{self.exact}{how}"
        return f"short{self.short_side or 'native'}x{self.multiple}{how}"


def resize_rgb(
    rgb: UInt8[np.ndarray, "h w 3"], size: Size, resizing: Resizing = "bilinear"
) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Resize an image.

    Args:
        rgb: the image.
        size: what it becomes.
        resizing: "bilinear" without antialiasing (`cv2.INTER_LINEAR`), as DIFT resizes frames of
            clips; "bicubic" with antialiasing, Pillow's own default, as DIFT resizes pairs.
    """
    if rgb.shape[:2] == tuple(size):
        return rgb
    if resizing == "bicubic":
        picture = Image.fromarray(rgb).resize((size.width, size.height), Image.Resampling.BICUBIC)
        return np.asarray(picture)
    resized = cv2.resize(rgb, (size.width, size.height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized)


def nearest_indices(source: int, target: int) -> np.ndarray:
    """For each of `target` pixels along an axis, the `source` pixel under its centre.

    Equal to Pillow's NEAREST resize, unlike OpenCV's, which takes the pixel's left edge. The
    positions are added up one by one because Pillow does, and its rounding decides exact ties.
    """
    step = source / target
    positions = np.cumsum(np.concatenate([[step / 2], np.full(target - 1, step)]))
    indices = np.floor(positions).astype(np.int64)
    return np.asarray(np.minimum(indices, source - 1))


def resize_ids(ids: np.ndarray, size: Size) -> np.ndarray:
    """Nearest-neighbour resize of an integer map [h, w] to `size`, dtype kept."""
    if ids.shape == tuple(size):
        return ids
    rows = nearest_indices(ids.shape[0], size.height)
    columns = nearest_indices(ids.shape[1], size.width)
    return np.asarray(ids[rows[:, None], columns[None, :]])


def resize_area(values: np.ndarray, size: Size) -> Float32[np.ndarray, "gh gw"]:
    """Average of a map [h, w] over each cell of a grid; pixels on a border count in proportion."""
    target = (size.width, size.height)
    values = values.astype(np.float32, copy=False)
    return np.asarray(cv2.resize(values, target, interpolation=cv2.INTER_AREA))


def map_points(
    xy: Float[np.ndarray, "*n 2"], source: Size, target: Size
) -> Float[np.ndarray, "*n 2"]:
    """Places in one raster to the same places in another that covers the same rectangle.

    Serves pixels to cells, cells to pixels, and an image to its resized copy.

    Args:
        xy: (x, y) from the outer corner of the first pixel or cell; NaN stays NaN.
        source: size of the raster that `xy` counts in.
        target: size of the other one.
    """
    scale = np.array([target.width / source.width, target.height / source.height])
    return np.asarray((xy * scale).astype(xy.dtype))
