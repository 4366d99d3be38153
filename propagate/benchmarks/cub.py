"""CUB-200-2011: birds of 200 species with 15 parts (Wah et al., 2011).

Layout: `CUB_200_2011` with `images.txt`, `bounding_boxes.txt`, `parts/part_locs.txt`,
`train_test_split.txt` and `images/`. The data set has no list of pairs; papers take their own, so
the pairs here are either given, or neighbouring test images of a species, in the order of their
numbers. Only parts that both images show count. Papers divide by the image or by the box.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import NamedTuple

import numpy as np

from propagate.benchmarks.pairs import KeypointPair, require_file
from propagate.errors import InputError, LabelError

WHERE = "https://data.caltech.edu/records/65de6-vp158"


class _Bird(NamedTuple):
    path: Path
    box: tuple[float, float, float, float]
    xy: dict[str, tuple[float, float]]


def find_pairs(root: Path, pairs: Path | None = None) -> list[KeypointPair]:
    """The pairs of a list, or neighbouring test images of each species.

    Args:
        root: the folder CUB_200_2011.
        pairs: a text file with two image numbers a line, as in images.txt.

    Raises:
        InputError: a file is missing; says which, and where to get it.
        LabelError: a file is damaged, or names an image there isn't.
    """
    names = dict(_rows(root, "images.txt", 2))
    boxes = {number: rest for number, *rest in _rows(root, "bounding_boxes.txt", 5)}
    visible: dict[str, dict[str, tuple[float, float]]] = {number: {} for number in names}
    for number, part, x, y, shown in _rows(root, "parts/part_locs.txt", 5):
        if shown == "1" and number in visible:
            visible[number][part] = (float(x) + 0.5, float(y) + 0.5)
    chosen = _listed(pairs, names) if pairs is not None else _neighbours(root, names)
    found = []
    for pair in chosen:
        birds = [_bird(root, names[i], boxes.get(i), visible[i], i) for i in pair]
        shared = [part for part in birds[0].xy if part in birds[1].xy]
        if not shared:
            continue
        source_xy, target_xy = (np.array([bird.xy[part] for part in shared]) for bird in birds)
        found.append(
            KeypointPair(
                "-".join(pair),
                Path(names[pair[0]]).parent.name,
                birds[0].path,
                birds[1].path,
                source_xy,
                target_xy,
                birds[0].box,
                birds[1].box,
                subject="bird",
            )
        )
    return found


def _rows(root: Path, name: str, columns: int) -> list[list[str]]:
    path = require_file(root / name, "CUB-200-2011", WHERE)
    rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    for number, row in enumerate(rows, start=1):
        if len(row) != columns:
            raise LabelError(f"{path}, line {number}: {len(row)} values, not {columns}.")
    return rows


def _neighbours(root: Path, names: dict[str, str]) -> list[tuple[str, str]]:
    tested = {number for number, train in _rows(root, "train_test_split.txt", 2) if train == "0"}
    species: dict[str, list[str]] = {}
    for number, name in names.items():
        if number in tested:
            species.setdefault(Path(name).parent.name, []).append(number)
    return [pair for some in species.values() for pair in itertools.pairwise(some)]


def _listed(path: Path, names: dict[str, str]) -> list[tuple[str, str]]:
    if not path.is_file():
        raise InputError(f"The list of pairs {path} does not exist; give two image numbers a line.")
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        if len(words) != 2 or any(word not in names for word in words):
            raise LabelError(
                f"{path}, line {number}: {line!r} is not two numbers of images in images.txt."
            )
        found.append((words[0], words[1]))
    return found


def _bird(
    root: Path, name: str, box: list[str] | None, xy: dict[str, tuple[float, float]], number: str
) -> _Bird:
    if ".." in Path(name).parts or Path(name).is_absolute():
        raise LabelError(f"The image {name!r} leads out of {root}.")
    path = require_file(root / "images" / name, "CUB-200-2011", WHERE)
    if box is None:
        raise LabelError(f"{root / 'bounding_boxes.txt'} has no box of image {number}.")
    left, top, width, height = map(float, box)
    return _Bird(path, (left, top, left + width, top + height), xy)
