"""What the tables of PF-Pascal and PF-Willow have in common."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from propagate.benchmarks.pairs import require_file
from propagate.errors import InputError, LabelError

if TYPE_CHECKING:
    from jaxtyping import Float64

LISTS = "https://www.di.ens.fr/willow/research/cnngeometric/"


def find_table(root: Path, names: Sequence[str], what: str, where: str) -> Path:
    """The first of some files that exists in the folder.

    Raises:
        InputError: there is none.
    """
    there = [root / name for name in names if (root / name).is_file()]
    if not there:
        raise InputError(
            f"{root / names[0]} is missing (nor is there {', '.join(names[1:])}), so this is no "
            f"complete {what}; get the images from {where} and the list of pairs from {LISTS}, "
            "which goes beside them."
        )
    return there[0]


def read_rows(path: Path) -> list[list[str]]:
    """The rows of a CSV file below its header.

    Raises:
        LabelError: there is none.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [row for row in csv.reader(file) if row]
    if len(rows) < 2:
        raise LabelError(f"{path} lists no pair; get it again.")
    return rows[1:]


def find_image(root: Path, name: str, what: str, where: str) -> Path:
    """An image by its name in a table, which begins with the name of the data set's own folder.

    Raises:
        InputError: it is missing, or lies outside.
    """
    parts = Path(name).parts
    if Path(name).is_absolute() or ".." in parts:
        raise InputError(f"The image {name!r} of {what} leads out of the folder {root}.")
    inner = root.joinpath(*parts[1:])
    return inner if inner.is_file() else require_file(root / name, what, where)


def places(
    x: Sequence[str], y: Sequence[str], path: Path, number: int
) -> Float64[np.ndarray, "n 2"]:
    """Points of a row, in pixels as the papers take them: the number is a pixel's index.

    Raises:
        LabelError: naming the row.
    """
    try:
        found = np.array([x, y], dtype=np.float64).T
    except ValueError as error:
        raise LabelError(f"{path}: pair {number} has a place that is no number.") from error
    return np.asarray(found.reshape(-1, 2)) + 0.5
