"""Generated images and the Hyperfeatures of their generation, against diffusers and plain loops."""

from __future__ import annotations

import json
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from safetensors.torch import load_file
from transformers import CLIPTextModel, CLIPTokenizer

from propagate.commands.main import program
from propagate.config import ModelOptions
from propagate.errors import InputError, ModelError, OutputError
from propagate.features.diffusion.loading import load_pipeline
from propagate.features.diffusion.text import encode_sd_prompts
from propagate.features.diffusion.vae import load_vae_decoder
from propagate.features.hyper.generation import GenerationSettings, Generator, Texts
from propagate.features.hyper.network import AggregationNetwork, Recorder
from propagate.features.hyper.recipe import RECIPE, WEIGHTS, Inversion, Recipe
from propagate.features.hyper.synthetic import (
    HyperGenerator,
    TextToImage,
    create_hyper_generator,
)
from propagate.features.noise import SeededNoise
from propagate.features.registry import create_extractor, locate
from propagate.features.stored import read_record
from propagate.generate import GenerateRequest, generate_images
from propagate.types import Size
from propagate.video import open_clip
from tests import test_hyperfeatures
from tests.test_hyperfeatures import CHANNELS, STEPS

CPU = torch.device("cpu")
OPTIONS = ModelOptions(device="cpu", dtype="fp32", offline=True, seed=7)
PROMPTS = ("a cow", "cow cow")
NEGATIVE = "dull"


pipeline, folder = test_hyperfeatures.pipeline, test_hyperfeatures.folder


@pytest.fixture(scope="module")
def parts(pipeline) -> tuple:
    """Model, decoder and texts of our own loading."""
    files = locate(str(pipeline)).files
    with torch.no_grad():
        states = encode_sd_prompts(files, [*PROMPTS, NEGATIVE])
    texts = Texts(PROMPTS, NEGATIVE, states)
    model = load_pipeline(files, prompt=None)
    return model, load_vae_decoder(files, torch.float32), texts


def make(parts: tuple, kind: str = "epsilon", **more) -> Generator:
    model, decoder, texts = parts
    return Generator(
        replace(model, prediction=kind),
        decoder,
        texts,
        GenerationSettings(**{"size": Size(64, 96), "steps": STEPS, **more}),
        device=CPU,
        dtype=torch.float32,
        noise=SeededNoise(7),
    )


@pytest.fixture(scope="module")
def generator(folder) -> HyperGenerator:
    return create_hyper_generator(str(folder), asked())


def asked(**more) -> TextToImage:
    # The coarsest maps are of several cells: norms would blow up the rounding of a constant.
    plain = {"prompts": PROMPTS, "negative": NEGATIVE, "options": OPTIONS, "size": Size(128, 96)}
    return TextToImage(**{**plain, **more})


def noise(number: int, height: int = 8, width: int = 8) -> torch.Tensor:
    return SeededNoise(7).draw("diffusion", frame=number, member=0, shape=(4, height, width))


@pytest.fixture(scope="module")
def reference(pipeline) -> StableDiffusionPipeline:
    made = StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(pipeline / "vae"),
        text_encoder=CLIPTextModel.from_pretrained(pipeline / "text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(pipeline / "tokenizer"),
        unet=UNet2DConditionModel.from_pretrained(pipeline / "unet"),
        scheduler=DDIMScheduler.from_pretrained(pipeline / "scheduler", steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    made.set_progress_bar_config(disable=True)
    return made


@pytest.mark.parametrize(
    ("kind", "guidance"), [("epsilon", 7.5), ("epsilon", 1.0), ("v_prediction", 3.0)]
)
def test_images_are_those_of_diffusers(pipeline, parts, reference, kind, guidance):
    ours = make(parts, kind, guidance=guidance, steps=Inversion(steps=5, saves=(4, 0)))
    # As published: the last of the steps is 0.
    reference.scheduler = DDIMScheduler.from_pretrained(
        pipeline / "scheduler", prediction_type=kind, steps_offset=0
    )
    for prompt, number in ((0, 0), (1, 3)):
        (((image,), _),) = ours.run(prompt, [number], Recorder)
        wanted = reference(
            PROMPTS[prompt],
            negative_prompt=NEGATIVE,
            latents=noise(number, 8, 12)[None],
            num_inference_steps=5,
            guidance_scale=guidance,
            height=64,
            width=96,
            output_type="np",
        ).images[0]
        assert image.shape == (64, 96, 3)
        assert wanted.std() > 0.02
        assert np.abs(image / 255 - wanted).max() < 1.1 / 255


def obvious_maps(pipeline: Path, latent: torch.Tensor, texts: torch.Tensor, guidance: float):
    """All decoder maps of every step, the branches one after the other, and the clean latent."""
    unet = UNet2DConditionModel.from_pretrained(pipeline / "unet").eval()
    scheduler = DDIMScheduler.from_pretrained(pipeline / "scheduler")
    scheduler.set_timesteps(STEPS.steps)
    maps: list[list[torch.Tensor]] = []
    for block in unet.up_blocks:
        for resnet in block.resnets:
            resnet.conv2.register_forward_hook(lambda m, i, output: maps[-1].append(output))
    for t in scheduler.timesteps:
        outputs = []
        for text in (texts[-1:], texts[:1]):
            maps.append([])
            with torch.no_grad():
                outputs.append(unet(latent, t, encoder_hidden_states=text).sample)
        without, given = outputs
        latent = scheduler.step(without + guidance * (given - without), t, latent).prev_sample
    return maps[1::2], latent


def test_streamed_maps_equal_the_whole(pipeline, folder, parts, generator):
    network = AggregationNetwork(CHANNELS, steps=3, width=16, groups=4)
    network.load_state_dict(load_file(folder / WEIGHTS))
    found = list(generator.run(0, [4, 5], source="made"))
    assert [frame.index for frame, _ in found] == [4, 5]
    for number, (frame, features) in zip((4, 5), found, strict=True):
        maps, latent = obvious_maps(pipeline, noise(number, 16, 12)[None], parts[2].states, 7.5)
        resized = [
            (
                layer,
                position,
                torch.nn.functional.interpolate(maps[save][layer], size=(16, 12), mode="bilinear"),
            )
            for position, save in enumerate(STEPS.saves)
            for layer in range(len(CHANNELS))
        ]
        whole = network(resized)[0].detach()
        torch.testing.assert_close(features.data, whole, rtol=1e-3, atol=1e-4)
        with torch.no_grad():
            image = parts[1](latent)[0].permute(1, 2, 0).numpy()
        assert np.abs(frame.rgb.astype(int) - image).max() <= 1


def test_one_pass_for_both_branches_and_maps_are_let_go(parts):
    ours = make(parts)
    passes: list[int] = []
    alive: list[weakref.ref] = []
    most = 0

    class Watcher:
        def take(self, layer, step, maps):
            nonlocal most
            assert len(maps) == 1
            alive.append(weakref.ref(maps))
            most = max(most, sum(one() is not None for one in alive))

        def result(self):
            return None

    network = parts[0].denoiser.network
    hook = network.register_forward_pre_hook(lambda module, given: passes.append(len(given[0])))
    list(ours.run(0, [0], Watcher))
    hook.remove()
    assert passes == [2] * STEPS.steps
    assert len(alive) == len(STEPS.saves) * len(CHANNELS)
    assert most <= 2


def test_an_image_depends_on_seed_and_number_alone(parts):
    alone = next(iter(make(parts).run(0, [2], Recorder)))[0][0]
    batches = list(make(parts, batch_size=2).run(0, [0, 1, 2], Recorder))
    assert [len(images) for images, _ in batches] == [2, 1]
    assert np.abs(batches[1][0][0].astype(int) - alone).max() <= 1
    assert np.abs(batches[0][0][0].astype(int) - alone).max() > 1
    together = next(iter(make(parts, batch_size=3).run(0, [0, 1, 2], Recorder)))[0]
    assert np.abs(together[2].astype(int) - alone).max() <= 1


def test_pruned_maps(folder, generator):
    whole = next(iter(generator.run(0, [0], source="made")))
    pruned = create_hyper_generator(str(folder), asked(options=replace(OPTIONS, prune=0.05)))
    assert "prune=0.05" in pruned.identity
    some = next(iter(pruned.run(0, [0], source="made")))
    np.testing.assert_array_equal(whole[0].rgb, some[0].rgb)
    assert not torch.allclose(whole[1].data, some[1].data)


def invoke(*arguments: object) -> dict:
    result = CliRunner().invoke(program, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_the_command(tmp_path, folder):
    out = tmp_path / "out"
    settings = ("--model", folder, "--seed", 7, "--negative-prompt", NEGATIVE, "--device", "cpu")
    command = ("generate", *PROMPTS, *settings, "--offline", "--json", "-o", out)
    told = invoke(*command, "--count", 2)
    files = [Path(one["file"]) for one in told["images"]]
    assert files == [out / "images" / f"0000{number}.png" for number in range(4)]
    assert [one["prompt"] for one in told["images"]] == [
        prompt for prompt in PROMPTS for _ in range(2)
    ]
    first = {path: path.read_bytes() for path in files}
    assert len(set(first.values())) == 4
    record = json.loads((out / "generate.json").read_text())
    assert record["status"] == "complete"
    assert [one["prompt"] for one in record["images"]] == [one["prompt"] for one in told["images"]]

    # The features are those of the very pixels that were written, wherever the images lie.
    moved = tmp_path / "moved.png"
    moved.write_bytes(files[3].read_bytes())
    pair = (files[0], moved, "--grid", 3, "--json", "--model", told["features"])
    assert len(invoke("match", *pair)["matches"]) == 9
    # They carry labels through the images as a clip.
    mask = np.zeros((64, 64), np.uint8)
    mask[16:48, 16:48] = 1
    Image.fromarray(mask).save(tmp_path / "mask.png")
    run = ("run", out / "images", tmp_path / "mask.png", "-o", tmp_path / "run")
    result = CliRunner().invoke(program, [*map(str, run), "--model", told["features"]])
    assert result.exit_code == 0, result.output

    again = CliRunner().invoke(program, [*map(str, command)])
    assert again.exit_code == 1
    assert "already holds a generation; continue it with --resume, replace" in str(again.exception)
    told = invoke("generate", PROMPTS[0], *command[3:], "--count", 2, "--overwrite")
    assert len(told["images"]) == len(list((out / "images").iterdir())) == 2
    assert len(list((out / "features/maps/images").iterdir())) == 2
    assert [path.read_bytes() for path in files[:2]] == [first[path] for path in files[:2]]


def test_the_stored_maps(tmp_path, folder, generator):
    request = GenerateRequest(
        output=tmp_path / "out",
        asked=asked(),
        model=str(folder),
        raw=True,
        store_dtype="fp32",
    )
    report = generate_images(request)
    assert read_record(report.path / "features").extractor == generator.identity
    stored = create_extractor(str(report.path / "features"), ModelOptions())
    for prompt, frame in enumerate(open_clip(str(report.path / "images"))):
        (read,) = stored.extract([frame])
        ((made, features),) = generator.run(prompt, [prompt], source="made")
        np.testing.assert_array_equal(frame.rgb, made.rgb)
        torch.testing.assert_close(read.data, features.data)
        assert read.image_size == (128, 96)


def contents(folder: Path) -> dict[str, bytes]:
    names = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".json")
    return {str(path.relative_to(folder)): path.read_bytes() for path in names}


def test_an_interrupted_generation_goes_on(tmp_path, folder):
    request = GenerateRequest(output=tmp_path / "out", asked=asked(), model=str(folder))
    calls = []

    def interrupt(title, total, steps):
        calls.append((title, total))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return steps

    with pytest.raises(KeyboardInterrupt):
        generate_images(request, progress=interrupt)
    assert calls == [(prompt, STEPS.steps) for prompt in PROMPTS]
    assert json.loads((tmp_path / "out/generate.json").read_text())["status"] == "running"
    other = replace(request, mode="resume", asked=asked(guidance=2.0))
    with pytest.raises(OutputError, match="guidance was 7.5 and is now 2.0"):
        generate_images(other)
    calls = []
    report = generate_images(
        replace(request, mode="resume"),
        progress=lambda title, total, steps: calls.append(title) or steps,
    )
    assert calls == [PROMPTS[1]]
    assert report.record["status"] == "complete"
    assert [prompt for _, prompt in report.images] == [*PROMPTS]
    whole = generate_images(replace(request, output=tmp_path / "whole"))
    assert contents(report.path / "images") == contents(whole.path / "images")
    maps = [sorted(contents(one.path / "features").values()) for one in (report, whole)]
    assert maps[0] == maps[1]
    # An image that was lost is made again, and no other.
    lost = report.images[0][0]
    lost.unlink()
    calls.clear()
    generate_images(
        replace(request, mode="resume"),
        progress=lambda title, total, steps: calls.append(title) or steps,
    )
    assert calls == [PROMPTS[0]]
    assert lost.read_bytes() == whole.images[0][0].read_bytes()


def test_the_same_saves_over_other_steps():
    published = Inversion()
    assert published.over(50) is published
    assert published.over(99).saves == (98, 90, 80, 70, 60, 50, 40, 30, 20, 10, 0)
    assert published.over(20).saves[0] == 19
    with pytest.raises(InputError, match="With 10 steps the aggregation's 11 maps of a layer"):
        published.over(10)
    with pytest.raises(InputError, match="With 0 steps"):
        published.over(0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"guidance": 0.5}, "guidance is 0.5; it must be 1"),
        ({"guidance": float("nan")}, "guidance is nan; it must be 1"),
        ({"size": Size(60, 64)}, "would be 64x60 pixels; .* makes multiples of 8"),
        ({"steps": 2}, "With 2 steps the aggregation's 3 maps of a layer"),
        ({"steps": 2000}, "generation has 2000 steps, and .* 1000 at most"),
        ({"prompts": ("a" * 100,)}, "The prompt has 100 tokens"),
        ({"prompts": ()}, "There is no prompt"),
        ({"options": ModelOptions(t=3)}, "t set, which a generation does not read"),
        ({"options": replace(OPTIONS, prune=0.9)}, "prune is 0.9, and the largest share"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_bad_wishes(folder, changes, message):
    with pytest.raises(InputError, match=message):
        create_hyper_generator(str(folder), asked(**changes))


def test_models_that_can_not_generate(tmp_path, folder, pipeline):
    with pytest.raises(InputError, match="efficientnet-lite0 is no aggregation of a diffusion"):
        create_hyper_generator("efficientnet-lite0", asked())
    single = tmp_path / "single"
    single.mkdir()
    (single / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes())
    Recipe(model=str(pipeline), groups=4).write(single / RECIPE)
    with pytest.raises(InputError, match="layers of a single pass .* generated in many"):
        create_hyper_generator(str(single), asked())
    recipe = Recipe(
        model=str(pipeline), groups=4, inversion=STEPS, options={"layer": "up_blocks.0"}
    )
    recipe.write(single / RECIPE)
    with pytest.raises(ModelError, match="made for 8 layers, and the model has 1"):
        create_hyper_generator(str(single), asked())
    Recipe(model="efficientnet-lite0", groups=4, inversion=STEPS).write(single / RECIPE)
    with pytest.raises(InputError, match="no diffusers pipeline, so there is nothing to generate"):
        create_hyper_generator(str(single), asked())


def test_images_that_are_not_finite(parts):
    with pytest.raises(ModelError, match="is not finite in fp32; use --dtype"):
        make(parts)._images(torch.full((1, 4, 8, 8), float("nan")))


@pytest.mark.parametrize("count", [0, 100_000])
def test_too_few_or_many_images(tmp_path, count):
    with pytest.raises(InputError, match=f"count is {count}; it must be 1 or more"):
        GenerateRequest(output=tmp_path, asked=asked(), count=count)
