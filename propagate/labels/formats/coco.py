"""COCO instances: an annotation per mask with run lengths and a `track_id`.

Besides the published fields: `track_id`, `score`, `attributes.occluded` (as CVAT writes it), and
`frame_index`, from 0, of images; of TAO the `video_id` of images.
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
    FrameRef,
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

_NO_TRACKS = (
    "The annotations have no track_id, so the objects of each frame are numbered in their order "
    "and are not the same from frame to frame."
)


def _detect(path: Path) -> bool:
    return has_keys(path, "images", "annotations") and not has_keys(path, "segmentations")


def _images(root: Node, options: ReadOptions) -> tuple[str, list[Node]]:
    """Name of the clip and the images that belong to it, in order."""
    images = root["images"].items()
    by_video: dict[Any, list[Node]] = defaultdict(list)
    for image in images:
        by_video[str(image.get("video_id").value)].append(image)
    listed = root.get("videos").items() if root.get("videos").value else []
    names = {str(video["id"].value): video.get("name").text() for video in listed}
    keys = list(by_video)
    titles = [names.get(key) or key for key in keys]
    position = choose_video(titles, options.video, root.path)
    title = root.path.stem if titles[position] == "None" else titles[position]
    return title, by_video[keys[position]]


def _refs(images: list[Node]) -> list[FrameRef]:
    """A frame for each image, in the same order."""
    stems = [safe_stem(image["file_name"].as_(str)) for image in images]
    if all(image.get("frame_index").value is not None for image in images):
        indices = [image["frame_index"].as_(int) for image in images]
        return [FrameRef(index, stem) for index, stem in zip(indices, stems, strict=True)]
    by_name = {frame.name: frame for frame in frame_refs(stems)}
    return [by_name[stem] for stem in stems]


def _read(path: Path, options: ReadOptions) -> ClipLabels:
    root = read_json(path)
    name, images = _images(root, options)
    first = images[0]
    size = Size(*(first.size(first[key].as_(int)) for key in ("height", "width")))
    refs = _refs(images)
    by_image: dict[int, list[Node]] = {}
    for image in images:
        if (image["height"].value, image["width"].value) != tuple(size):
            raise image.error(f"has another size than the first, {size}; all must have one size")
        by_image[image["id"].as_(int)] = []
    annotations = root["annotations"].items()
    for node in annotations:
        if node["image_id"].as_(int) in by_image:
            by_image[node["image_id"].as_(int)].append(node)
    pairs = sorted(zip(refs, by_image.values(), strict=True), key=lambda pair: pair[0].index)
    tracked = all(node.get("track_id").value is not None for node in annotations)

    def stream() -> Iterator[FrameLabels]:
        for frame, nodes in pairs:
            yield _frame(frame, nodes, size, tracked=tracked)

    objects = _objects(root, by_image) if tracked else ()
    notes = () if tracked else (_NO_TRACKS,)
    frames = tuple(frame for frame, _ in pairs)
    return ClipLabels(name, size, frames, stream, objects, notes=notes)


def _objects(root: Node, by_image: dict[int, list[Node]]) -> tuple[ClipObject, ...]:
    listed = root.get("categories").items() if root.get("categories").value else []
    categories = {entry["id"].as_(int): entry["name"].as_(str) for entry in listed}
    found: dict[int, ClipObject] = {}
    for nodes in by_image.values():
        for node in nodes:
            object_id = node["track_id"].as_(int)
            if object_id not in found:
                label = categories.get(node["category_id"].as_(int), "")
                category = ClipObject.labelled(object_id, label).category
                name = str(_attributes(node).get("name", ""))
                found[object_id] = ClipObject(object_id, name, category)
    return tuple(found.values())


def _attributes(node: Node) -> dict[str, Any]:
    attributes = node.get("attributes")
    return {} if attributes.value is None else attributes.as_(dict)


def _frame(frame: FrameRef, nodes: list[Node], size: Size, *, tracked: bool) -> FrameLabels:
    composer = Composer(size)
    confidence, occluded = {}, set()
    for position, node in enumerate(nodes, start=1):
        object_id = node["track_id"].as_(int) if tracked else position
        composer.add(object_id, decode_segmentation(node["segmentation"], size))
        if node.get("score").value is not None:
            confidence[object_id] = node["score"].as_(float)
        if _attributes(node).get("occluded") is True:
            occluded.add(object_id)
    masks, overlap = composer.compose()
    return FrameLabels(
        frame.index, frame.name, masks, confidence, frozenset(occluded), overlap=overlap
    )


class _Writer(LabelWriter):
    def __init__(self, path: Path, clip: ClipLabels, options: WriteOptions) -> None:
        super().__init__(path, clip, options)
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []
        self._categories: dict[str, int] = {}

    def add(self, frame: FrameLabels, rgb: UInt8[np.ndarray, "h w 3"] | None) -> None:
        del rgb
        height, width = self.clip.size
        image = {"id": len(self._images) + 1, "video_id": 1, "frame_index": frame.index}
        self._images.append(
            {**image, "file_name": f"{frame.name}.jpg", "height": height, "width": width}
        )
        for object_id in frame.masks.object_ids:
            self._annotations.append(self._annotation(frame, object_id))

    def _annotation(self, frame: FrameLabels, object_id: int) -> dict[str, Any]:
        mask = frame.masks.ids == object_id
        known = self.clip.object(object_id)
        category = self._categories.setdefault(known.label, len(self._categories) + 1)
        attributes: dict[str, Any] = {"occluded": object_id in frame.occluded}
        if known.name:
            attributes["name"] = known.name
        found: dict[str, Any] = {
            "id": len(self._annotations) + 1,
            "image_id": len(self._images),
            "category_id": category,
            "track_id": object_id,
            "segmentation": encode_segmentation(mask),
            "area": int(np.count_nonzero(mask)),
            "bbox": box_of(mask),
            "iscrowd": 0,
            "attributes": attributes,
        }
        if object_id in frame.confidence:
            found["score"] = frame.confidence[object_id]
        return found

    def finish(self) -> None:
        document = {
            "info": {"description": f"Masks of {self.clip.name}"},
            "videos": [{"id": 1, "name": self.clip.name}],
            "images": self._images,
            "categories": [
                {"id": number, "name": label, "supercategory": "object"}
                for label, number in self._categories.items()
            ],
            "annotations": self._annotations,
        }
        self.path.write_text(json.dumps(document), encoding="utf-8")


FORMAT = MaskFormat(
    name="coco",
    summary="COCO instances JSON: run lengths and track_id",
    loses=frozenset({"states", "absent objects", "void", "soft"}),
    suffixes=(".json",),
    folder=False,
    detect=_detect,
    read=_read,
    write=_Writer,
)
