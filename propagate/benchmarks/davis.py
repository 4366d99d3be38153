"""DAVIS 2016 and 2017, semi-supervised: propagate the first mask, score J and F.

Protocol: the official one (davis2017-evaluation): every object of the first true mask, first and
last frame left out of the scores, boundary tolerance 0.008 of the diagonal, means over objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from propagate.benchmarks.base import ClipBenchmark, Row, UnitScore, chosen, mean, need
from propagate.benchmarks.mask_scores import (
    PROTOCOL,
    ObjectScore,
    read_predictions,
    score_masks,
)
from propagate.benchmarks.pictures import compared_masks
from propagate.config import Preset
from propagate.errors import ClipError, InputError
from propagate.features.base import FeatureExtractor
from propagate.labels.mask_files import read_mask, write_mask
from propagate.pipeline import VideoPropagator
from propagate.results import FrameResult
from propagate.types import Masks
from propagate.video import open_clip

if TYPE_CHECKING:
    from jaxtyping import UInt8

WHERE = (
    "fetch the 480p set of this year and split from davischallenge.org, and name the folder that "
    "holds ImageSets, JPEGImages and Annotations"
)


@dataclass(frozen=True)
class Sequence:
    """One clip of the data set.

    Args:
        name: of the sequence.
        images: folder of frames.
        annotations: folder of true masks, a PNG per frame, or of the first alone.
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
        return (true_ids(path, one_object=self.year == "2016") for path in self.mask_paths)


def true_ids(path: Path, *, one_object: bool) -> np.ndarray:
    """Ids of a true mask: with one object 0 and 1, else void as background."""
    ids = read_mask(path).ids
    return (ids > 0).astype(np.uint8) if one_object else np.where(ids == 255, 0, ids)


def find_sequences(root: Path, *, year: str, split: str, names: tuple[str, ...]) -> list[Sequence]:
    """The sequences of a split, or those of them that are named.

    Raises:
        InputError: naming the file or folder that is missing, and what was looked for.
    """
    listing = root / "ImageSets" / year / f"{split}.txt"
    if not listing.is_file():
        raise InputError(f"{root} is no DAVIS {year} root: {listing} is missing; {WHERE}.")
    listed = [line.split()[0] for line in listing.read_text().splitlines() if line.strip()]
    return [_sequence(root, name, year) for name in chosen(names, listed, listing)]


def _sequence(root: Path, name: str, year: str) -> Sequence:
    images, annotations = (
        need(root / kind / "480p" / name, f"DAVIS {year}", WHERE)
        for kind in ("JPEGImages", "Annotations")
    )
    sequence = Sequence(name, images, annotations, year)
    if not sequence.mask_paths:
        raise InputError(f"{annotations} has no mask, so DAVIS {year} is incomplete; {WHERE}.")
    return sequence


def propagate_first(
    sequence: Sequence, extractor: FeatureExtractor, settings: Preset
) -> Iterator[FrameResult[Masks]]:
    """Carry a sequence's first mask through it."""
    propagator = VideoPropagator(
        open_clip(sequence.images),
        Masks(next(sequence.true_masks())),
        extractor=extractor,
        settings=settings.video,
        device=settings.options.device,
    )
    return iter(propagator)


def evaluate_sequence(
    sequence: Sequence, extractor: FeatureExtractor, settings: Preset
) -> list[ObjectScore]:
    """Propagate a sequence's first mask and score every object, keeping nothing."""
    results = propagate_first(sequence, extractor, settings)
    return score_sequence(sequence, (result.labels.ids for result in results))


def score_sequence(sequence: Sequence, predictions: Iterable[np.ndarray]) -> list[ObjectScore]:
    """Score the predicted ids of every frame.

    Raises:
        ClipError: there are not as many as true masks.
    """
    count = 0

    def counted() -> Iterator[np.ndarray]:
        nonlocal count
        for ids in predictions:
            count += 1
            yield ids

    kept = counted()
    scores = score_masks(sequence.name, sequence.true_masks(), kept)
    for _ in kept:
        pass  # only to be counted
    if scores is None or count != len(sequence.mask_paths):
        raise _uneven(sequence, count)
    return scores


def _uneven(sequence: Sequence, frames: int) -> ClipError:
    return ClipError(
        f"{sequence.images} has {frames} frames and {sequence.annotations} "
        f"{len(sequence.mask_paths)} masks; a complete sequence has as many of both."
    )


class DavisBenchmark(ClipBenchmark):
    """Sequences of DAVIS.

    Args:
        root: folder with ImageSets, JPEGImages and Annotations.
        year: "2016" or "2017".
        split: name of the ImageSets list; one with the first masks alone, as test-dev, is
            predicted only.
        names: only these sequences, or all.

    Raises:
        InputError: the data set or a sequence is missing.
    """

    unit_kind = "sequence"

    def __init__(self, root: Path, *, year: str, split: str, names: tuple[str, ...] = ()) -> None:
        found = find_sequences(root, year=year, split=split, names=names)
        self._sequences = {sequence.name: sequence for sequence in found}
        self._year, self._split = year, split
        self._whole = not names
        self.scored = all(len(sequence.mask_paths) > 1 for sequence in found)
        self.published = None if names else f"davis{year}-{split}"

    @property
    def name(self) -> str:
        """`DAVIS-2016 train`."""
        part = "" if self._whole else f", {len(self._sequences)} of its sequences"
        return f"DAVIS-{self._year} {self._split}{part}"

    @property
    def protocol(self) -> str:
        """The official one."""
        return PROTOCOL if self.scored else "DAVIS semi-supervised: the first mask is given."

    @property
    def units(self) -> tuple[str, ...]:
        """Names of the sequences."""
        return tuple(self._sequences)

    @property
    def metrics(self) -> tuple[str, ...]:
        """J&F, its parts, and the copy-the-first-mask floor."""
        return ("J&F", "J", "F", "copy J&F")

    @property
    def options(self) -> Mapping[str, Any]:
        """Year and split."""
        return {"year": self._year, "split": self._split}

    def predict(self, unit: str, settings: Preset, engine: FeatureExtractor, folder: Path) -> int:
        """Write an indexed PNG per frame."""
        count = 0
        for result in propagate_first(self._sequences[unit], engine, settings):
            write_mask(folder / f"{result.frame.name}.png", result.labels.ids)
            count += 1
        return count

    def score(self, unit: str, folder: Path) -> UnitScore:
        """J and F of every object."""
        sequence = self._sequences[unit]
        names = [path.name for path in sequence.mask_paths]
        predictions = [*sorted(folder.glob("*.png"))]
        if len(predictions) != len(names):
            raise _uneven(sequence, len(predictions))
        objects = score_sequence(sequence, read_predictions(folder, names))
        rows = tuple(Row(unit, str(one.object_id), one.metrics) for one in objects)
        return UnitScore(unit, rows, data=objects)

    def picture(
        self, score: UnitScore, folder: Path
    ) -> tuple[UInt8[np.ndarray, "h w 3"], str] | None:
        """The frame with the lowest J&F, predicted masks and true outlines."""
        sequence = self._sequences[score.unit]
        frames = np.mean([one.frames for one in score.data], axis=0)
        worst = int(frames.argmin()) + 1  # the first frame is not scored
        path = sequence.mask_paths[worst]
        frame = next(iter(open_clip(sequence.images, frames=f"{worst}:{worst + 1}")))
        truth = true_ids(path, one_object=self._year == "2016")
        drawn = compared_masks(frame.rgb, read_mask(folder / path.name).ids, truth)
        whole = mean([row.scores["J&F"] for row in score.rows])
        caption = f"{score.unit}: {whole:.1f}; frame {path.stem}: {100 * frames.min():.1f}"
        return drawn, caption
