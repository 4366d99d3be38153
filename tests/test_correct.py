"""Several references and corrections as a user runs them."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from propagate.commands.main import main
from propagate.labels.mask_files import write_mask
from tests.moving_clip import jaccard, true_ids, true_points, write_clip

ROOT = Path(__file__).resolve().parent.parent
QUICK = ("--no-overlay", "--short-side", "96")


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return int(left.value.code or 0), printed.out, printed.err


def masks(folder: Path) -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in sorted((folder / "masks").iterdir())}


def ids(folder: Path, index: int) -> np.ndarray:
    return np.array(Image.open(folder / f"masks/{index:05d}.png"))


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A clip of 20 frames, and beside it the true mask of each as N.png."""
    for index in range(20):
        write_mask(tmp_path / f"{index}.png", true_ids(index))
    return write_clip(tmp_path, 20)


def test_a_run_from_the_middle_labels_both_ways(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, clip: Path
) -> None:
    out = tmp_path / "out"
    code, printed, _ = call(
        capsys, "run", clip, "--ref", f"8={tmp_path / '8.png'}", "-o", out, *QUICK, "--json"
    )
    assert code == 0
    assert json.loads(printed)["frames"] == 20
    np.testing.assert_array_equal(ids(out, 8), true_ids(8))
    for index in (0, 4, 12, 15):
        assert jaccard(ids(out, index) == 1, true_ids(index) == 1) > 0.5, index
    assert not (out / "cache/forward").exists()
    assert not (out / "cache/backward").exists()
    assert len(list((out / "cache/maps").glob("*.safetensors"))) == 20
    assert (out / "references/000008.png").read_bytes() == (tmp_path / "8.png").read_bytes()


def test_a_correction_is_a_fresh_run_where_it_counts_and_nothing_elsewhere(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, clip: Path
) -> None:
    def refs(*frames: int) -> list[object]:
        return [part for n in frames for part in ("--ref", f"{n}={tmp_path / f'{n}.png'}")]

    out, fresh = tmp_path / "out", tmp_path / "fresh"
    assert call(capsys, "run", clip, *refs(0, 10), "-o", out, *QUICK)[0] == 0
    assert call(capsys, "run", clip, *refs(0, 5, 10), "-o", fresh, *QUICK)[0] == 0
    before, expected = masks(out), masks(fresh)
    code, printed, _ = call(capsys, "correct", out, *refs(5), "--no-overlay", "--json")
    assert code == 0
    report = json.loads(printed)
    after = masks(out)
    assert report["frames"] == 10
    assert report["changed"] == [i for i in range(20) if before[f"{i:05d}"] != after[f"{i:05d}"]]
    assert "extract" not in report["seconds"]
    for index in range(20):
        name = f"{index:05d}"
        assert after[name] == (expected if index < 10 else before)[name], index

    code, printed, _ = call(capsys, "correct", out, "--everywhere", "--no-overlay")
    assert code == 0
    assert "20 frames propagated again" in printed
    assert masks(out) == expected

    code, printed, _ = call(capsys, "correct", out, "--remove", "5", "--everywhere", "--no-overlay")
    assert code == 0
    assert masks(out) == before
    assert sorted(p.name for p in (out / "references").iterdir()) == ["000000.png", "000010.png"]


def test_one_object_is_corrected_and_the_other_goes_on(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, clip: Path
) -> None:
    out = tmp_path / "out"
    first = f"5={tmp_path / '5.png'}"
    assert call(capsys, "run", clip, "--ref", first, "-o", out, *QUICK)[0] == 0
    fix = true_ids(12) * (true_ids(12) == 1)
    fix[:, :30] = 0
    write_mask(tmp_path / "fix.png", fix)
    code, _, err = call(
        capsys, "correct", out, "--ref", f"12={tmp_path / 'fix.png'}", "--no-overlay"
    )
    assert code == 0
    assert "no pixel of object 2, which is propagated through it; add :all" in err
    np.testing.assert_array_equal(ids(out, 12) == 1, fix == 1)
    assert jaccard(ids(out, 12) == 2, true_ids(12) == 2) > 0.4
    code, _, err = call(
        capsys, "correct", out, "--ref", f"12={tmp_path / 'fix.png'}:all", "--no-overlay"
    )
    assert code == 0
    assert "add :all" not in err
    np.testing.assert_array_equal(ids(out, 12), fix)


def test_an_empty_mask_says_that_objects_are_gone_where_it_says_which(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, clip: Path
) -> None:
    write_mask(tmp_path / "gone.png", 0 * true_ids(0))
    refs = ("--ref", f"2={tmp_path / '2.png'}", "--ref", f"15={tmp_path / 'gone.png'}")
    code, _, err = call(capsys, "run", clip, *refs, "-o", tmp_path / "out", *QUICK)
    assert code == 1
    assert "add :all to the file's name in --ref if all are gone" in err
    refs = (*refs[:3], refs[3] + ":all")
    assert call(capsys, "run", clip, *refs, "-o", tmp_path / "out", *QUICK)[0] == 0
    assert not ids(tmp_path / "out", 15).any()
    assert (ids(tmp_path / "out", 4) == 1).any()


def test_keypoints_of_several_frames_are_corrected_in_place(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, clip: Path
) -> None:
    for index in (0, 8, 14):
        points = true_points(index)
        rows = [
            f"{index},{name},{x},{y},{int(seen)}"
            for name, (x, y), seen in zip(points.names, points.xy, points.visible, strict=True)
        ]
        (tmp_path / f"{index}.csv").write_text("\n".join(["frame,name,x,y,visible", *rows, ""]))
    out = tmp_path / "out"
    refs = ("--ref", f"0={tmp_path / '0.csv'}", "--ref", f"14={tmp_path / '14.csv'}")
    assert call(capsys, "run", clip, *refs, "-o", out, *QUICK)[0] == 0
    before = (out / "keypoints.csv").read_text().splitlines()
    assert [int(line.split(",")[0]) for line in before[1:]] == [i for i in range(20) for _ in "ab"]
    fix = ("--ref", f"8={tmp_path / '8.csv'}")
    code, printed, err = call(capsys, "correct", out, *fix, "--no-overlay", "--json")
    assert code == 0, err
    assert json.loads(printed)["frames"] == 14
    after = (out / "keypoints.csv").read_text().splitlines()
    assert [int(line.split(",")[0]) for line in after[1:]] == [i for i in range(20) for _ in "ab"]
    assert after[29:] == before[29:]
    assert any(line.startswith("8,disc,32,32,1") for line in after)


def test_a_cut_run_of_two_passes_goes_on_byte_by_byte(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, clip: Path
) -> None:
    refs = ("--ref", f"6={tmp_path / '6.png'}", "--ref", f"13={tmp_path / '13.png'}")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert call(capsys, "run", clip, *refs, "-o", whole, *QUICK)[0] == 0
    files = [
        "cache/maps/000004-*", "cache/forward/000009*", "cache/backward/000003*", "masks/00016.png"
    ]  # fmt: skip
    for pattern, how in zip(files, [signal.SIGKILL, signal.SIGINT] * 2, strict=True):
        resume = ["--resume"] if cut.exists() else []
        arguments = [str(ROOT / "cli.py"), "run", clip, *refs, "-o", cut, *QUICK, *resume]
        with subprocess.Popen([sys.executable, *map(str, arguments)]) as process:
            while process.poll() is None and not list(cut.glob(pattern)):
                time.sleep(0.002)
            process.send_signal(how)
            process.wait()
    code, _, err = call(capsys, "run", clip, *refs, "-o", cut, *QUICK, "--resume")
    assert code == 0, err
    assert masks(cut) == masks(whole)
    assert sorted(p.name for p in cut.iterdir()) == sorted(p.name for p in whole.iterdir())


def test_an_interrupted_correction_goes_on(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, clip: Path
) -> None:
    out, cut = tmp_path / "out", tmp_path / "cut"
    refs = ("--ref", f"0={tmp_path / '0.png'}", "--ref", f"10={tmp_path / '10.png'}")
    assert call(capsys, "run", clip, *refs, "-o", out, *QUICK)[0] == 0
    shutil.copytree(out, cut)
    fix = ("--ref", f"5={tmp_path / '5.png'}", "--no-overlay")
    assert call(capsys, "correct", out, *fix)[0] == 0
    for _ in range(3):
        arguments = [str(ROOT / "cli.py"), "correct", cut, *(() if _ else fix), "--no-overlay"]
        with subprocess.Popen([sys.executable, *map(str, arguments)]) as process:
            while process.poll() is None and not (cut / "cache/forward").exists():
                time.sleep(0.002)
            time.sleep(random.Random(_).random() / 5)
            process.kill()
            process.wait()
    if json.loads((cut / "run.json").read_text())["status"] == "running":
        code, _, err = call(capsys, "correct", cut, "--no-overlay")
        assert code == 0
        assert "The interrupted correction goes on" in err
    assert masks(cut) == masks(out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "{clip}", "--ref", "8.png", "-o", "{out}"], "write FRAME=FILE, such as 120=fix"),
        (["run", "{clip}", "--ref", "x={0}", "-o", "{out}"], "write FRAME=FILE"),
        (["run", "{clip}", "-o", "{out}"], "give the labels of at least one frame"),
        (["run", "{clip}", "--ref", "20={0}", "-o", "{out}"], "they are 0 to 19, counted from 0"),
        (["run", "{clip}", "{0}", "--ref", "0={5}", "-o", "{out}"], "Frame 0 has two references"),
        (["run", "{clip}", "{0}", "--ref", "5=a.csv", "-o", "{out}"], "a run carries one kind"),
        (["run", "{clip}", "{0}", "--cache", "-1", "-o", "{out}"], "it must be 0 or more"),
        (["correct", "{out}", "--ref", "5={5}"], "holds no run of this program"),
        (["correct", "{run}"], "nothing to correct"),
        (["correct", "{run}", "--remove", "7"], "no reference to remove; there are 0"),
        (["correct", "{run}", "--remove", "0"], "would remove the last reference"),
    ],
)
def test_bad_input_gets_one_sentence_and_changes_nothing(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    clip: Path,
    arguments: list[str],
    message: str,
) -> None:
    run = tmp_path / "run"
    if "{run}" in arguments:
        inputs = ("run", clip, tmp_path / "0.png", "--frames", "0:2")
        assert call(capsys, *inputs, "-o", run, *QUICK)[0] == 0
    names = {"clip": clip, "out": tmp_path / "out", "run": run}
    files = [tmp_path / f"{index}.png" for index in range(20)]
    code, out, err = call(capsys, *(text.format(*files, **names) for text in arguments))
    assert code == 1
    assert message in err
    assert out == ""
    assert not (tmp_path / "out").exists()
    if run.exists():
        assert json.loads((run / "run.json").read_text())["status"] == "complete"
