"""What a target format has no room for, counted while the labels go by."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

import numpy as np

from propagate.labels.clip_labels import ClipLabels, FrameLabels, number_name
from propagate.labels.format_base import Trait

_LISTED = 5
# What the mask and the occlusion mark don't tell of a state.
_BEYOND_OCCLUSION = ("given", "lost")


class Tally:
    """Counts what the labels of a clip have beside ids per pixel.

    Args:
        clip: where they come from.
    """

    def __init__(self, clip: ClipLabels) -> None:
        self.frames = 0
        self.objects: set[int] = set()
        self._clip = clip
        self._counts: dict[Trait, int] = {}
        self._overlap = 0

    def watch(self, frames: Iterable[FrameLabels]) -> Iterator[FrameLabels]:
        """Pass frames on and count."""
        for frame in frames:
            self._count(frame)
            self.frames += 1
            yield frame

    def _count(self, frame: FrameLabels) -> None:
        present = set(frame.masks.object_ids)
        marked = set(frame.confidence) | frame.occluded | set(frame.states)
        self.objects |= present | marked
        self._overlap += frame.overlap
        void = frame.masks.void
        for trait, count in (
            ("confidence", len(present & set(frame.confidence))),
            ("occlusion", len(present & frame.occluded)),
            ("states", sum(state in _BEYOND_OCCLUSION for state in frame.states.values())),
            ("absent objects", len(marked - present)),
            ("void", 0 if void is None else int(np.count_nonzero(frame.masks.ids == void))),
            ("soft", int(frame.scores is not None and _is_soft(frame))),
            ("empty frames", int(not present and not marked)),
            ("frame names", int(frame.name != number_name(frame.index))),
            ("frame numbers", int(frame.index != self.frames and not _told_by_name(frame))),
        ):
            self._counts[trait] = self._counts.get(trait, 0) + count  # type: ignore[index,call-overload]

    def lost(self, keeps: Collection[Trait]) -> dict[Trait, str]:
        """A sentence for each thing that is there and that a format with room for `keeps` loses."""
        sentences = {
            trait: _SENTENCES[trait].format(count)
            for trait, count in self._counts.items()
            if count and trait not in keeps
        }
        known = [self._clip.object(object_id) for object_id in sorted(self.objects)]
        names = [f"{o.id} ({o.name})" for o in known if o.name and o.name != o.label]
        categories = [f"{o.id} ({o.category})" for o in known if o.category]
        if names and "names" not in keeps:
            sentences["names"] = f"Names of objects are lost: {_listed(names)}."
        if categories and "categories" not in keeps:
            sentences["categories"] = f"Categories of objects are lost: {_listed(categories)}."
        return sentences

    @property
    def overlap_note(self) -> tuple[str, ...]:
        """A sentence about pixels that several objects claimed, if there are any."""
        if not self._overlap:
            return ()
        return (
            f"{self._overlap} pixels belong to several objects and went to the one on top, which "
            "is the smallest where the source has no order of layers.",
        )


_SENTENCES: dict[Trait, str] = {
    "confidence": "The confidence of {} masks is lost.",
    "occlusion": "The occlusion marks of {} masks are lost.",
    "states": "That {} masks were given or lost is not kept.",
    "absent objects": (
        "{} confidences and occlusion marks of objects without a pixel in the frame are lost."
    ),
    "void": "{} pixels that are unknown (void) become background.",
    "soft": "The soft scores of {} frames are lost; every pixel has its best id.",
    "empty frames": "{} frames without an object are lost.",
    "frame names": "The names of {} frames are lost; frames are numbered.",
    "frame numbers": "Gaps between frames are lost; {} frames have other numbers.",
}


def _is_soft(frame: FrameLabels) -> bool:
    scores = frame.scores
    return scores is not None and bool(((scores.values > 0) & (scores.values < 1)).any())


def _told_by_name(frame: FrameLabels) -> bool:
    """Whether the name of a frame is its number; every format has names or numbers."""
    return frame.name.isascii() and frame.name.isdigit() and int(frame.name) == frame.index


def _listed(items: list[str]) -> str:
    more = f" and {len(items) - _LISTED} more" if len(items) > _LISTED else ""
    return ", ".join(items[:_LISTED]) + more
