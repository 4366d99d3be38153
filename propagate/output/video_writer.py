"""Writes RGB frames as a video that plays everywhere."""

from __future__ import annotations

import math
import os
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import av.error
import cv2

from propagate.errors import InputError, OutputError
from propagate.output.atomic import atomic_path
from propagate.types import Size

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    import numpy as np
    from av.container import OutputContainer
    from av.video.stream import VideoStream
    from jaxtyping import UInt8

BT709 = 1
LIMITED_RANGE = 1
"""Code points of ISO/IEC 23091-2 (BT.709) and FFmpeg's number for 16..235."""

SUFFIXES = (".mp4", ".mov", ".mkv")

# Each holds pictures of its own.
_MOST_THREADS = 4


class VideoWriter:
    """H.264, or MPEG-4 part 2 where FFmpeg comes without an H.264 encoder; 4:2:0, BT.709.

    A context manager: the file appears when the block ends, and not at all if it ends in an error.
    4:2:0 needs even sides, so an odd one gets its last row or column twice: no pixel is lost.

    Args:
        path: ends in .mp4, .mov or .mkv.
        fps: frames per second, made a fraction (29.97 is 2997/100, 30000 / 1001 itself).
        size: of the frames, in pixels.

    Raises:
        InputError: a suffix or rate that cannot be used.
        OutputError: on entering, writing or leaving, if the file cannot be written or is empty.
    """

    def __init__(self, path: str | Path, *, fps: float, size: Size) -> None:
        self._path = Path(path)
        if self._path.suffix.lower() not in SUFFIXES:
            raise InputError(
                f"{self._path.name} is no video that can be written; "
                f"let its name end in {', '.join(SUFFIXES)}."
            )
        if not (math.isfinite(fps) and fps > 0):
            raise InputError(f"fps is {fps}; it must be greater than 0.")
        self._rate = Fraction(fps).limit_denominator(1001)
        self._size = size
        self._count = 0
        self._session = self._open()

    @property
    def coded_size(self) -> Size:
        """Size of the video's pictures: the frame size, rounded up to even sides."""
        return Size(
            self._size.height + self._size.height % 2, self._size.width + self._size.width % 2
        )

    def __enter__(self) -> VideoWriter:
        self._session.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return self._session.__exit__(kind, error, traceback)

    def write(self, rgb: UInt8[np.ndarray, "h w 3"]) -> None:
        """Append a frame.

        Raises:
            InputError: it does not have the size of the video.
        """
        if rgb.shape[:2] != tuple(self._size):
            raise InputError(
                f"Frame {self._count} is {Size(*rgb.shape[:2])} but the video {self._size}; "
                "all frames of a video have one size."
            )
        coded = self.coded_size
        below, right = coded.height - self._size.height, coded.width - self._size.width
        if below or right:
            rgb = cv2.copyMakeBorder(rgb, 0, below, 0, right, cv2.BORDER_REPLICATE)
        picture = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(
            format="yuv420p", dst_colorspace="ITU709"
        )
        picture.pts = self._count
        with self._output_errors():
            self._container.mux(self._stream.encode(picture))
        self._count += 1

    @contextmanager
    def _open(self) -> Iterator[None]:
        with atomic_path(self._path) as temporary:
            with self._output_errors():
                self._container = self._open_container(temporary)
            with self._container:
                with self._output_errors():
                    self._stream = self._add_stream()
                yield
                if self._count == 0:
                    raise OutputError(f"The video {self._path} got no frame, so it is not written.")
                with self._output_errors():
                    self._container.mux(self._stream.encode(None))

    def _open_container(self, temporary: Path) -> OutputContainer:
        # The index in front lets a browser play the file while it loads.
        faststart = {"movflags": "+faststart"} if self._path.suffix.lower() != ".mkv" else {}
        return av.open(str(temporary), mode="w", options=faststart)

    def _add_stream(self) -> VideoStream:
        if "libx264" in av.codecs_available:
            # A fifth larger than "veryfast" at half of its time, which is a run's at 4K.
            options = {"crf": "20", "preset": "superfast"}
            stream = self._container.add_stream("libx264", rate=self._rate, options=options)
        else:
            stream = self._container.add_stream("mpeg4", rate=self._rate)
            # A fifth of a bit per pixel, about what keeps MPEG-4 free of visible blocks.
            stream.bit_rate = int(math.prod(self.coded_size) * self._rate / 5)
        stream.height, stream.width = self.coded_size
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.thread_count = min(os.cpu_count() or 1, _MOST_THREADS)
        # Players guess the matrix by size where none is given, and then show wrong colours.
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = LIMITED_RANGE
        return stream

    @contextmanager
    def _output_errors(self) -> Iterator[None]:
        try:
            yield
        except av.error.FFmpegError as error:
            raise OutputError(f"Cannot write the video {self._path}: {error.strerror}.") from error
