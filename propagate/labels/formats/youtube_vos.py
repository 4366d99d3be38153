"""YouTube-VOS: `Annotations/CLIP/FRAME.png`, and `meta.json` with categories of the objects."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from propagate.errors import LabelError
from propagate.labels.clip_labels import ClipLabels, ClipObject, FrameLabels, safe_name
from propagate.labels.format_base import LabelWriter, MaskFormat, ReadOptions, WriteOptions
from propagate.labels.json_files import Node, choose_video, has_keys, read_json
from propagate.labels.mask_files import write_mask
from propagate.labels.mask_folders import MaskFolder, sorted_files

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from jaxtyping import UInt8

_META, _MASKS = "meta.json", "Annotations"


def _detect(path: Path) -> bool:
    return (path / _MASKS).is_dir() and has_keys(path / _META, "videos")


def _object(key: str, node: Node) -> ClipObject:
    if not (key.isascii() and key.isdigit() and int(key) > 0):
        raise node.error("is no object, whose name is a number of 1 or more")
    return ClipObject.labelled(int(key), node.get("category").text())


def _read(path: Path, options: ReadOptions) -> ClipLabels:
    videos = read_json(path / _META)["videos"].members()
    name, node = videos[choose_video([key for key, _ in videos], options.video, path)]
    objects = tuple(_object(key, entry) for key, entry in node["objects"].members())
    # The name comes from a file, so it must not lead elsewhere.
    folder = path / _MASKS / safe_name(name)
    files = sorted_files(folder, ".png") if folder.is_dir() else []
    if not files:
        raise LabelError(f"{folder} holds no .png file, but {path / _META} has the video {name!r}.")
    masks = MaskFolder(files, void=options.void)

    def stream() -> Iterator[FrameLabels]:
        for frame, found in masks:
            yield FrameLabels(frame.index, frame.name, found)

    return ClipLabels(name, masks.size, masks.frames, stream, objects)


class _Writer(LabelWriter):
    def __init__(self, path: Path, clip: ClipLabels, options: WriteOptions) -> None:
        super().__init__(path, clip, options)
        self._name = safe_name(clip.name)
        self._folder = path / _MASKS / self._name
        self._folder.mkdir(parents=True)
        self._frames: dict[int, list[str]] = defaultdict(list)

    def add(self, frame: FrameLabels, rgb: UInt8[np.ndarray, "h w 3"] | None) -> None:
        del rgb
        write_mask(self._folder / f"{frame.name}.png", frame.masks.ids)
        for object_id in frame.masks.object_ids:
            self._frames[object_id].append(frame.name)

    def finish(self) -> None:
        objects = {
            str(object_id): {
                "category": self.clip.object(object_id).label,
                "frames": self._frames[object_id],
            }
            for object_id in sorted(self._frames)
        }
        meta = {"videos": {self._name: {"objects": objects}}}
        (self.path / _META).write_text(json.dumps(meta, indent=1), encoding="utf-8")


FORMAT = MaskFormat(
    name="youtube-vos",
    summary="YouTube-VOS: Annotations/CLIP/FRAME.png and meta.json with categories",
    loses=frozenset(
        {"states", "names", "confidence", "occlusion", "absent objects", "soft", "frame numbers"}
    ),
    suffixes=(".png", ".json"),
    folder=True,
    detect=_detect,
    read=_read,
    write=_Writer,
)
