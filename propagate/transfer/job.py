"""Labels of images of other instances in, a labelled clip out: semantic matching, then a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from propagate.errors import InputError, LabelError
from propagate.features.base import FittedExtractor
from propagate.features.registry import create_extractor
from propagate.labels.keypoint_formats.base import Edge
from propagate.labels.reference_files import (
    LoadedReferences,
    ReferenceFile,
    ReferenceOptions,
    load_references,
)
from propagate.labels.references import References
from propagate.matching.matchers import MaskMatcher, Match, Matcher, PointMatcher
from propagate.matching.search import Candidate, candidate_frames, scores
from propagate.output.transfer_folder import LabelledPicture, TransferFolder
from propagate.pipeline import first_frame, first_frames
from propagate.progress import Progress, no_progress
from propagate.run import RunReport, RunRequest, run_clip
from propagate.stopwatch import Stopwatch
from propagate.transfer.request import TransferRequest
from propagate.types import FeatureMap, Frame, Keypoints, Masks
from propagate.video import open_clip
from propagate.video.base import FrameReader

_NAMED = 6  # objects that a note lists


@dataclass(frozen=True)
class TransferReport:
    """What came of a transfer.

    Args:
        folder: with the labels, the picture and the scores.
        labels: file of the transferred labels.
        frame: which one of the target they belong to.
        match: the labels, and the trust in each.
        notes: sentences the user should read.
        run: the propagation, where there was one.
        seconds: wall-clock seconds by stage, without the run's.
    """

    folder: TransferFolder
    labels: Path
    frame: int
    match: Match[Masks] | Match[Keypoints]
    notes: tuple[str, ...]
    run: RunReport | None
    seconds: dict[str, float]


def transfer_clip(
    request: TransferRequest,
    *,
    progress: Progress[Any] = no_progress,
    say: Callable[[str], None] = lambda _: None,
) -> TransferReport:
    """Carry the labels of some images to a frame of a clip, and from there through all of it.

    Args:
        request: what to do.
        progress: wraps the frames of each long stage: (title, expected number, frames) -> frames.
        say: receives each note as soon as it is known.

    Raises:
        PropagateError: before any long work, whenever the inputs don't fit; or when nothing in the
            target resembles the sources.
    """
    clock = Stopwatch()
    reader = open_clip(request.target, reader=request.reader)
    frames = [first_frame(open_clip(str(image))) for image, _ in request.sources]
    references = _load(request, frames)
    _check_apart(request)
    folder = TransferFolder(request.output, request.config(), mode=request.mode)
    notes = [note for reference in references for note in reference.notes]
    for note in notes:
        say(note)
    with clock.measure("load model"):
        model = request.match_model or request.model
        extractor = create_extractor(model, request.match_options, task="semantic")
    with clock.measure("match"):
        if isinstance(extractor, FittedExtractor):
            extractor.fit(frames)
        matcher = _matcher(request, [extractor.extract([f])[0] for f in frames], references)
        chosen = progress("matching", None, candidate_frames(reader, request.frame))
        tried = [Candidate(frame, matcher.match(extractor.extract([frame])[0])) for frame in chosen]
    best = max(tried, key=lambda candidate: candidate.match.confidence)
    least = request.least_confidence
    _check_found(request.target, best, matcher.least_confidence if least is None else least)
    found = _notes(best, reader)
    for note in found:
        say(note)
    folder.prepare()
    palette, _ = _looks(references[0])
    labels = folder.write_labels(best.frame, best.match.labels, palette=palette)
    folder.write_picture(_pictures(frames, references, best))
    notes += found
    facts = {"model": extractor.identity, "notes": notes, **scores(best, tried)}
    folder.write_record("complete", **facts)
    run = None
    if request.run and not _is_single(reader):
        folder.begin_run()
        run = _run(request, best.frame, labels, references[0], progress, say)
        notes += run.notes
    return TransferReport(
        folder, labels, best.frame.index, best.match, tuple(notes), run, clock.seconds
    )


def _load(request: TransferRequest, frames: Sequence[Frame]) -> list[LoadedReferences]:
    """The labels of every source, all of one kind."""
    loaded = [
        load_references([ReferenceFile(labels, frame.index)], {frame.index: frame}, request.reading)
        for (_, labels), frame in zip(request.sources, frames, strict=True)
    ]
    if len({item.of_keypoints for item in loaded}) > 1:
        raise InputError("Some sources have masks and some keypoints; transfer them one by one.")
    return loaded


def _check_apart(request: TransferRequest) -> None:
    """A source inside the output could be replaced by its own result."""
    for path in (path for pair in request.sources for path in pair):
        if request.output.resolve() in path.resolve().parents:
            raise InputError(
                f"{path} is a source and lies in the output folder {request.output}; choose "
                "another folder."
            )


def _matcher(
    request: TransferRequest, maps: Sequence[FeatureMap], references: Sequence[LoadedReferences]
) -> Matcher[Any]:
    points: list[tuple[FeatureMap, Keypoints]] = []
    masks: list[tuple[FeatureMap, Masks]] = []
    for features, reference in zip(maps, references, strict=True):
        labels = _labels(reference)
        if isinstance(labels, Keypoints):
            points.append((features, labels))
        else:
            masks.append((features, labels))
    return PointMatcher(points, request.video) if points else MaskMatcher(masks, request.video)


def _is_single(reader: FrameReader) -> bool:
    return len(first_frames(reader, 2)) == 1


def _check_found(target: str, best: Candidate[Any], least: float) -> None:
    if best.match.confidence < least:
        raise LabelError(
            f"Nothing in {target} resembles the source enough: the best match, in frame "
            f"{best.frame.index}, has confidence {best.match.confidence:.3f}, and {least:g} is the "
            "least; take a source that is more alike, or lower --min-confidence."
        )
    if len(best.match.lost) == len(best.match.trust):
        raise LabelError(
            f"None of {_listed(best.match.lost)} was found in frame {best.frame.index} of "
            f"{target}; name another frame with --frame, or take another source."
        )


def _notes(best: Candidate[Any], reader: FrameReader) -> list[str]:
    notes = list(reader.losses.messages)
    index, lost = best.frame.index, best.match.lost
    if lost:
        notes.append(f"Not found in frame {index}: {_listed(lost)}.")
    return notes


def _pictures(
    frames: Sequence[Frame], references: Sequence[LoadedReferences], best: Candidate[Any]
) -> list[LabelledPicture]:
    """Every source, then the target."""
    palette, edges = _looks(references[0])
    sources = [
        LabelledPicture(frame.rgb, _labels(reference), f"source {frame.name}", palette, edges)
        for frame, reference in zip(frames, references, strict=True)
    ]
    caption = f"frame {best.frame.index}, confidence {best.match.confidence:.2f}"
    target = LabelledPicture(best.frame.rgb, best.match.labels, caption, palette, edges)
    return [*sources, target]


def _labels(reference: LoadedReferences) -> Masks | Keypoints:
    items: References[Any] = reference.references
    found: Masks | Keypoints = next(iter(items)).labels
    return found


def _looks(reference: LoadedReferences) -> tuple[Any, tuple[Edge, ...]]:
    """Palette and skeleton."""
    return reference.palette, reference.edges


def _run(
    request: TransferRequest,
    frame: Frame,
    labels: Path,
    first: LoadedReferences,
    progress: Progress[Any],
    say: Callable[[str], None],
) -> RunReport:
    """Propagate the labels of `frame` through the clip."""
    masks = not first.of_keypoints
    edges = first.edges
    # Ids were decided when the sources were read.
    reading = ReferenceOptions(
        void=None if masks else "auto",
        trust_ids=masks,
        skeleton=",".join("-".join(edge) for edge in edges if "," not in "".join(edge)) or None,
    )
    return run_clip(
        RunRequest(
            clip=request.target,
            references=(ReferenceFile(labels, frame.index),),
            output=request.output,
            reader=request.reader,
            reading=reading,
            model=request.model,
            options=request.options,
            video=request.video,
            overlay=request.overlay,
            cache=request.cache,
            mode="overwrite",
        ),
        progress=progress,
        say=say,
    )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
