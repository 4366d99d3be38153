"""A folder per object with a black and white PNG per frame; objects may overlap."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from propagate.errors import LabelError
from propagate.labels.clip_labels import ClipLabels, FrameLabels
from propagate.labels.composer import Composer
from propagate.labels.format_base import LabelWriter, MaskFormat, ReadOptions, WriteOptions
from propagate.labels.mask_files import read_mask
from propagate.labels.object_folders import ObjectFolders, first_mode, folder_name
from propagate.types import Size

if TYPE_CHECKING:
    from jaxtyping import Bool, UInt8


def _detect(path: Path) -> bool:
    return first_mode(path) in ("1", "L", "I;16", "P", "RGB")


def _mask(path: Path, size: Size) -> Bool[np.ndarray, "h w"]:
    """What is at least half as bright as the brightest pixel."""
    file = read_mask(path)
    # Grey levels as they are, since brightness takes several times as long to find out.
    ids = file.ids if file.encoding == "grey" else read_mask(path, binarize=True).ids
    if ids.shape != tuple(size):
        raise LabelError(f"The mask {path} is {Size(*ids.shape)}, others {size}; all must agree.")
    return np.asarray((ids > 0) & (ids >= ids.max(initial=0) / 2))


def _read(path: Path, options: ReadOptions) -> ClipLabels:
    del options
    folders = ObjectFolders(path)
    size = Size(*read_mask(folders.first).ids.shape)

    def stream() -> Iterator[FrameLabels]:
        for frame in folders.frames:
            composer = Composer(size)
            for object_id, files in folders.files.items():
                if frame.name in files:
                    composer.add(object_id, _mask(files[frame.name], size))
            masks, overlap = composer.compose()
            yield FrameLabels(frame.index, frame.name, masks, overlap=overlap)

    return ClipLabels(path.absolute().name, size, folders.frames, stream, folders.objects)


class _Writer(LabelWriter):
    def __init__(self, path: Path, clip: ClipLabels, options: WriteOptions) -> None:
        super().__init__(path, clip, options)
        self._folders: dict[int, Path] = {}

    def add(self, frame: FrameLabels, rgb: UInt8[np.ndarray, "h w 3"] | None) -> None:
        del rgb
        for object_id in frame.masks.object_ids:
            if object_id not in self._folders:
                folder = self.path / folder_name(self.clip.object(object_id))
                folder.mkdir()
                self._folders[object_id] = folder
        for object_id, folder in self._folders.items():
            _write(folder / f"{frame.name}.png", frame.masks.ids == object_id)

    def finish(self) -> None:
        """Fill in the frames before an object came up, so that every folder has all frames."""
        if not self._folders:
            raise LabelError(
                f"{self.clip.name} has no object in any frame, so there is no folder to write."
            )
        nothing = np.zeros(self.clip.size, dtype=bool)
        for folder in self._folders.values():
            for frame in self.clip.frames:
                file = folder / f"{frame.name}.png"
                if not file.exists():
                    _write(file, nothing)


def _write(path: Path, mask: Bool[np.ndarray, "h w"]) -> None:
    Image.fromarray(mask.astype(np.uint8) * 255).save(path, format="PNG", compress_level=1)


FORMAT = MaskFormat(
    name="binary",
    summary="a folder per object (ID or ID-CATEGORY) with a black and white PNG per frame",
    loses=frozenset(
        {
            "states",
            "names",
            "confidence",
            "occlusion",
            "absent objects",
            "void",
            "soft",
            "frame numbers",
        }
    ),
    suffixes=(".png",),
    folder=True,
    detect=_detect,
    read=_read,
    write=_Writer,
)
