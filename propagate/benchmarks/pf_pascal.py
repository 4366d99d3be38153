"""PF-Pascal: pairs of 20 categories in like poses (Ham et al., 2017).

Layout: `PF-dataset-PASCAL` with `JPEGImages` and a list of pairs, `test_pairs_pf_pascal.csv`, whose
columns are source, target, class, and x and y of the points in both, joined by semicolons. Papers
divide by the longer side of the image, or by that of the box around the points.
"""

from __future__ import annotations

from pathlib import Path

from propagate.benchmarks.pairs import KeypointPair
from propagate.benchmarks.proposal_flow import find_image, find_table, places, read_rows
from propagate.errors import LabelError

WHERE = "https://www.di.ens.fr/willow/research/proposalflow/"
CATEGORIES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)


def find_pairs(root: Path, split: str = "test") -> list[KeypointPair]:
    """The pairs of a split.

    Args:
        root: the folder PF-dataset-PASCAL.
        split: val or test.

    Raises:
        InputError: a file is missing; says which, and where to get it.
        LabelError: the list is damaged.
    """
    names = (f"{split}_pairs_pf_pascal.csv", f"{split}_pairs.csv")
    table = find_table(root, names, "PF-Pascal", WHERE)
    return [_pair(root, table, number, row) for number, row in enumerate(read_rows(table))]


def _pair(root: Path, table: Path, number: int, row: list[str]) -> KeypointPair:
    if len(row) < 7:
        raise LabelError(
            f"{table}: pair {number} has {len(row)} columns, not source_image, target_image, "
            "class, XA, YA, XB, YB."
        )
    images = [find_image(root, name, "PF-Pascal", WHERE) for name in row[:2]]
    columns = [[part for part in text.split(";") if part.strip()] for text in row[3:7]]
    if len({len(column) for column in columns}) != 1:
        raise LabelError(f"{table}: pair {number} has not as many places in all four columns.")
    source_xy, target_xy = (places(x, y, table, number) for x, y in (columns[:2], columns[2:]))
    name = f"{number:05d}-{images[0].stem}-{images[1].stem}"
    return KeypointPair(name, _category(row[2]), images[0], images[1], source_xy, target_xy)


def _category(text: str) -> str:
    """The class, which is a number from 1 in the official list."""
    number = text.strip().removesuffix(".0")
    if number.isascii() and number.isdecimal() and 1 <= int(number) <= len(CATEGORIES):
        return CATEGORIES[int(number) - 1]
    return number
