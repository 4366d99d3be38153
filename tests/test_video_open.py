"""`open_clip`: which reader a path gets, ranges, and what is said of paths that are no clips."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from propagate.errors import ClipError, InputError
from propagate.types import ClipLosses, Frame
from propagate.video import FrameRange, RangeReader, open_clip
from propagate.video.image_reader import ImageReader
from propagate.video.multipage import MultipageReader
from propagate.video.pyav_reader import PyAVReader
from tests.video_factory import ClipSpec, number_of, numbered_picture, write_clip


class CountedReader:
    """A clip of `length` tiny frames that remembers how many were asked for."""

    source = "counted"
    fps = 30.0
    losses = ClipLosses(("one",))

    def __init__(self, length: int, *, estimated_length: int | None = None) -> None:
        self.length = length
        self.estimated_length = estimated_length
        self.read = 0

    def __iter__(self) -> Iterator[Frame]:
        self.read = 0
        for index in range(self.length):
            self.read += 1
            yield Frame("counted", index, np.zeros((1, 1, 3), np.uint8), index / 30, str(index))


numbers = st.integers(0, 40)


@given(numbers, st.none() | numbers, st.integers(1, 9), st.integers(1, 30))
def test_a_range_means_what_a_slice_means(
    start: int, stop: int | None, step: int, length: int
) -> None:
    if stop is not None and stop <= start:
        with pytest.raises(InputError, match="is empty; stop must be greater than start"):
            FrameRange(start, stop, step)
        return
    frames = FrameRange(start, stop, step)
    expected = list(range(length))[start:stop:step]
    assert [index for index in range(length) if index in frames] == expected
    assert FrameRange.parse(str(frames)) == frames
    reader = RangeReader(CountedReader(length, estimated_length=length), frames)
    assert reader.estimated_length == len(expected)
    if expected:
        assert [frame.index for frame in reader] == expected
    else:
        with pytest.raises(ClipError, match=rf"range .* selects none of the {length} frames found"):
            list(reader)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (":", FrameRange()),
        ("::", FrameRange()),
        ("7:", FrameRange(7)),
        (":7", FrameRange(0, 7)),
        ("3:7", FrameRange(3, 7)),
        ("3:7:2", FrameRange(3, 7, 2)),
        ("::5", FrameRange(step=5)),
        (" 3 : 7 : 2 ", FrameRange(3, 7, 2)),
        ("007:8", FrameRange(7, 8)),
    ],
)
def test_ranges_are_parsed(text: str, expected: FrameRange) -> None:
    assert FrameRange.parse(text) == expected


@pytest.mark.parametrize(
    "text", ["", "5", "-5:", ":-1", "::-1", "1:2:3:4", "a:b", "1.5:3", "1-5", "٣:"]
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"is not start:stop or start:stop:step .* 10:50 takes"):
        FrameRange.parse(text)


def test_impossible_ranges_are_refused() -> None:
    with pytest.raises(InputError, match=r"step of the frame range 0::0 must be 1 or more"):
        FrameRange.parse("::0")
    for wrong in ({"start": -1}, {"stop": -2}):
        with pytest.raises(InputError, match="counts from the end.*use numbers from 0 up"):
            FrameRange(**wrong)


def test_nothing_is_read_past_the_last_frame() -> None:
    whole = CountedReader(100)
    assert [frame.index for frame in RangeReader(whole, FrameRange(10, 90, 60))] == [10, 70]
    assert whole.read == 71
    list(RangeReader(whole, FrameRange(10)))
    assert whole.read == 100


def test_a_range_describes_itself_by_its_clip() -> None:
    reader = RangeReader(CountedReader(100), FrameRange(0, None, 3))
    assert (reader.source, reader.fps, reader.estimated_length) == ("counted", 10.0, None)
    assert reader.losses.messages == ("one",)


def test_an_empty_selection_names_the_range(tmp_path: Path) -> None:
    reader = open_clip(write_clip(tmp_path / "clip.mp4", ClipSpec(count=5)), frames="9:12")
    with pytest.raises(ClipError, match=r"range 9:12 selects none of the 5 frames found in .*mp4"):
        list(reader)


def test_a_video_goes_to_pyav_and_to_decord_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_clip(tmp_path / "clip.mp4")
    monkeypatch.setitem(sys.modules, "decord", None)
    assert isinstance(open_clip(path), PyAVReader)
    with pytest.raises(InputError, match="needs the package decord2.*choose the reader 'pyav'"):
        open_clip(path, reader="decord")
    monkeypatch.undo()
    pytest.importorskip("decord", reason="decord2 has no wheel for this platform")
    from propagate.video.decord_reader import DecordReader

    assert isinstance(open_clip(path), PyAVReader)
    assert isinstance(open_clip(path, reader="decord"), DecordReader)


def test_images_are_recognised(tmp_path: Path) -> None:
    pictures = [Image.fromarray(numbered_picture(index)) for index in range(3)]
    for index, picture in enumerate(pictures):
        picture.save(tmp_path / f"{index}.png")
    pictures[0].save(tmp_path / "all.gif", save_all=True, append_images=pictures[1:])
    for path in (tmp_path, str(tmp_path), tmp_path / "*.png", tmp_path / "1.png"):
        assert isinstance(open_clip(path), ImageReader)
    assert isinstance(open_clip(tmp_path / "all.gif"), MultipageReader)


def test_a_reader_can_be_insisted_on(tmp_path: Path) -> None:
    pictures = [Image.fromarray(numbered_picture(index)) for index in range(3)]
    path = tmp_path / "all.gif"
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=40)
    for reader in ("pyav", "multipage"):
        frames = list(open_clip(path, reader=reader))
        assert [number_of(frame.rgb) for frame in frames] == [0, 1, 2]
    assert len(list(open_clip(path, reader="images"))) == 1


def test_a_changed_file_has_another_identity(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", ClipSpec(count=3))
    before = open_clip(path, reader="pyav").source
    assert open_clip(path, reader="pyav").source == before
    write_clip(path, ClipSpec(count=4))
    assert open_clip(path, reader="pyav").source != before


def test_unknown_readers_are_refused() -> None:
    with pytest.raises(
        InputError, match="no reader 'cv2'; choose one of auto, decord, pyav, images, multipage"
    ):
        open_clip("clip.mp4", reader="cv2")


@pytest.mark.parametrize("reader", ["auto", "pyav", "images", "multipage"])
def test_a_missing_clip_suggests_near_names(tmp_path: Path, reader: str) -> None:
    for name in ("clip_01.mp4", "clip_02.mp4", "unlike.txt"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(
        ClipError, match=r"no file or folder clip_1\.mp4 in .*did you mean clip_0\d\.mp4 or clip_0"
    ):
        open_clip(tmp_path / "clip_1.mp4", reader=reader)
    with pytest.raises(ClipError, match=r"no file or folder zzz in .*; check the path\.$"):
        open_clip(tmp_path / "zzz", reader=reader)
    with pytest.raises(ClipError, match=r"no clip .*a\.mp4: the folder .*absent does not exist\.$"):
        open_clip(tmp_path / "absent" / "a.mp4", reader=reader)


@pytest.mark.parametrize("reader", ["auto", "pyav", "multipage"])
def test_an_empty_file_is_no_clip(tmp_path: Path, reader: str) -> None:
    path = tmp_path / "clip.mp4"
    path.touch()
    with pytest.raises(ClipError, match=r"clip\.mp4 is empty \(0 bytes\); copy or download it"):
        open_clip(path, reader=reader)


@pytest.mark.parametrize("reader", ["pyav", "multipage"])
def test_a_folder_is_no_file(tmp_path: Path, reader: str) -> None:
    with pytest.raises(ClipError, match="is a folder; give a file, or read it as images"):
        open_clip(tmp_path, reader=reader)


def test_importing_the_package_loads_no_decoder() -> None:
    code = (
        "import sys, propagate.video\n"
        "print([name for name in ('av', 'cv2', 'decord', 'PIL', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
