"""DAVIS 2016 and 2017, semi-supervised: propagate the first mask, score J and F.

Protocol: the official one (davis2017-evaluation): every object of the first true mask, first and
last frame left out of the scores, boundary tolerance 0.008 of the diagonal, means over objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from propagate.config import Preset
from propagate.errors import ClipError, InputError
from propagate.features.base import FeatureExtractor
from propagate.labels.mask_files import read_mask, write_mask
from propagate.metrics.sequence import SequenceScorer, SequenceScores
from propagate.metrics.statistics import statistics
from propagate.output.atomic import atomic_path
from propagate.pipeline import VideoPropagator
from propagate.stopwatch import Stopwatch
from propagate.types import Masks
from propagate.video import open_clip


@dataclass(frozen=True)
class Sequence:
    """One clip of the data set.

    Args:
        name: of the sequence.
        images: folder of frames.
        annotations: folder of true masks, a PNG per frame.
        year: "2016" has one object, of id 255 in the files; "2017" has ids from 1, and 255 void.
    """

    name: str
    images: Path
    annotations: Path
    year: str

    @property
    def mask_paths(self) -> list[Path]:
        """True masks in frame order."""
        return sorted(self.annotations.glob("*.png"))

    def true_masks(self) -> Iterator[np.ndarray]:
        """Ids of every frame: 0 and 1 for 2016; void as background, as the official code has it."""
        for path in self.mask_paths:
            ids = read_mask(path).ids
            yield (
                (ids > 0).astype(np.uint8) if self.year == "2016" else np.where(ids == 255, 0, ids)
            )


@dataclass(frozen=True)
class ObjectScore:
    """Scores of one object: mean, recall and decay of J and F over the frames."""

    sequence: str
    object_id: int
    jaccard: tuple[float, float, float]
    boundary: tuple[float, float, float]
    floor: float
    seconds_per_frame: float

    @property
    def jf(self) -> float:
        """Mean of J and F, in [0, 1]."""
        return (self.jaccard[0] + self.boundary[0]) / 2


def find_sequences(root: Path, *, year: str, split: str, names: tuple[str, ...]) -> list[Sequence]:
    """The sequences of a split, or those of them that are named.

    Raises:
        InputError: naming the file or folder that is missing, and what was looked for.
    """
    listing = root / "ImageSets" / year / f"{split}.txt"
    if not listing.is_file():
        raise InputError(
            f"{root} is no DAVIS {year} root: {listing} is missing; download the 480p trainval "
            "set and name the folder that holds ImageSets, JPEGImages and Annotations."
        )
    listed = tuple(line.split()[0] for line in listing.read_text().splitlines() if line.strip())
    unknown = [name for name in names if name not in listed]
    if unknown:
        raise InputError(f"{unknown[0]!r} is not in {listing}; it has {', '.join(listed)}.")
    return [_sequence(root, name, year) for name in names or listed]


def _sequence(root: Path, name: str, year: str) -> Sequence:
    images, annotations = (root / kind / "480p" / name for kind in ("JPEGImages", "Annotations"))
    for folder in (images, annotations):
        if not folder.is_dir():
            raise InputError(
                f"{folder} is missing, so the download of DAVIS is incomplete; fetch it again."
            )
    return Sequence(name, images, annotations, year)


def evaluate_sequence(
    sequence: Sequence, extractor: FeatureExtractor, settings: Preset, *, output: Path | None
) -> list[ObjectScore]:
    """Propagate a sequence's first mask, write the predictions if asked, and score every object."""
    truth = sequence.true_masks()
    first = next(truth)
    # As the official code has it, which counts an id that the first mask skips.
    scorers = [SequenceScorer(range(1, int(first.max()) + 1)) for _ in range(2)]
    clock = Stopwatch()
    propagator = VideoPropagator(
        open_clip(sequence.images),
        Masks(first),
        extractor=extractor,
        settings=settings.video,
        device=settings.options.device,
    )
    frames = 0
    true: np.ndarray | None = first
    for result in clock.iterate("all", propagator):
        if true is not None:
            scorers[0].add(result.masks.ids, true)
            scorers[1].add(first, true)
        if output is not None:
            with atomic_path(output / sequence.name / f"{result.frame.name}.png") as path:
                write_mask(path, result.masks.ids)
        frames += 1
        true = next(truth, None)
    if frames != len(sequence.mask_paths):
        raise ClipError(
            f"{sequence.images} has {frames} frames and {sequence.annotations} "
            f"{len(sequence.mask_paths)} masks; a complete sequence has as many of both."
        )
    scores, floor = (scorer.scores().without_ends() for scorer in scorers)
    return _object_scores(sequence.name, scores, floor, clock.seconds["all"] / frames)


def _object_scores(
    name: str, scores: SequenceScores, floor: SequenceScores, seconds: float
) -> list[ObjectScore]:
    return [
        ObjectScore(
            sequence=name,
            object_id=object_id,
            jaccard=statistics(scores.jaccard[row]),
            boundary=statistics(scores.boundary_f[row]),
            floor=float((floor.jaccard[row].mean() + floor.boundary_f[row].mean()) / 2),
            seconds_per_frame=seconds,
        )
        for row, object_id in enumerate(scores.object_ids)
    ]


def evaluate(
    sequences: list[Sequence],
    extractor: FeatureExtractor,
    settings: Preset,
    *,
    output: Path | None = None,
    report: Callable[[list[ObjectScore]], None] = lambda _: None,
) -> list[ObjectScore]:
    """Scores of all objects of all sequences; `report` receives those of each as it is done."""
    found = []
    for sequence in sequences:
        scores = evaluate_sequence(sequence, extractor, settings, output=output)
        report(scores)
        found += scores
    return found
