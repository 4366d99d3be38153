"""Keypoints of a run: one CSV table that grows frame by frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from propagate.errors import OutputError
from propagate.labels.keypoint_formats.base import Edge
from propagate.labels.keypoint_formats.csv_table import TableWriter, iterate
from propagate.output.atomic import atomic_path
from propagate.output.keypoint_overlay import draw_keypoints
from propagate.types import Frame, Keypoints, PointName

if TYPE_CHECKING:
    from jaxtyping import UInt8


class KeypointStore:
    """A `LabelStore` of keypoints; every frame has the same ones.

    Args:
        path: of the table.
        names: of the points.
        edges: of the skeleton to draw.
    """

    def __init__(
        self, path: Path, *, names: Sequence[PointName], edges: Sequence[Edge] = ()
    ) -> None:
        self._path = path
        self._names = names
        self._edges = edges
        self._file: IO[str] | None = None
        self._table: TableWriter | None = None

    def begin(self, *, after: int) -> None:
        """Open the table, without what an interrupted run wrote of later frames."""
        if after >= 0:
            self._cut(after)
        try:
            self._file = self._path.open("a" if after >= 0 else "w", newline="", encoding="utf-8")
        except OSError as error:
            raise OutputError(f"Cannot write {self._path}: {error.strerror or error}.") from error
        individuals = any(name.individual for name in self._names)
        self._table = TableWriter(self._file, individuals=individuals)
        if after < 0:
            self._table.header()

    def write(self, frame: Frame, labels: Keypoints) -> None:
        """Append a row per point."""
        if self._table is None or self._file is None:
            raise OutputError(f"{self._path} is not open; call begin() before write().")
        self._table.frame(frame.index, labels)
        # A killed process loses what Python still holds, not what the system was given.
        self._file.flush()

    def close(self) -> None:
        """Close the table."""
        if self._file is not None:
            self._file.close()
        self._file = self._table = None

    def count(self) -> int:
        """Frames whose rows are all there."""
        with self._path.open("rb") as file:
            rows = sum(line.endswith(b"\n") for line in file) - 1
        return rows // len(self._names)

    def drawn(self, frames: Iterable[Frame]) -> Iterator[tuple[Frame, UInt8[np.ndarray, "h w 3"]]]:
        """Frames that are in the table, with their points drawn over them."""
        known = iterate(self._path)
        index, points = next(known, (-1, None))
        for frame in frames:
            if points is not None and frame.index == index:
                yield frame, draw_keypoints(frame.rgb, points, edges=self._edges)
                index, points = next(known, (-1, None))

    def _cut(self, after: int) -> None:
        """Leave only the rows up to frame `after`, of which there must be all."""
        kept = 0
        try:
            with (
                self._path.open("rb") as old,
                atomic_path(self._path) as temporary,
                temporary.open("wb") as new,
            ):
                new.write(old.readline())
                for line in old:
                    index = int(line.split(b",", 1)[0])
                    if index > after:
                        break
                    new.write(line)
                    kept += index == after
        except (OSError, ValueError) as error:
            raise self._damaged(after) from error
        if kept != len(self._names):
            raise self._damaged(after)

    def _damaged(self, after: int) -> OutputError:
        return OutputError(
            f"{self._path} does not have the points of frame {after}, after which the run was to "
            "go on; start over with --overwrite."
        )
