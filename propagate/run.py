"""The main job, whole: a clip and a mask or keypoint file in, a folder of labels out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from propagate.config import EMBEDDED_MODEL, ModelOptions, VideoSettings
from propagate.errors import InputError
from propagate.features.base import FeatureExtractor
from propagate.features.registry import create_extractor
from propagate.labels.codec import L
from propagate.labels.keypoint_checks import ReferenceKeypoints, load_reference_keypoints
from propagate.labels.keypoint_files import is_keypoint_file
from propagate.labels.mask_checks import ReferenceMask, Void, load_reference_mask
from propagate.output.checkpoint import load_checkpoint, save_checkpoint
from propagate.output.keypoint_store import KeypointStore
from propagate.output.label_store import LabelStore
from propagate.output.mask_store import MaskStore
from propagate.output.record_folder import Mode
from propagate.output.render import render_overlay
from propagate.output.run_folder import RunFolder
from propagate.pipeline import Progress, VideoPropagator, first_frame, no_progress
from propagate.stopwatch import Stopwatch
from propagate.types import Frame, Size
from propagate.video import ReaderName, open_clip
from propagate.video.base import FrameReader

# A killed run repeats at most this many frames.
_CHECKPOINT_EVERY = 20


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """Everything a user says about one run.

    Args:
        clip: video file, image folder, glob or multi-page image.
        mask: mask or keypoint file of the first frame (of the first in `frames`).
        output: folder to write.
        frames: range of the clip as "start:stop:step", or None for all of it.
        reader: which reader opens the clip.
        void: mask id whose pixels are unknown, "auto", or None for none.
        binarize: take everything bright for object 1.
        trust_ids: don't refuse ids that look like antialiasing.
        points_size: size of the pictures that keypoints were marked on, in pixels, where it is not
            the clip's and the file doesn't say.
        skeleton: edges between keypoints to draw, as "a-b,b-c"; None for the file's own.
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
    points_size: Size | None = None
    skeleton: str | None = None
    model: str = EMBEDDED_MODEL
    options: ModelOptions = field(default_factory=ModelOptions)
    video: VideoSettings = field(default_factory=VideoSettings)
    mode: Mode = "new"
    overlay: bool = True

    def config(self) -> dict[str, Any]:
        """What decides the labels; a resumed run must agree in all of it."""
        fields = asdict(self)
        for name in ("output", "mode", "overlay", "skeleton"):
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
        notes: sentences the user should read: about the reference, and what could not be decoded.
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
    reference = load_reference(request, first)
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
    store: LabelStore[Any]
    if isinstance(reference, ReferenceKeypoints):
        points = reference.keypoints
        store = KeypointStore(folder.keypoints, names=points.names, edges=reference.edges)
        facts["skeleton"] = reference.edges
        frames = _propagate(request, folder, reader, points, store, extractor, clock, progress)
    else:
        masks = reference.masks
        store = MaskStore(folder, palette=reference.palette)
        frames = _propagate(request, folder, reader, masks, store, extractor, clock, progress)
    losses = reader.losses.messages
    for loss in losses:
        say(loss)
    if request.overlay:
        with clock.measure("render"):
            shown = progress("drawing", reader.estimated_length, reader)
            render_overlay(shown, folder, store, fps=reader.fps, annotated=first.index)
    notes = (*reference.notes, *losses)
    facts |= {"frames": store.count(), "seconds": clock.seconds, "notes": notes}
    folder.write_record("complete", **facts)
    folder.checkpoint.unlink(missing_ok=True)
    return RunReport(folder, frames, notes, clock.seconds)


def load_reference(request: RunRequest, first: Frame) -> ReferenceMask | ReferenceKeypoints:
    """The mask or keypoints of a run's first frame.

    Raises:
        LabelError: they don't fit the frame, or hold nothing.
        InputError: an option is set that is for the other kind.
    """
    if is_keypoint_file(request.mask):
        if request.binarize or request.trust_ids or request.void != "auto":
            raise InputError(
                f"--void, --binarize and --trust-ids are for masks, and {request.mask} is a "
                "keypoint file; leave them out."
            )
        return load_reference_keypoints(
            request.mask, frame=first, points_size=request.points_size, skeleton=request.skeleton
        )
    if request.points_size is not None or request.skeleton is not None:
        raise InputError(
            f"--points-size and --skeleton are for keypoints, and {request.mask} is a mask by its "
            "ending; leave them out."
        )
    return load_reference_mask(
        request.mask,
        frame_size=first.size,
        void=request.void,
        binarize=request.binarize,
        trust_ids=request.trust_ids,
    )


def _propagate(
    request: RunRequest,
    folder: RunFolder,
    reader: FrameReader,
    reference: L,
    store: LabelStore[L],
    extractor: FeatureExtractor,
    clock: Stopwatch,
    progress: Progress[Any],
) -> int:
    """Write the labels of every frame; returns of how many. Saves the context when cut short."""
    resume = load_checkpoint(folder.checkpoint) if folder.checkpoint.exists() else []
    propagator = VideoPropagator(
        reader,
        reference,
        extractor=extractor,
        settings=request.video,
        device=request.options.device,
        resume=resume,
        clock=clock,
    )
    frames = 0
    written = resume
    store.begin(after=max((saved.index for saved in resume), default=-1))
    try:
        for result in progress("propagating", reader.estimated_length, propagator):
            with clock.measure("write"):
                store.write(result.frame, result.labels)
            frames += 1
            written = propagator.checkpoint()
            if frames % _CHECKPOINT_EVERY == 0:
                save_checkpoint(folder.checkpoint, written)
    except KeyboardInterrupt:
        # The context may be a frame ahead of the files by now; `written` never is.
        if written:
            save_checkpoint(folder.checkpoint, written)
        raise
    finally:
        store.close()
    return frames
