"""What holds of every reader, on every kind of clip it reads."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from propagate.types import Frame, Size
from propagate.video import FrameRange, FrameReader, ReaderName, open_clip
from tests.video_factory import FASTSTART, ClipSpec, number_of, numbered_picture, write_clip

COUNT = 30


def _video(name: str, **spec: object) -> Callable[[Path], Path]:
    return lambda folder: write_clip(folder / name, replace(ClipSpec(count=COUNT), **spec))


def _folder(folder: Path) -> Path:
    folder = folder / "frames"
    folder.mkdir()
    for index in range(COUNT):
        Image.fromarray(numbered_picture(index)).save(folder / f"{index}.png")
    return folder


def _paged(name: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        first, *rest = (Image.fromarray(numbered_picture(index)) for index in range(COUNT))
        first.save(folder / name, save_all=True, append_images=rest, duration=40)
        return folder / name

    return write


CLIPS: dict[str, tuple[ReaderName, Callable[[Path], Path]]] = {
    "decord mp4": ("decord", _video("clip.mp4")),
    "decord mkv": ("decord", _video("clip.mkv")),
    "decord avi": ("decord", _video("clip.avi", codec="mpeg4")),
    "decord ts": ("decord", _video("clip.ts")),
    "pyav mp4": ("pyav", _video("clip.mp4", container_options=FASTSTART)),
    "pyav webm": ("pyav", _video("clip.webm", codec="libvpx-vp9", options={"cpu-used": "8"})),
    "pyav ts": ("pyav", _video("clip.ts")),
    "images": ("images", _folder),
    "multipage gif": ("multipage", _paged("clip.gif")),
    "multipage tiff": ("multipage", _paged("clip.tiff")),
    "multipage webp": ("multipage", _paged("clip.webp")),
    "multipage apng": ("multipage", _paged("clip.png")),
}


@pytest.fixture(scope="module", params=CLIPS)
def clip(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, ReaderName]:
    reader, write = CLIPS[request.param]
    if reader == "decord":
        pytest.importorskip("decord", reason="decord2 has no wheel for this platform")
    return write(tmp_path_factory.mktemp("clip")), reader


@pytest.fixture(scope="module")
def opened(clip: tuple[Path, ReaderName]) -> FrameReader:
    path, reader = clip
    return open_clip(path, reader=reader)


@pytest.fixture(scope="module")
def frames(opened: FrameReader) -> list[Frame]:
    return list(opened)


def test_it_is_a_frame_reader(opened: FrameReader) -> None:
    assert isinstance(opened, FrameReader)


def test_every_picture_comes_once_and_in_order(frames: list[Frame]) -> None:
    assert [number_of(frame.rgb) for frame in frames] == list(range(COUNT))
    assert [frame.index for frame in frames] == list(range(COUNT))


def test_pictures_are_contiguous_writable_bytes(frames: list[Frame]) -> None:
    for frame in frames:
        assert frame.rgb.dtype == np.uint8
        assert frame.size == Size(96, 128)
        assert frame.rgb.flags.c_contiguous
        assert frame.rgb.flags.writeable


def test_pictures_do_not_share_memory(frames: list[Frame]) -> None:
    before = frames[1].rgb.copy()
    frames[0].rgb[...] ^= 255
    frames[2].rgb[...] ^= 255
    assert np.array_equal(frames[1].rgb, before)
    frames[0].rgb[...] ^= 255
    frames[2].rgb[...] ^= 255


def test_names_are_unique_and_the_source_is_one(opened: FrameReader, frames: list[Frame]) -> None:
    assert len({frame.name for frame in frames}) == COUNT
    assert {frame.source for frame in frames} == {opened.source}


def test_times_do_not_fall(frames: list[Frame]) -> None:
    times = [frame.pts for frame in frames]
    assert times == sorted(times)


def test_the_container_is_described(opened: FrameReader, clip: tuple[Path, ReaderName]) -> None:
    assert opened.estimated_length == COUNT
    no_clock = clip[0].is_dir() or clip[0].suffix == ".tiff"
    assert opened.fps == pytest.approx(24.0 if no_clock else 25.0)
    assert str(clip[0].absolute()) in opened.source


def test_a_whole_clip_has_no_losses(opened: FrameReader) -> None:
    assert len(list(opened)) == COUNT
    assert opened.losses.messages == ()


def test_a_second_pass_gives_the_same(opened: FrameReader, frames: list[Frame]) -> None:
    for first, second in zip(frames, opened, strict=True):
        assert (first.index, first.name, first.pts) == (second.index, second.name, second.pts)
        assert np.array_equal(first.rgb, second.rgb)


def test_two_passes_at_once_do_not_disturb_each_other(opened: FrameReader) -> None:
    one, other = iter(opened), iter(opened)
    for _ in range(5):
        next(one)
    assert [number_of(frame.rgb) for frame in other] == list(range(COUNT))
    assert [number_of(frame.rgb) for frame in one] == list(range(5, COUNT))


@pytest.mark.parametrize("text", ["4:9", ":3", "25:", "1:20:6", "::7", "28:99"])
def test_a_range_is_a_slice(clip: tuple[Path, ReaderName], frames: list[Frame], text: str) -> None:
    path, reader = clip
    part = open_clip(path, reader=reader, frames=text)
    chosen = slice(*(int(number) if number else None for number in text.split(":")))
    assert isinstance(part, FrameReader)
    assert [frame.index for frame in part] == [frame.index for frame in frames[chosen]]
    assert part.estimated_length == len(frames[chosen])
    assert part.source == frames[0].source
    parsed = FrameRange.parse(text)
    assert part.fps == pytest.approx(open_clip(path, reader=reader).fps / parsed.step)


@pytest.mark.skipif(
    not sys.platform.startswith("linux"),
    reason="counts open files and threads in /proc, which only Linux has",
)
def test_an_abandoned_pass_lets_go_of_the_file(clip: tuple[Path, ReaderName]) -> None:
    path, reader = clip
    opened = open_clip(path, reader=reader)
    list(opened)
    gc.collect()
    before = _files_and_threads()
    for _ in range(3):
        frames = iter(opened)
        next(frames)
        next(frames)
        frames.close()
        del frames
    ranged = open_clip(path, reader=reader, frames="0:2")
    assert len(list(ranged)) == 2
    assert _files_and_threads() == before


def _files_and_threads() -> tuple[int, int]:
    process = Path("/proc/self")
    return len(list((process / "fd").iterdir())), len(list((process / "task").iterdir()))
