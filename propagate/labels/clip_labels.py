"""The labels of a clip as a stream: what every mask format is read into and written from."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, get_args

import numpy as np

from propagate.errors import LabelError
from propagate.types import Masks, Size, State

if TYPE_CHECKING:
    from jaxtyping import Float16


def parse_state(text: str) -> State:
    """A word as a `State`.

    Raises:
        ValueError: it is none.
    """
    for state in get_args(State):
        if text == state:
            found: State = state
            return found
    raise ValueError(f"{text!r} is none of {', '.join(get_args(State))}")


@dataclass(frozen=True, order=True)
class FrameRef:
    """A frame without its content: its index in the clip, from 0, and the stem of its files."""

    index: int
    name: str


@dataclass(frozen=True)
class ClipObject:
    """An object that is followed through a clip.

    Args:
        id: 1 or more.
        name: of this one object; empty if it has none.
        category: of its kind; empty if unknown.
    """

    id: int
    name: str = ""
    category: str = ""

    def __post_init__(self) -> None:
        if self.id < 1:
            raise LabelError(f"The object id {self.id} is not possible; ids are 1 or more.")

    @property
    def label(self) -> str:
        """What to call it where there is one word only: category, name, or its number."""
        return self.category or self.name or f"object {self.id}"

    @classmethod
    def labelled(cls, object_id: int, label: str) -> ClipObject:
        """The object that `label` came from, as far as it tells."""
        return cls(object_id, category="" if label == f"object {object_id}" else label)


@dataclass(frozen=True, repr=False)
class SoftScores:
    """How much every pixel belongs to each label.

    Args:
        ids: the labels; 0 is background, which may be left out.
        values: float16 [k, h, w], 0 to 1.
    """

    ids: tuple[int, ...]
    values: Float16[np.ndarray, "k h w"]

    def __post_init__(self) -> None:
        if self.values.ndim != 3 or len(self.values) != len(self.ids):
            raise LabelError(
                f"Soft scores must be [k, h, w] with k = {len(self.ids)} ids, "
                f"not {list(self.values.shape)}."
            )

    def masks(self) -> Masks:
        """The best id of every pixel; equal scores give the earlier one.

        Without a channel for it, background scores 1 minus the sum of the others.
        """
        ids, values = self.ids, self.values.astype(np.float32)
        if 0 not in ids:
            ids = (0, *ids)
            values = np.concatenate([1 - values.sum(axis=0, keepdims=True), values])
        return Masks(np.array(ids, dtype=id_dtype(max(ids)))[values.argmax(axis=0)])

    def __repr__(self) -> str:
        return f"SoftScores(ids={list(self.ids)}, {list(self.values.shape)})"


@dataclass(frozen=True)
class FrameLabels:
    """The labels of one frame.

    Args:
        index: of the frame in its clip, from 0.
        name: stem of the frame's files.
        masks: one id per pixel.
        confidence: by object, 0 to 1.
        occluded: objects that something else hides in part or wholly.
        scores: what `masks` was decided from, where that is known.
        overlap: pixels that more than one object claimed; see `Composer`.
        states: what became of each object, where the source tells.

    Raises:
        LabelError: a confidence is no finite number.
    """

    index: int
    name: str
    masks: Masks
    confidence: Mapping[int, float] = field(default_factory=dict)
    occluded: frozenset[int] = frozenset()
    scores: SoftScores | None = None
    overlap: int = 0
    states: Mapping[int, State] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for object_id, value in self.confidence.items():
            if not math.isfinite(value):
                raise LabelError(
                    f"The confidence of object {object_id} in frame {self.name} is {value}; it "
                    "must be a finite number, 0 to 1."
                )


@dataclass(frozen=True)
class ClipLabels:
    """The labels of a clip, frame by frame.

    Args:
        name: of the clip.
        size: of its frames, in pixels.
        frames: the labelled frames, in the clip's order.
        stream: a fresh pass over their labels, in the same order, holding one frame at a time.
        objects: what is known of the objects; those without name and category may be missing.
        describe: makes the others from their ids.
        notes: sentences for the user about how the source was understood.

    Raises:
        LabelError: two frames have one name or index, or there is no frame.
    """

    name: str
    size: Size
    frames: tuple[FrameRef, ...]
    stream: Callable[[], Iterator[FrameLabels]]
    objects: tuple[ClipObject, ...] = ()
    describe: Callable[[int], ClipObject] = ClipObject
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.frames:
            raise LabelError(f"{self.name} has no frames, so there is nothing to convert.")
        for what, values in (
            ("named", [frame.name for frame in self.frames]),
            ("numbered", [frame.index for frame in self.frames]),
        ):
            value, count = Counter(values).most_common(1)[0]
            if count > 1:
                raise LabelError(
                    f"{count} frames of {self.name} are {what} {value}; every frame needs its own."
                )

    def object(self, object_id: int) -> ClipObject:
        """What is known of an object."""
        known = self._by_id.get(object_id)
        return self.describe(object_id) if known is None else known

    @cached_property
    def _by_id(self) -> dict[int, ClipObject]:
        return {known.id: known for known in self.objects}


def id_dtype(largest: int) -> np.dtype[np.integer]:
    """The smallest of uint8, uint16 and int32 that holds ids up to `largest`.

    Raises:
        LabelError: none of them does.
    """
    if largest > np.iinfo(np.int32).max:
        raise LabelError(f"The object id {largest} is too large; ids may have 31 bits.")
    return np.dtype(np.uint8 if largest < 2**8 else np.uint16 if largest < 2**16 else np.int32)


def frame_refs(stems: Sequence[str]) -> tuple[FrameRef, ...]:
    """Frames by the stems of their files, which are in order.

    Stems that are all numbers, as of video frames, say the index; others count from 0.
    """
    if all(stem.isascii() and stem.isdigit() for stem in stems):
        numbers = [int(stem) for stem in stems]
        if len(set(numbers)) == len(numbers):
            return tuple(sorted(map(FrameRef, numbers, stems)))
    return tuple(FrameRef(index, stem) for index, stem in enumerate(stems))


def numbered_frames(count: int) -> tuple[FrameRef, ...]:
    """Frames of a format that numbers them only, named as `propagate run` names video frames."""
    return tuple(FrameRef(index, number_name(index)) for index in range(count))


def number_name(index: int) -> str:
    """Name of a frame that has nothing but its index."""
    return f"{index:05d}"


def safe_name(text: str) -> str:
    """The last part of a path that another program wrote.

    Raises:
        LabelError: nothing is left of it.
    """
    name = PurePosixPath(text.replace("\\", "/").replace("\0", "")).name
    if not name.strip(". "):
        raise LabelError(f"The name {text!r} can't be one of a file.")
    return name


def safe_stem(text: str) -> str:
    """The last part of a path that another program wrote, without its ending.

    Raises:
        LabelError: nothing is left of it.
    """
    return PurePosixPath(safe_name(text)).stem
