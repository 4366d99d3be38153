"""Pairs of images with the same points in both, to train on."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from propagate.benchmarks import spair
from propagate.benchmarks.pairs import KeypointPair, picture
from propagate.errors import InputError
from propagate.types import Frame

if TYPE_CHECKING:
    from jaxtyping import Float64

T = TypeVar("T")
_COLUMNS = ("source", "target", "x1", "y1", "x2", "y2")


@dataclass(frozen=True, eq=False)
class TrainingPair:
    """Two images with the same points.

    Args:
        source: an image.
        target: another.
        source_xy: float64 [n, 2], pixels from the outer corner of the top-left pixel; n >= 1.
        target_xy: float64 [n, 2], the same points in the target.
    """

    source: Frame
    target: Frame
    source_xy: Float64[np.ndarray, "n 2"]
    target_xy: Float64[np.ndarray, "n 2"]


class PairSource(Protocol):
    """An endless row of pairs, each of which depends on its number and the seed alone."""

    def pair(self, number: int) -> TrainingPair:
        """The pair with a number from 0."""
        ...


class AnnotatedPairs:
    """Annotated pairs, all of them once in a random order, then all in another.

    Args:
        files: the pairs.
        seed: of the orders.
    """

    def __init__(self, files: Sequence[KeypointPair], *, seed: int) -> None:
        self._files = list(files)
        self._seed = seed

    def pair(self, number: int) -> TrainingPair:
        """See `PairSource`."""
        round_, position = divmod(number, len(self._files))
        order = np.random.default_rng((self._seed, round_)).permutation(len(self._files))
        chosen = self._files[int(order[position])]
        return read_pair(chosen)


def read_pair(pair: KeypointPair) -> TrainingPair:
    """A pair with its images decoded."""
    return TrainingPair(picture(pair.source), picture(pair.target), pair.source_xy, pair.target_xy)


def find_pairs(path: Path, split: str = "trn") -> list[KeypointPair]:
    """The pairs of a CSV file, or of a folder in the layout of SPair-71k.

    Args:
        path: the file or folder.
        split: of SPair-71k.

    Raises:
        InputError, LabelError: there are none, or something is damaged or missing.
    """
    found = spair.find_pairs(path, split) if path.is_dir() else read_csv(path)
    found = [pair for pair in found if len(pair.source_xy)]
    if not found:
        raise InputError(f"{path} has no pair with a point in it.")
    return found


def read_csv(path: Path) -> list[KeypointPair]:
    """Pairs out of lines of source, target, x1, y1, x2, y2: a point each.

    Images are named relative to the file's folder. Lines with the same two images are one pair.

    Args:
        path: the file, with or without a line of these names on top.

    Raises:
        InputError: it can't be read, or a line is malformed or names an image that is not there.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [(number, row) for number, row in enumerate(csv.reader(file), 1) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"The pairs {path} can't be read ({error}).") from error
    if rows and tuple(cell.strip() for cell in rows[0][1]) == _COLUMNS:
        rows = rows[1:]
    points: dict[tuple[Path, Path], list[tuple[float, ...]]] = {}
    for number, row in rows:
        names, place = _parsed(path, number, row)
        points.setdefault(names, []).append(place)
    return [
        KeypointPair(
            name=f"{source.stem}-{target.stem}",
            category="",
            source=source,
            target=target,
            source_xy=np.array(places)[:, :2],
            target_xy=np.array(places)[:, 2:],
        )
        for (source, target), places in points.items()
    ]


def _parsed(path: Path, number: int, row: list[str]) -> tuple[tuple[Path, Path], tuple[float, ...]]:
    try:
        source, target, *numbers = (cell.strip() for cell in row)
        x1, y1, x2, y2 = (float(value) for value in numbers)
    except ValueError:
        raise InputError(
            f"{path}, line {number}: {','.join(row)!r} is not {','.join(_COLUMNS)}."
        ) from None
    if not np.isfinite((x1, y1, x2, y2)).all():
        raise InputError(f"{path}, line {number}: {','.join(row)!r} has a place that is none.")
    files = path.parent / source, path.parent / target
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise InputError(f"{path}, line {number}: there is no image {missing[0]}.")
    return files, (x1, y1, x2, y2)


def hold_out(
    files: Sequence[KeypointPair], most: int
) -> tuple[list[KeypointPair], list[KeypointPair]]:
    """Pairs to train on, and about a tenth to validate with, spread evenly; none of fewer than 10.

    Args:
        files: all pairs.
        most: how many are held out at most.
    """
    count = min(len(files) // 10, most)
    chosen = set(np.linspace(0, len(files) - 1, count).round().astype(int).tolist())
    return (
        [pair for position, pair in enumerate(files) if position not in chosen],
        [pair for position, pair in enumerate(files) if position in chosen],
    )


def hold_out_images(images: Sequence[T], count: int) -> tuple[list[T], list[T]]:
    """Images to train on, and about `count` to validate with, a tenth of them at most.

    Images to validate with are none of those that are trained on, where there are enough.

    Args:
        images: all, in a fixed order.
        count: how many are held out, or a few more.
    """
    every = max(len(images) // count, 10)
    kept = [image for position, image in enumerate(images, 1) if position % every]
    return kept, list(images[every - 1 :: every]) or kept
