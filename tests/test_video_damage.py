"""Broken clips: every picture that decodes is delivered, and the loss is told."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from propagate.errors import ClipError
from propagate.types import Frame
from propagate.video import open_clip
from propagate.video.losses import LossLog
from propagate.video.timing import gaps, missing_end, plausible_rate
from tests.video_factory import (
    FASTSTART,
    ClipSpec,
    blank,
    number_of,
    truncate,
    write_clip,
    write_sound,
)

MPEG4 = ClipSpec(count=60, codec="mpeg4", container_options=FASTSTART)
H264 = ClipSpec(count=60, container_options=FASTSTART)


@pytest.fixture(params=["decord", "pyav"])
def reader(request: pytest.FixtureRequest) -> str:
    if request.param == "decord":
        pytest.importorskip("decord", reason="decord2 has no wheel for this platform")
    return request.param


@pytest.mark.parametrize(
    ("name", "spec"), [("h264.mp4", H264), ("mpeg4.mp4", MPEG4), ("h264.mkv", H264)]
)
def test_a_truncated_clip_gives_its_start(
    tmp_path: Path, reader: str, name: str, spec: ClipSpec
) -> None:
    clip = open_clip(truncate(write_clip(tmp_path / name, spec)), reader=reader)
    frames = list(clip)
    assert 20 < len(frames) < 50
    assert [number_of(frame.rgb) for frame in frames[:-1]] == list(range(len(frames) - 1))
    end = f"{len(frames) / 25:.3f}"
    message = clip.losses.messages[-1]
    assert message.startswith("The container announces pictures up to 2.400 s, but they end at")
    assert f"{end} s: about {60 - len(frames)} are missing." in message


def test_a_truncated_transport_stream_gives_its_start(tmp_path: Path, reader: str) -> None:
    clip = open_clip(truncate(write_clip(tmp_path / "clip.ts", H264)), reader=reader)
    frames = list(clip)
    assert 20 < len(frames) < 60
    assert [number_of(frame.rgb) for frame in frames[:-1]] == list(range(len(frames) - 1))


def test_a_truncated_avi_gives_its_start(tmp_path: Path, reader: str) -> None:
    clip = open_clip(truncate(write_clip(tmp_path / "clip.avi", MPEG4)), reader=reader)
    frames = list(clip)
    assert 15 < len(frames) < 60
    assert "are missing" in clip.losses.messages[-1]


@pytest.mark.parametrize(("name", "spec"), [("h264.mp4", H264), ("mpeg4.mp4", MPEG4)])
def test_broken_packets_do_not_stop_the_clip(
    tmp_path: Path, reader: str, name: str, spec: ClipSpec
) -> None:
    clip = open_clip(blank(write_clip(tmp_path / name, spec), 0.5, 600), reader=reader)
    frames = list(clip)
    assert [frame.index for frame in frames] == list(range(len(frames)))
    shown = [number_of(frame.rgb) for frame in frames]
    assert shown[:5] == list(range(5))
    assert shown[-3:] == [57, 58, 59]
    assert 30 < len(frames) < 60
    assert frames[-1].pts == pytest.approx(59 / 25)
    assert "broken packet" in clip.losses.messages[0]
    assert "near " in clip.losses.messages[0]


@pytest.mark.parametrize(
    ("name", "spec"), [("h264.mkv", H264), ("vp9.webm", ClipSpec(count=60, codec="libvpx-vp9"))]
)
def test_a_hole_in_the_file_is_a_hole_in_time(
    tmp_path: Path, reader: str, name: str, spec: ClipSpec
) -> None:
    clip = open_clip(blank(write_clip(tmp_path / name, spec), 0.5, 300), reader=reader)
    frames = list(clip)
    assert 20 < len(frames) < 60
    assert any("are missing." in message for message in clip.losses.messages)


def test_damaged_pictures_are_named(tmp_path: Path) -> None:
    clip = open_clip(truncate(write_clip(tmp_path / "clip.mp4", MPEG4)), reader="pyav")
    last = len(list(clip)) - 1
    assert clip.losses.messages[1] == (
        f"1 picture decoded with damage: {last} ({last / 25:.3f} s)."
    )


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts", "clip.avi"])
def test_both_readers_deliver_the_same_of_a_broken_clip(
    tmp_path: Path, name: str, share: float
) -> None:
    pytest.importorskip("decord", reason="decord2 has no wheel for this platform")
    spec = MPEG4 if name.endswith("avi") else H264
    path = blank(write_clip(tmp_path / name, spec), share, 250)
    one, other = list(open_clip(path, reader="decord")), list(open_clip(path, reader="pyav"))
    assert [_key(frame) for frame in one] == [_key(frame) for frame in other]
    for left, right in zip(one, other, strict=True):
        assert np.abs(left.rgb.astype(int) - right.rgb).mean() < 1


def _key(frame: Frame) -> tuple[int, str, float]:
    return frame.index, frame.name, round(frame.pts, 3)


def test_every_pass_tells_its_own_losses(tmp_path: Path, reader: str) -> None:
    clip = open_clip(blank(write_clip(tmp_path / "clip.mp4", H264), 0.5, 600), reader=reader)
    list(clip)
    first = clip.losses
    list(clip)
    assert clip.losses == first
    assert first


def test_a_range_that_ends_before_the_damage_has_no_losses(tmp_path: Path, reader: str) -> None:
    path = truncate(write_clip(tmp_path / "clip.mp4", H264))
    part = open_clip(path, reader=reader, frames="2:6")
    assert [frame.index for frame in part] == [2, 3, 4, 5]
    assert not part.losses


def test_sound_is_no_clip(tmp_path: Path, reader: str) -> None:
    with pytest.raises(ClipError, match=r"sound\.m4a holds no video stream, only audio\."):
        open_clip(write_sound(tmp_path / "sound.m4a"), reader=reader)


def test_an_index_without_data_is_no_clip(tmp_path: Path, reader: str) -> None:
    """The header of an mp4 file says all about pictures that are gone."""
    path = write_clip(tmp_path / "clip.mp4", H264)
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"mdat") + 4])
    with pytest.raises(ClipError, match=r"No picture of .*clip\.mp4 decodes; check"):
        open_clip(path, reader=reader)


@pytest.mark.parametrize("content", [b"no video at all " * 50, bytes(4000)])
def test_other_bytes_are_no_clip(tmp_path: Path, reader: str, content: bytes) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(ClipError, match=r"clip\.mp4 cannot be opened as a video \(.+\); give a"):
        open_clip(path, reader=reader)


regular = st.builds(
    lambda count, rate, start: [start + i / rate for i in range(count)],
    st.integers(10, 200),
    st.sampled_from([1, 24, 25, 30000 / 1001, 240]),
    st.floats(0, 1000),
)


@given(regular)
def test_a_regular_clip_has_no_gaps(starts: list[float]) -> None:
    assert gaps(starts, starts) == []
    step = starts[1] - starts[0]
    assert missing_end(starts, starts, starts[-1] + 2 * step) == []


@given(regular, st.integers(3, 60), st.data())
def test_a_hole_is_found_and_counted(starts: list[float], hole: int, data: st.DataObject) -> None:
    step = starts[1] - starts[0]
    at = data.draw(st.integers(5, len(starts) - 5))
    later = starts[:at] + [start + hole * step for start in starts[at:]]
    steps = len(later) - 1
    expected = 0.9 * steps <= steps - 1
    messages = gaps(later, later)
    assert len(messages) == expected
    if expected:
        assert f"about {hole} are missing" in messages[0]
        first, last = (float(number) for number in re.findall(r"(\d+\.\d+) s", messages[0]))
        assert (first, last) == pytest.approx((starts[at], later[at]), abs=1e-3)


@given(regular, st.integers(3, 60))
def test_a_missing_end_is_found_and_counted(starts: list[float], missing: int) -> None:
    step = starts[1] - starts[0]
    (message,) = missing_end(starts, starts, starts[-1] + (1 + missing) * step)
    assert f"about {missing} are missing" in message


def test_a_picture_that_lasts_is_no_hole() -> None:
    starts = [*range(20), *range(40, 60)]
    ends = [float(start + 1) for start in starts]
    assert len(gaps(starts, ends)) == 1
    ends[19] = 40.0
    assert gaps(starts, ends) == []
    assert len(missing_end(starts, ends, 100.0)) == 1
    ends[-1] = 99.0
    assert missing_end(starts, ends, 100.0) == []


def test_a_variable_rate_has_no_holes() -> None:
    starts = list(np.cumsum(np.random.default_rng(1).integers(1, 30, 200)).astype(float))
    assert gaps(starts, starts) == []


def test_few_pictures_have_no_rhythm() -> None:
    assert gaps([], []) == gaps([0.0, 9.0], [1.0, 10.0]) == []
    assert missing_end([], [], 9.0) == missing_end([0.0], [1.0], 9.0) == []
    assert gaps([0.0] * 9, [0.0] * 9) == missing_end([0.0] * 9, [0.0] * 9, 5.0) == []


def test_long_lists_of_places_are_cut() -> None:
    log = LossLog()
    log.broken(None)
    for index in range(7):
        log.broken(index / 10)
        log.delivered(index / 10, index / 10, damaged=True)
    broken, damaged = log.losses.messages
    assert broken == (
        "The file has 8 broken packets, near an unknown time, 0.000 s, 0.100 s, 0.200 s, 0.300 s "
        "and 3 more: pictures there are missing or wrong."
    )
    assert damaged == (
        "7 pictures decoded with damage: 0 (0.000 s), 1 (0.100 s), 2 (0.200 s), 3 (0.300 s), "
        "4 (0.400 s) and 2 more."
    )


@pytest.mark.parametrize("rate", [None, 0, -1, float("nan"), float("inf"), 1001, 90000])
def test_nonsense_rates_become_24(rate: float | None) -> None:
    assert plausible_rate(rate) == 24


@pytest.mark.parametrize("rate", [0.5, 1, 23.976, 240, 1000])
def test_plausible_rates_stay(rate: float) -> None:
    assert plausible_rate(rate) == rate
