"""Data sets of image pairs with keypoints: predict every pair, keep it on disk, then score."""

from __future__ import annotations

import csv
import json
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from PIL import Image

from propagate.errors import InputError, OutputError
from propagate.features.base import FeatureExtractor, FittedExtractor
from propagate.geometry import map_points
from propagate.matching.semantic import SemanticSettings, match_points
from propagate.metrics.pck import (
    PckSummary,
    box_side,
    correct_points,
    image_side,
    keypoint_side,
    summarise,
)
from propagate.output.atomic import atomic_path, make_folder
from propagate.output.record_folder import Mode, RecordFolder
from propagate.pipeline import first_frame
from propagate.types import FeatureMap, Frame, Size
from propagate.video import open_clip

if TYPE_CHECKING:
    from jaxtyping import Float64

Normaliser = Literal["target-box", "source-box", "target-keypoints", "image"]

_MAPS_KEPT = 32


@dataclass(frozen=True, eq=False)
class KeypointPair:
    """Two images with the same keypoints.

    Args:
        name: unique in the data set.
        category: of the thing that both show.
        source: image that points are taken from.
        target: image that they are looked for in.
        source_xy: float64 [n, 2], pixels from the outer corner of the top-left pixel.
        target_xy: float64 [n, 2], the same points in the target.
        source_box: left, top, right, bottom of the thing, where the data set has it.
        target_box: the same in the target.
    """

    name: str
    category: str
    source: Path
    target: Path
    source_xy: Float64[np.ndarray, "n 2"]
    target_xy: Float64[np.ndarray, "n 2"]
    source_box: tuple[float, float, float, float] | None = None
    target_box: tuple[float, float, float, float] | None = None

    def side(self, normaliser: Normaliser) -> float:
        """What distances are divided by, in pixels.

        Raises:
            InputError: the data set has no boxes.
        """
        if normaliser == "image":
            return image_side(picture_size(self.target))
        if normaliser == "target-keypoints":
            return keypoint_side(self.target_xy)
        box = self.target_box if normaliser == "target-box" else self.source_box
        if box is None:
            raise InputError(
                f"Pair {self.name} has no box, so --normaliser {normaliser} can't be; take image "
                "or target-keypoints."
            )
        return box_side(box)


@dataclass(frozen=True, kw_only=True)
class PckProtocol:
    """How predictions are scored.

    Args:
        normaliser: what a distance is divided by: the longer side of the thing's box in target or
            source, of the box around the target's keypoints, or of the target image.
        strict: whether a point exactly on the threshold is wrong.
        alphas: thresholds, as shares of that side.

    Raises:
        InputError: a value is out of range.
    """

    normaliser: Normaliser = "target-box"
    strict: bool = False
    alphas: tuple[float, ...] = (0.05, 0.1, 0.15)

    def __post_init__(self) -> None:
        allowed = get_args(Normaliser)
        if self.normaliser not in allowed:
            raise InputError(
                f"normaliser is {self.normaliser!r}; it must be one of {', '.join(allowed)}."
            )
        if not self.alphas or not all(0 < alpha <= 1 for alpha in self.alphas):
            raise InputError(f"alphas are {self.alphas}; give one or more, each from 0 to 1.")

    def __str__(self) -> str:
        return f"PCK, distance {'<' if self.strict else '<='} alpha x {self.normaliser}"


class EvalFolder(RecordFolder):
    """The folder of one evaluation: predictions as they come, the table, and the summary.

    An evaluation that was cut short goes on where it was; one with another configuration is
    refused, unless it is to be replaced.
    """

    job = "evaluation"

    def __init__(self, path: Path, config: Mapping[str, Any], *, overwrite: bool) -> None:
        mode: Mode = "overwrite" if overwrite else "resume"
        super().__init__(path, config, mode=mode)

    @property
    def record_path(self) -> Path:
        """Configuration, protocol, versions, model and scores."""
        return self.path / "summary.json"

    @property
    def predictions(self) -> Path:
        """A line of JSON per pair."""
        return self.path / "predictions.jsonl"

    @property
    def table(self) -> Path:
        """Scores, a row per pair."""
        return self.path / "pairs.csv"

    def prepare(self) -> None:
        """Make the folder, without what is to be replaced."""
        make_folder(self.path)
        if self._replaces:
            for item in (self.predictions, self.table, self.record_path):
                item.unlink(missing_ok=True)

    def predicted(self) -> dict[str, dict[str, Any]]:
        """What is there by the name of the pair; a line that was cut short is dropped."""
        if not self.predictions.is_file():
            return {}
        lines = self.predictions.read_text(encoding="utf-8").splitlines()
        entries = [entry for entry in map(_entry, lines) if entry is not None]
        with atomic_path(self.predictions) as temporary:
            whole = "".join(json.dumps(entry) + "\n" for entry in entries)
            temporary.write_text(whole, encoding="utf-8")
        return {entry["name"]: entry for entry in entries}

    def predict(
        self, names: Sequence[str], make: Callable[[str], dict[str, Any]], progress: Any
    ) -> dict[str, dict[str, Any]]:
        """The prediction of every name; those that are missing are made and written one by one."""
        found = self.predicted()
        missing = [name for name in names if name not in found]
        try:
            with self.predictions.open("a", encoding="utf-8") as file:
                for name in progress("predicting", len(missing), missing):
                    found[name] = {"name": name, **make(name)}
                    file.write(json.dumps(found[name]) + "\n")
                    file.flush()
        except OSError as error:
            raise OutputError(f"Cannot write {self.predictions}: {error.strerror}.") from error
        return {name: found[name] for name in names}

    def write_table(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the scores of the pairs, all with the same columns."""
        with (
            atomic_path(self.table) as path,
            path.open("w", encoding="utf-8", newline="") as file,
        ):
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def _entry(line: str) -> dict[str, Any] | None:
    """A prediction, or None for a line that was cut short."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and "name" in entry else None


class MapStore:
    """Feature maps of images, the latest of which are kept."""

    def __init__(self, extractor: FeatureExtractor, first: Iterable[Path]) -> None:
        self._extractor = extractor
        self._maps: OrderedDict[Path, FeatureMap] = OrderedDict()
        if isinstance(extractor, FittedExtractor):
            extractor.fit([picture(path) for path in first])

    def __getitem__(self, path: Path) -> FeatureMap:
        if path not in self._maps:
            self._maps[path] = self._extractor.extract([picture(path)])[0]
            if len(self._maps) > _MAPS_KEPT:
                self._maps.popitem(last=False)
        self._maps.move_to_end(path)
        return self._maps[path]


def picture(path: Path) -> Frame:
    """An image of a data set."""
    return first_frame(open_clip(str(path)))


def picture_size(path: Path) -> Size:
    """Size of an image in pixels, from its header."""
    with Image.open(path) as image:
        return Size(image.height, image.width)


def require_file(path: Path, what: str, where: str) -> Path:
    """The path itself, if there is such a file.

    Args:
        path: of the file.
        what: name of the data set.
        where: where it is to be had.

    Raises:
        InputError: it is missing.
    """
    if not path.is_file():
        raise InputError(
            f"{path} is missing, so this is no complete {what}; get it from {where}, and name the "
            "folder that it unpacks to as --root."
        )
    return path


def chosen_pairs(
    pairs: Sequence[KeypointPair], categories: Sequence[str], limit: int | None
) -> list[KeypointPair]:
    """Those of some categories, and the first `limit` of them, by category.

    Raises:
        InputError: there is no such category, or `limit` is below 1.
    """
    there = sorted({pair.category for pair in pairs})
    unknown = [name for name in categories if name not in there]
    if unknown:
        raise InputError(f"There is no category {unknown[0]!r}; there are {', '.join(there)}.")
    if limit is not None and limit < 1:
        raise InputError(f"--limit is {limit}; it must be 1 or more.")
    found = [pair for pair in pairs if not categories or pair.category in categories]
    return sorted(found, key=lambda pair: (pair.category, str(pair.source), pair.name))[:limit]


def evaluate_pairs(
    pairs: Sequence[KeypointPair],
    extractor: FeatureExtractor,
    folder: EvalFolder,
    *,
    settings: SemanticSettings,
    protocol: PckProtocol,
    progress: Any,
) -> dict[str, Any]:
    """Predict all pairs that are not predicted yet, score all, and write table and summary.

    Args:
        pairs: to score.
        extractor: of features.
        folder: to write; its configuration must hold all but the protocol.
        settings: of the matcher.
        protocol: of the scores.
        progress: wraps the pairs.

    Returns:
        The record that was written.

    Raises:
        InputError: a point lies outside of its image, or there is no pair.
        OutputError: the folder's predictions are by another model.
    """
    if not pairs:
        raise InputError("There is no pair to score.")
    for pair in pairs:
        pair.side(protocol.normaliser)
    folder.check_same("model", extractor.identity)
    folder.prepare()
    folder.write_record("running", model=extractor.identity)
    by_name = {pair.name: pair for pair in pairs}
    maps = MapStore(extractor, (pairs[0].source, pairs[0].target))
    predicted = folder.predict(
        list(by_name), lambda name: _predict(by_name[name], maps, settings), progress
    )
    rows, summaries = _score(pairs, predicted, protocol)
    folder.write_table(rows)
    return folder.write_record(
        "complete",
        model=extractor.identity,
        protocol={"text": str(protocol), **asdict(protocol)},
        scores=summaries,
    )


def _predict(pair: KeypointPair, maps: MapStore, settings: SemanticSettings) -> dict[str, Any]:
    source, target = maps[pair.source], maps[pair.target]
    # An annotated point may lie on or just beyond the border.
    inside = np.clip(pair.source_xy, 0, (source.image_size.width, source.image_size.height))
    matches = match_points(source, target, inside, settings)
    xy: list[list[float] | None] = [None] * len(inside)
    for row, query in enumerate(matches.query):
        if xy[query] is None:
            xy[query] = [round(float(value), 3) for value in matches.target_xy[row]]
    copied = map_points(inside, source.image_size, target.image_size)
    return {"target_xy": xy, "copied_xy": np.round(copied, 3).tolist()}


def _score(
    pairs: Sequence[KeypointPair],
    predicted: Mapping[str, Mapping[str, Any]],
    protocol: PckProtocol,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A row per pair, and the summary by alpha."""
    rows: list[dict[str, Any]] = [
        {
            "pair": pair.name,
            "category": pair.category,
            "points": len(pair.target_xy),
            "side": round(pair.side(protocol.normaliser), 3),
        }
        for pair in pairs
    ]
    scores: dict[str, Any] = {}
    for alpha in protocol.alphas:
        for column, key in (("pck", "target_xy"), ("copy", "copied_xy")):
            check = partial(_correct, protocol=protocol, alpha=alpha)
            correct = [check(pair, predicted[pair.name][key]) for pair in pairs]
            for row, flags in zip(rows, correct, strict=True):
                row[f"{column}@{alpha:g}"] = round(float(flags.mean()), 4) if len(flags) else ""
            together = [(pair.category, c) for pair, c in zip(pairs, correct, strict=True)]
            scores[f"{column}@{alpha:g}"] = _facts(summarise(together))
    return rows, scores


def _correct(
    pair: KeypointPair, xy: Sequence[Any], *, protocol: PckProtocol, alpha: float
) -> np.ndarray:
    places = np.array([(np.nan, np.nan) if at is None else at for at in xy], dtype=np.float64)
    return correct_points(
        places.reshape(-1, 2),
        pair.target_xy,
        side=pair.side(protocol.normaliser),
        alpha=alpha,
        strict=protocol.strict,
    )


def _facts(summary: PckSummary) -> dict[str, Any]:
    return {
        "overall": asdict(summary.overall),
        "category_mean": asdict(summary.category_mean),
        "categories": {name: asdict(pck) for name, pck in summary.categories.items()},
    }
