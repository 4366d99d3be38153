"""Aggregated maps of a diffusion model: along the inversion, and as a model of the program."""

from __future__ import annotations

import json
import shutil
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from diffusers import DDIMScheduler, UNet2DConditionModel
from PIL import Image
from safetensors.torch import load_file, save_file

from propagate.commands.main import program
from propagate.config import ModelOptions
from propagate.errors import InputError, ModelError
from propagate.features.base import FeatureExtractor
from propagate.features.diffusion.loading import load_pipeline
from propagate.features.hyper.create import create_source
from propagate.features.hyper.inversion import InversionSettings, InversionSource
from propagate.features.hyper.network import AggregationNetwork, Recorder
from propagate.features.hyper.recipe import RECIPE, WEIGHTS, Inversion, Recipe
from propagate.features.registry import cards, create_extractor, locate
from propagate.geometry import InputSize
from propagate.types import Frame
from tests.test_hub import put_in_cache
from tests.tiny_pipeline import save_tiny_pipeline

OPTIONS = ModelOptions(short_side=64, device="cpu", dtype="fp32", offline=True)
STEPS = Inversion(steps=4, saves=(3, 2, 0))
CHANNELS = (16, 16, 16, 16, 16, 16, 8, 8)  # of the tiny UNet's decoder


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory) -> Path:
    return save_tiny_pipeline(tmp_path_factory.mktemp("sd"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, pipeline) -> Path:
    """An aggregation of the tiny pipeline's inversion."""
    made = tmp_path_factory.mktemp("aggregation")
    write_aggregation(made, str(pipeline))
    return made


@pytest.fixture(scope="module")
def extractor(folder) -> FeatureExtractor:
    return create_extractor(str(folder), OPTIONS)


def write_aggregation(folder: Path, model: str, **more) -> AggregationNetwork:
    Recipe(model=model, inversion=STEPS, groups=4, **more).write(folder / RECIPE)
    network = aggregation(len(STEPS.saves), width=16, groups=4)
    save_file(network.state_dict(), folder / WEIGHTS)
    return network


def aggregation(steps: int, *, width: int, groups: int) -> AggregationNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = AggregationNetwork(CHANNELS, steps=steps, width=width, groups=groups)
        # Unequal shares, so that an exchange of layers and steps shows; least at the noisy end.
        torch.nn.init.normal_(network.mixing_weights)
        with torch.no_grad():
            network.mixing_weights[-len(CHANNELS) :] -= 3
    return network


def frame(index: int = 0) -> Frame:
    pixels = np.random.default_rng(index).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    return Frame("clip", index, pixels, 0.0, f"{index}")


@pytest.fixture(scope="module")
def source(pipeline) -> InversionSource:
    made = create_source(Recipe(model=str(pipeline), inversion=STEPS), OPTIONS)
    assert isinstance(made, InversionSource)
    return made


def obvious_maps(pipeline: Path, latent: torch.Tensor, text: torch.Tensor, kind: str) -> list:
    """All decoder maps of every step of the published inversion, from the clean latent on."""
    unet = UNet2DConditionModel.from_pretrained(pipeline / "unet").eval()
    scheduler = DDIMScheduler.from_pretrained(pipeline / "scheduler")
    maps: list[list[torch.Tensor]] = []
    for block in unet.up_blocks:
        for resnet in block.resnets:
            resnet.conv2.register_forward_hook(lambda m, i, output: maps[-1].append(output))
    alphas = [1.0, *(float(scheduler.alphas_cumprod[t]) for t in (0, 250, 500, 750))]
    for step, t in enumerate((-1, 0, 250, 500)):
        a, after = alphas[step], alphas[step + 1]
        maps.append([])
        with torch.no_grad():
            output = unet(latent, t, encoder_hidden_states=text).sample
        if kind == "v_prediction":
            clean = a**0.5 * latent - (1 - a) ** 0.5 * output
            output = a**0.5 * output + (1 - a) ** 0.5 * latent
        else:
            clean = (latent - (1 - a) ** 0.5 * output) / a**0.5
        latent = after**0.5 * clean + (1 - after) ** 0.5 * output
    return maps


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_maps_of_the_inversion(pipeline, kind):
    model = replace(load_pipeline(locate(str(pipeline)).files), prediction=kind)
    settings = InversionSettings(
        inversion=STEPS, latent="mean", input_size=InputSize(short_side=64)
    )
    made = InversionSource(model, settings, device=torch.device("cpu"), dtype=torch.float32)
    ((found, size),) = made.run([frame()], Recorder)
    latent = made._latent(frame(), size)
    text = model.denoiser._conditions["encoder_hidden_states"]
    expected = obvious_maps(pipeline, latent, text, kind)
    assert [place[:2] for place in found] == [
        (layer, step) for step in range(3) for layer in range(len(CHANNELS))
    ]
    grid = latent.shape[2:]
    for layer, step, data in found:
        wanted = expected[3 - STEPS.saves[step]][layer]
        wanted = torch.nn.functional.interpolate(wanted, size=grid, mode="bilinear")
        torch.testing.assert_close(data, wanted, rtol=1e-3, atol=1e-4)


def test_streamed_maps_equal_the_whole(source, folder, extractor):
    """Aggregated as they appear, in one batch or frame by frame, as from all maps in memory."""
    network = AggregationNetwork(CHANNELS, steps=3, width=16, groups=4)
    network.load_state_dict(load_file(folder / WEIGHTS))
    frames = [frame(0), frame(1)]
    together = create_extractor(str(folder), replace(OPTIONS, batch_size=2)).extract(frames)
    for one, both in zip(frames, together, strict=True):
        ((maps, _),) = source.run([one], Recorder)
        whole = network(maps)[0].detach()
        torch.testing.assert_close(extractor.extract([one])[0].data, whole)
        torch.testing.assert_close(both.data, whole, rtol=1e-4, atol=1e-5)
    assert together[0].data.shape == (16, 8, 12)


def test_maps_are_let_go(source):
    alive: list[weakref.ref] = []
    most = 0

    class Watcher:
        def take(self, layer, step, maps):
            nonlocal most
            alive.append(weakref.ref(maps))
            most = max(most, sum(one() is not None for one in alive))

        def result(self):
            return "done"

    source.run([frame()], Watcher)
    assert len(alive) == 3 * len(CHANNELS)
    assert most <= 2


def test_pruned_maps_are_not_computed(source, folder, extractor):
    shares = aggregation(3, width=16, groups=4).mixing().detach()
    last = shares[2].max().item()  # the step at the noisy end
    assert shares[:2].max() > last
    pruned = create_extractor(f"{folder}[prune={last + 1e-4:.6f}]", OPTIONS)
    calls = []
    pruned._source._model.denoiser.network.register_forward_hook(lambda *_: calls.append(1))
    (result,) = pruned.extract([frame()])
    assert len(calls) == 2
    assert pruned.identity != extractor.identity
    network = AggregationNetwork(CHANNELS, steps=3, width=16, groups=4)
    network.load_state_dict(load_file(folder / WEIGHTS))
    ((maps, _),) = source.run([frame()], Recorder)
    kept = [one for one in maps if shares[one[1], one[0]] >= last + 1e-4]
    assert 0 < len(kept) < len(maps)
    torch.testing.assert_close(result.data, network(kept)[0].detach())


def test_one_step_with_noise(tmp_path, pipeline):
    """The layers of a plain DIFT extractor, at one step."""
    layers = "up_blocks.0.resnets.0.conv2+up_blocks.2.resnets.1.conv2"
    options = {"t": 261, "layer": layers, "ensemble_size": 1}
    Recipe(model=str(pipeline), options=options, groups=4).write(tmp_path / RECIPE)
    network = AggregationNetwork((16, 16), width=16, groups=4)
    save_file(network.state_dict(), tmp_path / WEIGHTS)
    (result,) = create_extractor(str(tmp_path), OPTIONS).extract([frame()])
    plain = create_extractor(str(pipeline), replace(OPTIONS, **options))
    first, second = (one.data[None].clone() for one in plain.extract_layers([frame()])[0])
    resized = torch.nn.functional.interpolate(first, size=second.shape[2:], mode="bilinear")
    expected = network([(0, 0, resized), (1, 0, second)])[0].detach()
    torch.testing.assert_close(result.data, expected)


def clip(folder: Path, count: int = 2) -> Path:
    folder.mkdir()
    for index in range(count):
        Image.fromarray(np.roll(frame().rgb, index, axis=1)).save(folder / f"{index}.png")
    return folder


def test_run_and_match(tmp_path, folder):
    images = clip(tmp_path / "clip")
    mask = np.zeros((64, 96), np.uint8)
    mask[16:48, 24:56] = 1
    Image.fromarray(mask).save(tmp_path / "mask.png")
    options = ["--model", str(folder), "--short-side", "64", "--device", "cpu", "--offline"]
    run = CliRunner().invoke(
        program,
        ["run", str(images), str(tmp_path / "mask.png"), "-o", str(tmp_path / "o"), *options],
    )
    assert run.exit_code == 0, run.output
    record = json.loads((tmp_path / "o/run.json").read_text())
    assert "ddim=4[3,2,0]" in json.dumps(record)
    pair = [str(images / f"{index}.png") for index in (0, 0)]
    match = CliRunner().invoke(program, ["match", *pair, "--grid", "3", "--json", *options])
    assert match.exit_code == 0, match.output
    found = json.loads(match.output)["matches"]
    for one in found:
        assert np.hypot(*(np.array(one["source"]) - one["target"])) < 8


@pytest.mark.parametrize("name", ["hyperfeatures", "hyperfeatures-one-step"])
def test_published_weights(tmp_path, monkeypatch, pipeline, name):
    """The hub's files by their own names, with the optimiser's state and settings beside."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    card = cards()[name]
    base = cards()[card.base].repositories[0]
    put_in_cache(tmp_path, base.repo_id, base.revision, files=())
    snapshots = tmp_path / f"models--{base.repo_id.replace('/', '--')}/snapshots"
    shutil.copytree(pipeline, snapshots / base.revision, dirs_exist_ok=True)
    repository = card.repositories[0]
    network = aggregation(1 if "one" in name else 11, width=128, groups=32)
    file = "aggregation_network_one-step.pt" if "one" in name else "aggregation_network.pt"
    target = put_in_cache(
        tmp_path, repository.repo_id, "a" * 40, files=(f"weights/{file}",), branch="main"
    )
    content = {"step": 5000, "config": {"idxs": None}, "aggregation_network": network.state_dict()}
    torch.save(content, target / "weights" / file)
    extractor = create_extractor(name, replace(OPTIONS, latent="mean"), task="semantic")
    assert f"ddim={'1[0]' if 'one' in name else '50[49,45,40'}" in extractor.identity
    if "one" not in name:
        return  # 50 steps take long
    (result,) = extractor.extract([frame()])
    ((maps, _),) = extractor._source.run([frame()], Recorder)
    torch.testing.assert_close(result.data, network(maps)[0].detach())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": None}, "is no recipe of an aggregation: model is None"),
        ({"options": {"layr": "3"}}, "'layr' is no option of a model"),
        ({"options": {"t": -1}}, "t is -1"),
        ({"weights": "../other.safetensors"}, "must lie beside the recipe"),
        ({"weights": "other.safetensors"}, "has no other.safetensors"),
        ({"groups": 5}, "does not fit an aggregation with 5 groups"),
        ({"inversion": {"steps": 4, "saves": [4]}}, "Step 4 is none of an inversion of 4 steps"),
        ({"inversion": {"steps": 4, "saves": [1]}}, "mixes 3 steps of 8 layers"),
        ({"inversion": {"steps": 2000, "saves": [1999, 1, 0]}}, "2000 steps, and .* 1000 at most"),
        (
            {"options": {"layer": "up_blocks.0"}},
            "made for 8 layers, and the model gives 21 maps fewer",
        ),
        ({"options": {"layer": "conv_in"}}, "made for layers of .* layer 1 of the model has 8;"),
    ],
)
def test_bad_recipes(tmp_path, pipeline, folder, change, message):
    content = json.loads((folder / RECIPE).read_text()) | change
    (tmp_path / RECIPE).write_text(json.dumps(content))
    save_file(load_file(folder / WEIGHTS), tmp_path / WEIGHTS)
    with pytest.raises((ModelError, InputError), match=message):
        create_extractor(str(tmp_path), OPTIONS).extract([frame()])


@pytest.mark.parametrize("name", [WEIGHTS, "aggregation.pt"])
def test_damaged_weights(tmp_path, pipeline, name):
    write_aggregation(tmp_path, str(pipeline), weights=name)
    (tmp_path / name).write_bytes(b"no weights at all")
    with pytest.raises(ModelError, match="can't be read as weights of an aggregation"):
        create_extractor(str(tmp_path), OPTIONS)


def test_other_weights(tmp_path, pipeline):
    write_aggregation(tmp_path, str(pipeline))
    save_file({"conv.weight": torch.zeros(1)}, tmp_path / WEIGHTS)
    with pytest.raises(ModelError, match="holds no weights of an aggregation"):
        create_extractor(str(tmp_path), OPTIONS)


def test_what_can_not_be_inverted(pipeline):
    model = replace(load_pipeline(locate(str(pipeline)).files), prediction="flow")
    with pytest.raises(InputError, match="predicts 'flow', and DDIM inverts"):
        InversionSource(model, InversionSettings(), device=torch.device("cpu"), dtype=torch.float32)
    recipe = Recipe(model="efficientnet-lite0", inversion=STEPS)
    with pytest.raises(InputError, match="is no diffusers pipeline, so there is nothing to invert"):
        create_source(recipe, OPTIONS)


def test_pruning_all(folder):
    with pytest.raises(InputError, match="prune is 0.9, and the largest share of a map is"):
        create_extractor(str(folder), replace(OPTIONS, prune=0.9))
    with pytest.raises(InputError, match="prune is 1.5; it must be 0"):
        ModelOptions(prune=1.5)


def test_prune_is_for_aggregations_only():
    with pytest.raises(InputError, match="prune set for efficientnet-lite0, which has no such"):
        create_extractor("efficientnet-lite0", replace(OPTIONS, prune=0.1))
