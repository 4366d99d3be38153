"""Video files through PyAV: the reader that is exact about damage, and works everywhere."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av.error
from av.packet import Packet

from propagate.errors import ClipError
from propagate.types import ClipLosses, Frame
from propagate.video.libav import RgbConverter, declared_end, frame_rate, open_video, picture_count
from propagate.video.locate import existing_file, file_identity
from propagate.video.losses import LossLog

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream


class PyAVReader:
    """Streams the main video of a file; every picture that decodes, whatever else is broken.

    `Frame.pts` is the time stored in the container, which need not start at 0.

    Args:
        path: a video file in any format that FFmpeg reads.

    Raises:
        ClipError: the file is missing, empty, no video, or none of its pictures decodes.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = existing_file(Path(path))
        self._source = file_identity(self._path)
        self._log = LossLog()
        with open_video(self._path) as (container, stream):
            self._fps = frame_rate(stream)
            self._estimated_length = picture_count(container, stream)
        with closing(iter(self)) as frames:
            next(frames)

    @property
    def source(self) -> str:
        """Absolute path, size and modification time of the file."""
        return self._source

    @property
    def fps(self) -> float:
        """Average rate by the container; 24 where that is missing or nonsense."""
        return self._fps

    @property
    def estimated_length(self) -> int | None:
        """Number of pictures by the container, or by duration and rate, or None."""
        return self._estimated_length

    @property
    def losses(self) -> ClipLosses:
        """Packets refused, pictures damaged, holes in time and a missing end."""
        return self._log.losses

    def __iter__(self) -> Generator[Frame, None, None]:
        """A fresh pass.

        Raises:
            ClipError: no picture decodes.
        """
        with open_video(self._path) as (container, stream):
            log = self._log = LossLog(declared_end(container, stream))
            to_rgb = RgbConverter()
            index = -1
            for index, picture in enumerate(_pictures(container, stream, log)):
                time = picture.time or 0.0
                duration = float((picture.duration or 0) * (picture.time_base or 0))
                log.delivered(time, time + duration, damaged=picture.is_corrupt)
                yield Frame(self._source, index, to_rgb(picture), time, f"{index:05d}")
            log.finish()
        if index < 0:
            raise ClipError(f"No picture of {self._path} decodes; check that the file is complete.")


def _pictures(container: InputContainer, stream: VideoStream, log: LossLog) -> Iterator[VideoFrame]:
    for packet in _packets(container, stream, log):
        time = None if packet.pts is None else float(packet.pts * packet.time_base)
        if time is not None and not packet.is_discard:
            log.announced(time)
        try:
            pictures = packet.decode()
        except av.error.FFmpegError:
            log.broken(time)
            continue
        if packet.is_corrupt:
            log.broken(time)
        yield from pictures


def _packets(
    container: InputContainer, stream: VideoStream, log: LossLog
) -> Iterator[Packet[VideoStream]]:
    """All packets, then an empty one that makes the decoder give what it holds back."""
    try:
        yield from container.demux(stream)
    except av.error.FFmpegError as error:
        log.note(f"The rest of the file cannot be read ({error.strerror}).")
        flush: Any = Packet()
        flush.stream = stream
        yield flush
