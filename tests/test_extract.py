"""Extraction as a user runs it, and what stored features do in place of a model."""

from __future__ import annotations

import errno
import gc
import json
import os
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path

import click
import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from propagate.commands.extract import extract
from propagate.commands.main import main
from propagate.commands.model_options import resolve_model
from propagate.config import ModelOptions, preset
from propagate.errors import InputError, OutputError
from propagate.extract import ExtractReport, ExtractRequest, extract_features
from propagate.types import ClipLosses, FeatureMap, Frame
from tests.video_factory import ClipSpec, write_clip

ROOT = Path(__file__).resolve().parent.parent
SIZE = (96, 144)
SMALL = ("--short-side", "96")


def picture(index: int) -> np.ndarray:
    """A disc on a textured ground, `index` pixels to the right."""
    rng = np.random.default_rng(0)
    ground = cv2.GaussianBlur(rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8), (0, 0), 3)
    return np.where(disc(index)[..., None] > 0, 255 - ground, ground // 2)


def disc(index: int) -> np.ndarray:
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    return ((y - 48) ** 2 + (x - 40 - index) ** 2 <= 20**2).astype(np.uint8)


def images(folder: Path, count: int) -> Path:
    folder.mkdir(parents=True)
    for index in range(count):
        Image.fromarray(picture(index)).save(folder / f"img{index}.png")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below `folder`."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def maps(folder: Path, clip: str = "clip") -> list[int]:
    """The frames whose maps are stored."""
    return sorted(int(path.name[:6]) for path in (folder / "maps" / clip).iterdir())


def record_of(folder: Path) -> dict:
    return json.loads((folder / "features.json").read_text())


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the program in this process."""
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return int(left.value.code or 0), printed.out, printed.err


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    code, out, err = call(capsys, *arguments)
    assert (code, out) == (1, "")
    assert err.startswith("Error: ")
    return err


class Counting:
    """Random maps that depend on the frame's index, computed in batches."""

    identity = "counting"

    def __init__(self, batch_size: int = 1) -> None:
        self.batch_size = batch_size
        self.batches: list[list[int]] = []

    def extract(self, frames: Sequence[Frame]) -> list[FeatureMap]:
        self.batches.append([frame.index for frame in frames])
        return [
            FeatureMap(torch.randn(4, 3, 5, generator=_seeded(frame)), frame.size, frame.size)
            for frame in frames
        ]


def _seeded(frame: Frame) -> torch.Generator:
    return torch.Generator().manual_seed(frame.index)


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Counting:
    extractor = Counting()
    monkeypatch.setattr("propagate.extract.create_extractor", lambda *_, **__: extractor)
    return extractor


def job(clip: Path, output: Path, **options: object) -> ExtractReport:
    return extract_features(ExtractRequest(clips=(str(clip),), output=output, **options))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of 8 pictures; the mask of the first is beside it."""
    folder = tmp_path_factory.mktemp("source")
    Image.fromarray(disc(0)).save(folder / "first.png")
    return images(folder / "clip", 8)


def test_every_kind_of_clip(capsys: pytest.CaptureFixture[str], clip: Path, tmp_path: Path) -> None:
    video = write_clip(tmp_path / "bear.mp4", ClipSpec(count=5))
    inputs = (clip, video, clip / "img3.png", f"{clip}/img[12].png", *SMALL)
    code, out, err = call(capsys, "extract", *inputs, "-o", tmp_path / "out", "--json")
    assert (code, err) == (0, "")
    facts = json.loads(out)
    assert (facts["clips"], facts["maps"], facts["new_maps"]) == (4, 16, 16)
    assert facts["new_bytes"] == sum(
        len(data) for name, data in contents(tmp_path / "out").items() if name.startswith("maps")
    )
    found = {
        path.name: maps(tmp_path / "out", path.name) for path in (tmp_path / "out/maps").iterdir()
    }
    assert found == {"clip": [*range(8)], "bear": [*range(5)], "img3": [0], "img_12": [0, 1]}
    record = record_of(tmp_path / "out")
    assert record["status"] == "complete"
    assert record["extractor"].startswith("efficientnet-lite0@")
    assert [item["maps"] for item in record["clips"]] == [8, 5, 1, 2]


def test_the_result_is_one_line(
    capsys: pytest.CaptureFixture[str], clip: Path, tmp_path: Path
) -> None:
    inputs = (clip, "-o", tmp_path / "out", "--frames", "2:8:3", *SMALL)
    code, out, err = call(capsys, "extract", *inputs)
    assert (code, err) == (0, "")
    assert out.startswith("2 maps (")
    assert out.endswith(f"2 in all: {tmp_path / 'out'}\n")
    assert maps(tmp_path / "out") == [2, 5]


@pytest.mark.parametrize(("store_dtype", "equal_pixels"), [("fp32", 1.0), ("fp16", 0.999)])
def test_masks_are_those_of_the_model_itself(
    capsys: pytest.CaptureFixture[str],
    clip: Path,
    tmp_path: Path,
    store_dtype: str,
    equal_pixels: float,
) -> None:
    """The same bytes from float32 files; from float16 ones at least 99.9 % of the pixels."""
    size = ("--short-side", "192")
    stored = ("--store-dtype", store_dtype, "-o", tmp_path / "features")
    assert call(capsys, "extract", clip, *size, *stored)[0] == 0
    run = ("run", clip, clip.parent / "first.png", "--precision", "fp32", "--no-overlay")
    assert call(capsys, *run, *size, "-o", tmp_path / "model")[0] == 0
    named = ("--model", f"{tmp_path / 'features'}/")
    assert call(capsys, *run, *named, "-o", tmp_path / "stored")[0] == 0
    computed, read = contents(tmp_path / "model/masks"), contents(tmp_path / "stored/masks")
    assert len(computed) == len(read) == 8
    if equal_pixels == 1:
        assert computed == read
    pictures = [
        np.stack([np.array(Image.open(tmp_path / kind / "masks" / name)) for name in computed])
        for kind in ("model", "stored")
    ]
    assert (pictures[0] == pictures[1]).mean() >= equal_pixels
    assert "efficientnet-lite0@" in json.loads((tmp_path / "stored/run.json").read_text())["model"]


def test_resumed_extraction_is_identical_to_an_uninterrupted_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    source = images(tmp_path / "clip", 16)
    inputs = ("extract", str(source), str(images(tmp_path / "more", 2)), "--short-side", "256")
    command = [sys.executable, str(ROOT / "cli.py"), *inputs, "-o", str(tmp_path / "cut")]
    for wait_for, how, resume in ((2, signal.SIGKILL, []), (5, signal.SIGINT, ["--resume"])):
        with subprocess.Popen([*command, *resume], stderr=subprocess.PIPE, text=True) as process:
            while process.poll() is None and not list(
                tmp_path.glob(f"cut/maps/clip/{wait_for:06d}-*")
            ):
                time.sleep(0.005)
            os.kill(process.pid, how)
            message = process.communicate()[1]
        if how == signal.SIGINT:
            assert process.returncode == 130
            assert message.strip() == "Interrupted."
        assert record_of(tmp_path / "cut")["status"] == "running"
        before = maps(tmp_path / "cut")
        assert wait_for < len(before) < 16
    _, out, _ = call(capsys, *inputs, "-o", tmp_path / "cut", "--resume", "--json")
    assert json.loads(out)["new_maps"] == 18 - len(before)
    assert call(capsys, *inputs, "-o", tmp_path / "whole")[0] == 0
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_batches_of_a_resumed_extraction_are_those_of_a_whole_one(
    clip: Path, tmp_path: Path, counting: Counting
) -> None:
    counting.batch_size = 3
    job(clip, tmp_path / "out")
    before = contents(tmp_path / "out")
    for lost in (4, 7):
        next((tmp_path / "out/maps/clip").glob(f"{lost:06d}-*")).unlink()
    counting.batches.clear()
    report = job(clip, tmp_path / "out", mode="resume")
    assert counting.batches == [[3, 4, 5], [6, 7]]
    assert report.computed == 2
    assert contents(tmp_path / "out") == before


def test_clips_and_frames_can_be_added(clip: Path, tmp_path: Path, counting: Counting) -> None:
    more = images(tmp_path / "more", 3)
    job(clip, tmp_path / "out", frames="0:4")
    job(more, tmp_path / "out", mode="resume")
    assert job(clip, tmp_path / "out", frames="2:8", mode="resume").computed == 4
    job(clip, tmp_path / "whole")
    job(more, tmp_path / "whole", mode="resume")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_an_unfinished_clip_stays_unfinished(
    clip: Path, tmp_path: Path, counting: Counting
) -> None:
    job(clip, tmp_path / "out")
    record = record_of(tmp_path / "out")
    record["clips"][0]["complete"] = False
    (tmp_path / "out/features.json").write_text(json.dumps(record))
    job(images(tmp_path / "more", 1), tmp_path / "out", mode="resume")
    assert record_of(tmp_path / "out")["status"] == "running"
    job(clip, tmp_path / "out", mode="resume")
    assert record_of(tmp_path / "out")["status"] == "complete"


def test_principal_components_are_the_same_after_a_resume(
    capsys: pytest.CaptureFixture[str], clip: Path, tmp_path: Path
) -> None:
    inputs = ("extract", clip, "-o", tmp_path / "out", "--pca", "8", *SMALL)
    assert call(capsys, *inputs)[0] == 0
    before = contents(tmp_path / "out")
    for path in sorted((tmp_path / "out/maps/clip").iterdir())[:6]:
        path.unlink()
    assert call(capsys, *inputs, "--resume")[0] == 0
    assert contents(tmp_path / "out") == before
    error = refused(capsys, *inputs, "--resume", "--frames", "1:")
    assert "can't be resumed with other settings (frames was None and is now '1:')" in error


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (("--short-side", "64"), "short_side was None and is now 64"),
        (("--layer", "4"), "layer was None and is now '4'"),
        (("--task", "semantic"), "task was 'propagation' and is now 'semantic'"),
        (("--store-dtype", "bf16"), "store_dtype was 'fp16' and is now 'bf16'"),
        (("--raw",), "raw was False and is now True"),
        (("--model", "nope"), "model was 'efficientnet-lite0' and is now"),
    ],
)
def test_resume_refuses_other_settings(
    capsys: pytest.CaptureFixture[str],
    clip: Path,
    tmp_path: Path,
    counting: Counting,
    changed: tuple[str, ...],
    message: str,
) -> None:
    job(clip, tmp_path / "out", options=preset("dino").options)
    if "nope" in changed:
        changed = ("--model", str(clip))
    same = ("extract", clip, "-o", tmp_path / "out", "--preset", "dino", "--resume")
    error = refused(capsys, *same, *changed)
    assert "can't be resumed with other settings (" in error
    assert message in error
    assert "start over with --overwrite" in error


def test_settings_that_change_no_map_do_not_keep_from_resuming(
    clip: Path, tmp_path: Path, counting: Counting
) -> None:
    job(clip, tmp_path / "out")
    less = ModelOptions(batch_size=1, memory=0.5, offline=True)
    assert job(clip, tmp_path / "out", options=less, mode="resume").computed == 0


def test_resume_refuses_another_extractor(
    clip: Path, tmp_path: Path, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    job(clip, tmp_path / "out")
    monkeypatch.setattr(counting, "identity", "counting again")
    with pytest.raises(OutputError, match="its extractor was counting and is now counting again"):
        job(clip, tmp_path / "out", mode="resume")


def test_resume_refuses_a_changed_clip(tmp_path: Path, counting: Counting) -> None:
    source = images(tmp_path / "clip", 3)
    job(source, tmp_path / "out")
    Image.fromarray(picture(9)).save(source / "img1.png")
    with pytest.raises(OutputError, match=r"frame 1 of .*clip \(3 images\) is another picture"):
        job(source, tmp_path / "out", mode="resume")
    Image.fromarray(picture(9)).save(source / "img9.png")
    with pytest.raises(OutputError, match=r"its clip was .*\(3 images\) and is now .*\(4 images\)"):
        job(source, tmp_path / "out", mode="resume")


def test_resume_refuses_a_damaged_record(clip: Path, tmp_path: Path, counting: Counting) -> None:
    job(clip, tmp_path / "out")
    record = record_of(tmp_path / "out")
    record["clips"][0]["folder"] = "../elsewhere"
    (tmp_path / "out/features.json").write_text(json.dumps(record))
    with pytest.raises(OutputError, match=r"features.json is damaged \('../elsewhere' is no name"):
        job(clip, tmp_path / "out", mode="resume")


def test_nothing_is_overwritten_unasked(clip: Path, tmp_path: Path, counting: Counting) -> None:
    job(clip, tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(OutputError, match="continue it with --resume, replace it with --overwrite"):
        job(clip, tmp_path / "out", frames="0:2")
    assert contents(tmp_path / "out") == before


def test_overwrite_removes_our_own_files_only(
    clip: Path, tmp_path: Path, counting: Counting
) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    job(images(tmp_path / "other", 2), out)
    job(clip, out, mode="resume")
    job(clip, elsewhere)
    (out / "maps/clip/notes.txt").write_text("mine")
    (out / "maps/clip/.000001-ab.0123abcd.safetensors").touch()
    (out / "maps/link").symlink_to(elsewhere / "maps/clip")
    job(clip, out, frames="3:5", mode="overwrite")
    names = [name for name in contents(out) if "link" not in name]
    assert sorted(name.split("-")[0] for name in names) == [
        "features.json",
        "maps/clip/000003",
        "maps/clip/000004",
        "maps/clip/notes.txt",
    ]
    assert maps(elsewhere) == [*range(8)]


def test_a_foreign_folder_is_left_alone(clip: Path, tmp_path: Path, counting: Counting) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    for mode in ("new", "resume", "overwrite"):
        with pytest.raises(
            OutputError, match="is not empty and holds no extraction of this program"
        ):
            job(clip, tmp_path, mode=mode)
    assert contents(tmp_path) == {"thesis.txt": b"precious"}


def test_leftovers_of_a_killed_extraction_are_removed(
    clip: Path, tmp_path: Path, counting: Counting
) -> None:
    job(clip, tmp_path / "out")
    before = contents(tmp_path / "out")
    (tmp_path / "out/maps/clip/.000001-ab.0123abcd.safetensors").write_bytes(b"half")
    (tmp_path / "out/.features.0123abcd.json").write_bytes(b"half")
    job(clip, tmp_path / "out", mode="resume")
    assert contents(tmp_path / "out") == before


def test_a_full_disk_loses_nothing(
    clip: Path, tmp_path: Path, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if "000003-" in path.name:
            write(path, data[:10])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OutputError, match=r"000003-.* can't be written \(No space left"):
            job(clip, tmp_path / "out")
    assert maps(tmp_path / "out") == [0, 1, 2]
    job(clip, tmp_path / "out", mode="resume")
    job(clip, tmp_path / "whole")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_clips_of_one_name_have_folders_of_their_own(
    clip: Path, tmp_path: Path, counting: Counting
) -> None:
    clips = [images(tmp_path / parent / "Clip", 1) for parent in ("a", "b")]
    request = ExtractRequest(
        clips=(str(clip), *map(str, clips), f"{clip}/*.png"), output=tmp_path / "out"
    )
    extract_features(request)
    names = [item["folder"] for item in record_of(tmp_path / "out")["clips"]]
    assert names == ["clip", "Clip-2", "Clip-3", "clip-4"]


def test_a_clip_named_twice_is_stored_once(clip: Path, tmp_path: Path, counting: Counting) -> None:
    request = ExtractRequest(clips=(str(clip), str(clip)), output=tmp_path / "out")
    assert extract_features(request).computed == 8


class ManyFrames:
    """A clip of many frames, of which it notes how many are alive at once."""

    source, fps, estimated_length, losses = "many", 24.0, None, ClipLosses()

    def __init__(self, count: int) -> None:
        self._count = count
        self._alive: set[int] = set()
        self.most = 0

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self._count):
            rgb = np.full((8, 8, 3), index % 256, np.uint8)
            frame = Frame("many", index, rgb, 0.0, str(index))
            self._alive.add(index)
            weakref.finalize(frame, self._alive.discard, index)
            self.most = max(self.most, len(self._alive))
            yield frame
            del frame


def _given_back(reader: ManyFrames, /, *_: object, **__: object) -> ManyFrames:
    return reader


def test_few_frames_are_held_however_long_the_clip(
    tmp_path: Path, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting.batch_size = 2
    most = []
    for count in (12, 48):
        reader = ManyFrames(count)
        monkeypatch.setattr("propagate.extract.open_clip", partial(_given_back, reader))
        gc.collect()
        job(Path("many"), tmp_path / str(count))
        assert len(maps(tmp_path / str(count), "many")) == count
        most.append(reader.most)
    # A batch, one that is decoded meanwhile, and what the loops between have in hand.
    assert max(most) <= 2 * counting.batch_size + 3


def test_frames_that_are_lost_are_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, counting: Counting
) -> None:
    source = images(tmp_path / "clip", 3)
    (source / "img1.png").write_bytes(b"no picture")
    code, _, err = call(capsys, "extract", source, "-o", tmp_path / "out")
    assert code == 0
    assert err.startswith("Note: img1.png cannot be read")
    assert "img1.png" in record_of(tmp_path / "out")["clips"][0]["notes"][0]
    assert maps(tmp_path / "out") == [0, 1]


def test_features_cannot_be_read_and_replaced_at_once(
    capsys: pytest.CaptureFixture[str], clip: Path, tmp_path: Path, counting: Counting
) -> None:
    job(clip, tmp_path / "out")
    before = contents(tmp_path / "out")
    inputs = (clip, "-o", tmp_path / "out", "--overwrite")
    error = refused(capsys, "extract", *inputs, "--model", f"efficientnet-lite0+{tmp_path / 'out'}")
    assert "holds the features that are to be read as a model" in error
    assert contents(tmp_path / "out") == before


def test_stored_features_take_no_part_of_a_preset_but_its_propagation(
    capsys: pytest.CaptureFixture[str], clip: Path, tmp_path: Path, counting: Counting
) -> None:
    job(clip, tmp_path / "out")
    run = ("run", clip, clip.parent / "first.png", "--model", tmp_path / "out", "--no-overlay")
    assert call(capsys, *run, "--preset", "dift-sd", "-o", tmp_path / "run")[0] == 0
    video = json.loads((tmp_path / "run/run.json").read_text())["config"]["video"]
    assert video["propagation"]["topk"] == 15
    error = refused(capsys, *run, "-o", tmp_path / "no", "--short-side", "64", "--seed", "1")
    assert f"seed, short_side set for {tmp_path / 'out'}, which has no such option" in error


def test_missing_frames_are_named(
    capsys: pytest.CaptureFixture[str], clip: Path, tmp_path: Path, counting: Counting
) -> None:
    job(clip, tmp_path / "out", frames="0:5")
    run = ("run", clip, clip.parent / "first.png", "--model", tmp_path / "out", "--no-overlay")
    error = refused(capsys, *run, "-o", tmp_path / "run")
    assert f"Frame 5 (img5) of {clip} (8 images) has no stored features in {tmp_path}" in error
    job(clip, tmp_path / "out", mode="resume")
    assert call(capsys, *run, "-o", tmp_path / "run", "--resume")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (("-o", "{out}"), "Missing argument 'CLIP...'", 2),
        (("{clip}",), "Missing option '-o'", 2),
        (("{clip}", "-o", "{out}", "--resume", "--overwrite"), "exclude each other", 2),
        (("{clip}", "-o", "{out}", "--topk", "3"), "--topk", 2),
        (("no.mp4", "-o", "{out}"), "no.mp4", 1),
        (("{clip}", "no.mp4", "-o", "{out}"), "no.mp4", 1),
        (("{clip}", "-o", "{out}", "--frames", "9:3"), "9:3", 1),
        (("{clip}", "-o", "{out}", "--model", "nope"), "nope", 1),
        (("{clip}", "-o", "{clip}/img0.png"), "is a file", 1),
        (("{clip}", "-o", "{out}", "--input-size", "854"), "--input-size is '854'; write width", 1),
        (("{clip}", "-o", "{out}", "--pca", "0"), "pca is 0; it must be 1 or more", 1),
        (("{clip}", "-o", "{out}", "--memory", "0"), "memory is 0.0 GB; it must be greater", 1),
    ],
)
def test_bad_input_gets_one_sentence(
    capsys: pytest.CaptureFixture[str],
    clip: Path,
    tmp_path: Path,
    arguments: tuple[str, ...],
    message: str,
    code: int,
) -> None:
    values = {"clip": clip, "out": tmp_path / "out"}
    found, out, err = call(capsys, "extract", *(text.format(**values) for text in arguments))
    assert (found, out) == (code, "")
    assert message in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"store_dtype": "int8"}, "store_dtype is 'int8'; it must be one of fp16, bf16, fp32"),
        ({"task": "cooking"}, "task is 'cooking'; it must be one of propagation, semantic"),
    ],
)
def test_bad_requests(clip: Path, tmp_path: Path, options: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        job(clip, tmp_path / "out", **options)


def given_options(*words: str) -> tuple[str, ModelOptions]:
    """What `resolve_model` makes of a command line."""
    context = extract.make_context("extract", ["clip", "-o", "out", *words])
    return resolve_model(dict(context.params))


def test_every_model_option_can_be_given() -> None:
    names = {parameter.name for parameter in extract.params if isinstance(parameter, click.Option)}
    assert {item.name for item in fields(ModelOptions)} <= names


def test_options_reach_the_model() -> None:
    words = (
        *("--layer", "up_blocks.1", "--facet", "key", "--latent", "mean", "--pca", "9"),
        *("--input-size", "854x480", "--compile", "--batch-size", "4", "--memory", "2.5"),
    )
    model, options = given_options("--model", "sd15", *words)
    assert model == "sd15"
    assert options == ModelOptions(
        layer="up_blocks.1",
        facet="key",
        latent="mean",
        pca=9,
        input_size=(480, 854),
        compile=True,
        batch_size=4,
        memory=2.5,
    )


def test_what_is_given_replaces_what_a_preset_says_otherwise() -> None:
    _, options = given_options("--preset", "dift-sd", "--layer", "4", "--input-size", "64x32")
    assert (options.layer, options.up_ft_index) == ("4", None)
    assert (options.input_size, options.short_side) == ((32, 64), None)
    assert options.t == 51


def test_two_places_at_once() -> None:
    with pytest.raises(InputError, match="give one of them"):
        given_options("--layer", "4", "--up-ft-index", "1")


@pytest.mark.parametrize("text", ["0x5", "5", "5x", "axb", "5x5x5", "-5x5", "5 x 5"])
def test_a_malformed_input_size(text: str) -> None:
    with pytest.raises(InputError, match=f"--input-size is '{text}'; .* for example 854x480"):
        given_options(f"--input-size={text}")
