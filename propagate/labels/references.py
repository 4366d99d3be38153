"""The labels that a user gave for a clip: any frames, and in each any of the objects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Generic

import numpy as np

from propagate.errors import InputError
from propagate.types import Keypoints, L, Masks, PointName


@dataclass(frozen=True, repr=False)
class Reference(Generic[L]):
    """Labels that a user gave for one frame.

    Args:
        index: of the frame in its clip.
        labels: masks of the frame's size, or keypoints.
        stated: ids of the objects they say something about, be it that an object is not there.
            Keypoints have ids from 1 in the order of their list.
    """

    index: int
    labels: L
    stated: frozenset[int]

    def __post_init__(self) -> None:
        if self.index < 0:
            raise InputError(f"A reference is for frame {self.index}; frames count from 0.")
        if not self.stated:
            raise InputError(
                f"The reference of frame {self.index} says nothing about any object; name the "
                "objects that are annotated in it."
            )

    def __repr__(self) -> str:
        return f"Reference(index={self.index}, {self.labels!r}, stated={sorted(self.stated)})"


class References(Generic[L]):
    """All references of a clip, in the order of their frames.

    A reference says where its stated objects are, and that an object which first appears in a later
    reference is not there. It is complete when it states every object that references up to its
    frame know; where it is not, the other objects are propagated through its frame.

    Args:
        items: of different frames.

    Raises:
        InputError: there is none, or two are of one frame.
    """

    def __init__(self, items: Iterable[Reference[L]]) -> None:
        ordered: list[Reference[L]] = sorted(items, key=lambda item: item.index)
        self._items: dict[int, Reference[L]] = {item.index: item for item in ordered}
        if len(self._items) < len(ordered):
            twice = next(a.index for a, b in pairwise(ordered) if a.index == b.index)
            raise InputError(f"Frame {twice} has two references; give one.")
        if not self._items:
            raise InputError("There is no reference; annotate at least one frame.")
        self.complete = frozenset(self._complete())

    def __iter__(self) -> Iterator[Reference[L]]:
        return iter(self._items.values())

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, index: object) -> bool:
        return index in self._items

    def __getitem__(self, index: int) -> Reference[L]:
        return self._items[index]

    def get(self, index: int) -> Reference[L] | None:
        """The reference of a frame, or None."""
        return self._items.get(index)

    @property
    def indices(self) -> tuple[int, ...]:
        """Annotated frames."""
        return tuple(self._items)

    @property
    def ids(self) -> tuple[int, ...]:
        """All objects, ascending."""
        return tuple(sorted(frozenset().union(*(item.stated for item in self))))

    @property
    def kind(self) -> type[Masks] | type[Keypoints]:
        """What kind of labels they are."""
        return type(next(iter(self)).labels)

    def distance(self, index: int, object_id: int, *, step: int) -> int | None:
        """Frames from `index` to the next reference that states an object, or None.

        Args:
            index: of a frame.
            object_id: the object.
            step: -1 looks back, 1 ahead.
        """
        apart = [
            (item.index - index) * step
            for item in self
            if (item.index - index) * step >= 0
            and (object_id in item.stated or item.index in self.complete)
        ]
        return min(apart, default=None)

    def _complete(self) -> Iterator[int]:
        known: frozenset[int] = frozenset()
        for item in self:
            known |= item.stated
            if item.stated >= known:
                yield item.index


def mask_references(
    masks: Mapping[int, Masks], *, stated: Mapping[int, Iterable[int]] | None = None
) -> References[Masks]:
    """References from masks by frame.

    Args:
        masks: of different frames, of one size.
        stated: objects that a frame's mask says something about; where it has no entry, those that
            have pixels in it.
    """
    said = dict(stated or {})
    return References(
        Reference(index, item, frozenset(said.get(index, item.object_ids)))
        for index, item in masks.items()
    )


def keypoint_references(points: Mapping[int, Keypoints]) -> References[Keypoints]:
    """References from keypoints by frame; all get one list of names, in the order they appear.

    A reference states the points that it lists, visible or not.
    """
    names = tuple(dict.fromkeys(name for index in sorted(points) for name in points[index].names))
    ids = {name: number for number, name in enumerate(names, start=1)}
    return References(
        Reference(index, _over(names, item), frozenset(ids[name] for name in item.names))
        for index, item in points.items()
    )


def _over(names: tuple[PointName, ...], points: Keypoints) -> Keypoints:
    """The same points in a longer list; the others are hidden, without a place."""
    if points.names == names:
        return points
    rows = [names.index(name) for name in points.names]
    xy = np.full((len(names), 2), np.nan, np.float32)
    visible = np.zeros(len(names), bool)
    xy[rows], visible[rows] = points.xy, points.visible
    confidence = None
    if points.confidence is not None:
        confidence = np.zeros(len(names), np.float32)
        confidence[rows] = points.confidence
    return Keypoints(names, xy, visible, confidence)
