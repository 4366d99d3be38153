"""Indexed PNG, one per frame, as DAVIS, SAM 2, Cutie and `propagate run` write them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from propagate.errors import LabelError
from propagate.labels.clip_labels import ClipLabels, FrameLabels
from propagate.labels.format_base import LabelWriter, MaskFormat, ReadOptions, WriteOptions
from propagate.labels.json_files import read_json
from propagate.labels.mask_files import write_mask
from propagate.labels.mask_folders import MaskFolder, image_mode, sorted_files
from propagate.labels.track_table import TRACK_TABLE, TrackTable, TrackTableWriter

if TYPE_CHECKING:
    from jaxtyping import UInt8

_RUN_RECORD = "run.json"


def mask_folder(path: Path) -> Path:
    """The folder of the masks: that of a run folder, else `path` itself."""
    return path / "masks" if (path / _RUN_RECORD).is_file() else path


def _detect(path: Path) -> bool:
    folder = mask_folder(path)
    if not folder.is_dir():
        return False
    files = sorted_files(folder, ".png")
    return bool(files) and image_mode(files[0]) not in ("RGBA", "LA", "")


def _read(path: Path, options: ReadOptions) -> ClipLabels:
    folder = mask_folder(path)
    files = sorted_files(folder, ".png") if folder.is_dir() else []
    if not files:
        raise LabelError(f"{folder} holds no .png file; give a folder with a mask per frame.")
    masks = MaskFolder(files, void=options.void)
    whole = path.absolute()
    run = whole.parent if mask_folder(whole.parent) == whole else whole
    table = TrackTable.read(run / TRACK_TABLE)

    def stream() -> Iterator[FrameLabels]:
        for frame, found in masks:
            yield FrameLabels(
                frame.index,
                frame.name,
                found,
                confidence=table.confidence.get(frame.name, {}),
                occluded=frozenset(table.occluded.get(frame.name, ())),
                states=table.states.get(frame.name, {}),
            )

    objects = tuple(table.objects.values())
    return ClipLabels(run.name, masks.size, masks.frames, stream, objects, notes=_notes(run))


def _notes(run: Path) -> tuple[str, ...]:
    record = run / _RUN_RECORD
    if record.is_file() and read_json(record).get("status").value == "running":
        return (f"The run in {run} is not finished, so frames may be missing.",)
    return ()


class _Writer(LabelWriter):
    def __init__(self, path: Path, clip: ClipLabels, options: WriteOptions) -> None:
        super().__init__(path, clip, options)
        self._table = TrackTableWriter()

    def add(self, frame: FrameLabels, rgb: UInt8[np.ndarray, "h w 3"] | None) -> None:
        del rgb
        write_mask(self.path / f"{frame.name}.png", frame.masks.ids)
        self._table.add(frame, self.clip.object)

    def finish(self) -> None:
        self._table.write(self.path)


FORMAT = MaskFormat(
    name="png",
    summary="indexed PNG per frame, 16-bit grey for ids above 255 (DAVIS); a run folder",
    loses=frozenset({"soft", "frame numbers"}),
    suffixes=(".png", ".csv"),
    folder=True,
    detect=_detect,
    read=_read,
    write=_Writer,
)
