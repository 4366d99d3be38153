"""What a sweep is scored on: the interface, and DAVIS."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from propagate.benchmarks.davis import Sequence, evaluate_sequence, find_sequences
from propagate.benchmarks.mask_scores import PROTOCOL
from propagate.config import Preset, Task
from propagate.features.base import FeatureExtractor


@dataclass(frozen=True)
class UnitScore:
    """Scores of one unit under one combination.

    Args:
        items: the metrics of each thing that counts by itself in the mean over the data set, such
            as an object of a clip; in per cent.
        seconds: wall-clock time it took.
        frames: how many frames that was for.
    """

    items: tuple[Mapping[str, float], ...]
    seconds: float
    frames: int


class SweepTarget(Protocol):
    """A data set in units, each small enough that the features of all its frames fit in memory."""

    @property
    def name(self) -> str:
        """Data set and split, for titles and records."""
        ...

    @property
    def protocol(self) -> str:
        """How scores are taken, in a line."""
        ...

    @property
    def task(self) -> Task:
        """Whose defaults models have."""
        ...

    @property
    def unit_kind(self) -> str:
        """What units are called, in the plural."""
        ...

    @property
    def units(self) -> tuple[str, ...]:
        """Their names, in order."""
        ...

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics; the first decides which combination is best."""
        ...

    def fingerprint(self, unit: str) -> str:
        """Digits that change with the unit's files."""
        ...

    def frames(self, unit: str) -> int:
        """How many frames a unit has, so that the features of all can be kept."""
        ...

    def score(self, unit: str, settings: Preset, extractor: FeatureExtractor) -> UnitScore:
        """Score a unit.

        Raises:
            ClipError, LabelError: the data are at fault, so no combination can do better.
            PropagateError: these settings can't be used.
        """
        ...


class DavisTarget:
    """Sequences of DAVIS, scored as `propagate eval davis2017` does: means over objects.

    Args:
        root: folder with ImageSets, JPEGImages and Annotations.
        year: "2016" or "2017".
        split: name of the ImageSets list.
        names: only these sequences, or all.

    Raises:
        InputError: the data set or a sequence is missing.
    """

    protocol = PROTOCOL
    task: Task = "propagation"
    unit_kind = "sequences"
    metrics = ("J&F", "J", "F")

    def __init__(self, root: Path, *, year: str, split: str, names: tuple[str, ...] = ()) -> None:
        found = find_sequences(root, year=year, split=split, names=names)
        self._sequences = {sequence.name: sequence for sequence in found}
        self._name = f"DAVIS-{year} {split}"

    @property
    def name(self) -> str:
        """`DAVIS-2016 train`."""
        return self._name

    @property
    def units(self) -> tuple[str, ...]:
        """Names of the sequences."""
        return tuple(self._sequences)

    def fingerprint(self, unit: str) -> str:
        """Twelve digits of the names and contents of all frames and masks."""
        digest = hashlib.sha256()
        for path in _files(self._sequences[unit]):
            digest.update(f"{path.name} {path.stat().st_size}\n".encode())
            digest.update(path.read_bytes())
        return digest.hexdigest()[:12]

    def frames(self, unit: str) -> int:
        """Number of frames, as the true masks count them."""
        return len(self._sequences[unit].mask_paths)

    def score(self, unit: str, settings: Preset, extractor: FeatureExtractor) -> UnitScore:
        """J&F, J and F of every object of a sequence."""
        start = time.perf_counter()
        objects = evaluate_sequence(self._sequences[unit], extractor, settings)
        seconds = time.perf_counter() - start
        items = tuple({name: one.metrics[name] for name in self.metrics} for one in objects)
        return UnitScore(items, seconds, self.frames(unit))


def _files(sequence: Sequence) -> list[Path]:
    folders = (sequence.images, sequence.annotations)
    return [path for folder in folders for path in sorted(folder.glob("[!.]*")) if path.is_file()]
