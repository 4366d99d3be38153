"""`propagate eval` on a small data set in the DAVIS layout."""

from __future__ import annotations

import json
from pathlib import Path

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


def test_davis_2017(capsys: pytest.CaptureFixture[str], davis: Path, tmp_path: Path) -> None:
    arguments = ("eval", "davis", "--root", davis, "--split", "train", "-o", tmp_path)
    code, out, err = call(capsys, *arguments)
    assert (code, err) == (0, "")
    record = json.loads((tmp_path / "scores.json").read_text())
    assert [(o["sequence"], o["object_id"]) for o in record["objects"]] == [
        ("disc", 1),
        ("disc", 2),
        ("back", 1),
        ("back", 2),
    ]
    assert record["mean"]["j"] > 80
    assert record["mean"]["jf"] > record["mean"]["copy_jf"]
    moving = [o for o in record["objects"] if o["object_id"] == 1]
    assert all(o["floor"] < o["jaccard"][0] for o in moving)
    assert len(list((tmp_path / "disc").glob("*.png"))) == 6
    assert "mean" in out.splitlines()[-1]
    code, _, err = call(capsys, *arguments)
    assert code == 1
    assert "already holds scores; replace them with --overwrite" in err


def test_davis_2016_has_one_object(capsys: pytest.CaptureFixture[str], davis: Path) -> None:
    arguments = ("eval", "davis", "--root", davis, "--split", "train", "--year", "2016", "--json")
    _, out, _ = call(capsys, *arguments, "--sequence", "disc")
    assert [o["object_id"] for o in json.loads(out)["objects"]] == [1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--root", "nowhere"), "nowhere is no DAVIS 2017 root"),
        (("--root", "{root}", "--split", "test"), "test.txt is missing; download"),
        (("--root", "{root}", "--split", "train", "--sequence", "cat"), "'cat' is not in"),
    ],
)
def test_missing_data(
    capsys: pytest.CaptureFixture[str], davis: Path, arguments: tuple[str, ...], message: str
) -> None:
    filled = (argument.format(root=davis) for argument in arguments)
    code, out, err = call(capsys, "eval", "davis", *filled)
    assert (code, out) == (1, "")
    assert message in err


def test_incomplete_annotations(capsys: pytest.CaptureFixture[str], davis: Path) -> None:
    last = davis / "Annotations/480p/disc/00005.png"
    kept = last.read_bytes()
    last.unlink()
    try:
        code, _, err = call(capsys, "eval", "davis", "--root", davis, "--split", "train")
    finally:
        last.write_bytes(kept)
    assert code == 1
    assert "has 6 frames and" in err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0
    assert "0.1.0" in capsys.readouterr().out
