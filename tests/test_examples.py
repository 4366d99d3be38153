"""The examples run as their reader would run them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from propagate.labels.mask_files import read_mask

ROOT = Path(__file__).resolve().parent.parent


def run_example(name: str, *arguments: str | Path) -> str:
    command = [sys.executable, ROOT / "examples" / name, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("demo")
    options = ("--output", folder, "--size", "320x180")
    run_example("demo.py", *options, "--frames-count", "3")
    # Once more in the same folder, as one does.
    return folder, run_example("demo.py", *options, "--frames-count", "14")


def test_demo_prints_the_command_and_beats_the_first_mask(demo: tuple[Path, str]) -> None:
    folder, printed = demo
    clip, mask, run = folder / "clip.mp4", folder / "first.png", folder / "run"
    assert f"$ propagate run {clip} {mask} -o {run} --overwrite\n" in printed
    rows = dict(re.findall(r"^ +(cat|astronaut|coffee|mean)((?: +[\d.]+){4})$", printed, re.M))
    assert len(rows) == 4
    for numbers in rows.values():
        j, f, jf, kept = map(float, numbers.split())
        assert jf == pytest.approx((j + f) / 2, abs=0.11)
        assert jf > kept + 20
        assert jf > 80
    assert re.search(r"\d\.\d\d s per frame", printed)


def test_demo_leaves_pictures_where_it_says(demo: tuple[Path, str]) -> None:
    folder, printed = demo
    for name in ("overlay.mp4", "contact_sheet.png"):
        path = folder / "run" / name
        assert str(path) in printed
        assert path.stat().st_size > 1000
    assert len(list((folder / "truth").glob("*.png"))) == 14
    assert len(list((folder / "run" / "masks").glob("*.png"))) == 14


def test_python_interface_gives_what_the_command_gives(
    demo: tuple[Path, str], tmp_path: Path
) -> None:
    folder, _ = demo
    printed = run_example("api.py", folder / "clip.mp4", folder / "first.png", tmp_path)
    assert printed.count("pixels of each object") == 14
    for path in sorted((folder / "run" / "masks").glob("*.png")):
        np.testing.assert_array_equal(read_mask(tmp_path / path.name).ids, read_mask(path).ids)


def test_annotating_gets_better_with_every_annotation(tmp_path: Path) -> None:
    printed = run_example("annotate.py", tmp_path, "6", "135", "240")
    scores = [float(text) for text in re.findall(r"mean J ([\d.]+)", printed)]
    assert len(scores) == 3
    assert scores[0] > 0.8
    assert scores[-1] > scores[0]
    assert len(re.findall(r"annotate frame \d+: removes \d+% of the expected error", printed)) == 2
    assert len(list((tmp_path / "run/masks").glob("*.png"))) == 6
    assert (tmp_path / "run/overlay.mp4").stat().st_size > 1000
