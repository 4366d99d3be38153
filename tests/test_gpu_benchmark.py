"""The GPU's part of the benchmarks, tiny and on a CPU, so that it runs when there is a GPU."""

from __future__ import annotations

import pytest
import torch

from benchmarks import gpu
from benchmarks.affinity import Case
from benchmarks.extraction import Networks
from tests import tiny_pipeline

CPU = torch.device("cpu")


def test_a_step_is_timed_both_ways() -> None:
    case = Case(height=9, width=40, channels=8, context=2, radius=2, topk=3)
    rows = gpu.steps([case], CPU, repeat=1)
    assert [row["precision"] for row in rows] == ["fp32", "bf16"]
    for row in rows:
        assert row["torch, ms"] > 0
    # There is no compiled search in bf16 on a CPU, and none in fp32 without a compiler.
    assert "one pass, ms" not in rows[1]
    if "one pass, ms" in rows[0]:
        assert rows[0]["max difference"] < 1e-5
        assert rows[0]["equal argmax"] == 1


def test_features_are_timed() -> None:
    networks = Networks(tiny_pipeline._unet, tiny_pipeline._vae, tiny_pipeline.TEXT_WIDTH)
    rows = gpu.features(
        CPU, ensembles=(1, 2), frames=3, short_side=64, networks=networks, dtype=torch.float32
    )
    assert [row["ensemble"] for row in rows] == [1, 2]
    assert all(row["frames/s"] > 0 for row in rows)


def test_the_report() -> None:
    row = {"context": 7, "torch, ms": 1.5, "torch, peak MiB": 12.0, "equal argmax": 0.999}
    text = gpu.report({"device": "A GPU", "step": [row], "features": [{"frames/s": 2.0}]})
    assert "A GPU. The propagation step at 60 x 107 x 640:" in text
    assert "| 7 | 1.500 | 12 | 99.90 % |" in text
    assert "| 2.000 |" in text


def test_no_gpu_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("sys.argv", ["gpu"])
    gpu.main()
    assert capsys.readouterr().out == "There is no GPU here, so its part was left out.\n"
