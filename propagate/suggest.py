"""Which frames to annotate next: where labels are probably wrong, and an annotation would help."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from propagate.errors import InputError
from propagate.labels.keypoint_files import write_keypoints
from propagate.labels.keypoint_formats.base import AnnotatedFrame, KeypointFile
from propagate.labels.mask_files import write_mask
from propagate.output.atomic import atomic_folder, check_replaceable
from propagate.output.labelled_clip import LabelledClip, LabelSource, MaskedFrame, open_labelled
from propagate.output.review.flags import FlagRules, find_flags, frame_severities
from propagate.output.review.timeline import Timeline, measure
from propagate.progress import Progress, no_progress

if TYPE_CHECKING:
    from jaxtyping import Float64

_CHUNK = 1 << 22  # distances held at once


@dataclass(frozen=True, kw_only=True)
class SuggestRequest:
    """What is asked for.

    Args:
        source: labels and clip.
        count: how many frames.
        output: folder to write those frames and their labels to, as a start for correcting them;
            None for none.
        overwrite: whether `output` may be replaced.
    """

    source: LabelSource
    count: int = 5
    output: Path | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.count < 1:
            raise InputError(f"{self.count} frames are asked for; it must be 1 or more.")


@dataclass(frozen=True)
class Suggestion:
    """A frame to annotate.

    Args:
        frame: index in the clip.
        name: of the frame.
        error: expected there, 0 to 1: one less the mean confidence of its objects.
        gain: share of the whole clip's expected error that annotating it would remove, beside the
            frames suggested before it.
        why: the objects that are worst there, in words.
    """

    frame: int
    name: str
    error: float
    gain: float
    why: str


def suggest_frames(
    request: SuggestRequest, *, progress: Progress[Any] = no_progress
) -> list[Suggestion]:
    """Frames of a run, or of any tool's labels, that are worth annotating next, best first.

    Where labels have a confidence the expected error follows from it; else from what looks odd in
    them.

    Args:
        request: what is asked for.
        progress: wraps the frames of the passes over the clip.

    Raises:
        PropagateError: labels or clip can't be used.
    """
    if request.output is not None:
        check_replaceable(
            request.output,
            source=request.source.labels,
            folder=True,
            suffixes=(".png", ".csv"),
            overwrite=request.overwrite,
        )
    clip = open_labelled(request.source)
    timeline = measure(clip, progress("measuring", clip.count, clip))
    errors = expected_errors(timeline)
    found = [
        Suggestion(
            timeline.frames[position].index,
            timeline.frames[position].name,
            round(float(errors[position]), 4),
            round(gain, 4),
            _why(timeline, position),
        )
        for position, gain in choose_frames(errors, timeline.given, request.count)
    ]
    if request.output is not None and found:
        _export(request.output, clip, {item.frame for item in found})
    return found


def choose_frames(
    errors: Sequence[float] | Float64[np.ndarray, " n"], given: Collection[int], count: int
) -> list[tuple[int, float]]:
    """Greedily the frames whose annotation removes most of the expected error.

    An annotated frame has no error, and a frame's error shrinks in proportion as the next annotated
    frame comes nearer. So a frame is worth more where errors are large, in the midst of them, and
    far from what was annotated before.

    Args:
        errors: expected in each frame, 0 or more.
        given: positions of the annotated frames.
        count: at most so many frames are chosen; fewer where nothing is left to gain.

    Returns:
        Position and share of all expected error removed, in the order of choice.
    """
    left = np.array(errors, dtype=np.float64)
    places = np.arange(len(left))
    apart = np.full(len(left), float(len(left)))
    for position in given:
        apart = np.minimum(apart, np.abs(places - position))
    left[apart == 0] = 0
    whole = float(left.sum())
    chosen: list[tuple[int, float]] = []
    while len(chosen) < count:
        gains = _gains(left, apart)
        best = int(gains.argmax())
        if gains[best] <= 1e-9:
            break
        chosen.append((best, float(gains[best]) / whole))
        nearer = np.minimum(apart, np.abs(places - best))
        left *= np.divide(nearer, apart, out=np.zeros_like(left), where=apart > 0)
        apart = nearer
    return chosen


def _gains(
    left: Float64[np.ndarray, " n"], apart: Float64[np.ndarray, " n"]
) -> Float64[np.ndarray, " n"]:
    """What annotating each frame would remove."""
    count = len(left)
    places = np.arange(count)
    share = np.divide(left, apart, out=np.zeros_like(left), where=apart > 0)
    gains = np.empty(count)
    for start in range(0, count, max(_CHUNK // count, 1)):
        part = places[start : start + max(_CHUNK // count, 1)]
        closer = np.maximum(apart - np.abs(places - part[:, None]), 0)
        gains[part] = closer @ share
    return gains


def expected_errors(timeline: Timeline) -> Float64[np.ndarray, " n"]:
    """Of each labelled frame: one less the mean confidence, or how odd it looks without any."""
    known = [track for track in timeline.tracks if track.confidence is not None]
    if known:
        sure = np.array(
            [
                [1.0 if look.confidence is None else look.confidence for look in track.looks]
                for track in known
            ]
        )
        return np.asarray(1 - sure.mean(axis=0))
    tracks = [track.looks for track in timeline.tracks]
    diagonal = timeline.diagonal if timeline.points else None
    flags = find_flags(tracks, FlagRules(), diagonal=diagonal)
    odd = frame_severities(flags, tracks=len(tracks))
    # Without any sign of an error, being far from other annotations is all there is to go by.
    return np.array([odd.get(position, 0.0) + 0.05 for position in range(len(timeline.frames))])


def _why(timeline: Timeline, position: int) -> str:
    worst = sorted(
        (look.confidence, track.name, look.condition)
        for track in timeline.tracks
        for look in (track.looks[position],)
        if look.confidence is not None and look.condition != "given"
    )
    if not worst:
        return "far from annotated frames"
    confidence, name, condition = worst[0]
    state = "" if condition == "visible" else f", {condition}"
    return f"{name}: confidence {confidence:.2f}{state}"


def _export(folder: Path, clip: LabelledClip, chosen: Collection[int]) -> None:
    """Write each chosen frame as `INDEX.frame.png`, its labels as `INDEX.png` or `INDEX.csv`."""
    with atomic_folder(folder) as temporary:
        for item in clip:
            if item.frame.index not in chosen:
                continue
            index = f"{item.frame.index:06d}"
            Image.fromarray(item.frame.rgb).save(temporary / f"{index}.frame.png")
            if isinstance(item, MaskedFrame):
                palette = getattr(clip, "palette", None)
                write_mask(temporary / f"{index}.png", item.labels.masks.ids, palette=palette)
            else:
                frame = AnnotatedFrame(item.labels, index=item.frame.index)
                write_keypoints(temporary / f"{index}.csv", KeypointFile((frame,)))
