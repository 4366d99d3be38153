"""What the video readers need of FFmpeg's libraries: opening a clip, upright RGB pictures."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import av.error
import numpy as np
from av.stream import Disposition
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream

from propagate.errors import ClipError
from propagate.types import Size
from propagate.video.timing import plausible_rate

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from jaxtyping import UInt8

_HOURS = re.compile(r"(\d+):(\d+):(\d+(?:\.\d*)?)")
"""The tag DURATION of a Matroska stream, as "00:00:02.400000000"."""


@contextmanager
def open_video(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container at `path` and its main video stream, set to decode in one thread.

    One thread because frame threads lose the last pictures of a truncated clip and smear damage
    over more of them, and gained nothing measurable at the sizes of data sets.

    Raises:
        ClipError: the file is no video, or holds no video stream.
    """
    try:
        container = av.open(str(path))
    except av.error.FFmpegError as error:
        raise ClipError(
            f"{path} cannot be opened as a video ({error.strerror}); give a video file, a folder "
            "of images, or a glob pattern."
        ) from error
    with container:
        stream = container.streams.best("video")
        if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:
            raise ClipError(f"{path} holds no video stream, only {_kinds(container)}.")
        stream.codec_context.thread_count = 1
        yield container, stream


def _kinds(container: InputContainer) -> str:
    kinds = {stream.type for stream in container.streams} - {"video"}
    return " and ".join(sorted(kinds)) or "a still picture"


def frame_rate(stream: VideoStream) -> float:
    """Average frames per second; 24 where the container says nothing or nonsense."""
    return plausible_rate(stream.average_rate or stream.guessed_rate)


def picture_count(container: InputContainer, stream: VideoStream) -> int | None:
    """Number of pictures by the container, else by its duration and rate, or None."""
    if stream.frames:
        return stream.frames
    end = declared_end(container, stream)
    if end is None:
        return None
    start = (stream.start_time or 0) * (stream.time_base or 0)
    return max(1, round((end - float(start)) * frame_rate(stream)))


def declared_end(container: InputContainer, stream: VideoStream) -> float | None:
    """Second at which the video ends by its container, or None where it does not say.

    The duration of a whole file counts only if the video is alone in it: sound may last longer.
    """
    if stream.duration is not None and stream.time_base is not None:
        return float(((stream.start_time or 0) + stream.duration) * stream.time_base)
    if matroska := _HOURS.fullmatch(stream.metadata.get("DURATION", "")):
        hours, minutes, seconds = matroska.groups()
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    if container.duration is not None and len(container.streams) == 1:
        return float(container.duration / av.time_base)
    return None


class RgbConverter:
    """Decoded pictures of one clip as upright RGB of one size, that of the first.

    With bicubic scaling, which is what the ffmpeg program and decord use, so that the readers give
    the same pixels; the aspect ratio of pixels is left as it is stored.
    """

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        self._size: Size | None = None
        self._matrix: tuple[int, ...] | None = None

    def __call__(self, picture: VideoFrame) -> UInt8[np.ndarray, "h w 3"]:
        """Uint8 [h, w, 3], turned and mirrored as the display matrix of the first picture says."""
        if self._size is None:
            self._size = Size(picture.height, picture.width)
            self._matrix = display_matrix(picture)
        rgb = self._reformatter.reformat(
            picture,
            width=self._size.width,
            height=self._size.height,
            format="rgb24",
            interpolation=Interpolation.BICUBIC,
            threads=1,  # more are started anew for every clip, and gain nothing
        ).to_ndarray()
        if picture.format.name == "rgb24":
            rgb = rgb.copy()  # else writing to it would change what the decoder predicts from
        return rgb if self._matrix is None else upright(rgb, self._matrix)


def display_matrix(picture: VideoFrame) -> tuple[int, ...] | None:
    """How the container or codec wants the picture turned: 9 numbers for `upright`, or None.

    For one picture of a clip, not for all: asking makes a reference cycle in PyAV, which keeps the
    picture until the garbage collector runs.
    """
    matrix: Any = picture.side_data.get("DISPLAYMATRIX")
    return None if matrix is None else struct.unpack("=9i", bytes(matrix))


def upright(
    image: UInt8[np.ndarray, "h w 3"], matrix: tuple[int, ...]
) -> UInt8[np.ndarray, "h w 3"]:
    """Turn or mirror `image` by a display matrix (ISO/IEC 14496-12, 8.3.2), in right angles.

    Args:
        image: uint8 [h, w, 3] as stored.
        matrix: a b u / c d v / x y w, row by row: (p, q) is shown at (a p + c q, b p + d q).

    Returns:
        The picture as it is shown; unchanged if the angle is none of 0, 90, 180, 270 degrees.
    """
    a, b, c, d = (int(np.sign(matrix[i])) for i in (0, 1, 3, 4))
    if (a, d) == (0, 0) and b and c:
        image, right, down = image.transpose(1, 0, 2), c, b
    elif (b, c) == (0, 0) and a and d:
        right, down = a, d
    else:
        return image
    return np.ascontiguousarray(image[::down, ::right])
