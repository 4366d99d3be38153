"""Cut-outs: a folder per object with the picture of each frame, transparent outside the object."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, UnidentifiedImageError

from propagate.errors import LabelError
from propagate.labels.clip_labels import ClipLabels, FrameLabels
from propagate.labels.composer import Composer
from propagate.labels.format_base import LabelWriter, MaskFormat, ReadOptions, WriteOptions
from propagate.labels.object_folders import ObjectFolders, first_mode, folder_name
from propagate.types import Size

if TYPE_CHECKING:
    from jaxtyping import UInt8

_OPAQUE = 128


def _detect(path: Path) -> bool:
    return first_mode(path) in ("RGBA", "LA")


def _alpha(path: Path) -> UInt8[np.ndarray, "h w"]:
    try:
        with Image.open(path) as image:
            if "A" not in image.getbands():
                raise LabelError(f"{path} has no transparency, so it is no cut-out.")
            return np.array(image.getchannel("A"))
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise LabelError(f"{path} is not an image that can be read ({error}).") from error


def _read(path: Path, options: ReadOptions) -> ClipLabels:
    del options
    folders = ObjectFolders(path)
    size = Size(*_alpha(folders.first).shape)

    def stream() -> Iterator[FrameLabels]:
        for frame in folders.frames:
            composer = Composer(size)
            for object_id, files in folders.files.items():
                if frame.name not in files:
                    continue
                alpha = _alpha(files[frame.name])
                if alpha.shape != tuple(size):
                    raise LabelError(
                        f"{files[frame.name]} is {Size(*alpha.shape)}, others {size}; all must "
                        "agree."
                    )
                composer.add(object_id, alpha >= _OPAQUE)
            masks, overlap = composer.compose()
            yield FrameLabels(frame.index, frame.name, masks, overlap=overlap)

    return ClipLabels(path.absolute().name, size, folders.frames, stream, folders.objects)


class _Writer(LabelWriter):
    def __init__(self, path: Path, clip: ClipLabels, options: WriteOptions) -> None:
        super().__init__(path, clip, options)
        self._folders: dict[int, Path] = {}

    def add(self, frame: FrameLabels, rgb: UInt8[np.ndarray, "h w 3"] | None) -> None:
        if rgb is None:
            raise LabelError("Cut-outs need the pictures; name the clip with --clip.")
        scores = frame.scores
        for object_id in frame.masks.object_ids:
            alpha = (frame.masks.ids == object_id).astype(np.uint8) * 255
            if scores is not None and object_id in scores.ids:
                soft = scores.values[scores.ids.index(object_id)].astype(np.float32)
                alpha = np.round(soft.clip(0, 1) * 255).astype(np.uint8)
            # What is not seen should not be in the file either.
            shown = np.where(alpha[..., None] > 0, rgb, 0).astype(np.uint8)
            picture = Image.fromarray(np.dstack([shown, alpha]))
            file = self._folder(object_id) / f"{frame.name}.png"
            picture.save(file, format="PNG", compress_level=1)

    def _folder(self, object_id: int) -> Path:
        if object_id not in self._folders:
            folder = self.path / folder_name(self.clip.object(object_id))
            folder.mkdir()
            self._folders[object_id] = folder
        return self._folders[object_id]

    def finish(self) -> None:
        if not self._folders:
            raise LabelError(
                f"{self.clip.name} has no object in any frame, so there is nothing to cut out."
            )


FORMAT = MaskFormat(
    name="rgba",
    summary="cut-outs: a folder per object with a transparent PNG per frame; needs --clip",
    loses=frozenset(
        {
            "states",
            "names",
            "confidence",
            "occlusion",
            "absent objects",
            "void",
            "frame numbers",
            "empty frames",
        }
    ),
    suffixes=(".png",),
    folder=True,
    detect=_detect,
    read=_read,
    write=_Writer,
    needs_frames=True,
)
