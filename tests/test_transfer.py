"""Labels of one clip for another, as a user runs it."""

from __future__ import annotations

import json
import re
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from propagate.commands.main import main
from propagate.labels.keypoint_files import read_keypoints
from propagate.labels.mask_files import read_mask, write_mask
from propagate.metrics.region import jaccard
from tests.test_run import propagate

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SIZE = (180, 320)
FRAMES = 3
FAST = ("--match-model", "efficientnet-lite0[short_side=256]", "--short-side", 256)


def write_labelled_clip(folder: Path, seed: int) -> None:
    """Three objects over the ground: `clip/` and `truth/`, and points in their middle."""
    sys.path.insert(0, str(EXAMPLES))
    try:
        clip = import_module("synthetic_clip").SyntheticClip(FRAMES, SIZE, seed)
    finally:
        sys.path.remove(str(EXAMPLES))
    for name in ("clip", "truth"):
        (folder / name).mkdir(parents=True)
    for index, (rgb, ids) in enumerate(clip):
        Image.fromarray(rgb).save(folder / f"clip/{index:05d}.png")
        write_mask(folder / f"truth/{index:05d}.png", ids)
        if index == 0:
            rows = [f"0,object{i},{x},{y},1\n" for i, (x, y) in centres(ids).items()]
            (folder / "points.csv").write_text("frame,name,x,y,visible\n" + "".join(rows))


def centres(ids: np.ndarray) -> dict[int, tuple[float, float]]:
    where = {int(i): np.argwhere(ids == i).mean(0) + 0.5 for i in np.unique(ids) if i}
    return {i: (float(x), float(y)) for i, (y, x) in where.items()}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`a` and `b`: the same things at other places of another ground, in other light."""
    folder = tmp_path_factory.mktemp("clips")
    write_labelled_clip(folder / "a", 0)
    write_labelled_clip(folder / "b", 5)
    Image.effect_noise((320, 180), 90).convert("RGB").save(folder / "noise.png")
    return folder


def source(clips: Path, labels: str = "truth/00000.png") -> str:
    return f"{clips}/a/clip/00000.png={clips}/a/{labels}"


def test_masks_are_found_and_propagated(clips: Path, tmp_path: Path) -> None:
    where = ("--from", source(clips), "--to", clips / "b/clip", "-o", tmp_path)
    done = propagate("transfer", *where, "--json", *FAST)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    frame = facts["frame"]
    assert set(facts["trust"]) == {"1", "2", "3"}
    assert facts["lost"] == []
    assert facts["frames"] == len(list((tmp_path / "masks").iterdir())) > 0
    given = read_mask(tmp_path / "transfer/mask.png")
    truth = read_mask(clips / f"b/truth/{frame:05d}.png").ids
    assert given.palette is not None
    for label in (1, 2, 3):
        assert jaccard(given.ids == label, truth == label) > 0.4, label
    np.testing.assert_array_equal(read_mask(tmp_path / f"masks/{frame:05d}.png").ids, given.ids)
    names = {path.name for path in (tmp_path / "transfer").iterdir()}
    assert names == {"mask.png", "match.png", "transfer.json"}
    record = json.loads((tmp_path / "transfer/transfer.json").read_text())
    assert record["status"] == "complete"
    assert record["frame"] == frame
    assert [item["frame"] for item in record["candidates"]] == [0, 1, 2]
    best = max(item["confidence"] for item in record["candidates"])
    assert record["confidence"] == best == pytest.approx(facts["confidence"], abs=1e-4)
    assert "blocks10x1+14x1+15x1" in record["model"]
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["status"] == "complete"
    assert "blocks2x0.5+4x1+10x1+14x0.5" in run["model"]
    with Image.open(tmp_path / "transfer/match.png") as picture:
        assert picture.width > 2 * 500


def test_points_are_found_and_may_be_corrected(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With --no-run the file is there to be corrected, and is what `propagate run` takes."""
    arguments = ["transfer", "--from", source(clips, "points.csv"), "--to", f"{clips}/b/clip"]
    out = tmp_path / "out"
    assert call(*arguments, "-o", out, "--frame", 1, "--no-run", "--visible-from", 0) == 0
    assert "3 of 3 labels found in frame 1" in capsys.readouterr().out
    assert {path.name for path in out.iterdir()} == {"transfer"}
    found = read_keypoints(out / "transfer/keypoints.csv").frames[0]
    assert found.index == 1
    wanted = centres(read_mask(clips / "b/truth/00001.png").ids)
    for name, place in zip(found.keypoints.names, found.keypoints.xy, strict=True):
        assert np.linalg.norm(place - wanted[int(name.part[-1])]) < 30, name
    labels = out / "transfer/keypoints.csv"
    again = tmp_path / "run"
    assert call("run", clips / "b/clip", labels, "-o", again, "--frames", "1:", "--no-overlay") == 0
    assert len(read_keypoints(again / "keypoints.csv").frames) == FRAMES - 1


def call(*arguments: object) -> object:
    fast = FAST if arguments[0] == "transfer" else ()
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in (*arguments, *fast)])
    return left.value.code


def test_two_sources_and_one_image(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An image is a whole target; the same ids in several sources are the same objects."""
    parts = []
    for index in (0, 2):
        name = f"{index:05d}.png"
        mask = tmp_path / f"source={name}"
        mask.write_bytes((clips / "a/truth" / name).read_bytes())
        parts += ["--from", f"{clips}/a/clip/{name}={mask}"]
    target = clips / "b/clip/00000.png"
    assert call("transfer", *parts, "--to", target, "-o", tmp_path / "out") == 0
    assert "3 of 3 labels found in frame 0" in capsys.readouterr().out
    assert not (tmp_path / "out/run.json").exists()
    with Image.open(tmp_path / "out/transfer/match.png") as picture:
        assert picture.width > 3 * 500


def test_what_does_not_fit_is_refused_unless_it_is_wanted(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["transfer", "--from", source(clips), "--to", f"{clips}/noise.png"]
    assert call(*arguments, "-o", tmp_path / "out") == 1
    message = capsys.readouterr().err
    assert "resembles the source enough" in message
    assert "0.22 is the least" in message
    assert "--min-confidence" in message
    assert not (tmp_path / "out").exists()
    code = call(*arguments, "-o", tmp_path / "out", "--min-confidence", 0)
    message = capsys.readouterr().err
    assert code == 0 or "None of 1, 2, 3 was found" in message


def test_a_folder_is_replaced_on_demand_alone(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["transfer", "--from", source(clips), "--to", clips / "b/clip", "-o", tmp_path]
    once = [*arguments, "--no-run", "--frame", 0]
    assert call(*once) == 0
    assert call(*once) == 1
    assert "already holds a transfer; replace it with --overwrite" in capsys.readouterr().err
    assert call(*arguments, "--frame", 2, "--overwrite", "--no-overlay") == 0
    assert len(list((tmp_path / "masks").iterdir())) == 3
    (tmp_path / "transfer/mine.txt").write_text("kept")
    assert call(*once, "--overwrite") == 0
    assert {path.name for path in tmp_path.iterdir()} == {"transfer"}
    assert (tmp_path / "transfer/mine.txt").read_text() == "kept"
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.txt").write_text("kept")
    assert call(*once[:-4], other, *once[-3:], "--overwrite") == 1
    assert "holds no run of this program" in capsys.readouterr().err
    assert {path.name for path in other.iterdir()} == {"mine.txt"}


@pytest.mark.parametrize(
    ("pair", "options", "code", "message"),
    [
        ("picture.png", (), 2, "write it as IMAGE=LABELS"),
        ("{a}/clip/00000.png=", (), 2, "write it as IMAGE=LABELS"),
        ("{a}/clip/none.png={a}/truth/00000.png", (), 1, "no file or folder none.png"),
        ("{a}/clip/00000.png={a}/truth/none.png", (), 1, "none.png"),
        ("{good}", ("--frame", "3"), 1, "--frame is 3, and .* has 3 frames"),
        ("{good}", ("--frame", "-1"), 1, "frame is -1; frames count from 0"),
        ("{good}", ("--min-confidence", "2"), 1, "least confidence is 2.0; .* from 0 to 1"),
        ("{good}", ("--from", "{points}"), 1, "Some sources have masks and some keypoints"),
        ("{good}", ("--skeleton", "a-b"), 1, "are for keypoints"),
        ("{points}", ("--binarize",), 1, "are for masks"),
        ("{good}", ("-o", "{a}"), 1, "lies in the output folder"),
    ],
    ids=[
        *("no labels", "empty labels", "no image", "no file", "frame", "negative", "confidence"),
        *("two kinds", "skeleton", "binarize", "inside"),
    ],
)
def test_what_cannot_be_transferred(
    pair: str,
    options: tuple[str, ...],
    code: int,
    message: str,
    clips: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = {"a": clips / "a", "good": source(clips), "points": source(clips, "points.csv")}
    more = [option.format(**places) for option in options]
    out = tmp_path / "out"
    target = clips / "b/clip"
    assert (
        call("transfer", "--to", target, "-o", out, "--from", pair.format(**places), *more) == code
    )
    assert re.search(message, capsys.readouterr().err)
    assert not out.exists()
