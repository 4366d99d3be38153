"""Reading CVAT for video 1.1: which shape is where, before any is drawn.

Source: CVAT's documentation of its XML format.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from propagate.errors import LabelError
from propagate.labels.clip_labels import ClipObject, FrameRef, numbered_frames
from propagate.labels.cvat_shapes import (
    NAME_ATTRIBUTE,
    OBJECT_ATTRIBUTE,
    Shape,
    attribute_of,
    whole_number,
)
from propagate.types import Size

_MAX_FRAMES = 10_000_000


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
            frame = whole_number(element, "frame", place)
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
        text = attribute_of(element, OBJECT_ATTRIBUTE)
        if text and not (text.isascii() and text.isdigit()):
            raise LabelError(f"{place}: the attribute object is {text!r}, not a number.")
        object_id = (
            int(text) if text else whole_number(track, "id", place, default=self._tracks - 1) + 1
        )
        if object_id not in self.objects:
            labelled = ClipObject.labelled(object_id, track.get("label", ""))
            name = attribute_of(element, NAME_ATTRIBUTE)
            self.objects[object_id] = ClipObject(object_id, name, labelled.category)
        return object_id
