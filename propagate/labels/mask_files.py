"""Mask image files: every way people store one id per pixel, and the indexed PNG written here."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image

from propagate.errors import LabelError, OutputError
from propagate.labels.palette import DAVIS_PALETTE, VOC_PALETTE, full_palette

if TYPE_CHECKING:
    from jaxtyping import Bool, Integer, UInt8

Color = tuple[int, int, int]
Encoding = Literal["indexed", "grey", "colour", "array", "binarised"]

MAX_PNG_ID = 65535


@dataclass(frozen=True, repr=False)
class MaskFile:
    """What a mask file holds.

    Args:
        path: where it was read from.
        ids: uint8, uint16 or int32 [h, w]; 0 is background.
        format: container, as Pillow names it (`PNG`, `JPEG`, ...), or `NPY`.
        encoding: how the file says which pixel has which id.
        palette: uint8 [n, 3], the file's own colours where `encoding` is `indexed`.
        colors: the colour that each id was read from where `encoding` is `colour`.
        notes: sentences about choices made while reading.
    """

    path: Path
    ids: Integer[np.ndarray, "h w"]
    format: str
    encoding: Encoding
    palette: UInt8[np.ndarray, "n 3"] | None = None
    colors: tuple[tuple[int, Color], ...] = ()
    notes: tuple[str, ...] = ()

    def brightness_of(self, ids: Integer[np.ndarray, " n"]) -> Integer[np.ndarray, " n"]:
        """How bright the file shows each of `ids`; blends of two ids lie between them."""
        if self.palette is not None:
            channels = np.zeros((256, 3), dtype=np.int64)
            channels[: len(self.palette)] = self.palette
            return np.asarray(channels.sum(axis=1)[ids])
        if self.colors:
            known = {i: sum(color) for i, color in self.colors}
            return np.array([known.get(int(i), 0) for i in ids], dtype=np.int64)
        return ids.astype(np.int64)

    def __repr__(self) -> str:
        return f"MaskFile({str(self.path)!r}, {self.format}, {self.encoding}, {self.ids.shape})"


def read_mask(path: str | Path, *, binarize: bool = False) -> MaskFile:
    """Read a mask file; what its content means is for `mask_checks` to judge.

    * Indexed image: the index is the id; but where index 0 is not black and another used one is,
      and in a GIF (whose encoders reorder palettes), the colour decides.
    * Grey, 1 to 16 bits, or an integer .npy array [h, w]: the stored value is the id.
    * RGB: each colour is an object and black or transparent is background. Greys give their grey
      level, colours of the VOC or DAVIS palette their index, others 1, 2, ... in order of
      (red, green, blue).

    Args:
        path: PNG, TIFF, BMP, GIF, WebP, JPEG or any other image that Pillow opens, or .npy.
        binarize: give id 1 to every pixel at least half as bright as the brightest one instead.

    Raises:
        LabelError: no such file, not an image, damaged, or without whole numbers.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise LabelError(f"The mask {path} {what}; give the path of one mask image.")
    if path.suffix.lower() == ".npy":
        return _binarized(_read_array(path)) if binarize else _read_array(path)
    image, grey_step = _open_image(path)
    if binarize:
        return _binarized(_read_brightness(path, image))
    return _read_ids(path, image, grey_step)


def write_mask(
    path: str | Path,
    ids: Integer[np.ndarray, "h w"],
    *,
    palette: UInt8[np.ndarray, "n 3"] | None = None,
) -> None:
    """Write `ids` as a PNG that gives back the same numbers when read.

    Ids up to 255 make an indexed PNG; if any is larger, a 16-bit grey one without colours.

    Args:
        path: ends in .png.
        ids: integer, 0 to 65535.
        palette: colours of the first n ids; those left out have the VOC colours.

    Raises:
        LabelError: an id that a PNG can't hold, or another file type.
        OutputError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise LabelError(f"Masks are written as .png files, so {path.name} can't be one.")
    lowest, highest = (int(ids.min()), int(ids.max())) if ids.size else (0, 0)
    if lowest < 0 or highest > MAX_PNG_ID:
        bad = lowest if lowest < 0 else highest
        raise LabelError(f"Id {bad} does not fit into a PNG; ids must be 0 to {MAX_PNG_ID}.")
    try:
        if highest > 255:
            # Z_RLE, the best for the runs of equal bytes of a mask, sees no runs in two-byte ids.
            Image.fromarray(ids.astype(np.uint16)).save(path, format="PNG", compress_level=3)
            return
        image = Image.fromarray(ids.astype(np.uint8, copy=False))
        image.putpalette(full_palette(palette).tobytes())
        image.save(path, format="PNG", compress_level=1, compress_type=zlib.Z_RLE)
    except OSError as error:
        raise OutputError(f"Cannot write the mask {path}: {error.strerror or error}.") from error


def _open_image(path: Path) -> tuple[Image.Image, int]:
    """Open and decode; also by how much Pillow stretches the stored grey levels to 0..255."""
    try:
        image = Image.open(BytesIO(path.read_bytes()))
        # How the file packs its pixels is known only until they are decoded.
        packing = str([tile[3] for tile in getattr(image, "tile", [])])
        image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        # Pillow reports damage in all these ways.
        raise LabelError(
            f"The mask {path} is not an image that can be read ({error}); "
            "save it as an indexed or grey PNG."
        ) from error
    return image, 85 if "'L;2'" in packing else 17 if "'L;4'" in packing else 1


def _read_array(path: Path) -> MaskFile:
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise LabelError(
            f"The mask {path} is not a .npy array of numbers ({error}); save an integer array."
        ) from error
    if values.ndim != 2 or not (
        values.dtype == np.bool_ or np.issubdtype(values.dtype, np.integer)
    ):
        raise LabelError(
            f"The mask {path} is {values.dtype} {list(values.shape)}; "
            "it must be one integer array [height, width]."
        )
    return MaskFile(path, _compact_dtype(path, values), "NPY", "array")


def _compact_dtype(path: Path, values: np.ndarray) -> Integer[np.ndarray, "h w"]:
    """The smallest of uint8, uint16 and int32 that holds the ids."""
    lowest, highest = (int(values.min()), int(values.max())) if values.size else (0, 0)
    if lowest < 0 or highest > np.iinfo(np.int32).max:
        bad = lowest if lowest < 0 else highest
        raise LabelError(f"The mask {path} holds the id {bad}; ids must be 0 or more and 31 bits.")
    dtype = np.uint8 if highest < 256 else np.uint16 if highest < 65536 else np.int32
    return values.astype(dtype, copy=False)


def _read_ids(path: Path, image: Image.Image, grey_step: int) -> MaskFile:
    container = image.format or "image"
    notes = _frame_notes(path, image)
    if image.mode == "P" and not _colors_decide(image):
        palette = np.array(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
        return MaskFile(path, np.array(image), container, "indexed", palette, notes=notes)
    if image.mode in ("1", "L", "I") or image.mode.startswith("I;"):
        stored = np.array(image)
        ids = _compact_dtype(path, stored // grey_step if grey_step > 1 else stored)
        return MaskFile(path, ids, container, "grey", notes=notes)
    if image.mode == "F":
        raise LabelError(
            f"The mask {path} holds fractions (mode F), not ids; save whole numbers, 8 or 16 bit."
        )
    return _read_colors(path, _rgb_on_black(image), container, notes)


def _frame_notes(path: Path, image: Image.Image) -> tuple[str, ...]:
    count = getattr(image, "n_frames", 1)
    if count == 1:
        return ()
    return (f"{path.name} holds {count} pictures; the first one is used.",)


def _colors_decide(image: Image.Image) -> bool:
    """Whether the indices of an indexed image are in an order that means nothing."""
    if image.format == "GIF":
        return True
    palette = np.array(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
    black = [i for i, _ in enumerate(palette) if not palette[i].any()]
    if not black or black[0] == 0:
        return False
    used = np.flatnonzero(np.bincount(np.array(image).ravel(), minlength=256))
    return bool(np.isin(used, black).any())


def _rgb_on_black(image: Image.Image) -> UInt8[np.ndarray, "h w 3"]:
    """Colours with what is transparent turned black.

    A single level of opacity is a display choice and leaves the colours alone; several levels are
    soft edges, which must show up as blended colours for the checks to find them.
    """
    rgba = np.array(image.convert("RGBA"))
    rgb, alpha = rgba[..., :3], rgba[..., 3:]
    levels = np.flatnonzero(np.bincount(alpha.ravel(), minlength=256)[1:])
    if len(levels) <= 1:
        return np.where(alpha > 0, rgb, np.uint8(0))
    blended: UInt8[np.ndarray, "h w 3"] = (rgb.astype(np.uint16) * alpha // 255).astype(np.uint8)
    return blended


def _read_colors(
    path: Path, rgb: UInt8[np.ndarray, "h w 3"], container: str, notes: tuple[str, ...]
) -> MaskFile:
    red, green, blue = (rgb[..., channel].astype(np.int32) for channel in range(3))
    if np.array_equal(red, green) and np.array_equal(red, blue):
        return MaskFile(path, rgb[..., 0].copy(), container, "grey", notes=notes)
    codes, inverse = np.unique((red << 16) | (green << 8) | blue, return_inverse=True)
    colors = np.stack([codes >> 16, (codes >> 8) & 255, codes & 255], axis=1)
    ids_of_colors = _ids_of_colors(codes)
    ids = _compact_dtype(path, ids_of_colors[inverse.reshape(red.shape)])
    pairs = tuple(
        (int(i), (int(r), int(g), int(b)))
        for i, (r, g, b) in zip(ids_of_colors, colors, strict=True)
        if i != 0
    )
    return MaskFile(path, ids, container, "colour", colors=pairs, notes=notes)


def _ids_of_colors(codes: np.ndarray) -> np.ndarray:
    """Ids for ascending, different 24-bit colours."""
    for palette in (VOC_PALETTE, DAVIS_PALETTE):
        known = palette.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
        if np.isin(codes, known).all():
            order = np.argsort(known)
            ids: np.ndarray = order[np.searchsorted(known, codes, sorter=order)]
            return ids
    # Black, if there, comes first and is the background.
    return np.arange(len(codes)) + int(codes[0] != 0)


def _read_brightness(path: Path, image: Image.Image) -> MaskFile:
    """The brightest channel of each pixel in place of ids."""
    notes, container = _frame_notes(path, image), image.format or "image"
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        values = np.array(image)
    else:
        values = _rgb_on_black(image).max(axis=2)
    return MaskFile(path, values, container, "grey", notes=notes)


def _binarized(file: MaskFile) -> MaskFile:
    values: Bool[np.ndarray, "h w"] = (file.ids > 0) & (file.ids >= file.ids.max(initial=0) / 2)
    return MaskFile(file.path, values.astype(np.uint8), file.format, "binarised", notes=file.notes)
