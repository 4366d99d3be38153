"""The presets for masks, as a user asks for them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
from PIL import Image

from propagate.config import PRESETS
from tests.test_extract import call
from tests.test_run import disc, jaccard, write_clip

FRAMES = 8


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_clip(tmp_path_factory.mktemp("clip"), FRAMES)


def overlap(folder: Path) -> float:
    """Mean J of the moving disc over the frames that were labelled."""
    found = [np.array(Image.open(folder / f"masks/img{i}.png")) == 3 for i in range(1, FRAMES)]
    return fmean(jaccard(ids, disc(i) == 3) for i, ids in enumerate(found, start=1))


def test_a_named_preset_is_recorded_and_beats_the_plain_protocol(
    capsys: pytest.CaptureFixture[str], clip: tuple[Path, Path], tmp_path: Path
) -> None:
    small = ("--no-overlay", "--short-side", "192")
    for name in ("best", "dino"):
        code, _, err = call(capsys, "run", *clip, "-o", tmp_path / name, "--preset", name, *small)
        assert code == 0, err
    assert overlap(tmp_path / "best") > max(overlap(tmp_path / "dino"), 0.95)
    record = json.loads((tmp_path / "best/run.json").read_text())
    assert "/blocks2x0.5+4x1+10x1+14x0.5/" in record["model"]
    assert record["model"].endswith("pca=64/4 whitening=0.3")


def test_whitening_needs_components(
    capsys: pytest.CaptureFixture[str], clip: tuple[Path, Path], tmp_path: Path
) -> None:
    arguments = ("--preset", "dino", "--whitening", "0.5")
    code, out, err = call(capsys, "run", *clip, "-o", tmp_path / "out", *arguments)
    assert (code, out) == (1, "")
    assert err == (
        "Error: --whitening lifts principal components, and there are none; add --pca.\n"
    )


def test_fast_and_best_differ_in_size_alone() -> None:
    best, fast = PRESETS["best"], PRESETS["fast"]
    assert PRESETS["default"].video == fast.video
    assert PRESETS["default"].options == fast.options
    # Where none is named it is the model's own, which other models then have theirs of too.
    assert fast.options.short_side is None
    sizes = [item.options.short_side or 480 for item in (best, fast)]
    assert replace(best.options, short_side=None) == fast.options
    radii = [item.video.propagation.radius for item in (best, fast)]
    assert sizes[0] * radii[1] == sizes[1] * radii[0]
