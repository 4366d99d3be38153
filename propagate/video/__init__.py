"""Clip readers: one file per kind of source behind one protocol, `base.FrameReader`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from propagate.errors import InputError
from propagate.video.base import FrameReader
from propagate.video.ranges import FrameChoice, FrameRange, RangeReader

ReaderName = Literal["auto", "decord", "pyav", "images", "multipage"]

__all__ = ["FrameChoice", "FrameRange", "FrameReader", "RangeReader", "ReaderName", "open_clip"]


def open_clip(
    path: str | Path, *, reader: ReaderName = "auto", frames: FrameRange | str | None = None
) -> FrameReader:
    """Open a clip and decode its first picture, to be sure that there is one.

    Args:
        path: a video file, a folder of images, a glob pattern, or an image of one or more pages.
        reader: what reads it; "auto" chooses by the kind of path, and takes PyAV for video.
            "decord" decodes a little faster, but may come to hold the whole clip in memory.
        frames: which frames to give, as "start:stop:step"; all if None.

    Raises:
        ClipError: there is no such clip, or it holds no picture that decodes.
        InputError: no such reader, a reader that is not installed, or a malformed range.
    """
    if reader not in get_args(ReaderName):
        raise InputError(
            f"There is no reader {reader!r}; choose one of {', '.join(get_args(ReaderName))}."
        )
    if isinstance(frames, str):
        frames = FrameRange.parse(frames)
    path = Path(path)
    opened = _open(path, _kind(path) if reader == "auto" else reader)
    return opened if frames is None else RangeReader(opened, frames)


def _kind(path: Path) -> ReaderName:
    from propagate.video.image_reader import IMAGE_ENDINGS, is_pattern
    from propagate.video.multipage import has_pages

    if path.is_dir() or is_pattern(path):
        return "images"
    if has_pages(path):
        return "multipage"
    if path.suffix.lower() in (*IMAGE_ENDINGS, ".gif"):
        return "images"
    # decord decodes ahead without a bound while its caller is busy: the whole clip, on a slow one.
    return "pyav"


def _open(path: Path, kind: ReaderName) -> FrameReader:
    if kind == "images":
        from propagate.video.image_reader import ImageReader

        return ImageReader(path)
    if kind == "multipage":
        from propagate.video.multipage import MultipageReader

        return MultipageReader(path)
    if kind == "decord":
        from propagate.video.decord_reader import DecordReader

        return DecordReader(path)
    from propagate.video.pyav_reader import PyAVReader

    return PyAVReader(path)
