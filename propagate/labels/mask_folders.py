"""Folders with a mask image per frame: order of files, sizes, void and colours."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, UnidentifiedImageError

from propagate.errors import InputError, LabelError
from propagate.labels.clip_labels import FrameRef, frame_refs, id_dtype
from propagate.labels.mask_checks import VOID_ID, Void
from propagate.labels.mask_files import MaskFile, read_mask
from propagate.labels.palette import DAVIS_PALETTE, VOC_PALETTE
from propagate.types import Masks, Size

if TYPE_CHECKING:
    from jaxtyping import Integer


def sorted_files(folder: Path, *suffixes: str) -> list[Path]:
    """Visible files of a folder with these endings, sorted as people count: img2 before img10."""
    files = [
        file
        for file in folder.iterdir()
        if file.suffix.lower() in suffixes and not file.name.startswith(".") and file.is_file()
    ]
    return natural_order(files)


def sub_folders(folder: Path) -> list[Path]:
    """Visible folders in a folder, sorted as people count."""
    found = [path for path in folder.iterdir() if path.is_dir() and path.name[:1] != "."]
    return natural_order(found)


def natural_order(paths: Iterable[Path]) -> list[Path]:
    """Sorted by name as people count: img2 before img10."""
    return sorted(paths, key=_natural)


def _natural(path: Path) -> tuple[list[str | int], str]:
    parts = re.split(r"(\d+)", path.name.casefold())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], path.name


def image_mode(path: Path) -> str:
    """How an image stores its pixels, as Pillow names it; empty for what is no image."""
    try:
        with Image.open(path) as image:
            return image.mode
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError):
        return ""


class MaskFolder:
    """The masks of a clip as image files, one per frame.

    Args:
        files: in any order; a file's stem is the frame's name.
        void: see `load_reference_mask`; for "auto" the first mask with an object decides for all.

    Raises:
        LabelError: there are none, or the first can't be read.
        InputError: `void` is no id.
    """

    def __init__(self, files: Sequence[Path], *, void: Void = None) -> None:
        if not files:
            raise LabelError("There is no mask image; give the folder that has one per frame.")
        if isinstance(void, int) and void < 1:
            raise InputError(f"void is {void}; it must be an id of 1 or more, auto or none.")
        self._void = void
        self.frames: tuple[FrameRef, ...] = frame_refs([file.stem for file in files])
        by_stem = {file.stem: file for file in files}
        self._files = [by_stem[frame.name] for frame in self.frames]
        height, width = read_mask(self._files[0]).ids.shape
        self.size = Size(height, width)

    def __iter__(self) -> Iterator[tuple[FrameRef, Masks]]:
        """A fresh pass.

        Raises:
            LabelError: a file can't be read, or has another size than the first.
        """
        colors = _Colors()
        void, decided = self._void, self._void != "auto"
        for frame, path in zip(self.frames, self._files, strict=True):
            file = read_mask(path)
            if file.ids.shape != tuple(self.size):
                raise LabelError(
                    f"The mask {path} is {Size(*file.ids.shape)} but the first one, "
                    f"{self._files[0].name}, is {self.size}; all must have one size."
                )
            ids = colors.ids_of(file)
            if not decided:
                present = set(Masks(ids).object_ids)
                void = VOID_ID if present - {VOID_ID} and max(present) <= VOID_ID else None
                decided = bool(present)
            yield frame, Masks(ids, void=void if isinstance(void, int) else None)


class _Colors:
    """Gives a colour outside of the known palettes one id throughout a clip."""

    def __init__(self) -> None:
        self._ids: dict[tuple[int, int, int], int] = {}

    def ids_of(self, file: MaskFile) -> Integer[np.ndarray, "h w"]:
        if not file.colors or _in_palette(file):
            return file.ids
        for _, color in file.colors:
            self._ids.setdefault(color, len(self._ids) + 1)
        table = np.zeros(max(i for i, _ in file.colors) + 1, dtype=id_dtype(len(self._ids)))
        for object_id, color in file.colors:
            table[object_id] = self._ids[color]
        return np.asarray(table[file.ids])


def _in_palette(file: MaskFile) -> bool:
    return any(
        all(i < 256 and tuple(palette[i].tolist()) == color for i, color in file.colors)
        for palette in (VOC_PALETTE, DAVIS_PALETTE)
    )
