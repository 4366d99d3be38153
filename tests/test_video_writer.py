"""Videos that decode again to what was written, and files that are never left half done."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest

from propagate.errors import InputError, OutputError
from propagate.output.atomic import atomic_path
from propagate.output.video_writer import VideoWriter
from propagate.types import Size

if TYPE_CHECKING:
    from pathlib import Path


def clip(size: Size, n: int) -> list[np.ndarray]:
    """Smooth pictures that brighten from frame to frame."""
    y, x = np.mgrid[: size.height, : size.width]
    ramp = np.stack([x / size.width, y / size.height, 1 - x / size.width], axis=-1)
    return [(ramp * 120 + 100 * i / n).astype(np.uint8) for i in range(n)]


def planes(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Y, Cb and Cr of BT.709 in limited range, by the standard's equations."""
    red, green, blue = (rgb[..., i] / 255 for i in range(3))
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    blueness, redness = (blue - luma) / 1.8556, (red - luma) / 1.5748
    return 16 + 219 * luma, 128 + 224 * blueness, 128 + 224 * redness


def decode(path: Path) -> tuple[list[np.ndarray], av.VideoStream]:
    """The pictures as they are stored: uint8 [h * 3 / 2, w], luma above chroma."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return [f.to_ndarray(format="yuv420p") for f in container.decode(stream)], stream


@pytest.mark.parametrize("encoder", ["libx264", "mpeg4"])
@pytest.mark.parametrize("size", [Size(48, 64), Size(49, 65)])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_round_trip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: str, size: Size, suffix: str
) -> None:
    if encoder == "libx264" and encoder not in av.codecs_available:
        pytest.skip("this PyAV comes without libx264")
    monkeypatch.setattr(av, "codecs_available", {encoder})
    frames = clip(size, 7)
    with VideoWriter(tmp_path / f"clip{suffix}", fps=30000 / 1001, size=size) as video:
        for rgb in frames:
            video.write(rgb)
    decoded, stream = decode(tmp_path / f"clip{suffix}")
    assert stream.codec_context.name == {"libx264": "h264"}.get(encoder, encoder)
    assert len(decoded) == 7
    assert (stream.height, stream.width) == video.coded_size
    assert video.coded_size == (size.height + size.height % 2, size.width + size.width % 2)
    assert float(stream.average_rate) == pytest.approx(30000 / 1001, rel=1e-3)
    for got, sent in zip(decoded, frames, strict=True):
        assert np.abs(got[: size.height, : size.width] - planes(sent)[0]).mean() < 2


def test_colours_are_tagged_and_true(tmp_path: Path) -> None:
    halves = np.zeros((64, 128, 3), dtype=np.uint8)
    halves[:, :64], halves[:, 64:] = (200, 30, 30), (30, 60, 220)
    with VideoWriter(tmp_path / "clip.mp4", fps=25, size=Size(64, 128)) as video:
        video.write(halves)
    (decoded,), stream = decode(tmp_path / "clip.mp4")
    context = stream.codec_context
    assert (context.colorspace, context.color_primaries, context.color_trc) == (1, 1, 1)
    # Rows of half as many chroma samples lie two by two in a row of the array.
    chroma = decoded[64:].reshape(2, 32, 64)
    luma, blueness, redness = planes(halves)
    for x in (30, 100):
        assert decoded[30, x] == pytest.approx(luma[30, x], abs=2)
        assert chroma[0, 15, x // 2] == pytest.approx(blueness[30, x], abs=2)
        assert chroma[1, 15, x // 2] == pytest.approx(redness[30, x], abs=2)


def test_the_index_comes_first(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "clip.mp4", fps=25, size=Size(16, 16)) as video:
        video.write(np.zeros((16, 16, 3), dtype=np.uint8))
    data = (tmp_path / "clip.mp4").read_bytes()
    assert 0 < data.find(b"moov") < data.find(b"mdat")


@pytest.mark.parametrize(
    ("fps", "rate"), [(30000 / 1001, Fraction(30000, 1001)), (24, 24), (12.5, 12.5)]
)
def test_rates(tmp_path: Path, fps: float, rate: float) -> None:
    with VideoWriter(tmp_path / "clip.mkv", fps=fps, size=Size(16, 16)) as video:
        for rgb in clip(Size(16, 16), 3):
            video.write(rgb)
    assert decode(tmp_path / "clip.mkv")[1].average_rate == rate


def write_video(path: Path, *frames: np.ndarray) -> None:
    with VideoWriter(path, fps=25, size=Size(16, 16)) as video:
        for rgb in frames:
            video.write(rgb)


def write_then_raise(path: Path, rgb: np.ndarray, error: Exception) -> None:
    with VideoWriter(path, fps=25, size=Size(16, 16)) as video:
        video.write(rgb)
        raise error


def test_nothing_is_left_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_text("the old file")
    frame = np.zeros((16, 16, 3), dtype=np.uint8)
    with pytest.raises(KeyError, match="mine"):
        write_then_raise(path, frame, KeyError("mine"))
    with pytest.raises(OutputError, match=r"clip\.mp4 got no frame, so it is not written"):
        write_video(path)
    assert path.read_text() == "the old file"
    assert list(tmp_path.iterdir()) == [path]


def test_video_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"clip\.gif is no video .* end in \.mp4, \.mov, \.mkv"):
        VideoWriter(tmp_path / "clip.gif", fps=25, size=Size(16, 16))
    for fps in (0, -1, float("nan"), float("inf")):
        with pytest.raises(InputError, match=r"fps is .*; it must be greater than 0"):
            VideoWriter(tmp_path / "clip.mp4", fps=fps, size=Size(16, 16))
    with pytest.raises(InputError, match="Frame 0 is 20x16 but the video 16x16"):
        write_video(tmp_path / "clip.mp4", np.zeros((16, 20, 3), dtype=np.uint8))
    with pytest.raises(OutputError, match="there is no folder .*absent; create it"):
        write_video(tmp_path / "absent" / "clip.mp4")


def test_atomic_path_appears_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "result.png"
    with atomic_path(target) as path:
        path.write_text("new")
        assert (path.parent, path.suffix) == (target.parent, target.suffix)
        assert path.name.startswith(".")
        assert not target.exists()
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def write_text(target: Path, text: str, error: BaseException | None = None) -> None:
    with atomic_path(target) as path:
        path.write_text(text)
        if error is not None:
            raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_atomic_path_keeps_the_old_file_on_error(
    tmp_path: Path, error: type[BaseException]
) -> None:
    target = tmp_path / "result.png"
    target.write_text("old")
    with pytest.raises(error, match="cut off"):
        write_text(target, "half of the n", error("cut off"))
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_atomic_files_have_the_permissions_of_any_other(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    write_text(tmp_path / "atomic", "")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_atomic_path_errors(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="there is no folder"):
        write_text(tmp_path / "absent" / "file", "")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="Cannot write .*folder"):
        write_text(tmp_path / "folder", "")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_long_names(tmp_path: Path) -> None:
    target = tmp_path / ("x" * 250 + ".png")
    write_text(target, "new")
    assert target.read_text() == "new"
