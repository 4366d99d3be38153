"""MOTS PNG: 16 bits per pixel, class * 1000 + instance; see `mots_ids`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from propagate.errors import LabelError
from propagate.labels.clip_labels import ClipLabels, FrameLabels, FrameRef
from propagate.labels.format_base import LabelWriter, MaskFormat, ReadOptions, WriteOptions
from propagate.labels.mask_files import read_mask
from propagate.labels.mask_folders import MaskFolder, image_mode, sorted_files
from propagate.labels.mots_ids import IGNORE, PER_CLASS, MotsIds, mots_object

if TYPE_CHECKING:
    from jaxtyping import UInt8

# Frames without objects, which say nothing, that detection passes over.
_PEEKED = 50


def _detect(path: Path) -> bool:
    if not path.is_dir():
        return False
    for file in sorted_files(path, ".png")[:_PEEKED]:
        if not image_mode(file).startswith("I"):
            return False
        ids = read_mask(file).ids
        if ids.any():
            return bool(ids[ids > 0].min() >= PER_CLASS)
    return False


def _read(path: Path, options: ReadOptions) -> ClipLabels:
    files = sorted_files(path, ".png") if path.is_dir() else []
    if not files:
        raise LabelError(f"{path} holds no .png file; give a folder with a 16-bit PNG per frame.")
    masks = MaskFolder(files, void=IGNORE)
    shift = options.count_from if all(file.stem.isdigit() for file in files) else 0
    if masks.frames[0].index < shift:
        raise LabelError(
            f"{files[0]} is the frame before the first one; leave out --src-count-from {shift}."
        )
    frames = tuple(FrameRef(frame.index - shift, frame.name) for frame in masks.frames)

    def stream() -> Iterator[FrameLabels]:
        for frame, (_, found) in zip(frames, masks, strict=True):
            yield FrameLabels(frame.index, frame.name, found)

    name = path.absolute().name
    return ClipLabels(name, masks.size, frames, stream, describe=mots_object)


class _Writer(LabelWriter):
    def __init__(self, path: Path, clip: ClipLabels, options: WriteOptions) -> None:
        super().__init__(path, clip, options)
        self._ids = MotsIds(clip.object)

    def add(self, frame: FrameLabels, rgb: UInt8[np.ndarray, "h w 3"] | None) -> None:
        del rgb
        numbers = np.zeros(self.clip.size, dtype=np.uint16)
        for object_id in frame.masks.object_ids:
            numbers[frame.masks.ids == object_id] = self._ids.number(object_id)
        if frame.masks.void is not None:
            numbers[frame.masks.ids == frame.masks.void] = IGNORE
        # Frames are known by their numbers, so the name says this one alone.
        name = f"{frame.index + self.options.count_from:06d}.png"
        Image.fromarray(numbers).save(self.path / name, format="PNG", compress_level=3)

    @property
    def notes(self) -> list[str]:
        return self._ids.notes


FORMAT = MaskFormat(
    name="mots",
    summary="MOTS: 16-bit PNG per frame, class * 1000 + instance, 10000 ignored",
    loses=frozenset(
        {
            "states",
            "ids",
            "names",
            "confidence",
            "occlusion",
            "absent objects",
            "soft",
            "frame names",
        }
    ),
    suffixes=(".png",),
    folder=True,
    detect=_detect,
    read=_read,
    write=_Writer,
)
