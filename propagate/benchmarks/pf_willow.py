"""PF-Willow: 900 pairs of cars, ducks, motorbikes and wine bottles, 10 points each (Ham, 2016).

Layout: `PF-dataset` with a folder per category and a list of pairs, `test_pairs_pf.csv`: source,
target, then 10 x and 10 y of the source, 10 x and 10 y of the target. There are no boxes: papers
divide by the longer side of the box around the target's points.
"""

from __future__ import annotations

from pathlib import Path

from propagate.benchmarks.pairs import KeypointPair
from propagate.benchmarks.proposal_flow import find_image, find_table, places, read_rows
from propagate.errors import LabelError

WHERE = "https://www.di.ens.fr/willow/research/proposalflow/"
_POINTS = 10


def find_pairs(root: Path) -> list[KeypointPair]:
    """All pairs; there is one split.

    Args:
        root: the folder PF-dataset.

    Raises:
        InputError: a file is missing; says which, and where to get it.
        LabelError: the list is damaged.
    """
    table = find_table(root, ("test_pairs_pf.csv", "test_pairs.csv"), "PF-Willow", WHERE)
    return [_pair(root, table, number, row) for number, row in enumerate(read_rows(table))]


def _pair(root: Path, table: Path, number: int, row: list[str]) -> KeypointPair:
    if len(row) < 2 + 4 * _POINTS:
        raise LabelError(
            f"{table}: pair {number} has {len(row)} columns, not two images and 4 times "
            f"{_POINTS} places."
        )
    images = [find_image(root, name, "PF-Willow", WHERE) for name in row[:2]]
    xs_ys = [row[2 + _POINTS * i : 2 + _POINTS * (i + 1)] for i in range(4)]
    source_xy, target_xy = (places(x, y, table, number) for x, y in (xs_ys[:2], xs_ys[2:]))
    category = images[0].parent.name
    name = f"{number:04d}-{images[0].stem}-{images[1].stem}"
    # "car(G)" and "car(M)" are cars.
    subject = category.partition("(")[0]
    return KeypointPair(name, category, images[0], images[1], source_xy, target_xy, subject=subject)
