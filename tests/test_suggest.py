"""Which frames to annotate next."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from propagate.labels.mask_files import write_mask
from propagate.labels.track_table import TRACK_HEADER
from propagate.suggest import choose_frames
from tests.moving_clip import true_ids, write_clip
from tests.test_correct import QUICK, call


def plain_gain(errors: list[float], annotated: list[int], new: int) -> float:
    """The words of `choose_frames`, frame by frame."""
    count = len(errors)

    def information(place: int, frames: list[int]) -> float:
        before = min((place - i for i in frames if i <= place), default=place + 2 * count)
        after = min((i - place for i in frames if i >= place), default=3 * count - place)
        return 1 / max(before, 0.01) + 1 / max(after, 0.01)

    return sum(
        error * (1 - information(place, annotated) / information(place, [*annotated, new]))
        for place, error in enumerate(errors)
        if place not in annotated
    )


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=25), st.data())
def test_the_frame_that_removes_most_is_chosen_first(errors: list[float], data: st.DataObject):
    annotated = data.draw(st.lists(st.integers(0, len(errors) - 1), unique=True, max_size=3))
    found = choose_frames(errors, annotated, 1)
    gains = [plain_gain(errors, annotated, place) for place in range(len(errors))]
    whole = sum(error for place, error in enumerate(errors) if place not in annotated)
    if max(gains) <= 1e-9 * max(whole, 1e-9):
        assert found == []
    else:
        ((place, gain),) = found
        assert gain == pytest.approx(max(gains) / whole)
        assert gains[place] == pytest.approx(max(gains))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(0.01, 1), min_size=2, max_size=40), st.integers(1, 60))
def test_no_frame_twice_and_never_more_than_all_is_gained(errors: list[float], count: int):
    found = choose_frames(errors, [0], count)
    places = [place for place, _ in found]
    assert len(set(places)) == len(places) <= count
    assert 0 not in places
    assert sum(gain for _, gain in found) <= 1 + 1e-9
    assert len(places) == min(count, len(errors) - 1)


def test_errors_draw_the_choice_and_even_ones_spread_it() -> None:
    late = [0.0] * 40 + [1.0] * 20
    assert 40 <= choose_frames(late, [0], 1)[0][0] < 60
    even = [place for place, _ in choose_frames([1.0] * 90, [0, 89], 3)]
    assert abs(even[0] - 44) <= 1
    assert sorted(abs(place - 44) // 15 for place in even[1:]) == [1, 1]
    assert choose_frames([0.0] * 9, [0], 3) == []


def test_a_clip_of_ten_thousand_frames_is_no_burden() -> None:
    errors = np.random.default_rng(0).random(10_000)
    assert len(choose_frames(errors, [0], 2)) == 2


def test_the_command_names_frames_and_writes_a_start_for_each(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    clip = write_clip(tmp_path, 12)
    write_mask(tmp_path / "first.png", true_ids(0))
    out, todo = tmp_path / "out", tmp_path / "todo"
    assert call(capsys, "run", clip, tmp_path / "first.png", "-o", out, *QUICK)[0] == 0
    lines = (out / "tracks.csv").read_text().splitlines()
    assert lines[0] + "\n" == TRACK_HEADER
    assert lines[1] == "0,00000,1,1.0,0,,,given"
    assert len(lines) == 1 + 12
    rows = [line.split(",") for line in lines[1:]]
    assert all(0 <= float(row[3]) <= 1 for row in rows)
    doubtful = [
        ",".join([*row[:3], "0.1" if row[0] in ("7", "8") else "0.99", *row[4:]])
        if row[7] != "given"
        else ",".join(row)
        for row in rows
    ]
    (out / "tracks.csv").write_text("\n".join([lines[0], *doubtful, ""]))
    code, printed, _ = call(capsys, "suggest", out, "-k", "2", "-o", todo, "--json")
    assert code == 0
    found = json.loads(printed)
    assert found[0]["frame"] in (7, 8)
    assert found[0]["error"] == pytest.approx(0.9)
    assert "object 1: confidence 0.10" in found[0]["why"]
    names = {f"{item['frame']:06d}{end}" for item in found for end in (".png", ".frame.png")}
    assert {path.name for path in todo.iterdir()} == names
    first = found[0]["frame"]
    start = np.array(Image.open(todo / f"{first:06d}.png"))
    np.testing.assert_array_equal(start, np.array(Image.open(out / f"masks/{first:05d}.png")))
    code, printed, _ = call(capsys, "suggest", out, "-k", "1")
    assert printed.startswith(f"{first:6}  ")
    code, _, err = call(capsys, "suggest", out, "-o", todo)
    assert code == 1
    assert "replace it with --overwrite" in err
    assert call(capsys, "suggest", out, "-k", "0")[0] == 1
    fix = f"{first}={todo / f'{first:06d}.png'}"
    code, printed, _ = call(capsys, "correct", out, "--ref", fix, "--no-overlay")
    assert code == 0
    assert "frames propagated again" in printed


def test_masks_of_another_tool_are_judged_by_their_looks(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    clip = write_clip(tmp_path, 16)
    (tmp_path / "masks").mkdir()
    for index in range(16):
        ids = true_ids(index) * (true_ids(index) == 1)
        if index == 11:
            ids[:, :40] = 0
        write_mask(tmp_path / f"masks/{index:05d}.png", ids)
    code, printed, _ = call(capsys, "suggest", tmp_path / "masks", "--clip", clip, "--json")
    assert code == 0
    assert abs(json.loads(printed)[0]["frame"] - 11) <= 1
