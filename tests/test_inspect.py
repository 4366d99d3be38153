"""`propagate inspect`: what is said of a clip, a mask and a run before it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from propagate import affinity
from propagate.inspection import inspect_clip
from propagate.types import ClipLosses, Frame, Size
from tests.test_run import call, disc, write_clip


@pytest.fixture
def inputs(tmp_path: Path) -> tuple[Path, Path]:
    clip, mask = write_clip(tmp_path, 6)
    return clip, mask


def test_facts_of_clip_mask_and_run(capsys, inputs, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    quick = ("--short-side", "96", "--n-last-frames", "3")
    code, out, err = call(capsys, "inspect", *inputs, *quick, "--json")
    assert (code, err) == (0, "")
    facts = json.loads(out)
    height, width = disc(0).shape
    assert facts["clip"]["size"] == [height, width]
    assert (facts["clip"]["frames"], facts["clip"]["counted"]) == (6, False)
    ids, counts = np.unique(disc(0), return_counts=True)
    expected = {str(i): int(n) for i, n in zip(ids, counts, strict=True) if i}
    assert [item["objects"] for item in facts["references"]] == [expected]
    run = facts["run"]
    assert run["model"].startswith("efficientnet-lite0@")
    assert run["grid"] == [12, 96 * width // height // 16 * 2]
    assert all(seconds > 0 for seconds in run["seconds"].values())
    assert set(run["seconds"]) == {"decode", "extract", "propagate"}
    assert 50e6 < run["memory"] < 20e9
    assert sorted(tmp_path.rglob("*")) == before


def test_no_ties_slow_down_what_is_measured(capsys, inputs, monkeypatch):
    votes = []

    def watched(query, context, settings, **options):
        votes.append((query, context))
        return affinity.vote(query, context, settings, **options)

    monkeypatch.setattr("propagate.propagation.vote", watched)
    assert call(capsys, "inspect", *inputs, "--short-side", "96")[0] == 0
    query, context = votes[0]
    assert len(context) == 8
    products = torch.stack([(query * frame.keys).sum(2) for frame in context]).flatten(1)
    assert len(products[:, 0].unique()) == 8
    assert products.mean() > 0.7


def test_it_reads_well(capsys, inputs):
    code, out, _ = call(capsys, "inspect", *inputs, "--short-side", "96", "--whole")
    assert code == 0
    assert "6 frames (counted)" in out
    assert "2 objects (3: " in out
    assert " s a frame (decode " in out
    assert "however long the clip" in out


def test_keypoints_are_looked_at_too(capsys, inputs, tmp_path):
    points = tmp_path / "first.csv"
    points.write_text("frame,name,x,y,visible\n0,nose,30,20,1\n0,tail,50,40,1\n0,ear,9,9,0\n")
    code, out, _ = call(capsys, "inspect", inputs[0], points, "--short-side", "96", "--json")
    assert code == 0
    facts = json.loads(out)
    assert facts["references"] == [{"frame": 0, "points": 3, "visible": 2}]
    assert facts["run"]["seconds"]["propagate"] > 0
    _, out, _ = call(capsys, "inspect", inputs[0], points, "--short-side", "96")
    assert "labels  frame 0: 3 keypoints, of which 2 are visible" in out


def test_a_clip_alone(capsys, inputs):
    code, out, _ = call(capsys, "inspect", inputs[0])
    assert code == 0
    assert "6 frames (by the file itself)" in out
    assert "labels" not in out


def test_what_does_not_decode_is_named_in_a_whole_pass(capsys, inputs):
    broken = sorted(inputs[0].iterdir())[2]
    broken.write_bytes(b"no picture")
    _, out, _ = call(capsys, "inspect", inputs[0], "--whole")
    assert "5 frames (counted)" in out
    assert f"{broken.name} cannot be read and was skipped" in out


def test_a_mask_that_does_not_fit_is_refused(capsys, inputs, tmp_path):
    Image.fromarray(np.ones((8, 8), np.uint8)).save(tmp_path / "small.png")
    code, out, err = call(capsys, "inspect", inputs[0], tmp_path / "small.png")
    assert (code, out) == (1, "")
    assert "small.png" in err
    assert err.count("\n") == 1


class Timed:
    """A clip whose frames come at given times."""

    source, fps, estimated_length, losses = "timed", 25.0, None, ClipLosses()

    def __init__(self, *times: float) -> None:
        self.times = times

    def __iter__(self):
        for index, pts in enumerate(self.times):
            yield Frame("timed", index, np.zeros((4, 6, 3), np.uint8), pts, str(index))


@pytest.mark.parametrize(
    ("times", "even"),
    [((0.0, 0.04, 0.08, 0.12), True), ((0.0, 0.04, 0.2, 0.24), False), ((0.0,), True)],
)
def test_frames_at_an_uneven_rate_are_noticed(times, even):
    facts = inspect_clip(Timed(*times), whole=True)
    assert (facts.even, facts.frames, facts.size) == (even, len(times), Size(4, 6))
    assert inspect_clip(Timed(*times)).even is None
