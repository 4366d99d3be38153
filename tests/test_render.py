"""Labels drawn over their clip, as a user asks for it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from propagate.errors import InputError
from propagate.output.contact_sheet import CAPTION_HEIGHT, GAP
from propagate.output.drawing import DrawStyle
from propagate.output.keypoint_overlay import draw_keypoints
from propagate.output.labelled_clip import LabelSource, open_labelled
from propagate.output.overlay import draw_overlay
from propagate.output.render import evenly
from propagate.render import RenderRequest
from propagate.video import FrameChoice, open_clip
from tests.review_clips import COUNT, SIZE, mask, write_clip, write_keypoint_run, write_mask_run
from tests.test_run import call

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mask_run(tmp_path_factory.mktemp("masks"))


def picture(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def frames(path: Path) -> list[np.ndarray]:
    return [frame.rgb for frame in open_clip(path)]


def clip_frame(run: Path, index: int) -> np.ndarray:
    return picture(run.parent / "clip" / f"img{index}.png")


def test_stills_are_the_overlay_itself(run: Path, tmp_path: Path, capsys: Capture) -> None:
    code, out, err = call(capsys, "render", run, "-o", tmp_path / "s", "--frames", "2,8:11:2")
    assert (code, err) == (0, "")
    assert out == f"3 frames drawn: {tmp_path / 's'}\n"
    assert {path.name for path in (tmp_path / "s").iterdir()} == {
        "img2.png",
        "img8.png",
        "img10.png",
    }
    drawn = draw_overlay(clip_frame(run, 8), mask(8))
    np.testing.assert_array_equal(picture(tmp_path / "s/img8.png"), drawn)


def test_opacity_and_contours(run: Path, tmp_path: Path, capsys: Capture) -> None:
    options = ("--frames", 3, "--opacity", 1, "--no-contours")
    assert call(capsys, "render", run, "-o", tmp_path / "s", *options)[0] == 0
    drawn = draw_overlay(clip_frame(run, 3), mask(3), opacity=1, contour=False)
    np.testing.assert_array_equal(picture(tmp_path / "s/img3.png"), drawn)


def test_side_by_side_has_the_bare_frame_on_the_left(
    run: Path, tmp_path: Path, capsys: Capture
) -> None:
    target = tmp_path / "both.mp4"
    code, out, err = call(
        capsys, "render", run, "-o", target, "--what", "side-by-side", "--fps", 12, "--json"
    )
    assert code == 0, err
    assert json.loads(out) == {"output": str(target), "frames": COUNT, "notes": []}
    shown = frames(target)
    assert len(shown) == COUNT
    assert shown[5].shape == (SIZE.height, 2 * SIZE.width, 3)
    assert np.abs(shown[5][:, : SIZE.width].astype(int) - clip_frame(run, 5)).mean() < 4
    assert np.abs(shown[5][:, SIZE.width :].astype(int) - clip_frame(run, 5)).mean() > 8
    assert open_clip(target).fps == 12


def test_sheet_has_the_tiles_asked_for(run: Path, tmp_path: Path, capsys: Capture) -> None:
    target = tmp_path / "sheet.png"
    code, out, err = call(capsys, "render", run, "-o", target, "--tiles", 5, "--columns", 4)
    assert code == 0, err
    assert out.startswith("5 frames")
    tile = round(320 * SIZE.height / SIZE.width) + CAPTION_HEIGHT
    assert picture(target).shape == (GAP + 2 * (tile + GAP), GAP + 4 * (320 + GAP), 3)


def test_sheet_of_some_frames(run: Path, tmp_path: Path, capsys: Capture) -> None:
    target = tmp_path / "sheet.png"
    options = ("--frames", "4:10", "--tiles", 3)
    code, out, err = call(capsys, "render", run, "-o", target, *options)
    assert code == 0, err
    assert out.startswith("3 frames")


def test_keypoints_are_drawn_with_their_skeleton(tmp_path: Path, capsys: Capture) -> None:
    run = write_keypoint_run(tmp_path)
    code, _, err = call(capsys, "render", run, "-o", tmp_path / "s", "--frames", 1, "--no-names")
    assert code == 0, err
    clip = open_labelled(LabelSource(labels=run))
    points = next(item.labels for item in clip if item.frame.index == 1)
    drawn = draw_keypoints(clip_frame(run, 1), points, edges=[("nose", "tail")], names=False)
    np.testing.assert_array_equal(picture(tmp_path / "s/img1.png"), drawn)


def test_labels_of_other_tools_need_a_clip(run: Path, tmp_path: Path, capsys: Capture) -> None:
    coco = tmp_path / "masks.json"
    assert call(capsys, "convert", run, coco, "--to", "coco")[0] == 0
    code, _, err = call(capsys, "render", coco, "-o", tmp_path / "s")
    assert code == 1
    assert "does not say which clip it belongs to; name it with --clip" in err
    clip = run.parent / "clip"
    code, _, err = call(capsys, "render", coco, "--clip", clip, "-o", tmp_path / "s")
    assert code == 0, err
    drawn = draw_overlay(clip_frame(run, 6), mask(6))
    np.testing.assert_array_equal(picture(tmp_path / "s/img6.png"), drawn)


def test_keypoint_files_need_a_clip_too(tmp_path: Path, capsys: Capture) -> None:
    run = write_keypoint_run(tmp_path)
    table = tmp_path / "points.csv"
    (run / "keypoints.csv").rename(table)
    clip = tmp_path / "clip"
    code, _, err = call(capsys, "render", table, "--clip", clip, "-o", tmp_path / "s")
    assert code == 0, err
    assert len(list((tmp_path / "s").iterdir())) == 8


def test_points_of_another_clip_are_refused(tmp_path: Path, capsys: Capture) -> None:
    table = tmp_path / "points.csv"
    table.write_text("frame,name,x,y,visible\n70,nose,1,1,1\n")
    clip = write_clip(tmp_path, 3)
    code, _, err = call(capsys, "render", table, "--clip", clip, "-o", tmp_path / "s")
    assert code == 1
    assert "has none of the frames" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "x.mp4", "--what", "sheet"], "x.mp4 can't be a sheet; end its name in .png"),
        (["-o", "x.gif", "--what", "overlay"], "x.gif can't be a video; end its name in .mp4"),
        (["-o", "x.png", "--what", "stills"], "go to a folder"),
        (["-o", "x.mp4", "--opacity", "1.5"], "--opacity is 1.5; it must be from 0 to 1"),
        (["-o", "x.mp4", "--opacity", "0", "--no-contours"], "can't be seen"),
        (["-o", "x.png", "--tiles", "0"], "--tiles is 0"),
        (["-o", "x.mp4", "--frames", "90"], "--frames 90 chooses none of the 16 labelled frames"),
        (["-o", "x.mp4", "--frames", "1;2"], "is not start:stop"),
        (["-o", "."], "is or holds the source"),
    ],
)
def test_what_cannot_be_drawn_is_said(
    run: Path,
    arguments: list[str],
    message: str,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(run.parent)
    before = sorted(run.parent.rglob("*"))
    code, out, err = call(capsys, "render", run, *arguments)
    assert (code, out) == (1, "")
    assert message in err
    assert sorted(run.parent.rglob("*")) == before


def test_nothing_is_replaced_unasked(run: Path, tmp_path: Path, capsys: Capture) -> None:
    target = tmp_path / "sheet.png"
    target.write_bytes(b"mine")
    code, _, err = call(capsys, "render", run, "-o", target)
    assert code == 1
    assert "--overwrite" in err
    assert target.read_bytes() == b"mine"
    assert call(capsys, "render", run, "-o", target, "--overwrite")[0] == 0
    assert picture(target).size


def test_a_damaged_record_is_named(tmp_path: Path, capsys: Capture) -> None:
    run = write_mask_run(tmp_path)
    (run / "run.json").write_text('{"status": "complete"}')
    code, _, err = call(capsys, "render", run, "-o", tmp_path / "x.mp4")
    assert code == 1
    assert "run.json: the file has no 'config'" in err


def test_references_of_a_run_are_named_on_the_sheet(tmp_path: Path) -> None:
    run = write_mask_run(tmp_path)
    assert open_labelled(LabelSource(labels=run)).given == {0}
    record = json.loads((run / "run.json").read_text())
    record["config"]["references"] = [{"frame": 9, "path": "b.png"}, {"frame": 2, "path": "a.png"}]
    (run / "run.json").write_text(json.dumps(record))
    assert open_labelled(LabelSource(labels=run)).given == {2, 9}


@given(st.integers(1, 50), st.integers(1, 60))
def test_evenly(count: int, wanted: int) -> None:
    positions = sorted(evenly(count, wanted))
    assert len(positions) == min(count, wanted)
    assert positions[0] == 0
    assert positions[-1] == (count - 1 if wanted > 1 else 0)
    steps = np.diff(positions)
    assert not len(steps) or steps.max() - steps.min() <= 1


def test_lists_of_frames() -> None:
    choice = FrameChoice.parse("7, 2:4,10:20:5")
    assert [index for index in range(30) if index in choice] == [2, 3, 7, 10, 15]
    assert choice.last == 15
    assert str(choice) == "7,2:4,10:20:5"
    assert FrameChoice.parse("3,9:").last is None
    with pytest.raises(InputError, match="not start:stop"):
        FrameChoice.parse("3,,4")


def test_a_request_knows_its_endings() -> None:
    source = LabelSource(labels=Path("out"))
    assert RenderRequest(source=source, output=Path("a.MKV")).suffixes[0] == ".mp4"
    with pytest.raises(InputError, match="both must be 1 or more"):
        RenderRequest(source=source, output=Path("a.png"), kind="sheet", columns=0)
    assert DrawStyle(opacity=0).contour
