"""Video files through decord, watched by PyAV.

decord2 3.4 is fast, and wrong without a word on some clips (all found by experiment): it starts at
the second key frame of MPEG-TS, repeats the last picture for every packet that gave none (edit
lists, clips cut between key frames), turns mirrored clips, returns 4 channels for narrow turned
ones, and drops good pictures when a later packet is broken. So it is trusted with containers that
have an index, with its first picture and time checked against PyAV's; and from the picture at
which it gives up, PyAV goes on.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av.error
import numpy as np

from propagate.errors import InputError
from propagate.types import ClipLosses, Frame
from propagate.video.libav import RgbConverter, declared_end, display_matrix, open_video
from propagate.video.losses import LossLog
from propagate.video.pyav_reader import PyAVReader

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream
    from jaxtyping import UInt8

_INDEXED = ("mov", "matroska", "avi")
"""Containers whose first picture decord finds again after it has counted the packets."""

_NO_REPEATS = 1e-9
"""The share of repeated pictures that decord may slip in before it raises; 0 means any number."""

_SAME_TIME = 1e-3
"""decord's times are float32 seconds."""

_SAME_PICTURE = 2.0
"""Mean absolute difference on 0..255 that two ways to scale up chroma may have for one picture."""


class DecordReader:
    """Streams the main video of a file with decord, one decoding thread, one picture at a time.

    A picture that decodes with damage is not reported as a loss: decord does not tell.
    `PyAVReader` does. And while the caller is busy with a picture, decord goes on decoding without
    a bound, so that memory can grow to the whole clip: take it for callers that are faster than
    the decoder.

    Args:
        path: a video file in any format that FFmpeg reads.

    Raises:
        InputError: decord is not installed.
        ClipError: the file is missing, empty, no video, or none of its pictures decodes.
    """

    def __init__(self, path: str | Path) -> None:
        import_decord()
        self._pyav = PyAVReader(path)
        self._path = Path(path).absolute()
        self._log: LossLog | PyAVReader = LossLog()

    @property
    def source(self) -> str:
        """Absolute path, size and modification time of the file."""
        return self._pyav.source

    @property
    def fps(self) -> float:
        """Average rate by the container; 24 where that is missing or nonsense."""
        return self._pyav.fps

    @property
    def estimated_length(self) -> int | None:
        """Number of pictures by the container, or by duration and rate, or None."""
        return self._pyav.estimated_length

    @property
    def losses(self) -> ClipLosses:
        """Holes in time and a missing end; all that PyAV knows where it had to take over."""
        return self._log.losses

    def __iter__(self) -> Generator[Frame, None, None]:
        """A fresh pass.

        Raises:
            ClipError: no picture decodes.
        """
        delivered = 0
        try:
            for frame in self._decord_frames():
                yield frame
                delivered += 1
            return
        except _reasons_to_give_up():
            self._log = self._pyav
        yield from islice(self._pyav, delivered, None)

    def _decord_frames(self) -> Iterator[Frame]:
        with open_video(self._path) as (container, stream):
            log = self._log = LossLog(declared_end(container, stream))
            start = float((stream.start_time or 0) * (stream.time_base or 0))
            first = _first_picture(container, stream)
        reader = import_decord().VideoReader(str(self._path), num_threads=1, fault_tol=_NO_REPEATS)
        spans = reader.get_frame_timestamp(range(len(reader))).astype(float) + start
        for index, (time, end) in enumerate(spans.tolist()):
            rgb = reader.next().asnumpy()
            if index == 0:
                _check_same(rgb, time, first)
            log.delivered(time, end)
            yield Frame(self.source, index, rgb, time, f"{index:05d}")
        log.finish()


class _UntrustedError(Exception):
    """decord would not show this clip as it is."""


def import_decord() -> Any:
    """The module decord.

    Raises:
        InputError: it is not installed, or not for this platform.
    """
    try:
        import decord
    except (ImportError, OSError) as error:
        raise InputError(
            f"The reader 'decord' needs the package decord2, which can't be imported ({error}); "
            "install it, or choose the reader 'pyav'."
        ) from error
    return decord


def _reasons_to_give_up() -> tuple[type[Exception], ...]:
    decord = import_decord()
    own = (decord.DECORDError, decord.DECORDLimitReachedError, AssertionError, RuntimeError)
    return (*own, av.error.FFmpegError, _UntrustedError)


def _first_picture(
    container: InputContainer, stream: VideoStream
) -> tuple[UInt8[np.ndarray, "h w 3"], float]:
    """The first picture and its time by PyAV, if the clip is of a kind that decord reads right."""
    if not any(name in container.format.name for name in _INDEXED):
        raise _UntrustedError(container.format.name)
    for picture in container.decode(stream):
        if display_matrix(picture) is not None:
            raise _UntrustedError("turned or mirrored")
        return RgbConverter()(picture), picture.time or 0.0
    raise _UntrustedError("no picture")


def _check_same(
    rgb: UInt8[np.ndarray, "h w 3"], time: float, first: tuple[UInt8[np.ndarray, "h w 3"], float]
) -> None:
    if rgb.shape != first[0].shape or abs(time - first[1]) > _SAME_TIME:
        raise _UntrustedError("the first picture has another size or time")
    if np.abs(rgb.astype(np.int16) - first[0]).mean() > _SAME_PICTURE:
        raise _UntrustedError("the first picture is another one")
