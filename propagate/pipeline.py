"""Composition: a clip and one labelled frame in, labels for every frame out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

from propagate.config import VideoSettings
from propagate.errors import ClipError
from propagate.features.base import FeatureExtractor, FittedExtractor
from propagate.features.cache import FeatureCache
from propagate.features.device import resolve_device, resolve_dtype
from propagate.labels.codec import Codec, L, codec_for
from propagate.output.checkpoint import SavedLabels
from propagate.propagation import ContextEntry, Propagator
from propagate.stopwatch import Stopwatch
from propagate.types import FeatureMap, Frame, Keypoints, LabelField, Masks
from propagate.video.base import FrameReader

T = TypeVar("T")
Progress = Callable[[str, int | None, Iterable[T]], Iterable[T]]
"""Wraps what a long stage goes through: (title, expected number, items) -> items."""


@dataclass(frozen=True)
class FrameResult(Generic[L]):
    """One labelled frame.

    Args:
        frame: the picture.
        labels: of the kind of the reference; the reference itself for the annotated frame.
        field: the soft labels they were decoded from.
    """

    frame: Frame
    labels: L
    field: LabelField

    @property
    def masks(self: FrameResult[Masks]) -> Masks:
        """The labels of a clip with masks."""
        return self.labels

    @property
    def keypoints(self: FrameResult[Keypoints]) -> Keypoints:
        """The labels of a clip with keypoints."""
        return self.labels


class VideoPropagator(Generic[L]):
    """Streams a clip through extraction, propagation and decoding.

    Iterating gives a `FrameResult` per frame in the clip's order, holding no more than the context
    window and one batch of frames, however long the clip is. Every iteration starts anew.

    Args:
        reader: the clip; its first frame is the annotated one.
        reference: masks of that frame, at its size, or its keypoints.
        extractor: where features come from.
        settings: propagation, encoding and decoding.
        device: where similarities are computed.
        resume: context of an interrupted run (`checkpoint()`); frames up to its latest one are
            skipped.
        clock: collects the seconds spent in "decode", "extract" and "propagate".
    """

    def __init__(
        self,
        reader: FrameReader,
        reference: L,
        *,
        extractor: FeatureExtractor,
        settings: VideoSettings,
        device: str = "auto",
        resume: Sequence[SavedLabels] = (),
        clock: Stopwatch | None = None,
    ) -> None:
        self._reader = reader
        self._reference: L = reference
        self._settings = settings
        self._codec: Codec[L] = codec_for(reference, settings)
        self._resume = {saved.index: saved for saved in resume}
        self._clock = clock or Stopwatch()
        self._dtype = resolve_dtype(settings.precision, resolve_device(device))
        self._extractor = extractor
        capacity = settings.propagation.n_last_frames + 1 + extractor.batch_size
        self._features = FeatureCache(extractor, capacity=capacity, dtype=self._dtype)
        self._propagator = self._fresh_propagator()

    def _fresh_propagator(self) -> Propagator:
        return Propagator(self._settings.propagation, dtype=self._dtype)

    def __iter__(self) -> Iterator[FrameResult[L]]:
        self._propagator = self._fresh_propagator()
        if isinstance(self._extractor, FittedExtractor):
            self._extractor.fit(first_frames(self._reader, self._extractor.fit_frames))
        done = max(self._resume, default=-1)
        frames = self._clock.iterate("decode", self._reader)
        for batch in batched(frames, self._features.batch_size):
            # A batch is the same in a run and its continuation, and so to the last bit are its
            # maps; that is why it is extracted whole.
            if batch[-1].index <= done and not any(f.index in self._resume for f in batch):
                continue
            with self._clock.measure("extract"):
                maps = self._features.extract(batch)
            for frame, features in zip(batch, maps, strict=True):
                if frame.index in self._resume:
                    self._restore(self._resume[frame.index], features)
                elif frame.index > done:
                    with self._clock.measure("propagate"):
                        result = self._step(frame, features)
                    yield result

    def checkpoint(self) -> list[SavedLabels]:
        """What must be saved now to continue after the latest result."""
        return [
            SavedLabels(entry.index, entry.labels, entry.pinned)
            for entry in self._propagator.context
        ]

    def _step(self, frame: Frame, features: FeatureMap) -> FrameResult[L]:
        if not self._propagator.context:
            field = self._codec.encode(self._reference, features.grid, image_size=frame.size)
            field = LabelField(field.scores.to(features.data.device), field.ids)
            self._propagator.step(features, field, index=frame.index)
            return FrameResult(frame, self._reference, field)
        field = self._propagator.step(features, index=frame.index)
        labels = self._codec.decode(field, image_size=frame.size, input_size=features.input_size)
        return FrameResult(frame, labels, field)

    def _restore(self, saved: SavedLabels, features: FeatureMap) -> None:
        labels = LabelField(saved.labels.scores.to(features.data.device), saved.labels.ids)
        self._propagator.restore(ContextEntry(saved.index, features, labels, saved.pinned))


def first_frame(reader: FrameReader) -> Frame:
    """The first picture of a clip, for checks before any long work.

    Raises:
        ClipError: when nothing decodes.
    """
    frames = first_frames(reader, 1)
    if not frames:
        raise ClipError(
            f"{reader.source} has no picture that decodes; check that it plays elsewhere."
        )
    return frames[0]


def first_frames(reader: FrameReader, count: int) -> list[Frame]:
    """Up to `count` pictures from the start of a clip, which is closed again at once."""
    frames = iter(reader)
    try:
        return list(islice(frames, count))
    finally:
        close = getattr(frames, "close", None)
        if close is not None:
            close()


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of up to `size` items, read no further ahead than needed."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def no_progress(title: str, total: int | None, items: Iterable[T]) -> Iterable[T]:
    """Show nothing."""
    del title, total
    return items
