"""Keypoints of a run: one CSV table that grows frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from propagate.confidence import ObjectConfidence
from propagate.labels.keypoint_formats.base import Edge
from propagate.labels.keypoint_formats.csv_table import TableWriter, iterate
from propagate.output.frame_table import FrameTable
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
        self._edges = edges
        self._individuals = any(name.individual for name in names)
        self._table = FrameTable(path, self._text(TableWriter.header))

    def begin(self, *, keep: Callable[[int], bool], after: int) -> None:
        """Open the table, without the frames that will be written again."""
        self._table.begin(keep=keep, after=after)

    def write(
        self, frame: Frame, labels: Keypoints, confidence: Mapping[int, ObjectConfidence]
    ) -> bool:
        """Append a row per point, with the point's own confidence."""
        del confidence
        rows = self._text(lambda table: table.frame(frame.index, labels))
        return self._table.write(frame.index, rows)

    def close(self) -> None:
        """Close the table."""
        self._table.close()

    def count(self) -> int:
        """Frames that have rows."""
        return self._table.count()

    def drawn(self, frames: Iterable[Frame]) -> Iterator[tuple[Frame, UInt8[np.ndarray, "h w 3"]]]:
        """Frames that are in the table, with their points drawn over them."""
        known = iterate(self._path)
        index, points = next(known, (-1, None))
        for frame in frames:
            if points is not None and frame.index == index:
                yield frame, draw_keypoints(frame.rgb, points, edges=self._edges)
                index, points = next(known, (-1, None))

    def _text(self, write: Callable[[TableWriter], None]) -> str:
        text = StringIO(newline="")
        write(TableWriter(text, individuals=self._individuals))
        return text.getvalue()
