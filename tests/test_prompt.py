"""Prompt-optimised matching on a tiny random pipeline, as a user runs it and from Python."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from propagate.config import ModelOptions
from propagate.errors import InputError, ModelError
from propagate.matching.prompt.create import create_prompt_matcher
from propagate.matching.prompt.crops import SeededDraws, draw_window, shared_windows
from propagate.matching.prompt.matcher import PromptMatcher
from propagate.matching.prompt.settings import CORRECTED, PUBLISHED, PromptSettings
from propagate.types import Frame, Size
from tests.test_run import call
from tests.tiny_diffusers import save_tiny_ddpm
from tests.tiny_pipeline import save_tiny_pipeline

ASSETS = Path(__file__).resolve().parent.parent / "examples/assets"
CPU = ModelOptions(device="cpu")
SMALL = PromptSettings(
    size=64, steps=2, embeddings=2, crops=4, layers=(0, 1, 2), learning_rate=0.05
)
POINTS = np.array([[12.0, 40.0], [70.5, 8.25], [31.0, 22.0]])


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_pipeline(tmp_path_factory.mktemp("tiny"))


def frame(seed: int, size: Size = Size(60, 90)) -> Frame:
    rgb = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    return Frame(f"image{seed}", 0, rgb, 0.0, f"image{seed}")


def matcher(pipeline: Path, settings: PromptSettings = SMALL, **options: object) -> PromptMatcher:
    given = replace(CPU, **options)  # type: ignore[arg-type]
    return create_prompt_matcher(str(pipeline), given, settings)


@pytest.fixture(scope="module")
def found(pipeline: Path) -> PromptMatcher:
    return matcher(pipeline)


def test_a_match_depends_on_its_point_alone(pipeline: Path, found: PromptMatcher) -> None:
    source, target = frame(0), frame(1)
    together = found.match(source, target, POINTS)
    again = matcher(pipeline, batch_size=4).match(source, target, POINTS[::-1])
    np.testing.assert_allclose(again.target_xy[::-1], together.target_xy)
    np.testing.assert_allclose(again.scores[::-1], together.scores, rtol=1e-4)
    assert ((together.target_xy > 0) & (together.target_xy < (90, 60))).all()
    assert (together.scores > 0).all()
    assert together.query.tolist() == [0, 1, 2]
    other = matcher(pipeline, seed=1).match(source, target, POINTS[:1])
    assert not np.allclose(other.scores, together.scores[:1], rtol=1e-4)


def test_prompts_and_latents_are_kept(
    found: PromptMatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = found.match(frame(0), frame(1), POINTS[:1])

    def refuse(*_: object) -> None:
        raise AssertionError("nothing is to be encoded or optimised again")

    monkeypatch.setattr(found._network, "encode", refuse)
    monkeypatch.setattr("propagate.matching.prompt.matcher.optimise_prompts", refuse)
    again = found.match(frame(0), frame(1), POINTS[:1])
    np.testing.assert_array_equal(again.target_xy, first.target_xy)
    np.testing.assert_array_equal(again.scores, first.scores)


def test_a_target_is_encoded_once_for_all_points(
    pipeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = matcher(pipeline)
    encode, calls = fresh._network.encode, []

    def counted(pixels: torch.Tensor) -> torch.Tensor:
        calls.append(len(pixels))
        return encode(pixels)

    monkeypatch.setattr(fresh._network, "encode", counted)
    fresh.match(frame(0), frame(1), POINTS[:1])
    before = len(calls)
    fresh.match(frame(0), frame(2), POINTS[:1])
    assert len(calls) - before == SMALL.crops


def test_a_point_is_found_in_the_same_image(pipeline: Path) -> None:
    with Image.open(ASSETS / "coffee.jpg") as picture:
        rgb = np.array(picture.convert("RGB").resize((128, 128)))
    coffee = Frame("coffee", 0, rgb, 0.0, "coffee")
    settings = PromptSettings(
        size=128,
        steps=30,
        embeddings=1,
        crops=4,
        layers=(0, 1, 5, 6),
        learning_rate=0.5,
        sigma=60.0,
    )
    one = matcher(pipeline, settings)
    xy = np.array([40.0, 44.0])
    found = one.match(coffee, coffee, xy[None])
    assert np.abs(found.target_xy[0] - xy).max() < 12
    course = one.course(coffee, xy)
    assert course.losses[-4:].mean() < 0.95 * course.losses[:4].mean()
    assert [snapshot.step for snapshot in course.snapshots] == [0, 10, 19, 29]


def test_published_and_corrected(pipeline: Path) -> None:
    common = {"size": 64, "steps": 2, "embeddings": 1, "crops": 6, "layers": (1, 3)}
    for base in (PUBLISHED, CORRECTED):
        one = matcher(pipeline, replace(base, **common))  # type: ignore[arg-type]
        wide = frame(1, Size(60, 240))
        look = next(iter(one.looks(frame(0), wide, POINTS[:1])))
        size = (64, 64) if base is PUBLISHED else (64, 128)
        assert look.layers.shape == (2, *size)
        assert len(one.layer_names(frame(0))) == 2


def test_progress_is_told_of_each_step(
    pipeline: Path, found: PromptMatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[str, tuple[int | None, int]] = {}

    def progress(title: str, total: int | None, items: Iterable[int]) -> Iterable[int]:
        for number in items:
            told[title] = (total, number + 1)
            yield number

    # In groups of two points, so that more points take no more memory.
    monkeypatch.setattr("propagate.matching.prompt.matcher._GROUP", 2)
    one = create_prompt_matcher(str(pipeline), CPU, SMALL, progress=progress)
    grouped = one.match(frame(0), frame(1), POINTS)
    whole = found.match(frame(0), frame(1), POINTS)
    np.testing.assert_array_equal(grouped.target_xy, whole.target_xy)
    # Of the second group: one point.
    assert told == {"optimise prompts": (2 * 2, 2 * 2), "look at crops": (2 * 4, 2 * 4)}


def test_memory_bounds_the_batch(pipeline: Path) -> None:
    one = matcher(pipeline, memory=0.004)
    network, image = one._network, one.input_of(frame(0))
    kept = network.bytes_kept(Size(8, 8))
    assert one._batches(image, training=True).size(1) == max(int(0.004e9 / (1.3 * kept)), 1)


def test_no_layer_behind_the_last_one_runs(found: PromptMatcher) -> None:
    ran: list[int] = []
    unet = found._network.unet
    handles = [
        block.register_forward_hook(lambda *_, index=index: ran.append(index))
        for index, block in enumerate([*unet.down_blocks, *unet.up_blocks, unet.conv_out])
    ]
    contexts = torch.randn(2, 77, found._network.width, requires_grad=True)
    maps = found._network.maps(torch.randn(2, 4, 8, 8), contexts, 1)
    for handle in handles:
        handle.remove()
    # Layers 0 and 1 are in the down blocks 1 and 2, the last one in the middle.
    assert ran == [0, 1, 2, 3]
    assert [tuple(one.shape[2:]) for one in maps] == [(4, 4), (2, 2), (1, 1)]
    torch.stack([one.sum() for one in maps]).sum().backward()
    assert contexts.grad is not None
    assert contexts.grad.abs().sum(dim=(1, 2)).min() > 0
    assert not any(part.requires_grad for part in unet.parameters())


@pytest.mark.parametrize("settings", [CORRECTED, PUBLISHED], ids=["corrected", "published"])
def test_windows(settings: PromptSettings) -> None:
    size = Size(384, 704)
    draws = SeededDraws(0, (1,))
    for xy in ((0.0, 0.0), (700.0, 380.0), (350.0, 10.0), (60.0, 200.0)):
        for _ in range(20):
            window = draw_window(size, xy, draws, settings)
            assert 0 <= window.top <= size.height - window.height
            assert 0 <= window.left <= size.width - window.width
            assert all(0 <= share <= 1 for share in window.share(xy))
    shared = shared_windows(size, draws, settings)
    assert len(shared) == settings.crops
    covered = np.zeros(size)
    for top, height, left, width in shared[:4]:
        covered[top : top + height, left : left + width] = 1
    assert covered.all()


def test_input_size_keeps_shape_and_area() -> None:
    assert CORRECTED.input_size(Size(480, 854)) == Size(384, 704)
    assert CORRECTED.input_size(Size(100, 100)) == Size(512, 512)
    assert PUBLISHED.input_size(Size(480, 854)) == Size(512, 512)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"size": 100}, "size is 100; it must be a multiple of 64"),
        ({"steps": 0}, "steps is 0; it must be 1 or more"),
        ({"sigma": 0}, "sigma is 0; it must be greater than 0"),
        ({"crops": 26}, "crops is 26; with 5 window positions along an axis there are 25"),
        ({"crop_percent": 101}, "crop_percent is 101"),
        ({"layers": (1, 1)}, "name different numbers"),
        ({"noise": "pink"}, "noise is 'pink'; it must be one of normal, uniform"),
    ],
)
def test_bad_settings(changed: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        PromptSettings(**changed)  # type: ignore[arg-type]


def test_errors(pipeline: Path, found: PromptMatcher, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"The point \(90.5, 3\) lies outside"):
        found.match(frame(0), frame(1), np.array([[90.5, 3.0]]))
    with pytest.raises(InputError, match="has cross-attention layers 0 to 6 that count"):
        matcher(pipeline, replace(SMALL, layers=(30,))).match(frame(0), frame(1), POINTS)
    with pytest.raises(ModelError, match="has no UNet with cross-attention to one text"):
        matcher(save_tiny_ddpm(tmp_path / "ddpm"))
    with pytest.raises(ModelError, match="efficientnet-lite0 has no UNet"):
        matcher(Path("efficientnet-lite0"))
    with pytest.raises(InputError, match="t, prompt set, which prompt-optimised"):
        matcher(pipeline, t=3, prompt="cow")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for index in (0, 1):
        Image.fromarray(frame(index).rgb).save(folder / f"{index}.png")
    return folder


def command(images: Path, pipeline: Path | str) -> tuple[object, ...]:
    pair = ("match", images / "0.png", images / "1.png", "--method", "prompt")
    few = (
        "--steps",
        2,
        "--embeddings",
        1,
        "--crops",
        2,
        "--attention-layers",
        "2,3",
        "--size",
        128,
    )
    return (*pair, "--model", pipeline, *few, "--device", "cpu")


def test_command(
    capsys: pytest.CaptureFixture[str], images: Path, pipeline: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = (*command(images, pipeline), "--grid", 2, "--heatmap", "10,20", "-o", out)
    code, printed, err = call(capsys, *words, "--json")
    assert (code, err) == (0, "")
    facts = json.loads(printed)
    assert len(facts["matches"]) == facts["points"] == 2
    assert facts["model"].startswith("prompt ")
    sheets = {"prompt-1.png", "prompt-2.png"}
    names = {path.name for path in out.iterdir()}
    assert names == {"match.json", "match.png", "matches.csv", "heatmap.png", *sheets}
    config = json.loads((out / "match.json").read_text())["config"]
    assert config["prompt"]["steps"] == 2
    assert config["prompt"]["layers"] == [2, 3]
    assert not {"semantic", "geometric"} & set(config)
    for name in sheets:
        with Image.open(out / name) as picture:
            assert np.asarray(picture).std() > 10
    # Fewer points leave no sheet of the earlier match; the same point has the same match.
    point = facts["matches"][0]["source"]
    (tmp_path / "p.csv").write_text(f"frame,name,x,y,visible\n0,a,{point[0]},{point[1]},1\n")
    words = (*command(images, pipeline), "--points", tmp_path / "p.csv", "-o", out, "--overwrite")
    code, printed, err = call(capsys, *words, "--json")
    assert (code, err) == (0, "")
    assert json.loads(printed)["matches"][0]["target"] == facts["matches"][0]["target"]
    assert not (out / "prompt-2.png").exists()
    assert not (out / "heatmap.png").exists()


def test_published_command(
    capsys: pytest.CaptureFixture[str], images: Path, pipeline: Path
) -> None:
    code, printed, err = call(capsys, *command(images, pipeline), "--grid", 1, "--published")
    assert (code, err) == (0, "")
    assert printed.startswith("name,source_x,source_y,target_x,target_y,score\n0,45.000,30.000,")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--model", "efficientnet-lite0"), "has no UNet with cross-attention to one text"),
        (("--steps", 0), "steps is 0; it must be 1 or more"),
        (("--crops", 26), "there are 25"),
        (("--attention-layers", "two"), "--attention-layers is 'two'; write numbers"),
        (("--attention-layers", "9"), "has cross-attention layers 0 to 6 that count"),
        (("--t", 3), "t set, which prompt-optimised matching does not read"),
        (("--flip",), "--flip is for --method semantic"),
        (("--target-points", "p.csv"), "--target-points goes with --points and --method geometric"),
    ],
)
def test_command_errors(
    capsys: pytest.CaptureFixture[str],
    images: Path,
    pipeline: Path,
    words: tuple[object, ...],
    message: str,
) -> None:
    code, out, err = call(capsys, *command(images, pipeline), "--grid", 1, *words)
    assert (code, out) == (1, "")
    assert message in err
    assert err.count("\n") == 1
