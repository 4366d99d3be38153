"""Keypoints through the main job as a user runs it."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from propagate.labels.keypoint_files import read_keypoints, write_keypoints
from propagate.labels.keypoint_formats.base import AnnotatedFrame, KeypointFile, make_keypoints
from propagate.types import PointName, Size
from tests.test_run import call, command, propagate, write_clip

SIZE = Size(96, 144)
PLACES = {"centre": (40.5, 48.5), "rim": (40.5, 30.25), "tile": (120.125, 16.5)}


def write_points(path: Path, **places: tuple[float, float] | None) -> Path:
    rows = [
        f"0,{name},{place[0]},{place[1]},1\n" if place else f"0,{name},,,0\n"
        for name, place in (PLACES | places).items()
    ]
    path.write_text("frame,name,x,y,visible\n" + "".join(rows))
    return path


@pytest.fixture(scope="module", autouse=True)
def small_input() -> Iterator[None]:
    """Pictures this small gain nothing from being enlarged to 480 rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROPAGATE_RUN_SHORT_SIDE", "240")
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a clip, keypoints of its first frame, and a finished run in `out`."""
    folder = tmp_path_factory.mktemp("run")
    clip, _ = write_clip(folder, 24)
    points = write_points(folder / "first.csv", gone=None)
    edges = ("--skeleton", "centre-rim")
    done = propagate("run", clip, points, "-o", folder / "out", *edges, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert json.loads(done.stdout)["frames"] == 24
    return folder


def test_points_follow_the_objects(finished: Path) -> None:
    frames = read_keypoints(finished / "out/keypoints.csv").frames
    assert [frame.index for frame in frames] == list(range(24))
    for frame in frames[1:]:
        assert frame.index is not None
        points = frame.keypoints
        assert [str(name) for name in points.names] == [*PLACES, "gone"]
        shift = np.array([[frame.index, 0], [frame.index, 0], [0, 0]])
        wanted = np.array(list(PLACES.values())) + shift
        assert np.linalg.norm(points.xy[:3] - wanted, axis=1).max() < 3
        assert points.visible.tolist() == [True, True, True, False]
        assert points.confidence is not None
        assert points.confidence[3] == 0
        assert np.isnan(points.xy[3]).all()


def test_the_annotated_frame_is_unchanged(finished: Path) -> None:
    with (finished / "out/keypoints.csv").open(newline="") as file:
        first = [row for row in csv.DictReader(file) if row["frame"] == "0"]
    assert [(float(row["x"]), float(row["y"])) for row in first[:3]] == list(PLACES.values())
    assert first[3] == {
        "frame": "0",
        "name": "gone",
        "x": "",
        "y": "",
        "visible": "0",
        "confidence": "",
    }


def test_everything_else_is_written_and_nothing_more(finished: Path) -> None:
    names = {path.name for path in (finished / "out").iterdir()}
    assert names == {
        *("keypoints.csv", "references", "cache", "overlay.mp4", "contact_sheet.png", "run.json")
    }
    record = json.loads((finished / "out/run.json").read_text())
    assert record["status"] == "complete"
    assert record["frames"] == 24
    assert record["config"]["video"]["keypoints"]["decoding"] == "soft-argmax"
    assert record["skeleton"] == [["centre", "rim"]]
    video = cv2.VideoCapture(str(finished / "out/overlay.mp4"))
    frames = 0
    while video.read()[0]:
        frames += 1
    assert frames == 24


def test_the_preset_of_keypoints_is_the_default_one(
    capsys: pytest.CaptureFixture[str], finished: Path, tmp_path: Path
) -> None:
    inputs = ("run", finished / "clip", finished / "first.csv", "--frames", "0:6", "--no-overlay")
    tables = []
    for name, options in (("a", ()), ("b", ("--preset", "keypoints")), ("c", ("--preset", "dino"))):
        assert call(capsys, *inputs, "-o", tmp_path / name, *options)[0] == 0
        tables.append((tmp_path / name / "keypoints.csv").read_bytes())
    assert tables[0] == tables[1]
    assert tables[0] != tables[2]


def test_resumed_run_is_identical_to_an_uninterrupted_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    clip, _ = write_clip(tmp_path, 34)
    points = write_points(tmp_path / "first.csv")
    quick = ("--no-overlay", "--short-side", "160")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert call(capsys, "run", clip, points, "-o", whole, *quick)[0] == 0
    table = cut / "keypoints.csv"
    for wait_for in (5, 25):
        arguments = ["run", clip, points, "-o", cut, *quick]
        with subprocess.Popen(
            command(*arguments, *(["--resume"] if cut.exists() else [])),
            stderr=subprocess.DEVNULL,
        ) as process:
            while process.poll() is None and not (
                table.exists() and f"\n{wait_for},".encode() in table.read_bytes()
            ):
                time.sleep(0.01)
            os.kill(process.pid, signal.SIGKILL)
        # What a kill in the middle of writing would leave.
        with table.open("a") as file:
            file.write("33,centre,1")
        assert json.loads((cut / "run.json").read_text())["status"] == "running"
    code, _, err = call(capsys, "run", clip, points, "-o", cut, *quick, "--resume")
    assert code == 0, err
    assert table.read_bytes() == (whole / "keypoints.csv").read_bytes()
    assert sorted(p.name for p in cut.iterdir()) == [
        *("cache", "keypoints.csv", "references", "run.json")
    ]


def test_overwriting_masks_with_keypoints_leaves_no_mask(
    capsys: pytest.CaptureFixture[str], finished: Path, tmp_path: Path
) -> None:
    common = ("-o", tmp_path / "out", "--frames", "0:2", "--no-overlay")
    assert call(capsys, "run", finished / "clip", finished / "first.png", *common)[0] == 0
    inputs = ("run", finished / "clip", finished / "first.csv", *common, "--overwrite")
    assert call(capsys, *inputs)[0] == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        *("cache", "keypoints.csv", "references", "run.json")
    ]


def test_frames_are_found_by_number_and_by_name(
    capsys: pytest.CaptureFixture[str], finished: Path, tmp_path: Path
) -> None:
    """A COCO file of two individuals, marked on pictures twice as large."""
    names = [PointName("c", who) for who in ("left", "right")]
    frames = []
    for index, name in ((11, "img4"), (4, "img11")):
        places = np.array([PLACES["centre"], PLACES["tile"]]) * 2 + np.array(
            [[2 * index, 0], [0, 0]]
        )
        points = make_keypoints(names, places, np.ones(2))
        frames.append(AnnotatedFrame(points, index, name, Size(2 * SIZE.height, 2 * SIZE.width)))
    path = tmp_path / "coco.json"
    write_keypoints(path, KeypointFile(tuple(frames)), format_name="coco")
    inputs = ("run", finished / "clip", path, "-o", tmp_path / "out", "--frames", "4:6")
    code, _, err = call(capsys, *inputs, "--no-overlay")
    assert code == 0, err
    first = read_keypoints(tmp_path / "out/keypoints.csv").frames[0]
    assert first.index == 4
    np.testing.assert_allclose(
        first.keypoints.xy,
        np.array([PLACES["centre"], PLACES["tile"]]) + np.array([[11, 0], [0, 0]]),
    )
    assert [str(name) for name in first.keypoints.names] == ["left/c", "right/c"]


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        ("0,a,10,10,1\n", ("--skeleton", "a-b"), "joins no two points"),
        ("0,a,10,10,1\n", ("--points-size", "big"), "--points-size is 'big'"),
        ("0,a,10,10,1\n", ("--points-size", "10x1000"), "not the shape of"),
        ("0,a,10,10,1\n", ("--binarize",), "are for masks"),
        ("0,a,10,10,1\n", ("--visible-from", "7"), "visible_from is 7"),
        ("0,a,1000,10,1\n", (), "a in .* is at (1000, 10), outside the frame of 144x96"),
        ("0,a,10,10,0\n", (), "No point is visible in frame 0"),
        ("3,a,1,1,1\n4,a,1,1,1\n", (), "has no points of frame 0 (img0)"),
        ("", (), "holds no point"),
    ],
)
def test_bad_keypoints_get_one_sentence(
    capsys: pytest.CaptureFixture[str],
    finished: Path,
    tmp_path: Path,
    table: str,
    options: tuple[str, ...],
    message: str,
) -> None:
    path = tmp_path / "bad.csv"
    path.write_text("frame,name,x,y,visible\n" + table)
    code, out, err = call(capsys, "run", finished / "clip", path, "-o", tmp_path / "out", *options)
    assert code == 1
    for part in message.split(".*"):
        assert part in err
    assert err.startswith("Error: ")
    assert out == ""
    assert not (tmp_path / "out").exists()


def test_what_was_assumed_is_said(
    capsys: pytest.CaptureFixture[str], finished: Path, tmp_path: Path
) -> None:
    path = tmp_path / "one.csv"
    path.write_text("frame,name,x,y,visible\n9,a,50,50,1\n9,b,60,60,1\n9,c,-5,60,1\n")
    inputs = ("run", finished / "clip", path, "-o", tmp_path / "out", "--frames", "0:2")
    code, _, err = call(capsys, *inputs, "--no-overlay")
    assert code == 0
    assert "The points of 9 in" in err
    assert "are taken for frame 0" in err
    assert "Outside the frame, so taken for not visible: c." in err


def test_keypoint_options_are_not_for_masks(
    capsys: pytest.CaptureFixture[str], finished: Path, tmp_path: Path
) -> None:
    inputs = ("run", finished / "clip", finished / "first.png", "-o", tmp_path / "out")
    code, _, err = call(capsys, *inputs, "--skeleton", "a-b")
    assert code == 1
    assert "are for keypoints" in err


def test_badja_needs_the_size_of_its_pictures(
    capsys: pytest.CaptureFixture[str], shared_dir: Path, tmp_path: Path
) -> None:
    data = shared_dir / "data"
    inputs = (
        *("run", data / "DAVIS/JPEGImages/480p/bear", data / "BADJA/joint_annotations/bear.json"),
        *("-o", tmp_path / "out", "--frames", "2:4", "--no-overlay", "--short-side", "160"),
    )
    code, _, err = call(capsys, *inputs)
    assert code == 1
    assert "--points-size WIDTHxHEIGHT" in err
    code, _, err = call(capsys, *inputs, "--points-size", "1920x1080")
    assert code == 0, err
    first = read_keypoints(tmp_path / "out/keypoints.csv").frames[0]
    assert first.keypoints.visible.all()
    np.testing.assert_allclose(first.keypoints.xy[2], [433.5 * 854 / 1920, 908.5 * 480 / 1080])
