"""Masks of a run: an indexed PNG per frame."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from propagate.confidence import ObjectConfidence
from propagate.labels.mask_files import read_mask, write_mask
from propagate.labels.track_table import TRACK_HEADER, TrackRow, track_lines
from propagate.output.atomic import atomic_path
from propagate.output.frame_table import FrameTable
from propagate.output.overlay import draw_overlay
from propagate.output.run_folder import RunFolder
from propagate.types import Frame, Masks

if TYPE_CHECKING:
    from jaxtyping import UInt8


class MaskStore:
    """A `LabelStore` of masks.

    Args:
        folder: the run.
        palette: uint8 [n, 3], colours of the first n ids; None for the VOC colours.
    """

    def __init__(
        self, folder: RunFolder, *, palette: UInt8[np.ndarray, "n 3"] | None = None
    ) -> None:
        self._folder = folder
        self._palette = palette
        self._tracks = FrameTable(folder.tracks, TRACK_HEADER)

    def begin(self, *, keep: Callable[[int], bool], after: int) -> None:
        """Make the folder and the table; what is written again has the same bytes."""
        self._folder.masks.mkdir(exist_ok=True)
        self._tracks.begin(keep=keep, after=after)

    def write(
        self, frame: Frame, labels: Masks, confidence: Mapping[int, ObjectConfidence]
    ) -> bool:
        """Write one file, whole or not at all, and a row per object."""
        rows = [
            TrackRow(
                frame.index,
                frame.name,
                object_id,
                round(known.confidence, 4),
                known.state == "occluded",
                state=known.state,
            )
            for object_id, known in sorted(confidence.items())
        ]
        self._tracks.write(frame.index, track_lines(rows))
        target = self._folder.mask_path(frame.name)
        earlier = target.read_bytes() if target.exists() else None
        with atomic_path(target) as path:
            write_mask(path, labels.ids, palette=self._palette)
            return earlier is not None and earlier != path.read_bytes()

    def close(self) -> None:
        """Close the table."""
        self._tracks.close()

    def count(self) -> int:
        """Files in the folder."""
        return sum(1 for _ in self._folder.masks.glob("*.png"))

    def drawn(self, frames: Iterable[Frame]) -> Iterator[tuple[Frame, UInt8[np.ndarray, "h w 3"]]]:
        """Frames that have a mask, with it drawn over them."""
        for frame in frames:
            path = self._folder.mask_path(frame.name)
            if path.exists():
                mask = read_mask(path)
                yield frame, draw_overlay(frame.rgb, mask.ids, palette=mask.palette)
