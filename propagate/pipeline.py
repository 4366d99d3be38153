"""Composition: a clip and its annotated frames in, labels for every frame out."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Generic, TypeVar, cast

import torch

from propagate.clip_features import ClipFeatures, frames_to_fit
from propagate.config import Direction, VideoSettings
from propagate.errors import ClipError, InputError
from propagate.features.base import FeatureExtractor, FittedExtractor
from propagate.features.device import resolve_device
from propagate.labels.codec import Codec, codec_for
from propagate.labels.references import References, keypoint_references, mask_references
from propagate.output.checkpoint import Progressed, SavedLabels
from propagate.output.map_store import MapStore
from propagate.output.workspace import Workspace
from propagate.passes import Pass
from propagate.progress import Progress, no_progress
from propagate.propagation import ContextEntry, similarity_dtype
from propagate.results import FrameResult, Pending, ResultMaker
from propagate.spans import Span, backward_start, spans
from propagate.stages import finished, iterated
from propagate.stopwatch import Stopwatch
from propagate.two_way import TwoWay
from propagate.types import FeatureMap, Frame, L, LabelField, Masks, Size
from propagate.video.base import FrameReader

T = TypeVar("T")

# Results that are decoded at a time, each with a frame in memory.
_MOST_THREADS = 4


class VideoPropagator(Generic[L]):
    """Carries labels from the annotated frames of a clip to all the others.

    Iterating gives a `FrameResult` per frame in the clip's order, holding no more than the context
    window and one batch of frames, however long the clip is. Every iteration starts anew.

    With the first frame annotated, or `direction="forward"`, the clip is streamed once. Else the
    features up to the last annotated frame are computed and kept on disk, a forward and a backward
    pass go over them, and then the clip is streamed. Frames that no pass reaches are left out.

    Args:
        reader: the clip.
        references: labels of its first frame, or by frame (masks have the clip's size), or
            `References` where they are about some of the objects only.
        extractor: where features come from.
        settings: propagation, encoding and decoding.
        device: where similarities are computed.
        resume: how far an interrupted run came.
        skip: spans whose frames are left out.
        workspace: where features and passes are kept; a run that goes on finds them there.
        clock: collects the seconds spent in "decode", "extract", "propagate" and, from soft labels
            to masks or keypoints, "labels".
        progress: wraps the frames of the stages that come before the first result.
    """

    def __init__(
        self,
        reader: FrameReader,
        references: L | Mapping[int, L] | References[L],
        *,
        extractor: FeatureExtractor,
        settings: VideoSettings,
        device: str = "auto",
        resume: Progressed | None = None,
        skip: Collection[Span] = (),
        workspace: Workspace | None = None,
        clock: Stopwatch | None = None,
        progress: Progress[Any] = no_progress,
    ) -> None:
        self._reader = reader
        first = first_frame(reader)
        self._first = first.index
        self._references: References[L] = _references(references, first.index)
        self._settings = settings
        self._codec: Codec[L] = codec_for(self._references, settings)
        self._resume = resume or Progressed()
        self._skip = frozenset(skip)
        self._workspace = workspace
        self._clock = clock or Stopwatch()
        self._results: ResultMaker[L] = ResultMaker(self._references, self._codec, self._clock)
        self._progress = progress
        self._device = resolve_device(device)
        self._dtype = similarity_dtype(settings.precision, self._device)
        self._extractor = extractor
        self._features = ClipFeatures(
            reader,
            extractor,
            dtype=self._dtype,
            capacity=settings.propagation.n_last_frames + 1,
            extract_ahead=self._device.type != "cpu",
            clock=self._clock,
        )
        self._pass: Pass[L] | None = None
        self._encoded: dict[int, LabelField] = {}
        self._reached = self._resume
        _check_sizes(self._references, first.size)

    @property
    def direction(self) -> Direction:
        """Which passes there are: "forward", "backward" or "both"."""
        chosen = self._settings.direction
        if chosen != "auto":
            return chosen
        return "forward" if self._references.indices == (self._first,) else "both"

    def __iter__(self) -> Iterator[FrameResult[L]]:
        self._reached = self._resume
        # A processor's cores are busy anyway, and threads that share them wait for one another.
        threads = min(torch.get_num_threads(), _MOST_THREADS) if self._device.type != "cpu" else 0
        with ExitStack() as stack:
            workspace = self._workspace
            if workspace is None and self.direction != "forward":
                folder = stack.enter_context(TemporaryDirectory(prefix="propagate-"))
                workspace = Workspace(folder=Path(folder))
            for result, reached in finished(self._pending(workspace), threads, "labels"):
                self._reached = reached
                yield result

    def _pending(self, workspace: Workspace | None) -> Iterator[Pending[L]]:
        """What is left to do for each result: soft labels are there, or in the workspace.

        The next frame needs no more than those, so that it can go on beside.
        """
        if isinstance(self._extractor, FittedExtractor):
            self._extractor.fit(frames_to_fit(self._reader, self._extractor.fit_frames))
        if workspace is not None and self.direction != "forward":
            yield from self._both(workspace)
            return
        stored = workspace is not None and (workspace.keep or workspace.maps.is_dir())
        store = self._features.open_store(workspace, self._device) if workspace and stored else None
        yield from self._forward(store)

    def checkpoint(self) -> Progressed:
        """What must be saved now to continue after the latest result."""
        return self._reached

    def _after(self, index: int) -> Progressed:
        """What must be saved to continue after a frame, once it has joined the context."""
        context = self._pass.context if self._pass else ()
        pinned = {entry.index for entry in context if entry.pinned}
        # Copies of a reference (`repeat_first`) come again with it.
        kept = [entry for entry in context if entry.pinned or entry.index not in pinned]
        return Progressed(
            index, [SavedLabels(entry.index, entry.labels, entry.pinned) for entry in kept]
        )

    def _forward(self, maps: MapStore | None) -> Iterator[Pending[L]]:
        """One pass, as the frames come; every reference joins the context at its frame."""
        going = self._pass = self._make_pass()
        saved = {item.index: item for item in self._resume.context}
        complete, begin = self._references.complete, self._references.indices[0]

        def used(index: int) -> bool:
            if index in saved or index in complete:
                return True
            return index >= begin and self._wanted(index)

        seen: set[int] = set()
        for frame, found in self._features.stream(used, maps, keep=self._keep):
            index = frame.index
            if index not in found:
                continue
            seen.add(index)
            if index in saved:
                entry = _entry(saved[index], found[index])
                going.add(entry)
                if index in complete:
                    self._encoded[index] = entry.labels
            elif index in complete:
                self._encoded[index] = going.pin(index, found[index])
                if self._wanted(index):
                    yield self._given(frame)
            else:
                yield self._stepped(going, frame, found[index])
        self._check_found(seen)

    def _both(self, workspace: Workspace) -> Iterator[Pending[L]]:
        """Passes over stored maps up to the last reference; what they found, and what follows."""
        todo = [span for span in spans(self._references) if span not in self._skip]
        if not todo:
            return
        maps = self._features.open_store(workspace, self._device)
        ways = TwoWay(
            self._references,
            self._make_pass,
            maps,
            workspace,
            device=self._device,
            forward=self.direction == "both",
            keeps=self._settings.propagation.n_last_frames,
        )
        self._extract_ahead(todo, maps)
        self._encoded = {index: ways.given(index) for index in self._references.complete}
        with self._clock.measure("propagate"):
            for span in todo:
                ways.run(span, self._progress)
        yield from self._found(ways, todo[-1], maps)

    def _found(self, ways: TwoWay[L], end: Span, maps: MapStore) -> Iterator[Pending[L]]:
        last = self._references.indices[-1]
        saved = {item.index: item for item in self._resume.context if not item.pinned}
        follows = self.direction == "both" and end.right is None
        going: Pass[L] | None = None

        def used(index: int) -> bool:
            return index in saved or (follows and index > last and self._wanted(index))

        for frame, found in self._features.stream(used, maps, keep=self._keep):
            index = frame.index
            if end.right is not None and index >= end.right:
                break
            if index in found:
                going = self._pass = going or ways.continued(end)
                if index in saved:
                    going.add(_entry(saved[index], found[index]))
                else:
                    yield self._stepped(going, frame, found[index])
            elif index <= last and self._wanted(index):
                yield self._told(ways, frame)

    def _told(self, ways: TwoWay[L], frame: Frame) -> Pending[L]:
        """A frame that is annotated or lies before one that is."""
        index = frame.index
        if index in self._references.complete:
            return self._given(frame)
        near = self._near(index)

        def finish() -> FrameResult[L]:
            with self._clock.measure("labels"):
                field = ways.found(index)
            return self._results.decoded(frame, field, ways.input_size, near)

        return Pending(finish, self._after(index))

    def _stepped(self, going: Pass[L], frame: Frame, features: FeatureMap) -> Pending[L]:
        index, size = frame.index, features.input_size
        with self._clock.measure("propagate"):
            field = going.step(index, features)
        finish = partial(self._results.decoded, frame, field, size, self._near(index))
        return Pending(finish, self._after(index))

    def _given(self, frame: Frame) -> Pending[L]:
        finish = partial(self._results.given, frame, self._encoded[frame.index])
        return Pending(finish, self._after(frame.index))

    def _near(self, index: int) -> list[LabelField]:
        """Soft labels of the complete references before and after a frame, as far as passed by."""
        before = max((i for i in self._encoded if i <= index), default=None)
        after = min((i for i in self._encoded if i >= index), default=None)
        return [self._encoded[i] for i in (before, after) if i is not None]

    def _wanted(self, index: int) -> bool:
        """Whether a frame is to get labels that it doesn't have yet."""
        return index > self._resume.done and not any(index in span for span in self._skip)

    @property
    def _keep(self) -> int:
        return self._workspace.keep if self._workspace else 0

    def _make_pass(self) -> Pass[L]:
        return Pass(self._references, self._codec, self._settings.propagation, dtype=self._dtype)

    def _extract_ahead(self, todo: Sequence[Span], maps: MapStore) -> None:
        """Store the features that passes over some spans need."""
        starts = [backward_start(span, self._references) for span in todo]
        end = max((start for start in starts if start is not None), default=-1)
        last = self._references.indices[-1]

        def needed(index: int) -> bool:
            inside = index <= end and any(index in span for span in todo)
            return inside or index in self._references

        frames = self._features.store(needed, maps)
        for frame in self._progress("extracting", last + 1 - self._first, frames):
            if frame.index >= last:
                break
        self._check_found(maps.indices)

    def _check_found(self, seen: Collection[int]) -> None:
        lost = [index for index in self._references.indices if index not in seen]
        if lost:
            raise ClipError(
                f"{self._reader.source} has no frame {lost[0]}, which a reference is for; frames "
                "count from 0."
            )


def _references(given: L | Mapping[int, L] | References[L], first: int) -> References[L]:
    if isinstance(given, References):
        return given
    by_frame: Any = given if isinstance(given, Mapping) else {first: given}
    masks = all(isinstance(item, Masks) for item in by_frame.values())
    made: Any = mask_references(by_frame) if masks else keypoint_references(by_frame)
    return cast("References[L]", made)


def _check_sizes(references: References[Any], size: Size) -> None:
    for item in references:
        if isinstance(item.labels, Masks) and item.labels.size != size:
            raise InputError(
                f"The mask of frame {item.index} is {item.labels.size} and the clip {size}; they "
                "must have the same size."
            )


def _entry(saved: SavedLabels, features: FeatureMap) -> ContextEntry:
    labels = LabelField(saved.labels.scores.to(features.data.device), saved.labels.ids)
    return ContextEntry(saved.index, features, labels, saved.pinned)


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


def frame_at(reader: FrameReader, index: int) -> Frame:
    """The frame of a clip with a number, which is decoded up to there.

    Raises:
        InputError: there is none.
    """
    last = -1
    for frame in reader:
        if frame.index == index:
            return frame
        last = frame.index
        if last > index:
            break
    raise InputError(
        f"{reader.source} has no frame {index}; "
        + (f"it ends with {last}." if last < index else "it is not among those to label.")
    )


def first_frames(reader: FrameReader, count: int) -> list[Frame]:
    """Up to `count` pictures from the start of a clip, which is closed again at once."""
    with iterated(reader) as frames:
        return list(islice(frames, count))
