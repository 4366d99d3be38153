"""LabelMe JSON, one file per frame: polygons with the object's id as `group_id`.

Besides LabelMe's fields: `score` (as X-AnyLabeling has it); occlusion is a flag of the shape.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from propagate.errors import LabelError
from propagate.labels.clip_labels import ClipLabels, ClipObject, FrameLabels, frame_refs
from propagate.labels.composer import Composer
from propagate.labels.format_base import LabelWriter, MaskFormat, ReadOptions, WriteOptions
from propagate.labels.json_files import Node, has_keys, read_json
from propagate.labels.mask_folders import sorted_files
from propagate.labels.outlines import fill, outlines
from propagate.labels.segmentations import ring_of
from propagate.types import Size

if TYPE_CHECKING:
    from jaxtyping import Bool, UInt8

_VERSION = "5.5.0"
_OCCLUDED = "occluded"


def _detect(path: Path) -> bool:
    if not path.is_dir():
        return False
    files = sorted_files(path, ".json")
    return bool(files) and has_keys(files[0], "shapes", "imageHeight", "imageWidth")


def _size(root: Node) -> Size:
    height, width = (root.size(root[key].as_(int)) for key in ("imageHeight", "imageWidth"))
    return Size(height, width)


def _read(path: Path, options: ReadOptions) -> ClipLabels:
    del options
    files = sorted_files(path, ".json") if path.is_dir() else []
    if not files:
        raise LabelError(f"{path} holds no .json file; give a folder with one per frame.")
    frames = frame_refs([file.stem for file in files])
    by_stem = {file.stem: file for file in files}
    size = _size(read_json(by_stem[frames[0].name]))
    objects = _Objects()
    ungrouped = 0
    # Labels tell the objects apart where there are no groups, so all are needed before the first.
    for file in files:
        ungrouped += objects.learn(read_json(file))
    objects.number_labels()

    def stream() -> Iterator[FrameLabels]:
        for frame in frames:
            root = read_json(by_stem[frame.name])
            if _size(root) != size:
                raise root.error(f"is for a frame of {_size(root)}, but the first one has {size}")
            yield _frame(frame.index, frame.name, root, objects, size)

    notes: tuple[str, ...] = ()
    if ungrouped:
        notes = (
            f"{ungrouped} shapes have no group_id, so all shapes of one label are one object.",
        )
    found = tuple(objects.found.values())
    return ClipLabels(path.absolute().name, size, frames, stream, found, notes=notes)


class _Objects:
    """Which object a shape belongs to: its group, else its label."""

    def __init__(self) -> None:
        self.found: dict[int, ClipObject] = {}
        self._of_label: dict[str, int] = {}

    def learn(self, root: Node) -> int:
        """Take note of a file's objects; returns how many of its shapes have no group."""
        shapes = root["shapes"].items()
        grouped = [shape for shape in shapes if shape.get("group_id").value is not None]
        for shape in grouped:
            object_id = shape["group_id"].as_(int)
            if object_id < 1:
                raise shape.error(f"has the group_id {object_id}; a group that is an object has 1+")
            label = ClipObject.labelled(object_id, shape["label"].as_(str))
            name = shape.get("description").text()
            self.found.setdefault(object_id, ClipObject(object_id, name, label.category))
        for shape in shapes:
            if shape.get("group_id").value is None:
                self._of_label.setdefault(shape["label"].as_(str), 0)
        return len(shapes) - len(grouped)

    def of(self, shape: Node) -> int:
        """The object's id."""
        if shape.get("group_id").value is not None:
            return shape["group_id"].as_(int)
        return self._of_label[shape["label"].as_(str)]

    def number_labels(self) -> None:
        """Give the labels of shapes without a group ids above those of the groups."""
        for label in self._of_label:
            object_id = max(self.found, default=0) + 1
            self._of_label[label] = object_id
            self.found[object_id] = ClipObject(object_id, category=label)


def _frame(index: int, name: str, root: Node, objects: _Objects, size: Size) -> FrameLabels:
    composer = Composer(size)
    confidence, occluded = {}, set()
    for shape in root["shapes"].items():
        object_id = objects.of(shape)
        composer.add(object_id, _decode(shape, size))
        if shape.get("score").value is not None:
            confidence[object_id] = shape["score"].as_(float)
        if (shape.get("flags").value or {}).get(_OCCLUDED) is True:
            occluded.add(object_id)
    masks, overlap = composer.compose()
    return FrameLabels(index, name, masks, confidence, frozenset(occluded), overlap=overlap)


def _decode(shape: Node, size: Size) -> Bool[np.ndarray, "h w"]:
    kind = shape.get("shape_type").text() or "polygon"
    points = shape["points"]
    flat = Node([value for pair in points.items() for value in pair.as_(list)], *_at(points))
    if kind == "polygon":
        return fill([ring_of(flat)], size)
    corners = [entry.as_(float) for entry in flat.items()]
    if len(corners) == 4 and kind == "rectangle":
        (x0, x1), (y0, y1) = sorted(corners[::2]), sorted(corners[1::2])
        box = [x0, y0, x1, y0, x1, y1, x0, y1]
        return fill([ring_of(Node(box, *_at(points)))], size)
    if len(corners) == 4 and kind == "mask":
        return _paste(shape["mask"], round(corners[0]), round(corners[1]), size)
    raise shape.error(
        f"is a {kind} of {len(corners) // 2} points; polygons, rectangles and masks are read"
    )


def _at(node: Node) -> tuple[Path, str]:
    return node.path, node.place


def _paste(node: Node, left: int, top: int, size: Size) -> Bool[np.ndarray, "h w"]:
    """A picture in base64, whose top left pixel is at the given place."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(node.as_(str), validate=True))) as image:
            part = np.array(image.convert("L")) > 0
    except (OSError, ValueError, SyntaxError, binascii.Error, Image.DecompressionBombError) as bad:
        raise node.error(f"is not a PNG in base64 ({bad})") from bad
    height, width = part.shape
    if left < 0 or top < 0 or left + width > size.width or top + height > size.height:
        raise node.error(f"does not lie within its frame of {size}")
    mask = np.zeros(size, dtype=bool)
    mask[top : top + height, left : left + width] = part
    return mask


class _Writer(LabelWriter):
    def __init__(self, path: Path, clip: ClipLabels, options: WriteOptions) -> None:
        super().__init__(path, clip, options)
        self._hole_pixels = 0

    def add(self, frame: FrameLabels, rgb: UInt8[np.ndarray, "h w 3"] | None) -> None:
        del rgb
        height, width = self.clip.size
        document: dict[str, Any] = {
            "version": _VERSION,
            "flags": {},
            "shapes": [s for i in frame.masks.object_ids for s in self._shapes(frame, i)],
            "imagePath": f"{frame.name}.jpg",
            "imageData": None,
            "imageHeight": height,
            "imageWidth": width,
        }
        text = json.dumps(document, indent=1)
        (self.path / f"{frame.name}.json").write_text(text, encoding="utf-8")

    def _shapes(self, frame: FrameLabels, object_id: int) -> Iterator[dict[str, Any]]:
        known = self.clip.object(object_id)
        mask = frame.masks.ids == object_id
        for piece in outlines(mask, tolerance=self.options.tolerance):
            self._hole_pixels += round(piece.hole_area)
            shape = {
                "label": known.label,
                "points": piece.ring.tolist(),
                "group_id": object_id,
                "description": known.name,
                "shape_type": "polygon",
                "flags": {_OCCLUDED: True} if object_id in frame.occluded else {},
                "mask": None,
            }
            if object_id in frame.confidence:
                shape["score"] = frame.confidence[object_id]
            yield shape

    @property
    def notes(self) -> list[str]:
        if not self._hole_pixels:
            return []
        filled = f"{self._hole_pixels} pixels of holes are filled"
        return [f"{filled}, since a LabelMe polygon has none."]


FORMAT = MaskFormat(
    name="labelme",
    summary="LabelMe: a JSON file per frame with polygons, group_id is the object",
    loses=frozenset(
        {"states", "pixels", "holes", "absent objects", "void", "soft", "frame numbers"}
    ),
    suffixes=(".json",),
    folder=True,
    detect=_detect,
    read=_read,
    write=_Writer,
)
