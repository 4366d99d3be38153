"""`propagate sweep` on a small data set in the DAVIS layout."""

from __future__ import annotations

import csv
import itertools
import json
import signal
import subprocess
import time
import weakref
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from propagate.commands.main import main
from propagate.config import ModelOptions, preset
from propagate.errors import InputError, OutputError
from propagate.features.base import FeatureExtractor
from propagate.features.cache import FeatureCache
from propagate.features.efficientnet import EfficientNetExtractor
from propagate.features.pca import PCAExtractor
from propagate.sweep import engine, shared
from propagate.sweep.folder import SweepFolder
from propagate.sweep.knobs import KNOBS, Knob, combinations
from propagate.sweep.parse import parse_knobs
from propagate.types import FeatureMap, Frame
from propagate.video import open_clip
from tests import test_eval
from tests.test_run import call, command

davis = test_eval.davis

FRAMES = 12  # of both sequences
METRICS = ("J&F", "J", "F")
# Without principal components, so that layers share a pass.
LAYERS_ALONE = ("--preset", "dino", "--short-side", 96)


def sweep(root: Path, output: Path, *arguments: object) -> tuple[object, ...]:
    fixed = ("sweep", "davis", "--root", root, "--split", "train", *LAYERS_ALONE)
    return (*fixed, "-o", output, *arguments)


def evaluated(
    capsys: pytest.CaptureFixture[str], root: Path, *arguments: object, year: int = 2017
) -> dict[str, float]:
    fixed = (
        "eval",
        f"davis{year}",
        "--root",
        root,
        "--split",
        "train",
        *LAYERS_ALONE,
        "--json",
    )
    code, out, err = call(capsys, *fixed, *arguments)
    assert (code, err) == (0, "")
    mean = json.loads(out)["scores"]
    return {name: mean[name] for name in METRICS}


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "sweep.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def scores(folder: Path) -> list[dict[str, str]]:
    """The rows without the seconds, which differ from run to run."""
    return [{k: v for k, v in row.items() if k != "seconds_per_frame"} for row in table(folder)]


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


# --- knobs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "values"),
    [
        ("t=0,51,101", "t", (0, 51, 101)),
        ("t=0:201:50", "t", (0, 50, 100, 150, 200)),
        ("t=0:100:50", "t", (0, 50)),
        ("topk=1:4", "topk", (1, 2, 3)),
        ("topk=5, 10:31:10", "topk", (5, 10, 20, 30)),
        ("temperature=0.1:0.4:0.1", "temperature", (0.1, 0.2, 0.3)),
        ("temperature=.5,1e-2,2", "temperature", (0.5, 0.01, 2.0)),
        ("radius=0,12", "radius", (0, 12)),
        ("size-mask-neighborhood=6", "radius", (6,)),
        ("size_mask_neighborhood=6", "radius", (6,)),
        ("layer=up_blocks.1,4+10,none", "layer", ("up_blocks.1", "4+10", None)),
        ("layer=2:9:3", "layer", ("2", "5", "8")),
        ("up-ft-index=0,1", "up_ft_index", (0, 1)),
        ("pca=none,64", "pca", (None, 64)),
        ("input_size=854x480,64x32", "input_size", ((480, 854), (32, 64))),
        ('prompt=,a cat,"a cat, asleep",none', "prompt", ("", "a cat", "a cat, asleep", "none")),
        ("facet=key,token", "facet", ("key", "token")),
        ("limit_references=true,false", "limit_references", (True, False)),
        ("precision=auto,fp32", "precision", ("auto", "fp32")),
        (
            "model=sd21[t=101,layer=2]:2+dinov2-b[layer=9],efficientnet-lite0",
            "model",
            ("sd21[t=101,layer=2]:2+dinov2-b[layer=9]", "efficientnet-lite0"),
        ),
    ],
)
def test_values_have_the_type_of_their_setting(
    text: str, name: str, values: tuple[object, ...]
) -> None:
    (knob,) = parse_knobs([text])
    assert (knob.name, knob.values) == (name, values)
    assert [type(value) for value in knob.values] == [type(value) for value in values]
    assert len(combinations(preset("default"), [knob])) == len(values)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (
            ["speed=1"],
            r"no knob 'speed' to sweep; choose from model, t, up_ft_index, .*direction\.",
        ),
        (["device=cpu,cuda"], "no knob 'device' to sweep"),
        (["offline=true"], "no knob 'offline' to sweep"),
        (["topk"], r"--over topk can't be read; write --over NAME=V1,V2,\.\.\."),
        (["topk="], "topk is ''; it must be a whole number, or a range start:stop:step"),
        (["topk=5,many"], "topk is 'many'; it must be a whole number"),
        (["topk=0:2:0.5"], "topk is '0.0'; it must be a whole number"),
        (["topk=5:5"], r"topk is '5:5'; a range .* needs a step greater than 0 and a stop greater"),
        (["topk=1:9:0"], "topk is '1:9:0'; a range"),
        (["topk=0:9999999999"], "with 1000 values at most"),
        (["temperature=1.2.3:5"], "temperature is '1.2.3:5'; a range is written start:stop:step"),
        (["temperature=inf"], "temperature is 'inf'; it must be a number"),
        (["layer="], "layer is ''; it must be a text that is not empty"),
        (["facet=head"], "facet is 'head'; it must be one of token, query, key, value"),
        (["limit_references=maybe"], "limit_references is 'maybe'; it must be true or false"),
        (["input_size=854"], "input_size is '854'; it must be WIDTHxHEIGHT in pixels"),
        (["seed=none"], "seed is 'none'; it must be a whole number"),
        (["topk=5,10,05"], "topk has the value 5 twice"),
        (["topk=5", "topk=10"], "topk is given twice; write all its values into one --over"),
        (["radius=5", "size_mask_neighborhood=10"], "radius is given twice"),
        (["topk=5,0"], "topk is 0; it must be 1 or more"),
        (["t=-1"], "t is -1; it must be 0 or more"),
        (["layer=1", "up_ft_index=2"], "layer and up_ft_index replace each other; sweep one"),
    ],
)
def test_what_can_not_be_swept(texts: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        combinations(preset("default"), parse_knobs(texts))


@pytest.mark.parametrize("name", KNOBS)
def test_every_knob_can_be_read(name: str) -> None:
    """A setting of a type that the reader doesn't know would raise something else."""
    try:
        (knob,) = parse_knobs([f"{name}=3"])
    except InputError as error:
        assert str(error).startswith(f"{name} is '3'; it must be ")  # noqa: PT017
    else:
        assert knob.values in ((3,), (3.0,), ("3",))


def test_combinations_put_values_into_the_settings() -> None:
    knobs = parse_knobs(["t=0,51", "radius=6", "precision=bf16", "model=sd15"])
    first, second = combinations(preset("dift-sd"), knobs)
    assert (first.settings.options.t, second.settings.options.t) == (0, 51)
    assert first.labels == {"t": "0", "radius": "6", "precision": "bf16", "model": "sd15"}
    for item in (first, second):
        assert item.settings.model == "sd15"
        assert item.settings.options.ensemble_size == 8
        assert item.settings.video.propagation.radius == 6
        assert item.settings.video.propagation.topk == 15
        assert item.settings.video.precision == "bf16"


def test_a_knob_replaces_its_rival_in_the_fixed_part() -> None:
    assert preset("dift-sd").options.up_ft_index == 2
    (item,) = combinations(preset("dift-sd"), [Knob("layer", ("mid_block",))])
    assert item.settings.options == ModelOptions(
        t=51, layer="mid_block", ensemble_size=8, prompt="", short_side=480, dtype="fp32"
    )


# --- numbers -----------------------------------------------------------------------------------


def test_a_grid_has_the_numbers_of_single_evaluations(
    capsys: pytest.CaptureFixture[str], davis: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "sweep"
    code, out, err = call(
        capsys, *sweep(davis, folder, "--over", "topk=1,5", "--over", "size-mask-neighborhood=2,0")
    )
    assert (code, err) == (0, "")
    names = {"heatmap.png", "results.jsonl", "sweep.csv", "sweep.json"}
    assert {path.name for path in folder.iterdir()} == names
    record = json.loads((folder / "sweep.json").read_text())
    rows = table(folder)
    assert list(rows[0]) == [
        *("topk", "radius", "J&F", "J", "F", "seconds_per_frame", "sequences", "error")
    ]
    grid = [(1, 2), (1, 0), (5, 2), (5, 0)]
    for row, found, (topk, radius) in zip(rows, record["combinations"], grid, strict=True):
        knobs = ("--topk", topk, "--size-mask-neighborhood", radius)
        expected = evaluated(capsys, davis, *knobs)
        assert found["knobs"] == {"topk": topk, "radius": radius}
        assert found["scores"] == expected
        assert found["units"]["back"] == evaluated(capsys, davis, *knobs, "--sequence", "back")
        assert found["model"].startswith("efficientnet-lite0@")
        assert (row["topk"], row["radius"]) == (str(topk), str(radius))
        assert [row[name] for name in METRICS] == [f"{expected[name]:.3f}" for name in METRICS]
        assert (row["sequences"], row["error"]) == ("2", "")
        assert float(row["seconds_per_frame"]) > 0
    best = max(record["combinations"], key=lambda item: item["scores"]["J&F"])
    assert record["best"] == best["knobs"]
    (marked,) = (line for line in out.splitlines() if line.endswith("best"))
    assert marked.split()[:3] == [*map(str, best["knobs"].values()), f"{best['scores']['J&F']:.1f}"]
    assert record["config"]["fixed"]["short_side"] == 96
    assert "topk" not in record["config"]["fixed"]
    assert list(record["config"]["data"]["sequences"]) == ["disc", "back"]
    with Image.open(folder / "heatmap.png") as image:
        assert image.format == "PNG"


@pytest.mark.parametrize(
    ("knob", "options"),
    [
        # Similarities of another precision are taken of the same features.
        ("precision=bf16,fp32", [("--precision", "bf16"), ("--precision", "fp32")]),
        ("layer=none,4", [(), ("--layer", "4")]),
        # Components are fitted on the clip's first frames, several of them.
        ("pca=none,3", [(), ("--pca", "3")]),
    ],
)
def test_other_knobs_have_the_numbers_of_single_evaluations(
    capsys: pytest.CaptureFixture[str],
    davis: Path,
    tmp_path: Path,
    knob: str,
    options: list[tuple[str, ...]],
) -> None:
    only = ("--sequence", "back")
    arguments = (*only, "--year", "2016", "--over", knob, "--json")
    _, out, _ = call(capsys, *sweep(davis, tmp_path / "out", *arguments))
    found = [item["scores"] for item in json.loads(out)["combinations"]]
    assert found == [evaluated(capsys, davis, *only, *given, year=2016) for given in options]


class Counting:
    """An extractor that counts the frames it was asked for."""

    def __init__(self, extractor: FeatureExtractor, frames: Counter[tuple[str, str, int]]) -> None:
        self._extractor = extractor
        self._frames = frames
        self.identity = extractor.identity
        self.batch_size = extractor.batch_size

    def extract(self, frames: Sequence[Frame]) -> list[FeatureMap]:
        self._frames.update((self.identity, frame.source, frame.index) for frame in frames)
        return self._extractor.extract(frames)


def test_features_are_computed_once_by_one_model_at_a_time(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    davis: Path,
    tmp_path: Path,
) -> None:
    create = engine.create_extractor
    frames: Counter[tuple[str, str, int]] = Counter()
    made: list[weakref.ref[Counting]] = []

    def counting(*arguments: Any, **options: Any) -> Counting:
        assert [reference() for reference in made] == [None] * len(made)
        extractor = Counting(create(*arguments, **options), frames)
        made.append(weakref.ref(extractor))
        return extractor

    monkeypatch.setattr(engine, "create_extractor", counting)
    overs = ("--over", "topk=1,5,9", "--over", "dtype=fp32,bf16", "--over", "n_last_frames=1,3")
    folder = tmp_path / "out"
    assert call(capsys, *sweep(davis, folder, *overs))[0] == 0
    assert len(made) == 2
    assert len(frames) == 2 * FRAMES
    assert set(frames.values()) == {1}
    done = [(line["combination"]["dtype"], line["unit"]) for line in lines(folder)]
    order = [key for key, _ in itertools.groupby(done)]
    assert order == [("fp32", "disc"), ("fp32", "back"), ("bf16", "disc"), ("bf16", "back")]


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The frames that went through the embedded network, with what was asked of it."""
    seen: list[tuple[str, int]] = []
    extract = EfficientNetExtractor.extract_layers

    def noted(self: EfficientNetExtractor, frames: Sequence[Frame]) -> list[list[FeatureMap]]:
        seen.extend((self.identity, frame.index) for frame in frames)
        return extract(self, frames)

    monkeypatch.setattr(EfficientNetExtractor, "extract_layers", noted)
    return seen


def test_layers_of_a_model_come_out_of_one_pass(
    capsys: pytest.CaptureFixture[str],
    davis: Path,
    tmp_path: Path,
    passes: list[tuple[str, int]],
) -> None:
    overs = ("--over", "layer=2,4,10", "--over", "topk=1,5")
    code, out, _ = call(capsys, *sweep(davis, tmp_path / "out", *overs, "--json"))
    assert code == 0
    assert len(passes) == FRAMES
    assert all("blocks2x1+4x1+10x1" in identity for identity, _ in passes)
    for item in json.loads(out)["combinations"]:
        chosen = ("--layer", item["knobs"]["layer"], "--topk", str(item["knobs"]["topk"]))
        assert item["scores"] == evaluated(capsys, davis, *chosen)
        assert f"/blocks{item['knobs']['layer']}x1/" in item["model"]


def test_a_layer_is_added_to_those_that_are_there(
    capsys: pytest.CaptureFixture[str],
    davis: Path,
    tmp_path: Path,
    passes: list[tuple[str, int]],
) -> None:
    folder = tmp_path / "out"
    assert call(capsys, *sweep(davis, folder, "--over", "layer=2,4"))[0] == 0
    before = len(passes)
    assert call(capsys, *sweep(davis, folder, "--over", "layer=2,4,10", "--resume"))[0] == 0
    assert len(passes) == before + FRAMES
    assert len(lines(folder)) == 3 * 2


def test_a_missing_layer_leaves_the_others_as_they_are(
    capsys: pytest.CaptureFixture[str], davis: Path, tmp_path: Path
) -> None:
    code, out, err = call(
        capsys, *sweep(davis, tmp_path / "out", "--over", "layer=4,99,10", "--json")
    )
    assert code == 3
    assert "EfficientNet has no block 99" in err
    scored = [bool(item["scores"]) for item in json.loads(out)["combinations"]]
    assert scored == [True, False, True]


def test_a_cache_around_a_cache_holds_the_same_tensors(davis: Path) -> None:
    extractor = engine.create_extractor("efficientnet-lite0", ModelOptions(short_side=64))
    outer = FeatureCache(extractor, capacity=2, dtype=torch.bfloat16)
    inner = FeatureCache(outer, capacity=2, dtype=torch.bfloat16)
    frame = next(iter(open_clip(davis / "JPEGImages/480p/disc")))
    assert inner.extract([frame])[0] is outer.extract([frame])[0]


def test_shared_features_count_in_the_seconds_of_every_combination(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    davis: Path,
    tmp_path: Path,
) -> None:
    now = itertools.count()

    class Clock:
        """Time passes by looking at it, and much of it during extraction."""

        @staticmethod
        def perf_counter() -> float:
            return 1000.0 * next(now)

    monkeypatch.setattr(shared, "time", Clock)
    folder = tmp_path / "out"
    arguments = sweep(davis, folder, "--sequence", "disc", "--over", "topk=1,5,9")
    assert call(capsys, *arguments)[0] == 0
    first, *others = (line["seconds"] for line in lines(folder))
    assert first < 1000  # the scorer's own clock saw all of it
    assert all(6000 < seconds < 7000 for seconds in others)


# --- resuming ----------------------------------------------------------------------------------


def test_a_killed_sweep_is_resumed(
    capsys: pytest.CaptureFixture[str], davis: Path, tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    over = ("--sequence", "disc", "--over", "topk=1:13")
    assert call(capsys, *sweep(davis, whole, *over))[0] == 0
    process = subprocess.Popen(command(*sweep(davis, killed, *over)))
    results = killed / "results.jsonl"
    try:
        while not results.exists() or results.read_bytes().count(b"\n") < 2:
            assert process.poll() is None
            time.sleep(0.001)
    finally:
        process.kill()
        assert process.wait() == -signal.SIGKILL
    kept = results.read_bytes()
    kept = kept[: kept.rfind(b"\n") + 1]
    assert 2 <= kept.count(b"\n") < 12
    results.write_bytes(kept + b'{"combination": {"topk": "')
    (killed / ".sweep.0123abcd.csv").write_bytes(b"half")
    assert json.loads((killed / "sweep.json").read_text())["status"] == "running"
    code, _, err = call(capsys, *sweep(davis, killed, *over, "--resume"))
    assert (code, err) == (0, "")
    assert results.read_bytes().startswith(kept)
    assert [line["combination"]["topk"] for line in lines(killed)] == [*map(str, range(1, 13))]
    assert scores(killed) == scores(whole)
    assert sorted(p.name for p in killed.iterdir()) == sorted(p.name for p in whole.iterdir())


@pytest.fixture(scope="module")
def finished(davis: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished sweep over topk=1,5 of sequence disc."""
    folder = tmp_path_factory.mktemp("finished") / "out"
    arguments = sweep(davis, folder, "--sequence", "disc", "--over", "topk=1,5")
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    assert left.value.code == 0
    return folder


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in finished.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_a_finished_sweep_is_resumed_without_a_model(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, davis: Path, copied: Path
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError

    before = table(copied), (copied / "results.jsonl").read_bytes()
    for outcome in ("sweep.csv", "heatmap.png"):
        (copied / outcome).unlink()
    monkeypatch.setattr(engine, "create_extractor", refuse)
    arguments = sweep(davis, copied, "--sequence", "disc", "--over", "topk=1,5", "--resume")
    assert call(capsys, *arguments)[0] == 0
    assert (table(copied), (copied / "results.jsonl").read_bytes()) == before
    assert (copied / "heatmap.png").exists()


def test_values_can_be_added(capsys: pytest.CaptureFixture[str], davis: Path, copied: Path) -> None:
    kept = (copied / "results.jsonl").read_bytes()
    code, _, err = call(
        capsys, *sweep(davis, copied, "--sequence", "disc", "--over", "topk=9,5,1", "--resume")
    )
    assert (code, err) == (0, "")
    data = (copied / "results.jsonl").read_bytes()
    assert data.startswith(kept)
    assert data.count(b"\n") == 3
    assert [row["topk"] for row in table(copied)] == ["9", "5", "1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--sequence", "disc", "--over", "topk=1,5", "--temperature", "0.2"),
            "can't be resumed with other settings (fixed.temperature was 0.1 and is "
            "now 0.2); use the same ones, or start over with --overwrite.",
        ),
        (("--over", "topk=1,5"), "(data.sequences.back was None and is now '"),
        (
            ("--sequence", "disc", "--over", "radius=3,5"),
            "swept was ['topk'] and is now ['radius']",
        ),
        (
            ("--sequence", "disc", "--over", "topk=1,5", "--year", "2016"),
            "(data.name was 'DAVIS-2017 train' and is now 'DAVIS-2016 train')",
        ),
        (("--sequence", "disc", "--over", "topk=1", "--preset", "keypoints"), "; and 9 more)"),
    ],
)
def test_resume_refuses_another_sweep(
    capsys: pytest.CaptureFixture[str],
    davis: Path,
    copied: Path,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    before = {path.name: path.read_bytes() for path in copied.iterdir()}
    code, out, err = call(capsys, *sweep(davis, copied, *arguments, "--resume"))
    assert (code, out) == (1, "")
    assert message in err
    assert {path.name: path.read_bytes() for path in copied.iterdir()} == before


def test_resume_refuses_changed_data(
    capsys: pytest.CaptureFixture[str], davis: Path, copied: Path
) -> None:
    mask = davis / "Annotations/480p/disc/00003.png"
    kept = mask.read_bytes()
    mask.write_bytes((mask.parent / "00004.png").read_bytes())
    arguments = sweep(davis, copied, "--sequence", "disc", "--over", "topk=1,5", "--resume")
    try:
        code, _, err = call(capsys, *arguments)
    finally:
        mask.write_bytes(kept)
    assert code == 1
    assert "data.sequences.disc was '" in err


def test_resume_refuses_another_model_under_the_same_name(
    capsys: pytest.CaptureFixture[str], davis: Path, copied: Path
) -> None:
    results = copied / "results.jsonl"
    results.write_text(results.read_text().replace("efficientnet-lite0@", "efficientnet-lite0@x"))
    arguments = sweep(davis, copied, "--sequence", "disc", "--over", "topk=1,7", "--resume")
    code, _, err = call(capsys, *arguments)
    assert code == 1
    assert "can't be resumed: its model was efficientnet-lite0@x" in err


def test_resume_refuses_damaged_results(
    capsys: pytest.CaptureFixture[str], davis: Path, copied: Path
) -> None:
    results = copied / "results.jsonl"
    results.write_bytes(b"\0\0\n" + results.read_bytes())
    arguments = sweep(davis, copied, "--sequence", "disc", "--over", "topk=1,5", "--resume")
    code, _, err = call(capsys, *arguments)
    assert code == 1
    assert "Line 1 of" in err
    assert "is damaged; remove that line, or start over with --overwrite." in err
    (copied / "sweep.json").write_text("[1]")
    code, _, err = call(capsys, *arguments)
    assert code == 1
    assert "sweep.json is not the record of a sweep" in err


def test_an_earlier_sweep_is_replaced_only_when_asked(
    capsys: pytest.CaptureFixture[str], davis: Path, copied: Path
) -> None:
    arguments = sweep(davis, copied, "--sequence", "back", "--over", "topk=3")
    (copied / "mine.txt").write_text("kept")
    code, _, err = call(capsys, *arguments)
    assert code == 1
    assert "already holds a sweep; continue it with --resume, replace it with --overwrite" in err
    assert len(table(copied)) == 2
    assert call(capsys, *arguments, "--overwrite")[0] == 0
    assert [row["topk"] for row in table(copied)] == ["3"]
    assert [line["unit"] for line in lines(copied)] == ["back"]
    assert (copied / "mine.txt").read_text() == "kept"


def test_a_kill_while_replacing_leaves_no_results_of_other_settings(
    monkeypatch: pytest.MonkeyPatch, copied: Path
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(SweepFolder, "write_record", killed)
    with pytest.raises(KeyboardInterrupt):
        SweepFolder(copied, {}, mode="overwrite").prepare()
    assert not (copied / "results.jsonl").exists()


@pytest.mark.parametrize("mode", ["--overwrite", "--resume"])
def test_a_folder_of_something_else_is_not_touched(
    capsys: pytest.CaptureFixture[str], davis: Path, tmp_path: Path, mode: str
) -> None:
    (tmp_path / "thesis.tex").write_text("text")
    code, _, err = call(capsys, *sweep(davis, tmp_path, "--over", "topk=1", mode))
    assert code == 1
    assert "holds no sweep of this program, so nothing in it is touched" in err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_output_must_be_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(OutputError, match="file is a file; name a folder for the output"):
        SweepFolder(tmp_path / "file", {}, mode="new")
    with pytest.raises(OutputError, match="file/below can't be made"):
        SweepFolder(tmp_path / "file/below", {}, mode="new").prepare()


# --- failures ----------------------------------------------------------------------------------


def test_a_failed_combination_does_not_stop_the_others(
    capsys: pytest.CaptureFixture[str], davis: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    over = ("--sequence", "disc", "--over", "layer=99,4", "--over", "topk=1,5")
    code, out, err = call(capsys, *sweep(davis, folder, *over))
    message = "EfficientNet has no block 99; choose from 0 to 15."
    assert code == 3
    assert err == f"Note: layer=99 failed: {message}\n"
    assert [line.split()[-1] == "failed" for line in out.splitlines()[1:5]] == [True] * 2 + [
        False
    ] * 2
    rows = table(folder)
    assert [(row["error"], row["sequences"]) for row in rows] == [(message, "0")] * 2 + [
        ("", "1")
    ] * 2
    assert [row["J&F"] == "" for row in rows] == [True, True, False, False]
    failed = [line for line in lines(folder) if "error" in line]
    assert [(line["combination"]["topk"], line["unit"]) for line in failed] == [
        ("1", None),
        ("5", None),
    ]
    assert (folder / "heatmap.png").exists()
    # A resumed sweep tries what failed again, and nothing else.
    code, _, err = call(capsys, *sweep(davis, folder, *over, "--resume"))
    assert (code, err) == (3, f"Note: layer=99 failed: {message}\n")
    assert len(lines(folder)) == 6
    assert scores(folder) == [{k: v for k, v in r.items() if "second" not in k} for r in rows]


def test_a_combination_may_fail_while_it_is_scored(
    capsys: pytest.CaptureFixture[str],
    davis: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fit = PCAExtractor.fit

    def refused(self: PCAExtractor, frames: Sequence[Frame]) -> None:
        if "pca=9999" in self.identity:
            raise InputError("pca is 9999, and that is too many.")
        fit(self, frames)

    monkeypatch.setattr(PCAExtractor, "fit", refused)
    folder = tmp_path / "out"
    code, _, err = call(capsys, *sweep(davis, folder, "--over", "pca=9999,8"))
    assert code == 3
    assert err.count("\n") == 1
    assert err.startswith("Note: pca=9999 on disc failed: pca is 9999, and that")
    assert [bool(row["error"]) for row in table(folder)] == [True, False]


def test_all_combinations_may_fail(
    capsys: pytest.CaptureFixture[str], davis: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    code, out, _ = call(capsys, *sweep(davis, folder, "--over", "t=0,51"))
    assert code == 3
    assert out.count("failed") == 2
    assert not (folder / "heatmap.png").exists()
    assert json.loads((folder / "sweep.json").read_text())["best"] is None


def test_a_model_that_all_combinations_need_must_load(
    capsys: pytest.CaptureFixture[str], davis: Path, tmp_path: Path
) -> None:
    arguments = sweep(davis, tmp_path / "out", "--over", "topk=1,5", "--model", "effnet")
    code, out, err = call(capsys, *arguments)
    assert (code, out) == (1, "")
    assert err.startswith("Error: Model 'effnet' is not a name")


def test_faulty_data_end_the_sweep(
    capsys: pytest.CaptureFixture[str], davis: Path, tmp_path: Path
) -> None:
    last = davis / "Annotations/480p/disc/00005.png"
    kept = last.read_bytes()
    last.unlink()
    try:
        code, _, err = call(capsys, *sweep(davis, tmp_path / "out", "--over", "topk=1,5"))
    finally:
        last.write_bytes(kept)
    assert code == 1
    assert "has 6 frames and" in err


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        ((), "Missing option '--over'", 2),
        (("--over", "topk=1", "--resume", "--overwrite"), "exclude each other; give one", 2),
        (("--over", "topk=1", "--topk", "5"), "--topk and --over topk=... exclude each other", 2),
        (
            ("--over", "radius=1", "--size-mask-neighborhood", "5"),
            "--size-mask-neighborhood and --over radius=... exclude each other",
            2,
        ),
        (
            ("--over", "input_size=96x64"),
            "--short-side and --over input_size=... exclude each other",
            2,
        ),
        (("--over", "model=a,b", "--model", "c"), "--model and --over model=... exclude", 2),
        (("--over", "speed=1"), "There is no knob 'speed' to sweep; choose from", 1),
        (("--over", "topk=1", "--device", "abacus"), "device is 'abacus'", 1),
        (("--over", "topk=1", "--sequence", "cat"), "'cat' is not in", 1),
    ],
)
def test_wrong_usage(
    capsys: pytest.CaptureFixture[str],
    davis: Path,
    tmp_path: Path,
    arguments: tuple[str, ...],
    message: str,
    code: int,
) -> None:
    left, out, err = call(capsys, *sweep(davis, tmp_path / "out", *arguments))
    assert (left, out) == (code, "")
    assert message in err
    assert not (tmp_path / "out").exists()
