"""The labels that were carried to a clip from other images: `transfer/` in the folder of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from propagate.labels.keypoint_files import write_keypoints
from propagate.labels.keypoint_formats.base import AnnotatedFrame, Edge, KeypointFile
from propagate.labels.mask_files import write_mask
from propagate.output.atomic import atomic_path, make_folder, remove_leftovers
from propagate.output.contact_sheet import contact_sheet
from propagate.output.keypoint_overlay import draw_keypoints
from propagate.output.overlay import draw_overlay
from propagate.output.record_folder import Mode, ReplaceableFolder
from propagate.output.run_folder import RunFolder
from propagate.types import Frame, Keypoints, Masks

if TYPE_CHECKING:
    from jaxtyping import UInt8

NAME = "transfer"
_TILE_WIDTH = 560
_COLUMNS = 3


@dataclass(frozen=True)
class LabelledPicture:
    """A picture to show with its labels.

    Args:
        rgb: uint8 [h, w, 3].
        labels: of its size.
        caption: a line.
        palette: uint8 [n, 3], colours of masks; None for the VOC colours.
        edges: of the keypoints' skeleton.
    """

    rgb: UInt8[np.ndarray, "h w 3"]
    labels: Masks | Keypoints
    caption: str
    palette: UInt8[np.ndarray, "n 3"] | None = None
    edges: Sequence[Edge] = ()

    def drawn(self) -> UInt8[np.ndarray, "h w 3"]:
        """The picture with its labels over it."""
        if isinstance(self.labels, Keypoints):
            return draw_keypoints(self.rgb, self.labels, edges=self.edges)
        return draw_overlay(self.rgb, self.labels.ids, palette=self.palette)


class _RunAround(ReplaceableFolder, RunFolder):
    """The folder of the run, which may have a transfer in it."""

    def _check_replaceable(self, mode: Mode) -> None:
        if any(item.name != NAME for item in self.path.iterdir()):
            super()._check_replaceable(mode)


class TransferFolder(ReplaceableFolder):
    """Paths and the record (`transfer.json`) of a transfer.

    Args:
        output: the folder of the run that the labels are for; the files lie in `transfer/` there.
        config: everything that decides the result.
        mode: "new" or "overwrite"; the latter replaces an earlier run in `output` too, whose labels
            would be those of another transfer.

    Raises:
        OutputError: `output` holds something that must not be lost.
    """

    job = "transfer"

    def __init__(self, output: Path, config: Mapping[str, Any], *, mode: Mode) -> None:
        self._run = _RunAround(output, {}, mode=mode)
        super().__init__(output / NAME, config, mode=mode)

    @property
    def record_path(self) -> Path:
        """The resolved configuration and the scores."""
        return self.path / "transfer.json"

    @property
    def picture(self) -> Path:
        """Sources and target with their labels, side by side."""
        return self.path / "match.png"

    @property
    def mask(self) -> Path:
        """Transferred masks."""
        return self.path / "mask.png"

    @property
    def keypoints(self) -> Path:
        """Transferred keypoints."""
        return self.path / "keypoints.csv"

    def prepare(self) -> None:
        """Make the folder, without what an earlier transfer and its run left there."""
        self._run.prepare()
        if self._replaces:
            for item in (self.mask, self.keypoints, self.picture, self.record_path):
                item.unlink(missing_ok=True)
        make_folder(self.path)
        remove_leftovers(self.path)

    def begin_run(self) -> None:
        """Mark the folder around as one of a run, so that `run_clip` may write over it."""
        self._run.write_record("running")

    def write_labels(
        self,
        frame: Frame,
        labels: Masks | Keypoints,
        *,
        palette: UInt8[np.ndarray, "n 3"] | None = None,
    ) -> Path:
        """Write the labels of a frame of the target; returns where."""
        target = self.keypoints if isinstance(labels, Keypoints) else self.mask
        with atomic_path(target) as path:
            if isinstance(labels, Keypoints):
                content = AnnotatedFrame(labels, frame.index, frame.name, frame.size)
                write_keypoints(path, KeypointFile((content,)))
            else:
                write_mask(path, labels.ids, palette=palette)
        return target

    def write_picture(self, pictures: Sequence[LabelledPicture]) -> None:
        """Draw pictures with their labels side by side, each above its caption."""
        tiles = [(item.drawn(), item.caption) for item in pictures]
        sheet = contact_sheet(tiles, columns=_COLUMNS, tile_width=_TILE_WIDTH)
        with atomic_path(self.picture) as path:
            Image.fromarray(sheet).save(path)
