"""Video files of all sorts: each picture once, upright, in the right colours, at its time."""

from __future__ import annotations

import gc
import sys
import time
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from propagate.types import Size
from propagate.video import open_clip
from propagate.video.libav import upright
from propagate.video.pyav_reader import PyAVReader
from tests.video_factory import (
    FASTSTART,
    MATRICES,
    ClipSpec,
    copy_packets,
    number_of,
    numbered_picture,
    set_display_matrix,
    shown,
    write_clip,
)

READERS = ("decord", "pyav")
OPEN_GOP = {"bf": "3", "x264-params": "open-gop=1:keyint=12:min-keyint=12:scenecut=0"}
NEAR_LOSSLESS = {"qp": "1"}


@pytest.fixture(params=READERS)
def reader(request: pytest.FixtureRequest) -> str:
    if request.param == "decord":
        pytest.importorskip("decord", reason="decord2 has no wheel for this platform")
    return request.param


def numbers(path: Path, reader: str) -> list[int]:
    return [number_of(frame.rgb) for frame in open_clip(path, reader=reader)]


FORMATS = {
    "b-frames.mp4": ClipSpec(count=40, options=OPEN_GOP),
    "b-frames.mkv": ClipSpec(count=40, options=OPEN_GOP),
    "b-frames.ts": ClipSpec(count=40, options=OPEN_GOP),
    "b-frames.avi": ClipSpec(count=40, codec="mpeg4", options={"bf": "2"}),
    "ten-bits.mp4": ClipSpec(count=10, codec="libx265", pix_fmt="yuv420p10le"),
    "odd.mp4": ClipSpec(count=10, pix_fmt="yuv444p", size=Size(75, 101)),
    "odd.avi": ClipSpec(count=10, codec="mjpeg", pix_fmt="yuvj420p", size=Size(75, 101)),
    "odd.mkv": ClipSpec(count=10, codec="ffv1", pix_fmt="bgr0", size=Size(75, 101)),
    "grey.mp4": ClipSpec(count=10, pix_fmt="gray"),
    "alpha.mov": ClipSpec(count=10, codec="png", pix_fmt="rgba"),
    "fragments.mp4": ClipSpec(container_options={"movflags": "frag_keyframe+empty_moov"}),
    "bare.h264": ClipSpec(),
    "program.mpg": ClipSpec(codec="mpeg2video"),
    "flash.flv": ClipSpec(codec="flv1"),
    "one.mp4": ClipSpec(count=1),
}


@pytest.mark.parametrize("name", FORMATS)
def test_each_picture_comes_once(tmp_path: Path, reader: str, name: str) -> None:
    spec = FORMATS[name]
    clip = open_clip(write_clip(tmp_path / name, spec), reader=reader)
    frames = list(clip)
    assert [number_of(frame.rgb) for frame in frames] == list(range(spec.count))
    assert {frame.size for frame in frames} == {spec.size}
    assert not clip.losses


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
def test_variable_rate_keeps_ordinals_and_times(tmp_path: Path, reader: str, name: str) -> None:
    steps = np.random.default_rng(0).integers(5, 200, 30)
    times = [170 + int(time) for time in np.cumsum(steps)]
    path = write_clip(tmp_path / name, ClipSpec(times=times))
    clip = open_clip(path, reader=reader)
    frames = list(clip)
    assert [number_of(frame.rgb) for frame in frames] == list(range(30))
    assert [frame.pts for frame in frames] == pytest.approx([t / 1000 for t in times], abs=1e-3)
    assert not clip.losses


def test_a_late_start_is_kept(tmp_path: Path, reader: str) -> None:
    path = write_clip(tmp_path / "clip.mp4")
    copy_packets(path, tmp_path / "late.mp4", shift=512 * 50)
    frames = list(open_clip(tmp_path / "late.mp4", reader=reader))
    assert [frame.pts for frame in frames] == pytest.approx([2 + i / 25 for i in range(30)])


def test_an_edit_list_hides_pictures_without_repeats(tmp_path: Path, reader: str) -> None:
    path = write_clip(tmp_path / "clip.mp4")
    clip = open_clip(copy_packets(path, tmp_path / "cut.mp4", shift=-512 * 5), reader=reader)
    frames = list(clip)
    assert [number_of(frame.rgb) for frame in frames] == list(range(5, 30))
    assert [frame.pts for frame in frames] == pytest.approx([i / 25 for i in range(25)])
    assert not clip.losses


@pytest.mark.parametrize("name", ["cut.mp4", "cut.mkv"])
def test_a_clip_cut_between_key_frames_starts_at_the_next(
    tmp_path: Path, reader: str, name: str
) -> None:
    regular = {"x264-params": "scenecut=0:keyint=12:min-keyint=12"}
    path = write_clip(tmp_path / "clip.mp4", ClipSpec(options=regular))
    clip = open_clip(copy_packets(path, tmp_path / name, first=5), reader=reader)
    frames = list(clip)
    assert [number_of(frame.rgb) for frame in frames] == list(range(12, 30))
    assert [frame.index for frame in frames] == list(range(18))
    assert frames[0].pts == pytest.approx(0.48)
    assert "Nothing decodes between" in clip.losses.messages[0]
    assert "the first whole picture at 0.480 s" in clip.losses.messages[0]


def test_mirrored_by_hand() -> None:
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    for name, (a, b, c, d) in MATRICES.items():
        matrix = (a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
        result = upright(image, matrix)
        assert np.array_equal(result, shown(image, name)), name
        assert result.flags.c_contiguous
    assert upright(image, (46341, 46341, 0, -46341, 46341, 0, 0, 0, 1 << 30)) is image


@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("size", [Size(96, 128), Size(64, 224)], ids=str)
def test_the_display_matrix_is_applied(tmp_path: Path, reader: str, name: str, size: Size) -> None:
    spec = ClipSpec(count=4, size=size, container_options=FASTSTART)
    path = write_clip(tmp_path / "clip.mp4", spec)
    stored = [frame.rgb for frame in open_clip(path, reader=reader)]
    set_display_matrix(path, name)
    turned = [frame.rgb for frame in open_clip(path, reader=reader)]
    assert len(turned) == 4
    for one, other in zip(stored, turned, strict=True):
        assert np.array_equal(other, shown(one, name))


@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize(
    ("colorspace", "red", "blue"), [(1, 0.2126, 0.0722), (5, 0.299, 0.114)], ids=["709", "601"]
)
def test_colours_follow_the_standard(
    tmp_path: Path, reader: str, full: bool, colorspace: int, red: float, blue: float
) -> None:
    """Against Y'CbCr to R'G'B' of ITU-R BT.709 and BT.601 in floating point."""
    spec = ClipSpec(
        count=2,
        codec="ffv1",
        pix_fmt="yuv444p",
        colorspace=colorspace,
        color_range=2 if full else 1,
    )
    path = write_clip(tmp_path / "clip.mkv", spec)
    y, cb, cr = _planes(path)
    if full:
        y, cb, cr = y / 255, (cb - 128) / 255, (cr - 128) / 255
    else:
        y, cb, cr = (y - 16) / 219, (cb - 128) / 224, (cr - 128) / 224
    r, b = y + 2 * (1 - red) * cr, y + 2 * (1 - blue) * cb
    g = (y - red * r - blue * b) / (1 - red - blue)
    expected = 255 * np.clip(np.stack([r, g, b], -1), 0, 1)
    frame = next(iter(open_clip(path, reader=reader)))
    assert np.abs(frame.rgb - expected).max() < 2.5


def _planes(path: Path) -> list[np.ndarray]:
    import av

    with av.open(str(path)) as container:
        picture = next(container.decode(video=0))
        return list(picture.to_ndarray().astype(float))


ALIKE = {
    "plain.mp4": ClipSpec(count=5, options=NEAR_LOSSLESS),
    "tagged.mp4": ClipSpec(count=5, colorspace=1, color_range=1, options=NEAR_LOSSLESS),
    "full.mp4": ClipSpec(count=5, pix_fmt="yuvj420p", color_range=2, options=NEAR_LOSSLESS),
    "chroma422.mp4": ClipSpec(count=5, pix_fmt="yuv422p", options=NEAR_LOSSLESS),
    "deep.mp4": ClipSpec(count=5, pix_fmt="yuv420p10le", options=NEAR_LOSSLESS),
    "deep444.mp4": ClipSpec(count=5, pix_fmt="yuv444p10le", options=NEAR_LOSSLESS),
    "odd.mkv": ClipSpec(count=5, codec="ffv1", size=Size(75, 101)),
    "chroma410.mkv": ClipSpec(count=5, codec="ffv1", pix_fmt="yuv410p"),
    "rgb48.mkv": ClipSpec(count=5, codec="ffv1", pix_fmt="gbrp16le"),
    "motion.avi": ClipSpec(count=5, codec="mjpeg", pix_fmt="yuvj420p", color_range=2),
}


@pytest.mark.parametrize("name", ALIKE)
def test_decord_and_pyav_give_the_same_pixels(tmp_path: Path, name: str) -> None:
    """Equal, but for the place of chroma between the pixels where luma has more than 8 bits."""
    pytest.importorskip("decord", reason="decord2 has no wheel for this platform")
    path = write_clip(tmp_path / name, ALIKE[name])
    pairs = zip(open_clip(path, reader="decord"), open_clip(path, reader="pyav"), strict=True)
    for one, other in pairs:
        assert (one.index, one.name, one.source) == (other.index, other.name, other.source)
        assert one.pts == pytest.approx(other.pts, abs=1e-5)
        difference = np.abs(one.rgb.astype(int) - other.rgb)
        if name == "deep.mp4":
            assert difference.mean() < 1.5
        else:
            assert difference.max() <= 2


def test_pixels_are_those_of_the_picture(tmp_path: Path, reader: str) -> None:
    path = write_clip(tmp_path / "clip.mkv", ClipSpec(count=3, codec="ffv1", pix_fmt="bgr0"))
    for frame in open_clip(path, reader=reader):
        assert np.array_equal(frame.rgb, numbered_picture(frame.index))


@pytest.mark.parametrize(("codec", "pix_fmt"), [("qtrle", "rgb24"), ("png", "rgb24")])
def test_writing_to_a_picture_does_not_reach_the_next(
    tmp_path: Path, reader: str, codec: str, pix_fmt: str
) -> None:
    path = write_clip(tmp_path / "clip.mov", ClipSpec(count=4, codec=codec, pix_fmt=pix_fmt))
    for frame in open_clip(path, reader=reader):
        assert np.array_equal(frame.rgb, numbered_picture(frame.index))
        frame.rgb[...] = 77


def test_a_change_of_size_is_scaled_to_the_first(tmp_path: Path, reader: str) -> None:
    parts = [
        write_clip(tmp_path / f"{size}.ts", ClipSpec(count=10, size=size))
        for size in (Size(96, 128), Size(192, 256))
    ]
    path = tmp_path / "both.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    frames = list(open_clip(path, reader=reader))
    assert {frame.size for frame in frames} == {Size(96, 128)}
    assert len(frames) == 20


def test_decord_reads_what_it_reads_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("decord", reason="decord2 has no wheel for this platform")
    clip = open_clip(write_clip(tmp_path / "clip.mp4"), reader="decord")

    def refuse(self: PyAVReader) -> None:
        raise AssertionError("PyAV took over")

    monkeypatch.setattr(PyAVReader, "__iter__", refuse)
    assert [number_of(frame.rgb) for frame in clip] == list(range(30))


def test_decord_is_dropped_where_its_first_picture_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decord = pytest.importorskip("decord", reason="decord2 has no wheel for this platform")
    clip = open_clip(write_clip(tmp_path / "clip.mp4"), reader="decord")
    honest = decord.VideoReader.next

    class Late(decord.VideoReader):
        """Leaves the first pictures out, as decord does in MPEG-TS."""

        def __init__(self, *args: object, **options: object) -> None:
            super().__init__(*args, **options)
            for _ in range(12):
                honest(self)

    monkeypatch.setattr(decord, "VideoReader", Late)
    assert [number_of(frame.rgb) for frame in clip] == list(range(30))


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="reads resident memory from /proc, Linux only"
)
def test_memory_does_not_grow_with_the_clip(tmp_path: Path, reader: str) -> None:
    """Not even between two runs of the garbage collector."""
    spec = ClipSpec(count=200, size=Size(480, 640), options={"preset": "ultrafast"})
    clip = open_clip(write_clip(tmp_path / "clip.mp4", spec), reader=reader)
    next(iter(clip))
    gc.collect()
    gc.disable()
    try:
        resident = [_resident_mib() for frame in clip if frame.index % 50 == 49]
    finally:
        gc.enable()
    assert len(resident) == 4
    assert max(resident) - resident[0] < 20  # the 150 pictures between take 130 MiB


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="reads resident memory from /proc, Linux only"
)
def test_a_slow_caller_does_not_make_the_default_reader_pile_up_pictures(tmp_path: Path) -> None:
    """decord does, up to the whole clip, which is why it is not the default."""
    spec = ClipSpec(count=200, size=Size(480, 640), options={"preset": "ultrafast"})
    clip = iter(open_clip(write_clip(tmp_path / "clip.mp4", spec)))
    next(clip)
    before = _resident_mib()
    for _ in range(5):
        time.sleep(0.1)
        next(clip)
    assert _resident_mib() - before < 40  # the 200 pictures take 176 MiB


def _resident_mib() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


@pytest.mark.parametrize(
    ("name", "count", "size"),
    [
        ("01_dog.mp4", 289, Size(720, 1280)),
        ("05_default_juggle.mp4", 247, Size(720, 1280)),
        ("flies.mp4", 1500, Size(1024, 1024)),
    ],
)
def test_real_clips(shared_dir: Path, reader: str, name: str, count: int, size: Size) -> None:
    path = shared_dir / "data" / "videos" / name
    clip = open_clip(path, reader=reader)
    assert clip.estimated_length == count
    oracle = cv2.VideoCapture(str(path))
    for frame in islice(clip, 4):
        assert frame.size == size
        bgr = oracle.read()[1]
        # OpenCV 4 takes every video for BT.601, whatever its tags say.
        assert np.abs(frame.rgb.astype(int) - bgr[..., ::-1]).mean() < 3


def test_a_real_clip_to_its_end(shared_dir: Path, reader: str) -> None:
    clip = open_clip(shared_dir / "data" / "videos" / "01_dog.mp4", reader=reader)
    index, pts = max((frame.index, frame.pts) for frame in clip)
    assert index == 288
    assert pts == pytest.approx(288 * 1001 / 30000, abs=1e-4)
    assert clip.fps == pytest.approx(30000 / 1001)
    assert not clip.losses
