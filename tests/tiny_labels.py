"""Small clips of labels for tests of mask formats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from propagate.labels.clip_labels import (
    ClipLabels,
    ClipObject,
    FrameLabels,
    FrameRef,
    id_dtype,
)
from propagate.labels.format_base import ReadOptions, WriteOptions
from propagate.labels.format_registry import get_format
from propagate.types import Masks, Size


@st.composite
def bool_masks(draw: st.DrawFn) -> np.ndarray:
    """Masks of noise and of blocks, with holes and pieces."""
    height, width = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    mask = rng.random((height, width)) < draw(st.floats(0, 1))
    step = draw(st.integers(1, 3))
    return np.kron(mask, np.ones((step, step), dtype=bool)).astype(bool)


def clip_of(
    ids: Sequence[np.ndarray],
    *,
    frames: Sequence[FrameRef] | None = None,
    objects: Sequence[ClipObject] = (),
    confidence: Mapping[int, Mapping[int, float]] | None = None,
    occluded: Mapping[int, set[int]] | None = None,
    void: int | None = None,
    name: str = "clip",
) -> ClipLabels:
    """A clip of these ids, one array per frame; the rest by position of the frame."""
    refs = tuple(frames or (FrameRef(i, f"{i:05d}") for i in range(len(ids))))
    labels = [
        FrameLabels(
            ref.index,
            ref.name,
            Masks(frame, void=void),
            (confidence or {}).get(i, {}),
            frozenset((occluded or {}).get(i, ())),
        )
        for i, (ref, frame) in enumerate(zip(refs, ids, strict=True))
    ]
    return ClipLabels(name, Size(*ids[0].shape), refs, lambda: iter(labels), tuple(objects))


@st.composite
def clips(draw: st.DrawFn, *, largest: int = 65535) -> ClipLabels:
    """Clips of several objects with gaps in ids, empty frames, holes and pieces, one at least."""
    size = Size(draw(st.integers(2, 9)), draw(st.integers(2, 9)))
    ids = draw(
        st.lists(
            st.one_of(st.integers(1, 12), st.integers(1, largest)).filter(lambda i: i != 255),
            min_size=1,
            max_size=4,
            unique=True,
        )
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    table = np.array([0, *ids], dtype=id_dtype(max(ids)))
    frames = [
        table[
            rng.integers(0, len(table), size)
            * (rng.random(size) < draw(st.sampled_from((0, 0.6, 1))))
        ]
        for _ in range(draw(st.integers(1, 4)))
    ]
    frames[-1][0, 0] = ids[0]
    clip = clip_of(frames)
    confidence = {
        i: {o: int(rng.integers(0, 101)) / 100 for o in f.masks.object_ids}
        for i, f in enumerate(clip.stream())
    }
    occluded = {
        i: {o for o in f.masks.object_ids if rng.random() < 0.3}
        for i, f in enumerate(clip.stream())
    }
    objects = [ClipObject(i, category=draw(st.sampled_from(("", "dog", "a & <b>")))) for i in ids]
    return clip_of(frames, objects=objects, confidence=confidence, occluded=occluded)


def write(clip: ClipLabels, name: str, folder: Path, rgb: np.ndarray | None = None) -> Path:
    """Write a clip in the format called `name` below `folder`; returns where."""
    entry = get_format(name)
    path = folder / (f"clip-{name}" if entry.folder else f"clip-{name}{entry.suffixes[0]}")
    if entry.folder:
        path.mkdir()
    writer = entry.write(path, clip, WriteOptions())
    for frame in clip.stream():
        writer.add(frame, rgb)
    writer.finish()
    return path


def read(path: Path, name: str, options: ReadOptions | None = None) -> ClipLabels:
    """Read what `write` wrote."""
    return get_format(name).read(path, options or ReadOptions())


@dataclass(frozen=True)
class Seen:
    """Everything of a clip that can be compared."""

    ids: list[list[list[int]]]
    refs: list[tuple[int, str]]
    objects: dict[int, tuple[str, str]] = field(default_factory=dict)
    confidence: list[dict[int, float]] = field(default_factory=list)
    occluded: list[set[int]] = field(default_factory=list)
    void: int = 0

    @classmethod
    def of(cls, clip: ClipLabels) -> Seen:
        frames = list(clip.stream())
        seen = sorted({i for f in frames for i in f.masks.object_ids})
        known = [clip.object(i) for i in seen]
        return cls(
            ids=[f.masks.ids.tolist() for f in frames],
            refs=[(f.index, f.name) for f in frames],
            objects={o.id: (o.name, o.category) for o in known},
            confidence=[dict(f.confidence) for f in frames],
            occluded=[set(f.occluded) for f in frames],
            void=sum(int((f.masks.ids == f.masks.void).sum()) for f in frames if f.masks.void),
        )

    def without(self, **fields: object) -> Seen:
        return replace(self, **fields)
