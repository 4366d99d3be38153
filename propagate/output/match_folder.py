"""The folder of the matches of two images."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
from PIL import Image

from propagate.output.atomic import atomic_path, make_folder, remove_leftovers
from propagate.output.record_folder import ReplaceableFolder
from propagate.types import Matches

if TYPE_CHECKING:
    from jaxtyping import Bool, UInt8


class MatchFolder(ReplaceableFolder):
    """Paths and the record (`match.json`) of a match."""

    job = "match"

    @property
    def record_path(self) -> Path:
        """The resolved configuration and the matches."""
        return self.path / "match.json"

    @property
    def table(self) -> Path:
        """The matches, one a row."""
        return self.path / "matches.csv"

    @property
    def picture(self) -> Path:
        """Both images side by side with their matches."""
        return self.path / "match.png"

    @property
    def heatmap(self) -> Path:
        """What resembles one point."""
        return self.path / "heatmap.png"

    def sheet(self, number: int) -> Path:
        """How the prompts of a point were optimised and where they look; counted from 1."""
        return self.path / f"prompt-{number}.png"

    def prepare(self) -> None:
        """Make the folder, without what an earlier match left there."""
        if self._replaces:
            sheets = self.path.glob("prompt-*.png")
            for item in (self.table, self.picture, self.heatmap, self.record_path, *sheets):
                item.unlink(missing_ok=True)
        make_folder(self.path)
        remove_leftovers(self.path)

    def write_table(
        self, matches: Matches, names: Sequence[str], inliers: Bool[np.ndarray, " n"] | None
    ) -> None:
        """Write the matches, as `write_matches` does."""
        with (
            atomic_path(self.table) as path,
            path.open("w", encoding="utf-8", newline="") as file,
        ):
            write_matches(file, matches, names, inliers)

    def write_picture(self, path: Path, rgb: UInt8[np.ndarray, "h w 3"]) -> None:
        """Write a PNG."""
        with atomic_path(path) as temporary:
            Image.fromarray(rgb).save(temporary)


def write_matches(
    file: IO[str],
    matches: Matches,
    names: Sequence[str],
    inliers: Bool[np.ndarray, " n"] | None,
) -> None:
    """Write matches as CSV, to a thousandth of a pixel.

    Args:
        file: opened with newline="".
        matches: in pixels from the outer corner of the top-left pixel.
        names: of the points that were asked for.
        inliers: whether each match agrees with the transform; None for no such column.
    """
    rows = csv.writer(file, lineterminator="\n")
    head = ["name", "source_x", "source_y", "target_x", "target_y", "score"]
    rows.writerow(head if inliers is None else [*head, "inlier"])
    for number in range(len(matches)):
        places = (*matches.source_xy[number], *matches.target_xy[number])
        row = [names[matches.query[number]], *(f"{value:.3f}" for value in places)]
        row.append(f"{matches.scores[number]:.4f}")
        rows.writerow(row if inliers is None else [*row, int(inliers[number])])
