"""The numbers of a whole clip: every object in every labelled frame."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from statistics import fmean

import numpy as np

from propagate.labels.clip_labels import ClipObject, FrameRef
from propagate.labels.palette import bright_colors, full_palette, palette_index
from propagate.output.keypoint_overlay import Color, part_color
from propagate.output.labelled_clip import LabelledClip, MaskedClip, MaskedFrame, PointedFrame
from propagate.output.review.looks import Look, looks_of_masks, looks_of_points
from propagate.types import PointName, Size

_ABSENT = Look("absent")


@dataclass(frozen=True)
class Track:
    """An object or keypoint through the clip.

    Args:
        id: of the object; for keypoints their position, from 1.
        name: what to call it.
        color: RGB of its picture, from 0 to 255.
        looks: one for each labelled frame.
    """

    id: int
    name: str
    color: Color
    looks: tuple[Look, ...]

    @property
    def confidence(self) -> float | None:
        """Mean over the frames that are not given, or None where nobody said."""
        known = [
            look.confidence
            for look in self.looks
            if look.confidence is not None and look.condition != "given"
        ]
        return fmean(known) if known else None


@dataclass(frozen=True)
class Timeline:
    """A clip without its pictures.

    Args:
        size: of the pictures, in pixels.
        frames: the labelled ones, by their index in the clip.
        tracks: every object, by id.
        given: positions of frames with labels that the user gave.
        points: names of the tracks where they are keypoints.
    """

    size: Size
    frames: tuple[FrameRef, ...]
    tracks: tuple[Track, ...]
    given: tuple[int, ...]
    points: tuple[PointName, ...] = ()

    @property
    def what(self) -> str:
        """How many objects or keypoints there are."""
        kind = "keypoint" if self.points else "object"
        return f"{len(self.tracks)} {kind}{'' if len(self.tracks) == 1 else 's'}"

    @property
    def diagonal(self) -> float:
        """Of a picture, in pixels."""
        return math.hypot(*self.size)


def measure(clip: LabelledClip, items: Iterable[MaskedFrame | PointedFrame]) -> Timeline:
    """Measure all labels in a pass over the clip, whose pictures are not looked at.

    Args:
        clip: pictures and labels.
        items: a pass over it.
    """
    refs: list[FrameRef] = []
    rows: list[dict[int, Look]] = []
    points: dict[int, PointName] = {}
    size = Size(0, 0)
    for item in items:
        given = item.frame.index in clip.given
        refs.append(FrameRef(item.frame.index, item.frame.name))
        size = item.frame.size
        if isinstance(item, MaskedFrame):
            rows.append(looks_of_masks(item.labels, given=given))
        else:
            looks = looks_of_points(item.labels, given=given)
            rows.append(dict(enumerate(looks, start=1)))
            points |= enumerate(item.labels.names, start=1)
    # A point that is nowhere in the whole clip is one that the skeleton has and nobody marked.
    ids = sorted({i for row in rows for i, look in row.items() if look.placed or not points})
    names = [str(points[i]) if i in points else _name(clip, i) for i in ids]
    tracks = tuple(
        Track(i, name, color, tuple(row.get(i, _ABSENT) for row in rows))
        for i, name, color in zip(ids, names, _colors(clip, ids, points), strict=True)
    )
    names_of_points = tuple(points[i] for i in ids) if points else ()
    return Timeline(size, tuple(refs), tracks, _given(tracks, refs, clip), names_of_points)


def _colors(clip: LabelledClip, ids: Sequence[int], names: Mapping[int, PointName]) -> list[Color]:
    """Colours as the pictures of `propagate render` have them: by object, or by part."""
    if isinstance(clip, MaskedClip):
        bright = bright_colors(full_palette(clip.palette))
        return [_rgb(bright[palette_index(np.array(object_id))]) for object_id in ids]
    # Of all points, marked or not, as the drawings count them.
    parts = list(dict.fromkeys(name.part for name in names.values()))
    return [part_color(parts.index(names[number].part)) for number in ids]


def _rgb(color: np.ndarray) -> Color:
    red, green, blue = color.tolist()
    return red, green, blue


def _name(clip: LabelledClip, object_id: int) -> str:
    known = clip.labels.object(object_id) if isinstance(clip, MaskedClip) else ClipObject(object_id)
    return known.name or known.category or f"object {object_id}"


def _given(
    tracks: Sequence[Track], refs: Sequence[FrameRef], clip: LabelledClip
) -> tuple[int, ...]:
    looks = zip_longest(*(track.looks for track in tracks), fillvalue=_ABSENT)
    by_state = {
        position
        for position, row in enumerate(looks)
        if any(look.condition == "given" for look in row)
    }
    by_record = {position for position, ref in enumerate(refs) if ref.index in clip.given}
    return tuple(sorted(by_state | by_record))
