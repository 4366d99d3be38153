"""`propagate match`, as a user runs it."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from propagate.metrics.homography import corner_errors
from propagate.types import Size
from tests.test_run import call

ASSETS = Path(__file__).resolve().parent.parent / "examples/assets"
FAST = ("--short-side", 192)
SHIFT = (16, 32)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`a.png`, `b.png` with everything 16 to the right and 32 down, and two points in `p.csv`."""
    folder = tmp_path_factory.mktemp("images")
    with Image.open(ASSETS / "coffee.jpg") as picture:
        whole = picture.convert("RGB").resize((368, 288))
    whole.crop((32, 48, 352, 272)).save(folder / "a.png")
    whole.crop((16, 16, 336, 240)).save(folder / "b.png")
    rows = "frame,name,x,y,visible\n0,cup,100,80,1\n0,spoon,200,120,1\n0,gone,,,0\n"
    (folder / "p.csv").write_text(rows)
    return folder


def pair(images: Path) -> tuple[object, ...]:
    return ("match", images / "a.png", images / "b.png", *FAST)


def test_points_are_found_and_printed(capsys: pytest.CaptureFixture[str], images: Path) -> None:
    code, out, err = call(capsys, *pair(images), "--points", images / "p.csv")
    assert (code, err) == (0, "")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["name"] for row in rows] == ["cup", "spoon"]
    for row in rows:
        moved = [float(row[f"target_{axis}"]) - float(row[f"source_{axis}"]) for axis in ("x", "y")]
        np.testing.assert_allclose(moved, SHIFT, atol=8)


def test_homography_of_a_shift(
    capsys: pytest.CaptureFixture[str], images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = (*pair(images), "--keypoints", "sift", "--method", "geometric", "-o", out)
    code, printed, err = call(capsys, *arguments, "--json")
    assert (code, err) == (0, "")
    facts = json.loads(printed)
    truth = np.array([[1, 0, SHIFT[0]], [0, 1, SHIFT[1]], [0, 0, 1.0]])
    assert corner_errors(np.array(facts["matrix"]), truth, Size(224, 320)).max() < 4
    assert facts["inliers"] == sum(item["inlier"] for item in facts["matches"]) > 20
    assert {path.name for path in out.iterdir()} == {"match.json", "match.png", "matches.csv"}
    record = json.loads((out / "match.json").read_text())
    assert record["status"] == "complete"
    assert record["matches"] == facts["matches"]
    with Image.open(out / "match.png") as picture:
        assert picture.size == (320 + 8 + 320, 224)
    code, _, err = call(capsys, *arguments)
    assert code == 1
    assert "already holds a match; replace it with --overwrite" in err
    assert call(capsys, *arguments, "--overwrite")[0] == 0


def test_heatmap_alone(capsys: pytest.CaptureFixture[str], images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, printed, err = call(capsys, *pair(images), "--heatmap", "100,80", "-o", out)
    assert (code, err) == (0, "")
    assert printed == f"Heat map: {out / 'heatmap.png'}\n"
    assert {path.name for path in out.iterdir()} == {"match.json", "heatmap.png"}


def test_a_mirrored_source_is_noticed(
    capsys: pytest.CaptureFixture[str], images: Path, tmp_path: Path
) -> None:
    with Image.open(images / "a.png") as picture:
        picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "m.png")
    arguments = ("match", images / "a.png", tmp_path / "m.png", "--grid", 4, "--flip", "--json")
    _, out, _ = call(capsys, *arguments, *FAST)
    facts = json.loads(out)
    assert facts["flipped"]
    assert len(facts["matches"]) == 4 * 3
    for item in facts["matches"]:
        np.testing.assert_allclose(item["target"][0], 320 - item["source"][0], atol=30)


def test_geometric_points_of_both_files(capsys: pytest.CaptureFixture[str], images: Path) -> None:
    arguments = ("--points", images / "p.csv", "--method", "geometric")
    code, _, err = call(capsys, *pair(images), *arguments)
    assert code == 1
    assert "--target-points" in err
    moved = images / "q.csv"
    moved.write_text("frame,name,x,y,visible\n0,cup,116,112,1\n0,spoon,216,152,1\n")
    _, out, _ = call(capsys, *pair(images), *arguments, "--target-points", moved, "--json")
    facts = json.loads(out)
    assert facts["matrix"] is None
    assert [item["name"] for item in facts["matches"]] == ["cup", "spoon"]
    assert [item["target"] for item in facts["matches"]] == [[116, 112], [216, 152]]


def test_points_of_a_detectors_file_count_from_the_pixels_centre(
    capsys: pytest.CaptureFixture[str], images: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.kp").write_text("100 80\n200.5 120 0.7\n")
    code, out, err = call(capsys, *pair(images), "--points", tmp_path / "a.kp", "--json")
    assert (code, err) == (0, "")
    found = {item["name"]: item["source"] for item in json.loads(out)["matches"]}
    assert found == {"0": [100.5, 80.5], "1": [201, 120.5]}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "No point to match"),
        (("--grid", 3, "--keypoints", "orb"), "give one of them"),
        (("--grid", 0), "--grid is 0; it must be 1 to 200"),
        (("--heatmap", "3,4"), "name a folder for it with -o"),
        (("--heatmap", "3", "-o", "{folder}/out"), "write X,Y in pixels"),
        (("--heatmap", "900,4", "-o", "{folder}/out"), "(900, 4) lies outside of the image"),
        (("--grid", 3, "--flip", "--method", "geometric"), "--flip is for --method semantic"),
        (("--grid", 3, "--ratio", 2), "ratio is 2"),
        (("--points", "{folder}/none.csv"), "none.csv does not exist"),
    ],
)
def test_bad_input_gets_one_sentence(
    capsys: pytest.CaptureFixture[str],
    images: Path,
    tmp_path: Path,
    arguments: tuple[object, ...],
    message: str,
) -> None:
    filled = [str(word).format(folder=tmp_path) for word in arguments]
    code, out, err = call(capsys, *pair(images), *filled)
    assert (code, out) == (1, "")
    assert message in err
    assert not (tmp_path / "out").exists()


def test_nothing_to_detect(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "black.png")
    black = tmp_path / "black.png"
    code, _, err = call(capsys, "match", black, black, "--keypoints", "gftt")
    assert code == 1
    assert "gftt finds no keypoint in 'black'" in err
