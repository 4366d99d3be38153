"""YouTube-VIS JSON: an annotation per track with a run-length encoding per frame.

Besides the published fields: `scores` (a confidence per frame) and, as in OVIS, `occlusion`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from propagate.labels.clip_labels import (
    ClipLabels,
    ClipObject,
    FrameLabels,
    frame_refs,
    safe_stem,
)
from propagate.labels.composer import Composer
from propagate.labels.format_base import LabelWriter, MaskFormat, ReadOptions, WriteOptions
from propagate.labels.json_files import Node, choose_video, has_keys, read_json
from propagate.labels.segmentations import box_of, decode_segmentation, encode_segmentation
from propagate.types import Size

if TYPE_CHECKING:
    from jaxtyping import UInt8

_HIDDEN = "severe_occlusion"
_VISIBLE = "no_occlusion"


def _detect(path: Path) -> bool:
    return has_keys(path, "videos", "annotations", "segmentations")


class _Track:
    """One annotation, checked against the number of frames."""

    def __init__(self, node: Node, object_id: int, length: int) -> None:
        self.id = object_id
        self.segmentations = _per_frame(node["segmentations"], length)
        self.scores = _per_frame(node.get("scores"), length)
        self.occlusion = _per_frame(node.get("occlusion"), length)


def _per_frame(node: Node, length: int) -> list[Node]:
    if node.value is None:
        return []
    entries = node.items()
    if len(entries) != length:
        raise node.error(f"has {len(entries)} entries, but its video has {length} frames")
    return entries


def _read(path: Path, options: ReadOptions) -> ClipLabels:
    root = read_json(path)
    videos = root["videos"].items()
    names = [_video_name(video) for video in videos]
    video = videos[choose_video(names, options.video, path)]
    size = Size(*(video.size(video[key].as_(int)) for key in ("height", "width")))
    refs = frame_refs([safe_stem(entry.as_(str)) for entry in video["file_names"].items()])
    categories = {
        entry["id"].as_(int): entry["name"].as_(str) for entry in root["categories"].items()
    }
    tracks, objects = [], []
    for node in root["annotations"].items():
        if node["video_id"].value == video["id"].value:
            object_id = node["id"].as_(int)
            tracks.append(_Track(node, object_id, len(refs)))
            label = categories.get(node["category_id"].as_(int), "")
            known = ClipObject.labelled(object_id, label)
            objects.append(ClipObject(object_id, node.get("name").text(), known.category))

    def stream() -> Iterator[FrameLabels]:
        for position, frame in enumerate(refs):
            yield _frame(frame.index, frame.name, position, tracks, size)

    name = names[videos.index(video)]
    return ClipLabels(name, size, refs, stream, tuple(objects))


def _video_name(node: Node) -> str:
    """Its name, or the folder of its files."""
    files = node["file_names"].items()
    folder = Path(files[0].as_(str)).parent.name if files else ""
    return node.get("name").text() or folder or str(node["id"].value)


def _frame(index: int, name: str, position: int, tracks: list[_Track], size: Size) -> FrameLabels:
    composer = Composer(size)
    confidence, occluded = {}, set()
    for track in tracks:
        segmentation = track.segmentations[position]
        if segmentation.value is not None:
            composer.add(track.id, decode_segmentation(segmentation, size))
        if track.scores and track.scores[position].value is not None:
            confidence[track.id] = track.scores[position].as_(float)
        if track.occlusion and track.occlusion[position].value not in (None, _VISIBLE):
            occluded.add(track.id)
    masks, overlap = composer.compose()
    return FrameLabels(index, name, masks, confidence, frozenset(occluded), overlap=overlap)


class _Writer(LabelWriter):
    def __init__(self, path: Path, clip: ClipLabels, options: WriteOptions) -> None:
        super().__init__(path, clip, options)
        self._columns: dict[str, dict[int, list[Any]]] = defaultdict(dict)
        self._position = 0

    def add(self, frame: FrameLabels, rgb: UInt8[np.ndarray, "h w 3"] | None) -> None:
        del rgb
        for object_id in frame.masks.object_ids:
            mask = frame.masks.ids == object_id
            self._put("segmentations", object_id, encode_segmentation(mask))
            self._put("areas", object_id, int(np.count_nonzero(mask)))
            self._put("bboxes", object_id, box_of(mask))
        for object_id, value in frame.confidence.items():
            self._put("scores", object_id, value)
        for object_id in frame.occluded:
            self._put("occlusion", object_id, _HIDDEN)
        self._position += 1

    def _put(self, column: str, object_id: int, value: Any) -> None:
        rest = [None] * len(self.clip.frames)
        self._columns[column].setdefault(object_id, rest)[self._position] = value

    def finish(self) -> None:
        clip = self.clip
        ids = sorted({i for column in self._columns.values() for i in column})
        labels = sorted({clip.object(i).label for i in ids})
        document = {
            "info": {"description": f"Masks of {clip.name}"},
            "videos": [
                {
                    "id": 1,
                    "name": clip.name,
                    "width": clip.size.width,
                    "height": clip.size.height,
                    "length": len(clip.frames),
                    "file_names": [f"{clip.name}/{frame.name}.jpg" for frame in clip.frames],
                }
            ],
            "categories": [
                {"id": i, "name": label, "supercategory": "object"}
                for i, label in enumerate(labels, start=1)
            ],
            "annotations": [self._annotation(i, labels) for i in ids],
        }
        self.path.write_text(json.dumps(document), encoding="utf-8")

    def _annotation(self, object_id: int, labels: list[str]) -> dict[str, Any]:
        known = self.clip.object(object_id)
        height, width = self.clip.size
        nothing = [None] * len(self.clip.frames)
        found: dict[str, Any] = {
            "id": object_id,
            "video_id": 1,
            "category_id": labels.index(known.label) + 1,
            "iscrowd": 0,
            "width": width,
            "height": height,
            "length": len(self.clip.frames),
        }
        for column in ("segmentations", "areas", "bboxes"):
            found[column] = self._columns[column].get(object_id, nothing)
        if object_id in self._columns["scores"]:
            found["scores"] = self._columns["scores"][object_id]
        if object_id in self._columns["occlusion"]:
            marks = self._columns["occlusion"][object_id]
            found["occlusion"] = [mark or _VISIBLE for mark in marks]
        if known.name:
            found["name"] = known.name
        return found


FORMAT = MaskFormat(
    name="youtube-vis",
    summary="YouTube-VIS JSON: a track per object with run lengths per frame",
    loses=frozenset({"states", "void", "soft", "frame numbers"}),
    suffixes=(".json",),
    folder=False,
    detect=_detect,
    read=_read,
    write=_Writer,
)
