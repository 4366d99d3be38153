"""CVAT for video 1.1 (XML): tracks of polygons.

A track has one polygon per frame, so every further piece of an object becomes a track of its own;
the attribute `object` says which belong together. Holes can't be told. `confidence` is an
attribute too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from xml.sax import saxutils

import numpy as np

from propagate.labels.clip_labels import ClipLabels, FrameLabels
from propagate.labels.composer import Composer
from propagate.labels.cvat_shapes import (
    CONFIDENCE_ATTRIBUTE,
    NAME_ATTRIBUTE,
    OBJECT_ATTRIBUTE,
)
from propagate.labels.cvat_tracks import read_cvat
from propagate.labels.format_base import LabelWriter, MaskFormat, ReadOptions, WriteOptions
from propagate.labels.outlines import outlines

if TYPE_CHECKING:
    from jaxtyping import UInt8


def _detect(path: Path) -> bool:
    if path.suffix.lower() != ".xml" or not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(4096)
    return b"<annotations" in head


def _read(path: Path, options: ReadOptions) -> ClipLabels:
    clip = read_cvat(path, options.size)

    def stream() -> Iterator[FrameLabels]:
        for frame in clip.frames:
            composer = Composer(clip.size)
            confidence, occluded = {}, set()
            for shape in clip.shapes.get(frame.index, ()):
                composer.add(shape.object_id, shape.decode(clip.size), layer=shape.layer)
                if shape.confidence is not None:
                    confidence[shape.object_id] = shape.confidence
                if shape.occluded:
                    occluded.add(shape.object_id)
            masks, overlap = composer.compose()
            yield FrameLabels(
                *(frame.index, frame.name, masks, confidence, frozenset(occluded)),
                overlap=overlap,
            )

    return ClipLabels(clip.name, clip.size, clip.frames, stream, clip.objects, notes=clip.notes)


class _Track:
    """The XML of one track so far, and its last shape while that is shown."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.index = -1
        self.points = ""
        self.attributes = ""
        self.shown = False


class _Writer(LabelWriter):
    def __init__(self, path: Path, clip: ClipLabels, options: WriteOptions) -> None:
        super().__init__(path, clip, options)
        self._tracks: dict[tuple[int, int], _Track] = defaultdict(_Track)
        self._hole_pixels = 0

    def add(self, frame: FrameLabels, rgb: UInt8[np.ndarray, "h w 3"] | None) -> None:
        del rgb
        for object_id in frame.masks.object_ids:
            mask = frame.masks.ids == object_id
            pieces = outlines(mask, tolerance=self.options.tolerance)
            for number, piece in enumerate(pieces):
                points = ";".join(f"{x:g},{y:g}" for x, y in piece.ring)
                self._show(self._tracks[object_id, number], frame, object_id, points)
                self._hole_pixels += round(piece.hole_area)

    def _show(self, track: _Track, frame: FrameLabels, object_id: int, points: str) -> None:
        if track.shown and track.index + 1 < frame.index:
            self._hide(track)
        values = {OBJECT_ATTRIBUTE: str(object_id)}
        if self.clip.object(object_id).name:
            values[NAME_ATTRIBUTE] = self.clip.object(object_id).name
        if object_id in frame.confidence:
            values[CONFIDENCE_ATTRIBUTE] = repr(frame.confidence[object_id])
        track.index, track.points, track.attributes = frame.index, points, _attributes(values)
        track.shown = True
        occluded = object_id in frame.occluded
        track.lines.append(_polygon(frame.index, points, track.attributes, occluded=occluded))

    def _hide(self, track: _Track) -> None:
        """End the track after its last frame, unless that is the clip's last."""
        if track.index < self.clip.frames[-1].index:
            line = _polygon(track.index + 1, track.points, track.attributes, outside=True)
            track.lines.append(line)
        track.shown = False

    def finish(self) -> None:
        for track in self._tracks.values():
            self._hide(track)
        with self.path.open("w", encoding="utf-8") as file:
            file.write(_head(self.clip, [i for i, _ in self._tracks]))
            for number, ((object_id, _), track) in enumerate(sorted(self._tracks.items())):
                label = _quoted(self.clip.object(object_id).label)
                file.write(f'  <track id="{number}" label={label} source="auto">\n')
                file.writelines(track.lines)
                file.write("  </track>\n")
            file.write("</annotations>\n")

    @property
    def notes(self) -> list[str]:
        notes = []
        if self._hole_pixels:
            notes.append(
                f"{self._hole_pixels} pixels of holes are filled, since a CVAT polygon has none."
            )
        unlabelled = self.clip.frames[-1].index + 1 - len(self.clip.frames)
        if unlabelled:
            notes.append(
                f"CVAT has all frames from 0, so {unlabelled} without labels were added, which "
                "look empty."
            )
        extra = len(self._tracks) - len({object_id for object_id, _ in self._tracks})
        if extra:
            notes.append(
                f"{extra} further tracks hold the pieces of objects that are not in one piece."
            )
        return notes


def _escape(text: str) -> str:
    """Text for XML, without the control characters that it can't have."""
    return saxutils.escape("".join(c for c in text if c.isprintable()))


def _quoted(text: str) -> str:
    """An attribute's value for XML with quotes around."""
    return '"' + _escape(text).replace('"', "&quot;") + '"'


def _attributes(values: dict[str, str]) -> str:
    return "".join(
        f"      <attribute name={_quoted(key)}>{_escape(value)}</attribute>\n"
        for key, value in values.items()
    )


def _polygon(
    index: int, points: str, attributes: str, *, outside: bool = False, occluded: bool = False
) -> str:
    return (
        f'    <polygon frame="{index}" keyframe="1" outside="{outside:d}" '
        f'occluded="{occluded:d}" points="{points}" z_order="0">\n{attributes}    </polygon>\n'
    )


def _head(clip: ClipLabels, object_ids: list[int]) -> str:
    """The start of the file, up to the tracks; CVAT wants labels and attributes to be declared."""
    attributes = "".join(
        f"            <attribute><name>{name}</name><mutable>{mutable}</mutable>"
        "<input_type>text</input_type><default_value></default_value><values></values>"
        "</attribute>\n"
        for name, mutable in (
            (OBJECT_ATTRIBUTE, "False"),
            (NAME_ATTRIBUTE, "False"),
            (CONFIDENCE_ATTRIBUTE, "True"),
        )
    )
    labels = "".join(
        f"        <label>\n          <name>{_escape(label)}</name>\n"
        "          <type>polygon</type>\n"
        f"          <attributes>\n{attributes}          </attributes>\n        </label>\n"
        for label in sorted({clip.object(i).label for i in object_ids})
    )
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n'
        f"  <meta>\n    <task>\n      <name>{_escape(clip.name)}</name>\n"
        f"      <size>{clip.frames[-1].index + 1}</size>\n      <mode>interpolation</mode>\n"
        f"      <labels>\n{labels}      </labels>\n"
        f"      <original_size>\n        <width>{clip.size.width}</width>\n"
        f"        <height>{clip.size.height}</height>\n      </original_size>\n"
        "    </task>\n  </meta>\n"
    )


FORMAT = MaskFormat(
    name="cvat",
    summary="CVAT for video 1.1 XML: tracks of polygons",
    loses=frozenset({"states", "pixels", "holes", "absent objects", "void", "soft", "frame names"}),
    suffixes=(".xml",),
    folder=False,
    detect=_detect,
    read=_read,
    write=_Writer,
)
