"""A page to look through labels: the odd frames first, with the reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from propagate.errors import InputError
from propagate.output.atomic import check_replaceable
from propagate.output.labelled_clip import LabelSource, MaskedClip, open_labelled
from propagate.output.review.encode import encode_frame, shown_size
from propagate.output.review.facts import Findings, page_facts
from propagate.output.review.flags import (
    FlagRules,
    choose_frames,
    find_flags,
    find_intervals,
    rank_frames,
)
from propagate.output.review.page import write_page
from propagate.output.review.timeline import Timeline, measure
from propagate.output.run_folder import REVIEW
from propagate.output.run_record import is_run

if TYPE_CHECKING:
    from propagate.output.labelled_clip import LabelledClip, MaskedFrame, PointedFrame
    from propagate.progress import Progress

LEAST_CONFIDENCE = {"masks": 0.5, "keypoints": 0.4}
"""Below this a frame is flagged."""


@dataclass(frozen=True, kw_only=True)
class ReviewRequest:
    """Everything a user says about one page.

    Args:
        source: labels and clip.
        output: HTML file to write.
        below: confidence below which a frame is flagged, 0 to 1; None for `LEAST_CONFIDENCE`.
        max_frames: most frames whose pictures are embedded: flagged ones first.
        width: of embedded pictures, in pixels; never more than the clip's.
        overwrite: replace what is at `output`.

    Raises:
        InputError: `output` is no .html file, or a number is out of range.
    """

    source: LabelSource
    output: Path
    below: float | None = None
    max_frames: int = 300
    width: int = 640
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.output.suffix.lower() not in (".html", ".htm"):
            raise InputError(f"{self.output} can't be a page; end its name in .html.")
        if self.below is not None and not 0 <= self.below <= 1:
            raise InputError(f"--below is {self.below}; it must be from 0 to 1.")
        if self.max_frames < 1:
            raise InputError(f"--max-frames is {self.max_frames}; it must be 1 or more.")
        if self.width < 16:
            raise InputError(f"--width is {self.width}; it must be 16 pixels or more.")


@dataclass(frozen=True)
class ReviewReport:
    """What came of it.

    Args:
        path: the page.
        frames: how many are labelled.
        shown: how many of them have a picture in the page.
        flagged: how many are flagged.
        intervals: flagged frames in a row as (first, last, worst) indices, worst first.
        size: of the page, in bytes.
        notes: sentences the user should read.
    """

    path: Path
    frames: int
    shown: int
    flagged: int
    intervals: tuple[tuple[int, int, int], ...]
    size: int
    notes: tuple[str, ...]


def default_page(labels: Path) -> Path:
    """Where the page of labels goes: into their run folder, else beside them."""
    return labels / REVIEW if is_run(labels) else labels.with_name(f"{labels.stem}-{REVIEW}")


def review_labels(request: ReviewRequest, *, progress: Progress[Any] | None = None) -> ReviewReport:
    """Make a review page in two passes over the clip: one to measure, one for the pictures.

    Args:
        request: what to do.
        progress: wraps the frames: (title, expected number, frames) -> frames; None shows nothing.

    Raises:
        PropagateError: labels, clip or output can't be used.
    """
    check_replaceable(
        request.output,
        source=request.source.labels,
        folder=False,
        suffixes=(".html", ".htm"),
        overwrite=request.overwrite,
    )
    clip = open_labelled(request.source)
    items = progress("measuring", clip.count, clip) if progress else clip
    found = _find(measure(clip, items), request, masks=isinstance(clip, MaskedClip))
    pictures = _pictures(clip, found)
    if progress is not None:
        pictures = iter(progress("embedding", len(found.shown), pictures))
    write_page(request.output, page_facts(clip, found, labels=request.source.labels), pictures)
    frames = found.timeline.frames
    return ReviewReport(
        path=request.output,
        frames=len(frames),
        shown=len(found.shown),
        flagged=len({flag.position for flag in found.flags}),
        intervals=tuple(
            (frames[item.first].index, frames[item.last].index, frames[item.worst].index)
            for item in found.intervals
        ),
        size=request.output.stat().st_size,
        notes=clip.reader.losses.messages,
    )


def _find(timeline: Timeline, request: ReviewRequest, *, masks: bool) -> Findings:
    kind = "masks" if masks else "keypoints"
    below = LEAST_CONFIDENCE[kind] if request.below is None else request.below
    flags = find_flags(
        [track.looks for track in timeline.tracks],
        FlagRules(confidence=below),
        diagonal=None if masks else timeline.diagonal,
    )
    count = len(timeline.tracks)
    ranked = rank_frames(flags, tracks=count)
    return Findings(
        timeline=timeline,
        flags=flags,
        intervals=find_intervals(flags, tracks=count),
        shown=choose_frames(len(timeline.frames), ranked, request.max_frames),
        shown_size=shown_size(timeline.size, request.width),
        threshold=below,
    )


def _pictures(clip: LabelledClip, found: Findings) -> Iterator[tuple[int, dict[str, Any]]]:
    """Position and content of each embedded frame; nothing after the last one is decoded."""
    shown = set(found.shown)
    track_ids = [track.id for track in found.timeline.tracks]
    items: Iterable[MaskedFrame | PointedFrame] = clip
    for position, item in enumerate(items):
        if position in shown:
            yield position, encode_frame(item, track_ids, found.shown_size)
        if position == found.shown[-1]:
            return
