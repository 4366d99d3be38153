"""Reading CVAT for video 1.1: which shape is where, before any is drawn.

Source: CVAT's documentation of its XML format.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import numpy as np

from propagate.errors import LabelError
from propagate.labels.clip_labels import ClipObject, FrameRef, numbered_frames
from propagate.labels.outlines import fill
from propagate.labels.rle import runs_to_mask
from propagate.types import Size

if TYPE_CHECKING:
    from jaxtyping import Bool, Float64

OBJECT_ATTRIBUTE = "object"
NAME_ATTRIBUTE = "name"
CONFIDENCE_ATTRIBUTE = "confidence"

_MAX_FRAMES = 10_000_000


@dataclass(frozen=True)
class Shape:
    """A polygon or mask in one frame.

    Args:
        object_id: of the object.
        element: as the file has it.
        place: for messages.
    """

    object_id: int
    element: ET.Element
    place: str

    @property
    def occluded(self) -> bool:
        """Whether something hides a part of it."""
        return self.element.get("occluded") == "1"

    @property
    def outside(self) -> bool:
        """Whether the object is not in this frame."""
        return self.element.get("outside") == "1"

    @property
    def layer(self) -> int:
        """Its z order; the higher is on top."""
        return _whole(self.element, "z_order", self.place, default=0)

    @property
    def confidence(self) -> float | None:
        """What its attribute says, if it has one."""
        text = _attribute(self.element, CONFIDENCE_ATTRIBUTE)
        try:
            return float(text) if text else None
        except ValueError as error:
            raise LabelError(f"{self.place}: confidence {text!r} is no number.") from error

    def decode(self, size: Size) -> Bool[np.ndarray, "h w"]:
        """Its pixels.

        Raises:
            LabelError: it is malformed.
        """
        if self.element.tag == "mask":
            return self._decode_mask(size)
        return fill([self._points()], size)

    def _points(self) -> Float64[np.ndarray, "n 2"]:
        text = self.element.get("points", "")
        try:
            points = [[float(value) for value in pair.split(",")] for pair in text.split(";")]
        except ValueError:
            points = []
        finite = all(len(pair) == 2 and all(map(math.isfinite, pair)) for pair in points)
        if len(points) < 3 or not finite:
            shown = text if len(text) <= 40 else f"{text[:37]}..."
            raise LabelError(
                f"{self.place}: the points {shown!r} are not x,y;x,y;... of 3 points or more."
            )
        return np.array(points)

    def _decode_mask(self, size: Size) -> Bool[np.ndarray, "h w"]:
        left, top, width, height = (
            _whole(self.element, key, self.place) for key in ("left", "top", "width", "height")
        )
        fits = width > 0 and height > 0 and left >= 0 and top >= 0
        if not fits or left + width > size.width or top + height > size.height:
            raise LabelError(f"{self.place}: the mask does not lie within its frame of {size}.")
        try:
            runs = [int(run) for run in self.element.get("rle", "").split(",")]
            # CVAT's runs go along the rows, those of COCO down the columns.
            part = runs_to_mask(runs, Size(width, height)).T
        except (ValueError, LabelError) as error:
            raise LabelError(f"{self.place}: rle is malformed: {error}.") from error
        mask = np.zeros(size, dtype=bool)
        mask[top : top + height, left : left + width] = part
        return mask


@dataclass(frozen=True)
class CvatClip:
    """What a file holds.

    Args:
        name: of the task.
        size: of the frames.
        frames: all of the task.
        objects: those with a label.
        shapes: by index of the frame, without those outside.
        notes: see `ClipLabels`.
    """

    name: str
    size: Size
    frames: tuple[FrameRef, ...]
    objects: tuple[ClipObject, ...]
    shapes: Mapping[int, list[Shape]]
    notes: tuple[str, ...]


def read_cvat(path: Path, size: Size | None) -> CvatClip:
    """Read a file; `size` is taken where it does not say the size of its frames.

    Raises:
        LabelError: it is malformed, for images instead of a video, or has no size.
    """
    root = _parse(path)
    if root.find("image") is not None:
        raise LabelError(
            f"{path} is CVAT for images, which has no tracks; export CVAT for video 1.1."
        )
    task = root.find("meta/task")
    if task is None:
        task = root.find("meta/job")
    if task is None:
        raise LabelError(f"{path} has no <meta> with a <task> or <job>; export it from CVAT again.")
    size = _size(task, path) or size
    if size is None:
        raise LabelError(f"{path} has no <original_size>; say the frames' size with --size.")
    reading = _Reading(path, _frame_count(task, path))
    for track in root.iter("track"):
        reading.add(track)
    if reading.count is None:
        reading.count = max(reading.shapes, default=-1) + 1
    name = task.findtext("name") or path.stem
    frames = numbered_frames(reading.count)
    objects = tuple(reading.objects.values())
    return CvatClip(name, size, frames, objects, reading.shapes, reading.notes())


def _parse(path: Path) -> ET.Element:
    try:
        data = path.read_bytes()
        if b"<!DOCTYPE" in data:
            raise LabelError(f"{path} has a DOCTYPE, which CVAT does not write; remove it.")
        root = ET.fromstring(data)  # noqa: S314, see the import
    except (OSError, ET.ParseError, ValueError) as error:
        if isinstance(error, LabelError):
            raise
        raise LabelError(f"{path} is not valid XML ({error}).") from error
    if root.tag != "annotations":
        raise LabelError(f"{path} has <{root.tag}> outside, where CVAT has <annotations>.")
    return root


def _size(task: ET.Element, path: Path) -> Size | None:
    found = task.find("original_size")
    if found is None:
        return None
    width, height = (_number(found.findtext(key), path, key) for key in ("width", "height"))
    if not (0 < width <= 1 << 16 and 0 < height <= 1 << 16):
        raise LabelError(f"{path}: original_size {width}x{height} is not possible.")
    return Size(height, width)


def _frame_count(task: ET.Element, path: Path) -> int | None:
    text = task.findtext("size")
    count = None if text is None else _number(text, path, "size")
    if count is not None and not 0 < count <= _MAX_FRAMES:
        raise LabelError(f"{path}: a task of {count} frames is not possible.")
    return count


def _number(text: str | None, path: Path, what: str) -> int:
    try:
        return int(text or "")
    except ValueError as error:
        raise LabelError(f"{path}: {what} {text!r} is no whole number.") from error


class _Reading:
    """Shapes of all tracks so far, by frame."""

    def __init__(self, path: Path, count: int | None) -> None:
        self.count = count
        self.shapes: dict[int, list[Shape]] = defaultdict(list)
        self.objects: dict[int, ClipObject] = {}
        self._path = path
        self._tracks = 0
        self._repeated = 0
        self._skipped: dict[str, int] = defaultdict(int)

    def add(self, track: ET.Element) -> None:
        """Add a track; its shape holds until the next one."""
        self._tracks += 1
        shapes = sorted(self._shapes(track), key=lambda pair: pair[0])
        for position, (frame, shape) in enumerate(shapes):
            if shape.outside:
                continue
            last = position + 1 == len(shapes)
            stop = (self.count or frame + 1) if last else shapes[position + 1][0]
            for index in range(frame, stop):
                self.shapes[index].append(shape)
            self._repeated += max(stop - frame - 1, 0)

    def notes(self) -> tuple[str, ...]:
        """What could not be read as it is."""
        notes = [
            f"{count} <{tag}> shapes were left out; polygons and masks are read."
            for tag, count in self._skipped.items()
        ]
        if self._repeated:
            notes.append(
                f"{self._repeated} masks between keyframes repeat the one before, where CVAT would "
                "interpolate; export from CVAT writes them all."
            )
        return tuple(notes)

    def _shapes(self, track: ET.Element) -> list[tuple[int, Shape]]:
        place = f"{self._path}: track {track.get('id', self._tracks - 1)}"
        found = []
        for element in track:
            frame = _whole(element, "frame", place)
            if frame < 0 or frame >= (self.count or _MAX_FRAMES):
                raise LabelError(f"{place}: frame {frame} is not one of the task.")
            if element.tag not in ("polygon", "mask"):
                self._skipped[element.tag] += 1
                continue
            object_id = self._object(track, element, place)
            found.append((frame, Shape(object_id, element, f"{place}, frame {frame}")))
        return found

    def _object(self, track: ET.Element, element: ET.Element, place: str) -> int:
        """Id of the object: what our attribute says, else the number of the track from 1."""
        text = _attribute(element, OBJECT_ATTRIBUTE)
        if text and not (text.isascii() and text.isdigit()):
            raise LabelError(f"{place}: the attribute object is {text!r}, not a number.")
        object_id = int(text) if text else _whole(track, "id", place, default=self._tracks - 1) + 1
        if object_id not in self.objects:
            labelled = ClipObject.labelled(object_id, track.get("label", ""))
            name = _attribute(element, NAME_ATTRIBUTE)
            self.objects[object_id] = ClipObject(object_id, name, labelled.category)
        return object_id


def _attribute(element: ET.Element, name: str) -> str:
    for attribute in element.findall("attribute"):
        if attribute.get("name") == name:
            return (attribute.text or "").strip()
    return ""


def _whole(element: ET.Element, key: str, place: str, *, default: int | None = None) -> int:
    text = element.get(key)
    if text is None and default is not None:
        return default
    try:
        return int(text or "")
    except ValueError as error:
        raise LabelError(f"{place}: {key} {text!r} is no whole number.") from error
