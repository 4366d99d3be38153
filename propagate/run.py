"""The main job, whole: a clip and its annotated frames in, a folder of labels out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from propagate.config import EMBEDDED_MODEL, ModelOptions, VideoSettings
from propagate.errors import InputError
from propagate.features.base import FeatureExtractor
from propagate.features.registry import create_extractor
from propagate.labels.reference_files import (
    LoadedReferences,
    ReferenceFile,
    ReferenceOptions,
    load_references,
    numbered,
)
from propagate.output.atomic import atomic_path, make_folder
from propagate.output.checkpoint import Progressed, load_checkpoint, save_checkpoint
from propagate.output.keypoint_store import KeypointStore
from propagate.output.label_store import LabelStore
from propagate.output.mask_store import MaskStore
from propagate.output.record_folder import Mode
from propagate.output.render import render_overlay
from propagate.output.run_folder import RunFolder
from propagate.output.workspace import Workspace
from propagate.pipeline import VideoPropagator, first_frame
from propagate.progress import Progress, no_progress
from propagate.results import FrameResult
from propagate.spans import Span, span_key, spans
from propagate.stages import Behind
from propagate.stopwatch import Stopwatch
from propagate.types import Frame
from propagate.video import ReaderName, open_clip
from propagate.video.base import FrameReader

# A killed run repeats at most this many frames, and those that wait to be written.
_CHECKPOINT_EVERY = 20
_WAITING = 2


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """Everything a user says about one run.

    Args:
        clip: video file, image folder, glob or multi-page image.
        references: the files of the annotated frames; all masks, or all keypoints.
        output: folder to write.
        frames: range of the clip as "start:stop:step", or None for all of it.
        reader: which reader opens the clip.
        reading: how the references are read.
        model: name or path for the registry.
        options: model options.
        video: propagation settings.
        mode: what to do when `output` exists.
        overlay: whether to draw the overlay video and contact sheet.
        cache: gigabytes of features that may stay in the folder, for corrections.
        everywhere: whether a correction leaves no frame as it is.
    """

    clip: str
    references: tuple[ReferenceFile, ...]
    output: Path
    frames: str | None = None
    reader: ReaderName = "auto"
    reading: ReferenceOptions = field(default_factory=ReferenceOptions)
    model: str = EMBEDDED_MODEL
    options: ModelOptions = field(default_factory=ModelOptions)
    video: VideoSettings = field(default_factory=VideoSettings)
    mode: Mode = "new"
    overlay: bool = True
    cache: float = 0.0
    everywhere: bool = False

    def __post_init__(self) -> None:
        if not self.cache >= 0:
            raise InputError(f"The cache may take {self.cache} GB; it must be 0 or more.")

    def config(self, references: Sequence[ReferenceFile]) -> dict[str, Any]:
        """What decides the labels; a resumed run must agree in all of it.

        Args:
            references: those of the request, with numbers of frames.
        """
        fields = asdict(self)
        for name in ("output", "mode", "overlay", "cache", "everywhere"):
            del fields[name]
        del fields["reading"]["skeleton"]
        # A model that is already here gives the same numbers with or without a hub.
        del fields["options"]["offline"]
        return fields | {
            "clip": str(Path(self.clip).absolute()),
            "references": [
                {
                    "frame": file.frame,
                    "objects": file.objects,
                    "suffix": file.path.suffix.lower(),
                    "sha256": hashlib.sha256(file.path.read_bytes()).hexdigest(),
                }
                for file in sorted(references, key=lambda file: file.frame or 0)
            ],
        }


@dataclass(frozen=True)
class RunReport:
    """What came of a run.

    Args:
        folder: where it is.
        frames: frames labelled in this call.
        changed: those that had other labels before.
        notes: sentences the user should read: about the references, and what did not decode.
        seconds: wall-clock seconds by stage; stages go on side by side.
        elapsed: seconds in all.
    """

    folder: RunFolder
    frames: int
    changed: tuple[int, ...]
    notes: tuple[str, ...]
    seconds: dict[str, float]
    elapsed: float


@dataclass(frozen=True)
class _Job:
    """A run whose inputs passed all checks."""

    request: RunRequest
    folder: RunFolder
    reader: FrameReader
    loaded: LoadedReferences
    copies: Mapping[Path, bytes]
    clock: Stopwatch
    progress: Progress[Any]

    @property
    def kept(self) -> list[Span]:
        """Spans whose labels stay as they are."""
        keys = set() if self.request.everywhere else set(self.folder.started.get("spans", ()))
        return [span for span, key in self.keyed if key in keys]

    @property
    def keys(self) -> list[str]:
        """Keys of all spans."""
        return [key for _, key in self.keyed]

    @cached_property
    def keyed(self) -> list[tuple[Span, str]]:
        """Spans with their keys, for which all references are hashed."""
        references: Any = self.loaded.references
        return [(span, span_key(span, references)) for span in spans(references)]

    @property
    def workspace(self) -> Workspace:
        return Workspace(folder=self.folder.cache, keep=int(self.request.cache * 1e9))


def run_clip(
    request: RunRequest,
    *,
    extractor: FeatureExtractor | None = None,
    features: Workspace | None = None,
    progress: Progress[Any] = no_progress,
    say: Callable[[str], None] = lambda _: None,
) -> RunReport:
    """Label a clip and write the result.

    Args:
        request: what to do.
        extractor: what `request.model` and its options stand for, where that is loaded already.
        features: where maps of the clip are already, as that extractor makes them.
        progress: wraps the frames of each long stage: (title, expected number, frames) -> frames.
        say: receives each note as soon as it is known.

    Raises:
        PropagateError: before any long work, whenever the inputs don't fit.
    """
    clock = Stopwatch()
    reader = open_clip(request.clip, reader=request.reader, frames=request.frames)
    files, frames = annotated_frames(reader, request.references)
    loaded = load_references(files, frames, request.reading)
    for note in loaded.notes:
        say(note)
    folder = RunFolder(request.output, request.config(files), mode=request.mode)
    copies = {
        folder.reference_path(file.frame or 0, file.path): file.path.read_bytes() for file in files
    }
    job = _Job(request, folder, reader, loaded, copies, clock, progress)
    if folder.complete and len(job.kept) == len(job.keys):
        say(f"The run in {folder.path} is already complete; nothing was done.")
        return RunReport(folder, 0, (), loaded.notes, {}, 0.0)
    if extractor is None:
        with clock.measure("load model"):
            extractor = create_extractor(request.model, request.options)
    facts: dict[str, Any] = {"model": extractor.identity, "clip": reader.source}
    folder.check_same("model", extractor.identity)
    if not folder.moved:
        folder.check_same("clip", reader.source)
    return _run(job, extractor, features, facts, say)


def annotated_frames(
    reader: FrameReader, files: Sequence[ReferenceFile]
) -> tuple[list[ReferenceFile], dict[int, Frame]]:
    """The files with numbers for all frames, and those frames.

    The clip is decoded up to the last of them, so that a number beyond its end is found out before
    any long work.

    Raises:
        InputError: the clip has no such frame.
    """
    first = first_frame(reader)
    files = numbered(files, first.index)
    wanted = {file.frame for file in files}
    found = {first.index: first} if first.index in wanted else {}
    last = max((number for number in wanted if number is not None), default=0)
    index = first.index
    for frame in reader if last > first.index else ():
        index = frame.index
        if index in wanted:
            found[index] = frame
        if index >= last:
            break
    lost = sorted(number for number in wanted if number is not None and number not in found)
    if lost:
        raise InputError(
            f"There is a reference for frame {lost[0]}, which is not among those to label: they "
            f"are {first.index} to {index}, counted from 0"
            f"{'' if lost[0] > index or lost[0] < first.index else ' in steps'}."
        )
    return files, found


def _run(
    job: _Job,
    extractor: FeatureExtractor,
    features: Workspace | None,
    facts: dict[str, Any],
    say: Callable[[str], None],
) -> RunReport:
    folder, kept = job.folder, job.kept
    if job.request.mode == "correct" and (folder.complete or folder.changed):
        # Of earlier references, which the new record does not know.
        job.workspace.forget_passes()
        folder.checkpoint.unlink(missing_ok=True)
    folder.prepare()
    if features is not None:
        job.workspace.take_maps(features)
    running = [key for span, key in job.keyed if span in kept]
    _copy(job)
    folder.write_record("running", spans=running, **facts)
    store: LabelStore[Any]
    if job.loaded.of_keypoints:
        edges = job.loaded.edges
        first: Any = job.loaded.references[job.loaded.references.indices[0]].labels
        store = KeypointStore(folder.keypoints, names=first.names, edges=edges)
        facts["skeleton"] = edges
    else:
        store = MaskStore(folder, palette=job.loaded.palette)
    frames, changed = _propagate(job, store, kept, extractor)
    losses = job.reader.losses.messages
    for loss in losses:
        say(loss)
    if job.request.overlay:
        with job.clock.measure("render"):
            shown = job.progress("drawing", job.reader.estimated_length, job.reader)
            given = job.loaded.references.indices
            render_overlay(shown, folder, store, fps=job.reader.fps, annotated=given)
    notes = (*job.loaded.notes, *losses)
    facts |= {"frames": store.count(), "seconds": job.clock.seconds, "notes": notes}
    folder.write_record("complete", spans=job.keys, **facts)
    folder.checkpoint.unlink(missing_ok=True)
    job.workspace.tidy()
    return RunReport(folder, frames, changed, notes, job.clock.seconds, job.clock.elapsed)


def _copy(job: _Job) -> None:
    """Put what the user gave beside the result, in place of earlier references."""
    make_folder(job.folder.references)
    for path, content in job.copies.items():
        with atomic_path(path) as temporary:
            temporary.write_bytes(content)
    for path in job.folder.stored_references():
        if path not in job.copies:
            path.unlink()


def _propagate(
    job: _Job, store: LabelStore[Any], kept: Sequence[Span], extractor: FeatureExtractor
) -> tuple[int, tuple[int, ...]]:
    """Write the labels of the frames that have none; how many, and which had others before.

    Saves how far it came when it is cut short.
    """
    checkpoint = job.folder.checkpoint
    resume = load_checkpoint(checkpoint) if checkpoint.exists() else Progressed()
    propagator: VideoPropagator[Any] = VideoPropagator(
        job.reader,
        job.loaded.references,
        extractor=extractor,
        settings=job.request.video,
        device=job.request.options.device,
        resume=resume,
        skip=kept,
        workspace=job.workspace,
        clock=job.clock,
        progress=job.progress,
    )
    store.begin(keep=partial(_keeps, resume.done, kept), after=resume.done)
    writer = _Writer(store, checkpoint, job.clock, resume)
    try:
        with Behind(writer.write, _WAITING, "write") as writing:
            for result in job.progress("propagating", job.reader.estimated_length, propagator):
                writing.put((result, propagator.checkpoint()))
    except KeyboardInterrupt:
        writer.save()
        raise
    finally:
        store.close()
    return writer.frames, tuple(writer.changed)


class _Writer:
    """Writes results, and how far they came.

    Args:
        store: for the labels.
        checkpoint: file for what a run needs to go on.
        clock: collects the seconds spent in "write".
        written: how far an earlier run came.
    """

    def __init__(
        self, store: LabelStore[Any], checkpoint: Path, clock: Stopwatch, written: Progressed
    ) -> None:
        self._store = store
        self._checkpoint = checkpoint
        self._clock = clock
        self._written = written
        self.frames = 0
        self.changed: list[int] = []

    def write(self, item: tuple[FrameResult[Any], Progressed]) -> None:
        """Write a result, and now and then what must be saved to go on behind it."""
        result, reached = item
        with self._clock.measure("write"):
            if self._store.write(result.frame, result.labels, result.confidence):
                self.changed.append(result.frame.index)
        self.frames += 1
        self._written = reached
        if self.frames % _CHECKPOINT_EVERY == 0:
            self.save()

    def save(self) -> None:
        """Save how far the files came; what was computed may be further."""
        if self._written.done >= 0:
            save_checkpoint(self._checkpoint, self._written)


def _keeps(done: int, kept: Sequence[Span], index: int) -> bool:
    return index <= done or any(index in span for span in kept)
