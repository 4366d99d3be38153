"""Clips for the tests of the readers: made on the spot, each picture tells its own number."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from propagate.types import Size

SIZE = Size(96, 128)

_BLOCK = 12
_BITS = 8


def numbered_picture(index: int, size: Size = SIZE) -> np.ndarray:
    """A coloured ramp with the bits of `index` as black and white blocks along the top left."""
    y, x = np.mgrid[: size.height, : size.width]
    picture = np.stack(
        [x * 255 // size.width, y * 255 // size.height, np.full_like(x, 40 + 3 * index % 160)], -1
    ).astype(np.uint8)
    for bit in range(_BITS):
        picture[:_BLOCK, bit * _BLOCK : (bit + 1) * _BLOCK] = 255 * (index >> bit & 1)
    return picture


def number_of(rgb: np.ndarray) -> int:
    """The `index` that `numbered_picture` wrote into a picture, lossy coding survived."""
    middle = _BLOCK // 2
    return sum(int(rgb[middle, bit * _BLOCK + middle].mean() > 127) << bit for bit in range(_BITS))


@dataclass(frozen=True, kw_only=True)
class ClipSpec:
    """How `write_clip` codes a clip; `times` are in milliseconds."""

    count: int = 30
    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    size: Size = SIZE
    rate: int = 25
    gop: int = 12
    times: Sequence[int] | None = None
    options: dict[str, str] = field(default_factory=dict)
    container_options: dict[str, str] = field(default_factory=dict)
    colorspace: int | None = None
    color_range: int | None = None


FASTSTART = {"movflags": "faststart"}


def write_clip(path: Path, spec: ClipSpec = ClipSpec()) -> Path:
    """Write a clip of numbered pictures in the container that the name of `path` asks for."""
    with av.open(str(path), "w", container_options=spec.container_options) as container:
        stream = container.add_stream(spec.codec, rate=spec.rate, options=dict(spec.options))
        stream.height, stream.width = spec.size
        stream.pix_fmt = spec.pix_fmt
        stream.codec_context.gop_size = spec.gop
        if spec.times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if spec.colorspace is not None:
            stream.codec_context.colorspace = spec.colorspace
        if spec.color_range is not None:
            stream.codec_context.color_range = spec.color_range
        for picture in _pictures(spec):
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def _pictures(spec: ClipSpec) -> Iterator[av.VideoFrame]:
    for index in range(spec.count):
        picture = av.VideoFrame.from_ndarray(numbered_picture(index, spec.size), format="rgb24")
        picture.pts = index if spec.times is None else spec.times[index]
        picture.time_base = Fraction(1, spec.rate if spec.times is None else 1000)
        yield picture


def write_sound(path: Path) -> Path:
    """Half a second of silence, without video."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        for index in range(8):
            sound = av.AudioFrame.from_ndarray(
                np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
            )
            sound.sample_rate = 16000
            sound.pts = 1024 * index
            container.mux(stream.encode(sound))
        container.mux(stream.encode())
    return path


def copy_packets(source: Path, target: Path, *, first: int = 0, shift: int = 0) -> Path:
    """Copy a clip without coding it anew, from packet `first` on, moved by `shift` time units."""
    with av.open(str(source)) as reading, av.open(str(target), "w") as writing:
        stream = reading.streams.video[0]
        copy = writing.add_stream_from_template(stream)
        for index, packet in enumerate(reading.demux(stream)):
            if packet.dts is None or packet.pts is None or index < first:
                continue
            packet.pts += shift
            packet.dts += shift
            packet.stream = copy
            writing.mux(packet)
    return target


def truncate(path: Path, keep: float = 0.7) -> Path:
    """Cut the end of the file off."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    return path


def blank(path: Path, at: float, length: int) -> Path:
    """Overwrite `length` bytes with zeros, `at` being the share of the file before them."""
    data = bytearray(path.read_bytes())
    start = int(len(data) * at)
    data[start : start + length] = bytes(length)
    path.write_bytes(data)
    return path


MATRICES = {
    "turned 90": (0, 1, -1, 0),
    "turned 180": (-1, 0, 0, -1),
    "turned 270": (0, -1, 1, 0),
    "mirrored": (-1, 0, 0, 1),
    "upside down": (1, 0, 0, -1),
    "transposed": (0, 1, 1, 0),
    "anti-transposed": (0, -1, -1, 0),
}
"""Display matrices a, b, c, d: the pixel (x, y) is shown at (a x + c y, b x + d y)."""


def shown(rgb: np.ndarray, name: str) -> np.ndarray:
    """What a viewer sees of a picture with the display matrix `name`, by numpy's own turns."""
    return {
        "turned 90": lambda: np.rot90(rgb, -1),
        "turned 180": lambda: np.rot90(rgb, 2),
        "turned 270": lambda: np.rot90(rgb, 1),
        "mirrored": lambda: np.fliplr(rgb),
        "upside down": lambda: np.flipud(rgb),
        "transposed": lambda: rgb.transpose(1, 0, 2),
        "anti-transposed": lambda: np.rot90(rgb, 2).transpose(1, 0, 2),
    }[name]()


def set_display_matrix(path: Path, name: str) -> Path:
    """Patch the track header (tkhd, ISO/IEC 14496-12, 8.3.2) of an mp4 file."""
    data = bytearray(path.read_bytes())
    payload = data.index(b"tkhd") + 4
    offset = payload + 4 + (20 if data[payload] == 0 else 32) + 16
    a, b, c, d = (value << 16 for value in MATRICES[name])
    data[offset : offset + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path
