"""What a data set is to the runner: units that are predicted, kept as files, and scored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from propagate.config import Preset
from propagate.errors import InputError
from propagate.features.base import FeatureExtractor
from propagate.features.registry import create_extractor

if TYPE_CHECKING:
    from jaxtyping import UInt8


@dataclass(frozen=True)
class Row:
    """Scores of one thing that is listed by itself, such as an object of a clip.

    Args:
        unit: what it belongs to.
        item: its name within the unit; empty where the unit has one row.
        scores: metric -> value, in per cent where it is a share. There may be more than the data
            set's `metrics`; those are for files.
    """

    unit: str
    item: str
    scores: Mapping[str, float]


@dataclass(frozen=True, repr=False)
class UnitScore:
    """What came of one unit.

    Args:
        unit: its name.
        rows: its rows.
        data: whatever the data set needs for `summarise`, `curve` and `picture`.
    """

    unit: str
    rows: tuple[Row, ...]
    data: Any = field(default=None, compare=False)

    def mean(self, metric: str) -> float:
        """Mean of a metric over the rows, NaN ones left out."""
        return mean([row.scores[metric] for row in self.rows])


class Curve(NamedTuple):
    """A metric over a threshold.

    Attributes:
        threshold: what it is called.
        metric: what is on the y axis.
        at: thresholds.
        lines: the metric at each, ours first and by name.
    """

    threshold: str
    metric: str
    at: Sequence[float]
    lines: Mapping[str, Sequence[float]]


class Engine(Protocol):
    """What predicts: a feature extractor, or a matcher."""

    @property
    def identity(self) -> str:
        """Everything that changes the numbers and is no part of `Benchmark.options`."""
        ...


E = TypeVar("E", bound=Engine)


class Benchmark(ABC, Generic[E]):
    """A data set, or the part of it to be scored.

    Units are the smallest parts that are predicted and scored on their own. Predictions are a
    folder of files per unit; scores are taken from the files, so that they hold for what is kept.
    Objects can be pickled, to score several units at once.
    """

    unit_kind: str = "clip"
    """What the first column of the table lists."""
    picture_kind: str = "frame"
    """What `predict` counts."""
    streams: bool = True
    """Whether the table lists the rows of every unit, so that they can be shown as they come."""
    published: str | None = None
    """Data set in `published.yaml`, where all of it is scored."""
    scored: bool = True
    """Whether there is a truth to score by."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Data set and split, for titles."""

    @property
    @abstractmethod
    def protocol(self) -> str:
        """How labels are given and scores taken, in a sentence or two."""

    @property
    @abstractmethod
    def units(self) -> tuple[str, ...]:
        """Names, in order; relative paths with forward slashes."""

    @property
    @abstractmethod
    def metrics(self) -> tuple[str, ...]:
        """The metrics to show; the first decides which units are worst."""

    @property
    def options(self) -> Mapping[str, Any]:
        """Everything beside model and settings that decides the predictions; JSON values."""
        return {}

    def decisive(self, settings: Preset) -> dict[str, Any]:
        """What of the settings decides the predictions; JSON values."""
        return {
            "model": settings.model,
            "options": decisive_options(settings),
            "video": asdict(settings.video),
        }

    def described(self, settings: Preset) -> str:
        """The settings in a line, without the model's."""
        return str(settings.video)

    @abstractmethod
    def load(self, settings: Preset) -> E:
        """What predicts, with its weights.

        Raises:
            PropagateError: the model or the settings can't be used.
        """

    @abstractmethod
    def predict(self, unit: str, settings: Preset, engine: E, folder: Path) -> int:
        """Write the predictions of a unit into an empty folder, and return how many frames.

        Raises:
            PropagateError: the data or the settings can't be used.
        """

    @abstractmethod
    def score(self, unit: str, folder: Path) -> UnitScore:
        """Score the predictions of a unit.

        Raises:
            PropagateError: a prediction is missing or does not fit.
        """

    def summarise(self, scores: Sequence[UnitScore]) -> dict[str, float]:
        """The data set's numbers: by default the mean over all rows."""
        rows = [row for score in scores for row in score.rows]
        names = dict.fromkeys(name for row in rows for name in row.scores)
        return {name: mean([row.scores[name] for row in rows]) for name in names}

    def listed(self, scores: Sequence[UnitScore]) -> Sequence[Row]:
        """The rows of the table: by default all there are."""
        return [row for score in scores for row in score.rows]

    def curve(self, scores: Sequence[UnitScore]) -> Curve | None:
        """A curve to draw, where the data set has one."""
        del scores
        return None

    def picture(
        self, score: UnitScore, folder: Path
    ) -> tuple[UInt8[np.ndarray, "h w 3"], str] | None:
        """The worst of a unit as a picture, and what it shows."""
        del score, folder
        return None


class ClipBenchmark(Benchmark[FeatureExtractor]):
    """A data set of clips, whose labels are propagated."""

    def load(self, settings: Preset) -> FeatureExtractor:
        """The extractor of the settings' model."""
        return create_extractor(settings.model, settings.options)


def decisive_options(settings: Preset) -> dict[str, Any]:
    """The model options as JSON values.

    A model that is already here gives the same numbers with or without a hub.
    """
    options = asdict(settings.options)
    del options["offline"]
    return options


def mean(values: Sequence[float]) -> float:
    """Mean of the values that are not NaN; NaN of none."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def short(share: float) -> str:
    """A threshold as names of metrics have it: 0.05 as .05."""
    return f"{share:g}".removeprefix("0")


def chosen(names: Sequence[str], listed: Sequence[str], where: Path) -> tuple[str, ...]:
    """The named units, or all that are listed.

    Raises:
        InputError: one is not listed, the list is empty, or has a name that is no relative path.
    """
    unknown = [name for name in names if name not in listed]
    if unknown:
        raise InputError(f"{unknown[0]!r} is not in {where}; it has {', '.join(listed)}.")
    if not listed:
        raise InputError(f"{where} lists nothing; fetch it again.")
    for name in listed:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or name != str(path):
            raise InputError(f"{where} lists {name!r}, which is no name; fetch the file again.")
    return tuple(names or listed)


def need(path: Path, data_set: str, where: str) -> Path:
    """A file or folder of a data set that must be there.

    Args:
        path: of it.
        data_set: its name.
        where: a clause that says where to get it.

    Raises:
        InputError: it is missing; the sentence names it and `where`.
    """
    if not path.exists():
        raise InputError(f"{path} is missing, so {data_set} is incomplete; {where}.")
    return path
