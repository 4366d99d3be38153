"""A clip with its labels, of this or another tool, as a stream of pictures with labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from propagate.errors import ClipError, InputError, LabelError
from propagate.labels.clip_labels import ClipLabels, FrameLabels
from propagate.labels.format_base import ReadOptions
from propagate.labels.format_registry import detect_format, get_format
from propagate.labels.formats.png import mask_folder
from propagate.labels.keypoint_checks import scaled_points
from propagate.labels.keypoint_files import holds_keypoints, read_keypoints
from propagate.labels.keypoint_formats.base import Edge, KeypointFile
from propagate.labels.mask_files import read_mask
from propagate.labels.mask_folders import sorted_files
from propagate.output.run_record import RunRecord, is_run
from propagate.types import Frame, Keypoints, Size
from propagate.video import open_clip

if TYPE_CHECKING:
    from jaxtyping import UInt8

    from propagate.video.base import FrameReader

KEYPOINT_TABLE = "keypoints.csv"


class MaskedFrame(NamedTuple):
    """A picture and its masks."""

    frame: Frame
    labels: FrameLabels


class PointedFrame(NamedTuple):
    """A picture and its keypoints, in its pixels."""

    frame: Frame
    labels: Keypoints


@dataclass(frozen=True, eq=False)
class MaskedClip:
    """A clip with masks; iterating gives each labelled frame, in order, one at a time.

    Args:
        path: of the labels.
        reader: the pictures.
        labels: the masks.
        palette: uint8 [n, 3], colours of the first n ids, where the files have them.
        record: of the run that made them, if this program did.
    """

    path: Path
    reader: FrameReader
    labels: ClipLabels
    palette: UInt8[np.ndarray, "n 3"] | None = None
    record: RunRecord | None = None

    @property
    def count(self) -> int:
        """How many frames are labelled."""
        return len(self.labels.frames)

    @property
    def given(self) -> frozenset[int]:
        """Indices of frames whose labels the user gave, as far as the record of a run tells."""
        return frozenset(self.record.references if self.record else ())

    def __iter__(self) -> Iterator[MaskedFrame]:
        """A fresh pass.

        Raises:
            LabelError: the clip lacks a labelled frame, or has another size.
        """
        yield from with_pictures(self.labels.stream(), self.reader, self.labels)


@dataclass(frozen=True, eq=False)
class PointedClip:
    """A clip with keypoints; iterating gives each labelled frame, in order, one at a time.

    Args:
        path: of the keypoints.
        reader: the pictures.
        content: the keypoints.
        points_size: size of the pictures that were marked, where the file doesn't say.
        record: of the run that made them, if this program did.
    """

    path: Path
    reader: FrameReader
    content: KeypointFile
    points_size: Size | None = None
    record: RunRecord | None = None

    @property
    def count(self) -> int:
        """How many frames are labelled."""
        return len(self.content.frames)

    @property
    def given(self) -> frozenset[int]:
        """Indices of frames whose labels the user gave, as far as the record of a run tells."""
        return frozenset(self.record.references if self.record else ())

    @property
    def edges(self) -> tuple[Edge, ...]:
        """Of the skeleton: the run's, else the file's."""
        return self.record.edges if self.record and self.record.edges else self.content.edges

    def __iter__(self) -> Iterator[PointedFrame]:
        """A fresh pass.

        Raises:
            LabelError: no frame of the clip is in the file, or its points are of other pictures.
        """
        by_name = {item.name: item for item in self.content.frames if item.name is not None}
        by_index = {item.index: item for item in self.content.frames if item.index is not None}
        found = 0
        for frame in self.reader:
            item = by_name.get(frame.name) or by_index.get(frame.index)
            if item is not None:
                size, told = frame.size, self.points_size
                yield PointedFrame(
                    frame,
                    scaled_points(self.path, self.content, item, size=size, points_size=told),
                )
                found += 1
            if found == self.count:
                return
        if not found:
            raise LabelError(
                f"The clip {self.reader.source} has none of the frames in {self.path}; is it the "
                "one that was labelled?"
            )


LabelledClip = MaskedClip | PointedClip


@dataclass(frozen=True, kw_only=True)
class LabelSource:
    """What a user says about labels to look at.

    Args:
        labels: a run folder, masks in any format, or a keypoint file.
        clip: the pictures; None takes what the run was made from.
        from_format: mask format of `labels`; None finds out.
        video: which of several clips in `labels`.
        points_size: size of the pictures that keypoints were marked on, where the file doesn't say.
    """

    labels: Path
    clip: str | None = None
    from_format: str | None = None
    video: str | None = None
    points_size: Size | None = None


def open_labelled(source: LabelSource) -> LabelledClip:
    """Open labels and the clip that they belong to.

    Raises:
        LabelError: there are no labels, or they are malformed.
        ClipError: the clip is not where it was, or can't be read.
        InputError: no clip is named for labels that don't name one.
    """
    path = source.labels
    if not path.exists():
        raise LabelError(f"There is nothing at {path}; give a run folder, or masks or keypoints.")
    folder = path.parent if path.name in (KEYPOINT_TABLE, "masks") else path
    record = RunRecord.read(folder) if is_run(folder) else None
    reader = _open_pictures(source, record)
    if record is not None and (folder / KEYPOINT_TABLE).is_file():
        path = folder / KEYPOINT_TABLE
    if holds_keypoints(path):
        return PointedClip(path, reader, read_keypoints(path), source.points_size, record)
    if record is not None and not (folder / "masks").is_dir():
        raise LabelError(f"The run in {folder} has no masks and no keypoints; run it again.")
    form = get_format(source.from_format) if source.from_format else detect_format(path)
    options = ReadOptions(
        video=source.video,
        size=None if record else next(iter(reader)).size,
        void="auto" if record is None else record.void,
    )
    return MaskedClip(path, reader, form.read(path, options), _palette(path), record)


def with_pictures(
    frames: Iterable[FrameLabels], reader: FrameReader, labels: ClipLabels
) -> Iterator[MaskedFrame]:
    """Masks with their pictures, which have the same name, or the number that is the name.

    Args:
        frames: a pass over `labels`.
        reader: the pictures, in the same order; those without masks are left out.
        labels: the clip.

    Raises:
        LabelError: the clip lacks a labelled frame, or has another size.
    """
    pictures = iter(reader)
    for frame in frames:
        for picture in pictures:
            if picture.name == frame.name or (
                picture.index == frame.index and frame.name.isdigit()
            ):
                break
        else:
            raise LabelError(
                f"The clip {reader.source} has no frame {frame.name} (number {frame.index}) in "
                f"the order of the masks; is it the one that {labels.name} was made from?"
            )
        if picture.size != labels.size:
            raise LabelError(
                f"Frame {frame.name} of the clip is {picture.size}, but its masks are "
                f"{labels.size}."
            )
        yield MaskedFrame(picture, frame)


def _open_pictures(source: LabelSource, record: RunRecord | None) -> FrameReader:
    if record is None:
        if source.clip is None:
            raise InputError(
                f"{source.labels} does not say which clip it belongs to; name it with --clip."
            )
        return open_clip(source.clip)
    if source.clip is not None:
        return open_clip(source.clip, frames=record.frames)
    reader: Any = record.reader  # `open_clip` refuses what is none
    try:
        return open_clip(record.clip, reader=reader, frames=record.frames)
    except ClipError as error:
        raise ClipError(
            f"{source.labels} was made from {record.clip}, which can't be opened now: {error} "
            "If the clip has moved, say with --clip where it is."
        ) from error


def _palette(path: Path) -> UInt8[np.ndarray, "n 3"] | None:
    """Colours of the first mask image, where masks are such."""
    folder = mask_folder(path)
    files = sorted_files(folder, ".png") if folder.is_dir() else []
    return read_mask(files[0]).palette if files else None
