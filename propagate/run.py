"""The main job, whole: a clip and a mask file in, a folder of masks out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from propagate.config import EMBEDDED_MODEL, ModelOptions, VideoSettings
from propagate.features.base import FeatureExtractor
from propagate.features.registry import create_extractor
from propagate.labels.mask_checks import ReferenceMask, Void, load_reference_mask
from propagate.labels.mask_files import write_mask
from propagate.output.atomic import atomic_path
from propagate.output.checkpoint import load_checkpoint, save_checkpoint
from propagate.output.record_folder import Mode
from propagate.output.render import render_overlay
from propagate.output.run_folder import RunFolder
from propagate.pipeline import Progress, VideoPropagator, first_frame, no_progress
from propagate.stopwatch import Stopwatch
from propagate.video import ReaderName, open_clip
from propagate.video.base import FrameReader

# A killed run repeats at most this many frames.
_CHECKPOINT_EVERY = 20


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """Everything a user says about one run.

    Args:
        clip: video file, image folder, glob or multi-page image.
        mask: mask of the first frame (of the first in `frames`).
        output: folder to write.
        frames: range of the clip as "start:stop:step", or None for all of it.
        reader: which reader opens the clip.
        void: mask id whose pixels are unknown, "auto", or None for none.
        binarize: take everything bright for object 1.
        trust_ids: don't refuse ids that look like antialiasing.
        model: name or path for the registry.
        options: model options.
        video: propagation settings.
        mode: what to do when `output` exists.
        overlay: whether to draw the overlay video and contact sheet.
    """

    clip: str
    mask: Path
    output: Path
    frames: str | None = None
    reader: ReaderName = "auto"
    void: Void = "auto"
    binarize: bool = False
    trust_ids: bool = False
    model: str = EMBEDDED_MODEL
    options: ModelOptions = field(default_factory=ModelOptions)
    video: VideoSettings = field(default_factory=VideoSettings)
    mode: Mode = "new"
    overlay: bool = True

    def config(self) -> dict[str, Any]:
        """What decides the masks; a resumed run must agree in all of it."""
        fields = asdict(self)
        for name in ("output", "mode", "overlay"):
            del fields[name]
        # A model that is already here gives the same numbers with or without a hub.
        del fields["options"]["offline"]
        return fields | {
            "clip": str(Path(self.clip).absolute()),
            "mask": str(self.mask.absolute()),
            "mask_sha256": hashlib.sha256(self.mask.read_bytes()).hexdigest(),
        }


@dataclass(frozen=True)
class RunReport:
    """What came of a run.

    Args:
        folder: where it is.
        frames: frames labelled in this call.
        notes: sentences the user should read: about the mask, and what could not be decoded.
        seconds: wall-clock seconds by stage.
    """

    folder: RunFolder
    frames: int
    notes: tuple[str, ...]
    seconds: dict[str, float]


def run_clip(
    request: RunRequest,
    *,
    extractor: FeatureExtractor | None = None,
    progress: Progress[Any] = no_progress,
    say: Callable[[str], None] = lambda _: None,
) -> RunReport:
    """Label a clip and write the result.

    Args:
        request: what to do.
        extractor: what `request.model` and its options stand for, where that is loaded already.
        progress: wraps the frames of each long stage: (title, expected number, frames) -> frames.
        say: receives each note as soon as it is known.

    Raises:
        PropagateError: before any long work, whenever the inputs don't fit.
    """
    clock = Stopwatch()
    reader = open_clip(request.clip, reader=request.reader, frames=request.frames)
    first = first_frame(reader)
    reference = load_reference_mask(
        request.mask,
        frame_size=first.size,
        void=request.void,
        binarize=request.binarize,
        trust_ids=request.trust_ids,
    )
    for note in reference.notes:
        say(note)
    folder = RunFolder(request.output, request.config(), mode=request.mode)
    if folder.complete:
        say(f"The run in {folder.path} is already complete; nothing was done.")
        return RunReport(folder, 0, reference.notes, {})
    if extractor is None:
        with clock.measure("load model"):
            extractor = create_extractor(request.model, request.options)
    facts: dict[str, Any] = {"model": extractor.identity, "clip": reader.source}
    for name, value in facts.items():
        folder.check_same(name, value)
    folder.prepare()
    folder.write_record("running", **facts)
    frames = _propagate(request, folder, reader, reference, extractor, clock, progress)
    losses = reader.losses.messages
    for loss in losses:
        say(loss)
    if request.overlay:
        with clock.measure("render"):
            shown = progress("drawing", reader.estimated_length, reader)
            render_overlay(shown, folder, fps=reader.fps, annotated=first.index)
    notes = (*reference.notes, *losses)
    facts |= {"frames": folder.count_masks(), "seconds": clock.seconds, "notes": notes}
    folder.write_record("complete", **facts)
    folder.checkpoint.unlink(missing_ok=True)
    return RunReport(folder, frames, notes, clock.seconds)


def _propagate(
    request: RunRequest,
    folder: RunFolder,
    reader: FrameReader,
    reference: ReferenceMask,
    extractor: FeatureExtractor,
    clock: Stopwatch,
    progress: Progress[Any],
) -> int:
    """Write a mask per frame; returns how many. Saves the context when it is cut short."""
    resume = load_checkpoint(folder.checkpoint) if folder.checkpoint.exists() else []
    propagator = VideoPropagator(
        reader,
        reference.masks,
        extractor=extractor,
        settings=request.video,
        device=request.options.device,
        resume=resume,
        clock=clock,
    )
    frames = 0
    written = resume
    try:
        for result in progress("propagating", reader.estimated_length, propagator):
            with (
                clock.measure("write"),
                atomic_path(folder.mask_path(result.frame.name)) as path,
            ):
                write_mask(path, result.masks.ids, palette=reference.palette)
            frames += 1
            written = propagator.checkpoint()
            if frames % _CHECKPOINT_EVERY == 0:
                save_checkpoint(folder.checkpoint, written)
    except KeyboardInterrupt:
        # The context may be a frame ahead of the files by now; `written` never is.
        if written:
            save_checkpoint(folder.checkpoint, written)
        raise
    return frames
