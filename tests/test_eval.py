"""`propagate eval` on a small data set in the DAVIS layout."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from propagate.commands.main import main
from tests.test_run import call, disc, picture


@pytest.fixture(scope="module")
def davis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sequences of 6 frames, as 2017 (ids 3 and 7 made 1 and 2) and, with one object, 2016."""
    root = tmp_path_factory.mktemp("davis")
    for year in ("2016", "2017"):
        (root / "ImageSets" / year).mkdir(parents=True)
        (root / "ImageSets" / year / "train.txt").write_text("disc\nback\n")
    for name, order in (("disc", range(6)), ("back", range(20, 2, -3))):
        images, annotations = (root / k / "480p" / name for k in ("JPEGImages", "Annotations"))
        images.mkdir(parents=True)
        annotations.mkdir(parents=True)
        for position, index in enumerate(order):
            Image.fromarray(picture(index)).save(images / f"{position:05d}.jpg", quality=95)
            ids = np.select([disc(index) == 3, disc(index) == 7], [1, 2]).astype(np.uint8)
            Image.fromarray(ids).save(annotations / f"{position:05d}.png")
    return root


# Frames here are 96 high; the model's own 480 would only cost time.
SMALL = ("--short-side", "240")


def test_davis_2017(capsys: pytest.CaptureFixture[str], davis: Path, tmp_path: Path) -> None:
    arguments = ("eval", "davis2017", "--root", davis, "--split", "train", "-o", tmp_path, *SMALL)
    code, out, err = call(capsys, *arguments)
    assert (code, err) == (0, "")
    record = json.loads((tmp_path / "summary.json").read_text())
    assert [(row["unit"], row["item"]) for row in record["rows"]] == [
        ("disc", "1"),
        ("disc", "2"),
        ("back", "1"),
        ("back", "2"),
    ]
    assert record["scores"]["J"] > 80
    assert record["scores"]["J&F"] > record["scores"]["copy J&F"]
    assert all(row["copy J&F"] < row["J"] for row in record["rows"] if row["item"] == "1")
    assert record["config"]["options"]["seed"] == 0
    assert "boundary tolerance" in record["protocol"]
    assert len(list((tmp_path / "predictions" / "disc").glob("*.png"))) == 6
    assert any(line.startswith("all ") for line in out.splitlines())
    assert (tmp_path / "table.md").read_text().count("| disc | ") == 2
    assert len((tmp_path / "scores.csv").read_text().splitlines()) == 5
    for name in ("bars.png", "worst.png"):
        assert cv2.imread(str(tmp_path / name)).shape[1] > 300
    again_predicts_nothing(capsys, arguments, tmp_path)
    code, _, err = call(capsys, *arguments, "--topk", "3")
    assert code == 1
    assert "topk was 5 and is now 3" in err
    assert "start over with --overwrite" in err


def again_predicts_nothing(
    capsys: pytest.CaptureFixture[str], arguments: tuple[object, ...], folder: Path
) -> None:
    """Whatever is complete is scored as it is, another model of the same name or not."""
    spoiled = folder / "predictions/disc/00003.png"
    Image.fromarray(np.zeros((96, 144), np.uint8)).save(spoiled)
    before = json.loads((folder / "summary.json").read_text())["scores"]["J"]
    code, _, err = call(capsys, *arguments)
    assert (code, err) == (0, "")
    assert json.loads((folder / "summary.json").read_text())["scores"]["J"] < before
    shutil.rmtree(folder / "predictions" / "disc")
    call(capsys, *arguments)
    assert json.loads((folder / "summary.json").read_text())["scores"]["J"] == before


def test_test_dev_is_packed_for_the_server(
    capsys: pytest.CaptureFixture[str], davis: Path, tmp_path: Path
) -> None:
    root = tmp_path / "davis"
    shutil.copytree(davis, root)
    (root / "ImageSets/2017/test-dev.txt").write_text("disc\n")
    for path in sorted((root / "Annotations/480p/disc").glob("*.png"))[1:]:
        path.unlink()
    arguments = ("eval", "davis2017", "--root", root, "--split", "test-dev", *SMALL)
    code, _, err = call(capsys, *arguments)
    assert code == 2
    assert "name a folder for it with --output" in err
    code, out, err = call(capsys, *arguments, "-o", tmp_path / "out")
    assert (code, err) == (0, "")
    assert "submission.zip" in out
    with zipfile.ZipFile(tmp_path / "out/submission.zip") as archive:
        assert archive.namelist() == [f"disc/{index:05d}.png" for index in range(6)]
        with archive.open("disc/00005.png") as file, Image.open(file) as image:
            assert image.mode == "P"


def test_results_of_anybody(
    capsys: pytest.CaptureFixture[str], davis: Path, tmp_path: Path
) -> None:
    truth = davis / "Annotations/480p"
    shutil.copytree(truth / "disc", tmp_path / "disc")
    code, out, err = call(capsys, "eval", "metrics", "--pred", tmp_path, "--gt", truth, "--json")
    assert (code, err) == (0, "")
    record = json.loads(out)
    assert [item["item"] for item in record["rows"]] == ["1", "2"]
    assert record["scores"]["J&F"] == 100
    arguments = ("eval", "metrics", "--pred", tmp_path, "--gt", truth, "-o", tmp_path / "scores")
    assert call(capsys, *arguments)[0] == 0
    assert len((tmp_path / "scores/scores.csv").read_text().splitlines()) == 3
    assert json.loads((tmp_path / "scores/summary.json").read_text())["scores"]["J&F"] == 100
    assert cv2.imread(str(tmp_path / "scores/bars.png")).shape[1] > 300
    (tmp_path / "disc/00002.png").unlink()
    code, _, err = call(capsys, "eval", "metrics", "--pred", tmp_path, "--gt", truth)
    assert code == 1
    assert "00002.png is missing" in err


def test_keypoints_of_anybody(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def write(name: str, shift: float, frames: range) -> Path:
        rows = [
            f"{frame},{point},{x + frame + shift * frame},{10 * k},1"
            for frame in frames
            for k, (point, x) in enumerate((("nose", 10), ("tail", 110)))
        ]
        path = tmp_path / name
        path.write_text("\n".join(["frame,name,x,y,visible", *rows]) + "\n")
        return path

    truth, pred = write("truth.csv", 0, range(0, 9, 4)), write("pred.csv", 1.5, range(9))
    code, out, err = call(capsys, "eval", "metrics", "--pred", pred, "--gt", truth, "--json")
    assert (code, err) == (0, "")
    rows = json.loads(out)["rows"]
    # Off by 6 and 12 of a box 100 wide; the copy by 4 and 8.
    assert [row["item"] for row in rows] == ["nose", "tail"]
    assert [rows[0][f"PCK@{share}"] for share in (".05", ".1", ".2")] == [0, 50, 100]
    assert [rows[0][f"copy PCK@{share}"] for share in (".05", ".1")] == [50, 100]
    assert rows[0]["error"] == pytest.approx(9)
    joints = tmp_path / "joints.json"
    joints.write_text(
        json.dumps([{"image_path": "a/00000.png", "joints": [[1, 2]] * 40, "visibility": [1] * 40}])
    )
    code, _, err = call(capsys, "eval", "metrics", "--pred", pred, "--gt", joints)
    assert code == 1
    assert "count in pictures of unknown size" in err
    short = write("short.csv", 0, range(5))
    code, _, err = call(capsys, "eval", "metrics", "--pred", short, "--gt", truth)
    assert code == 1
    assert "has no points of frame 8" in err


def test_the_official_evaluation(capsys: pytest.CaptureFixture[str], shared_dir: Path) -> None:
    folder = shared_dir / "oracles" / "davis-metrics"
    arguments = ("--pred", folder / "results", "--gt", folder / "dataset/Annotations/480p")
    _, out, _ = call(capsys, "eval", "metrics", *arguments, "--json")
    mean = json.loads(out)["scores"]
    official = json.loads((folder / "expected_official.json").read_text())["global_results"]
    for name in ("J&F", "J", "F"):
        assert mean[name] == pytest.approx(100 * official[f"{name}-Mean"], abs=1e-10)
    for name in ("J", "F"):
        for kind in ("Recall", "Decay"):
            found = mean[f"{name} {kind.lower()}"]
            assert found == pytest.approx(100 * official[f"{name}-{kind}"], abs=1e-10)


def test_davis_2016_has_one_object(capsys: pytest.CaptureFixture[str], davis: Path) -> None:
    arguments = ("eval", "davis2016", "--root", davis, "--split", "train", "--json", *SMALL)
    _, out, _ = call(capsys, *arguments, "--sequence", "disc")
    assert [row["item"] for row in json.loads(out)["rows"]] == ["1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--root", "nowhere"), "nowhere is no DAVIS 2017 root"),
        (("--root", "{root}", "--split", "test"), "test.txt is missing; fetch"),
        (("--root", "{root}", "--split", "train", "--sequence", "cat"), "'cat' is not in"),
    ],
)
def test_missing_data(
    capsys: pytest.CaptureFixture[str], davis: Path, arguments: tuple[str, ...], message: str
) -> None:
    filled = (argument.format(root=davis) for argument in arguments)
    code, out, err = call(capsys, "eval", "davis2017", *filled)
    assert (code, out) == (1, "")
    assert message in err


def test_incomplete_annotations(capsys: pytest.CaptureFixture[str], davis: Path) -> None:
    last = davis / "Annotations/480p/disc/00005.png"
    kept = last.read_bytes()
    last.unlink()
    try:
        code, _, err = call(
            capsys, "eval", "davis2017", "--root", davis, "--split", "train", *SMALL
        )
    finally:
        last.write_bytes(kept)
    assert code == 1
    assert "has 6 frames and" in err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0
    assert "0.1.0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("how", "when"),
    [(signal.SIGKILL, "working"), (signal.SIGINT, "working"), (signal.SIGINT, "starting")],
)
def test_sequences_side_by_side_end_with_their_parent(
    capsys: pytest.CaptureFixture[str],
    davis: Path,
    tmp_path: Path,
    how: signal.Signals,
    when: str,
) -> None:
    out = tmp_path / "out"
    arguments = ("eval", "davis2017", "--root", davis, "--split", "train", "-o", out, *SMALL)
    command = [sys.executable, "-m", "propagate", *map(str, arguments), "--jobs", "2"]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:

        def due() -> bool:
            if when == "working":
                return bool(list(out.glob("predictions/*/predicted.json")))
            # The first one, what multiprocessing runs beside it, and a worker.
            return _members(process.pid) > 2

        while process.poll() is None and not due():
            time.sleep(0.01)
        if when == "starting":
            time.sleep(1)  # into its imports
        # As a terminal has it, Ctrl-C reaches every process; a kill the first one alone.
        (os.killpg if how == signal.SIGINT else os.kill)(process.pid, how)
        message = process.communicate()[1]
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert "Traceback" not in message
    deadline = time.monotonic() + 30
    while _alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(process.pid)
    code, _, err = call(capsys, *arguments)
    assert (code, err) == (0, "")
    record = json.loads((out / "summary.json").read_text())
    assert record["status"] == "complete"
    assert [row["unit"] for row in record["rows"]] == ["disc", "disc", "back", "back"]


def _members(group: int) -> int:
    """How many processes a group has."""
    shown = subprocess.run(["ps", "-A", "-o", "pgid="], capture_output=True, text=True, check=True)
    return shown.stdout.split().count(str(group))


def _alive(group: int) -> bool:
    """Whether any process of the group runs."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
