"""The main job as a user runs it: the command line on clips of image files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from propagate.commands.main import main
from tests.tiny_pipeline import save_tiny_pipeline

ROOT = Path(__file__).resolve().parent.parent
SIZE = (96, 144)


def disc(index: int) -> np.ndarray:
    """True mask of frame `index`: a disc that moves right, as object 3; a still square, 7."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    ids = np.where((y - 48) ** 2 + (x - 40 - index) ** 2 <= 20**2, 3, 0)
    ids[8:24, 110:130] = 7
    return ids.astype(np.uint8)


def picture(index: int) -> np.ndarray:
    """Frame `index`: texture that moves with the disc over a textured ground."""
    rng = np.random.default_rng(0)
    ground, coat, tile = (
        cv2.GaussianBlur(rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8), (0, 0), sigma) * scale
        + shade
        for sigma, scale, shade in ((4, 0.4, 20), (3, 0.5, 110), (2, 0.3, 170))
    )
    ids = disc(index)[..., None]
    moved = np.roll(coat, index, axis=1)
    return np.where(ids == 3, moved, np.where(ids == 7, tile, ground)).clip(0, 255).astype(np.uint8)


def write_clip(folder: Path, frames: int) -> tuple[Path, Path]:
    clip, mask = folder / "clip", folder / "first.png"
    clip.mkdir()
    for index in range(frames):
        Image.fromarray(picture(index)).save(clip / f"img{index}.png")
    Image.fromarray(disc(0)).save(mask)
    return clip, mask


def command(*arguments: object) -> list[str]:
    return [sys.executable, str(ROOT / "cli.py"), *map(str, arguments)]


def propagate(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, check=False)


def masks(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "masks").iterdir())}


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


@pytest.fixture(scope="module", autouse=True)
def small_input() -> Iterator[None]:
    """Pictures this small gain nothing from being enlarged to 480 rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROPAGATE_RUN_SHORT_SIDE", "240")
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a clip, its mask, and a finished run in `out`."""
    folder = tmp_path_factory.mktemp("run")
    clip, mask = write_clip(folder, 24)
    done = propagate("run", clip, mask, "-o", folder / "out")
    assert done.returncode == 0, done.stderr
    assert "24 frames labelled" in done.stdout
    return folder


def test_masks_follow_the_objects(finished: Path) -> None:
    names = [f"img{index}.png" for index in range(24)]
    assert sorted(masks(finished / "out")) == sorted(names)
    for index, name in enumerate(names):
        image = Image.open(finished / "out/masks" / name)
        assert image.mode == "P"
        ids = np.array(image)
        assert ids.shape == SIZE
        assert set(np.unique(ids)) <= {0, 3, 7}
        for label in (3, 7):
            assert jaccard(ids == label, disc(index) == label) > 0.8, (name, label)


def test_annotated_frame_is_unchanged(finished: Path) -> None:
    np.testing.assert_array_equal(np.array(Image.open(finished / "out/masks/img0.png")), disc(0))


def test_everything_else_is_written_and_nothing_more(finished: Path) -> None:
    names = {path.name for path in (finished / "out").iterdir()}
    assert names == {
        *("masks", "references", "cache", "overlay.mp4", "contact_sheet.png", "run.json"),
        "tracks.csv",
    }
    record = json.loads((finished / "out/run.json").read_text())
    assert record["status"] == "complete"
    assert record["frames"] == 24
    assert record["config"]["video"]["propagation"]["topk"] > 0
    assert record["model"].startswith("efficientnet-lite0@")
    assert record["versions"]["torch"]
    video = cv2.VideoCapture(str(finished / "out/overlay.mp4"))
    frames = 0
    while video.read()[0]:
        frames += 1
    assert frames == 24
    assert cv2.imread(str(finished / "out/contact_sheet.png")) is not None


def test_output_is_quiet_without_a_terminal(finished: Path, tmp_path: Path) -> None:
    done = propagate(
        "run", finished / "clip", finished / "first.png", "-o", tmp_path / "o", "--frames", "0:3"
    )
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1


def test_a_run_is_never_overwritten_unasked(
    capsys: pytest.CaptureFixture[str], finished: Path
) -> None:
    before = masks(finished / "out")
    inputs = (finished / "clip", finished / "first.png", "-o", finished / "out")
    code, _, err = call(capsys, "run", *inputs)
    assert code == 1
    assert "continue it with --resume, replace it with --overwrite" in err
    assert masks(finished / "out") == before


def test_a_foreign_folder_is_left_alone(
    capsys: pytest.CaptureFixture[str], finished: Path, tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    inputs = (finished / "clip", finished / "first.png", "-o", tmp_path)
    code, _, err = call(capsys, "run", *inputs, "--overwrite")
    assert code == 1
    assert "is not empty and holds no run of this program" in err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_overwrite_leaves_no_stale_mask(
    capsys: pytest.CaptureFixture[str], finished: Path, tmp_path: Path
) -> None:
    inputs = ("run", finished / "clip", finished / "first.png", "-o", tmp_path / "out")
    assert call(capsys, *inputs, "--frames", "0:8", "--no-overlay")[0] == 0
    assert len(masks(tmp_path / "out")) == 8
    assert call(capsys, *inputs, "--frames", "0:4", "--no-overlay", "--overwrite")[0] == 0
    assert len(masks(tmp_path / "out")) == 4


def test_frames_keep_their_numbers_in_a_range(
    capsys: pytest.CaptureFixture[str], finished: Path, tmp_path: Path
) -> None:
    mask = tmp_path / "mask.png"
    Image.fromarray(disc(4)).save(mask)
    inputs = (finished / "clip", mask, "-o", tmp_path / "out")
    _, out, _ = call(capsys, "run", *inputs, "--frames", "4:11:3", "--json")
    assert json.loads(out)["frames"] == 3
    assert list(masks(tmp_path / "out")) == ["img10.png", "img4.png", "img7.png"]


def test_resumed_run_is_identical_to_an_uninterrupted_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    clip, mask = write_clip(tmp_path, 30)
    quick = ("--no-overlay", "--short-side", "160")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert call(capsys, "run", clip, mask, "-o", whole, *quick)[0] == 0
    for wait_for, how in ((5, signal.SIGKILL), (18, signal.SIGINT)):
        arguments = ["run", clip, mask, "-o", cut, *quick]
        with subprocess.Popen(
            command(*arguments, *(["--resume"] if cut.exists() else [])),
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            while process.poll() is None and not (cut / f"masks/img{wait_for}.png").exists():
                time.sleep(0.01)
            os.kill(process.pid, how)
            message = process.communicate()[1]
        if how == signal.SIGINT:
            assert process.returncode == 130
            assert "Traceback" not in message
        assert json.loads((cut / "run.json").read_text())["status"] == "running"
    code, _, err = call(capsys, "run", clip, mask, "-o", cut, *quick, "--resume")
    assert code == 0, err
    assert masks(cut) == masks(whole)
    assert sorted(p.name for p in cut.iterdir()) == [
        *("cache", "masks", "references", "run.json", "tracks.csv")
    ]


def test_resume_refuses_other_settings(capsys: pytest.CaptureFixture[str], finished: Path) -> None:
    inputs = ("run", finished / "clip", finished / "first.png", "-o", finished / "out", "--resume")
    code, _, err = call(capsys, *inputs, "--topk", "9")
    assert code == 1
    assert "can't be resumed with other settings" in err
    assert "topk was 5 and is now 9" in err


def test_resuming_a_complete_run_does_nothing(
    capsys: pytest.CaptureFixture[str], finished: Path
) -> None:
    before = masks(finished / "out")
    inputs = ("run", finished / "clip", finished / "first.png", "-o", finished / "out", "--resume")
    code, _, err = call(capsys, *inputs)
    assert code == 0
    assert "already complete" in err
    assert masks(finished / "out") == before


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the program in this process, which spares the imports."""
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return int(left.value.code or 0), printed.out, printed.err


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (["run", "no.mp4", "{mask}", "-o", "{out}"], "no.mp4", 1),
        (["run", "{clip}", "no.png", "-o", "{out}"], "no.png", 1),
        (["run", "{clip}", "{mask}", "-o", "{out}", "--topk", "0"], "topk is 0", 1),
        (["run", "{clip}", "{mask}", "-o", "{out}", "--frames", "9:3"], "9:3", 1),
        (
            ["run", "{clip}", "{mask}", "-o", "{out}", "--t", "51"],
            "t set for efficientnet-lite0, which has no such option",
            1,
        ),
        (["run", "{clip}", "{mask}", "-o", "{out}", "--model", "nope"], "nope", 1),
        (["run", "{clip}", "{mask}", "-o", "{out}", "--device", "abacus"], "abacus", 1),
        (["run", "{clip}", "{mask}", "-o", "{mask}"], "is a file", 1),
        (["run", "{clip}", "{mask}"], "Missing option '-o'", 2),
        (["run", "{clip}", "{mask}", "-o", "{out}", "--topp", "3"], "--topp", 2),
        (["run", "{clip}", "{mask}", "-o", "{out}", "--resume", "--overwrite"], "exclude", 2),
        (["run", "{clip}", "{mask}", "-o", "{out}", "--void", "x"], "--void is 'x'", 1),
    ],
)
def test_bad_input_gets_one_sentence(
    capsys: pytest.CaptureFixture[str],
    finished: Path,
    tmp_path: Path,
    arguments: list[str],
    message: str,
    code: int,
) -> None:
    values = {"clip": finished / "clip", "mask": finished / "first.png", "out": tmp_path / "out"}
    found, out, err = call(capsys, *(argument.format(**values) for argument in arguments))
    assert found == code
    assert message in err
    assert out == ""
    assert not list(tmp_path.glob("out/masks/*"))


def test_bad_input_from_a_shell(finished: Path, tmp_path: Path) -> None:
    done = propagate("run", finished / "clip", tmp_path / "no.png", "-o", tmp_path / "out")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_failed_start_loses_nothing(
    capsys: pytest.CaptureFixture[str], finished: Path, tmp_path: Path
) -> None:
    """--overwrite must not clear the old run before the new one can begin."""
    before = masks(finished / "out")
    inputs = ("run", finished / "clip", finished / "first.png", "-o", finished / "out")
    code, _, err = call(capsys, *inputs, "--overwrite", "--model", tmp_path / "no-model")
    assert code == 1
    assert "no-model" in err
    assert masks(finished / "out") == before
    assert json.loads((finished / "out/run.json").read_text())["status"] == "complete"


def test_a_truncated_video_gives_what_decodes_and_says_what_is_lost(
    capfd: pytest.CaptureFixture[str], finished: Path, tmp_path: Path
) -> None:
    whole = finished / "out/overlay.mp4"
    # The index is in front, so cutting the end off leaves a readable clip.
    (tmp_path / "cut.mp4").write_bytes(whole.read_bytes()[: whole.stat().st_size * 7 // 10])
    with pytest.raises(SystemExit) as left:
        main(
            [
                *("run", str(tmp_path / "cut.mp4"), str(finished / "first.png")),
                *("-o", str(tmp_path / "out"), "--no-overlay"),
            ]
        )
    assert left.value.code == 0
    out, err = capfd.readouterr()
    assert "frames labelled" in out
    assert 1 < len(masks(tmp_path / "out")) < 24
    assert "are missing" in err
    assert all(line.startswith("Note: ") for line in err.splitlines())
    notes = json.loads((tmp_path / "out/run.json").read_text())["notes"]
    assert any("are missing" in note for note in notes)


def test_a_diffusion_pipeline_labels_a_clip(
    capsys: pytest.CaptureFixture[str], finished: Path, tmp_path: Path
) -> None:
    """The DIFT preset through the command, on a small pipeline of random weights."""
    pipeline = save_tiny_pipeline(tmp_path / "pipeline")
    inputs = ("run", finished / "clip", finished / "first.png", "--preset", "dift-sd")
    options = ("--model", pipeline, "--frames", "0:4", "--short-side", "64", "--ensemble-size", "2")
    results = []
    capsys.readouterr()
    for name in ("a", "b"):
        code, _, err = call(capsys, *inputs, *options, "-o", tmp_path / name, "--no-overlay")
        assert code == 0, err
        results.append(masks(tmp_path / name))
    assert results[0] == results[1]
    record = json.loads((tmp_path / "a/run.json").read_text())
    assert "t=51 layer=up_blocks.2 n=2" in record["model"]
    assert record["model"].endswith("fp32")
    first = np.array(Image.open(tmp_path / "a/masks/img0.png"))
    np.testing.assert_array_equal(first, disc(0))


def cut_short(capsys: pytest.CaptureFixture[str], folder: Path) -> tuple[object, ...]:
    """Leave a run of 4 frames in `folder`/out that never got to its end; returns its arguments."""
    clip, mask = write_clip(folder, 4)
    inputs = ("run", clip, mask, "-o", folder / "out", "--no-overlay")
    assert call(capsys, *inputs)[0] == 0
    record = json.loads((folder / "out/run.json").read_text()) | {"status": "running"}
    (folder / "out/run.json").write_text(json.dumps(record))
    return inputs


def test_resume_refuses_another_clip_under_the_same_name(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    inputs = cut_short(capsys, tmp_path)
    Image.fromarray(picture(4)).save(tmp_path / "clip/img4.png")
    code, _, err = call(capsys, *inputs, "--resume")
    assert code == 1
    assert "can't be resumed: its clip was" in err


def test_leftovers_of_a_killed_run_are_removed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    inputs = cut_short(capsys, tmp_path)
    (tmp_path / "out/masks/.img3.0123abcd.png").write_bytes(b"half")
    (tmp_path / "out/.overlay.0123abcd.mp4").write_bytes(b"half")
    assert call(capsys, *inputs, "--resume")[0] == 0
    assert sorted(masks(tmp_path / "out")) == [f"img{index}.png" for index in range(4)]
    assert not list((tmp_path / "out").glob(".*"))
    assert json.loads((tmp_path / "out/run.json").read_text())["frames"] == 4


def test_options_come_from_the_environment_unless_given(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    finished: Path,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("PROPAGATE_RUN_TOPK", "3")
    monkeypatch.setenv("PROPAGATE_RUN_TEMPERATURE", "0.3")
    inputs = ("run", finished / "clip", finished / "first.png", "-o", tmp_path / "out")
    assert call(capsys, *inputs, "--frames", "0:2", "--no-overlay", "--topk", "4")[0] == 0
    knobs = json.loads((tmp_path / "out/run.json").read_text())["config"]["video"]["propagation"]
    assert (knobs["topk"], knobs["temperature"]) == (4, 0.3)
