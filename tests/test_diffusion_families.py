"""Every family of diffusion pipelines, on tiny ones: what diffusers itself would have computed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler
from transformers import (
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5EncoderModel,
    T5TokenizerFast,
)

from propagate.config import ModelOptions
from propagate.errors import InputError, ModelError
from propagate.features.diffusion.model import NoiseLevels
from propagate.features.noise import SeededNoise
from propagate.features.registry import create_extractor, locate
from propagate.types import Frame
from tests.tiny_diffusers import MAKERS, save_tiny_flux, save_tiny_pixart

SIZE = (64, 96)
OPTIONS = ModelOptions(t=300, ensemble_size=2, input_size=SIZE, device="cpu", dtype="fp32")
TEXT = ("sdxl", "sd3", "flux", "pixart")
LAYERS = {
    "sdxl": "up_blocks.1",
    "sd3": "transformer_blocks.1",
    "flux": "single_transformer_blocks.0",
    "pixart": "transformer_blocks.1",
    "dit": "transformer_blocks.1",
    "ddpm": "up_blocks.0",
}


@pytest.fixture(scope="module", params=MAKERS)
def family(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    return {name: make(tmp_path_factory.mktemp(name)) for name, make in MAKERS.items()}


def frame(index: int = 0) -> Frame:
    pixels = np.random.default_rng(index).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    return Frame("clip", index, pixels, 0.0, f"{index}")


def spied(network: torch.nn.Module, run) -> dict[str, object]:
    """The arguments of the first call of a network while `run` is called."""
    calls = []

    class SeenError(Exception):
        pass

    def note(module, args, kwargs):
        calls.append({**kwargs, **{f"arg{i}": value for i, value in enumerate(args)}})
        raise SeenError

    handle = network.register_forward_pre_hook(note, with_kwargs=True)
    try:
        run()
    except SeenError:
        pass
    finally:
        handle.remove()
    return calls[0]


def components(folder: Path, **classes: type) -> dict[str, object]:
    return {name: kind.from_pretrained(folder, subfolder=name) for name, kind in classes.items()}


def official(name: str, folder: Path) -> diffusers.DiffusionPipeline:
    """The pipeline of diffusers on the same parts."""
    parts = {"vae": AutoencoderKL, "tokenizer": CLIPTokenizer, "text_encoder": CLIPTextModel}
    clips = {"tokenizer_2": CLIPTokenizer, "text_encoder_2": CLIPTextModelWithProjection}
    flow = {"scheduler": FlowMatchEulerDiscreteScheduler}
    if name == "sdxl":
        parts |= {**clips, "unet": diffusers.UNet2DConditionModel}
        parts |= {"scheduler": diffusers.DDIMScheduler}
        return diffusers.StableDiffusionXLPipeline(
            **components(folder, **parts), force_zeros_for_empty_prompt=False
        )
    if name == "sd3":
        parts |= {**clips, "text_encoder": CLIPTextModelWithProjection, **flow}
        parts |= {"tokenizer_3": T5TokenizerFast, "text_encoder_3": T5EncoderModel}
        parts |= {"transformer": diffusers.SD3Transformer2DModel}
        return diffusers.StableDiffusion3Pipeline(**components(folder, **parts))
    if name == "flux":
        parts |= {"tokenizer_2": T5TokenizerFast, "text_encoder_2": T5EncoderModel, **flow}
        parts |= {"transformer": diffusers.FluxTransformer2DModel}
        return diffusers.FluxPipeline(**components(folder, **parts))
    return diffusers.PixArtAlphaPipeline(
        **components(
            folder,
            vae=AutoencoderKL,
            tokenizer=T5TokenizerFast,
            text_encoder=T5EncoderModel,
            transformer=diffusers.PixArtTransformer2DModel,
            scheduler=diffusers.DDPMScheduler,
        )
    )


def network_of(pipeline: diffusers.DiffusionPipeline) -> torch.nn.Module:
    return pipeline.unet if hasattr(pipeline, "unet") else pipeline.transformer


@pytest.mark.parametrize("name", TEXT)
def test_conditions_are_those_that_the_official_pipeline_passes(folders, name):
    """All that the network is told beside latents and step, for the same prompt and size."""
    check_conditions(name, folders[name])


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("flux", lambda folder: save_tiny_flux(folder, guidance=False)),
        ("pixart", lambda folder: save_tiny_pixart(folder, sized=True)),
    ],
    ids=["without guidance", "told the size"],
)
def test_conditions_of_variants(tmp_path, name, make):
    check_conditions(name, make(tmp_path))


# PixArt's pipeline would choose another size and clean the text with a library.
OWN = {
    "flux": {},
    "pixart": {"guidance_scale": 1.0, "use_resolution_binning": False, "clean_caption": False},
}


def check_conditions(name: str, folder: Path) -> None:
    pipeline = official(name, folder)
    prompt = "a brown cow"
    theirs = spied(
        network_of(pipeline),
        lambda: pipeline(
            prompt,
            height=SIZE[0],
            width=SIZE[1],
            num_inference_steps=1,
            **OWN.get(name, {"guidance_scale": 1.0}),
        ),
    )
    extractor = create_extractor(str(folder), replace(OPTIONS, prompt=prompt, ensemble_size=1))
    ours = spied(extractor._model.denoiser.network, lambda: extractor.extract([frame()]))
    compare(ours, theirs, skip=("hidden_states", "timestep", "arg0", "arg1", "return_dict"))
    inputs = [call.get("hidden_states", call.get("arg0")) for call in (ours, theirs)]
    assert inputs[0].shape == inputs[1].shape


def compare(ours: object, theirs: object, skip: tuple[str, ...] = ()) -> None:
    if isinstance(theirs, dict):
        wanted = {k: v for k, v in theirs.items() if k not in skip and v is not None}
        for key, value in wanted.items():
            if isinstance(value, dict) and all(item is None for item in value.values()):
                continue
            compare(ours[key], value)
        return
    if isinstance(theirs, torch.Tensor):
        torch.testing.assert_close(ours.to(theirs.dtype), theirs, rtol=1e-5, atol=1e-5)
        return
    assert ours == theirs


def test_flux_is_told_its_step_as_a_share(folders):
    extractor = create_extractor(str(folders["flux"]), replace(OPTIONS, t=250))
    call = spied(extractor._model.denoiser.network, lambda: extractor.extract([frame()]))
    assert call["timestep"].tolist() == [0.25]


def test_flux_packs_patches_as_the_official_pipeline(folders):
    extractor = create_extractor(str(folders["flux"]), OPTIONS)
    latents = torch.randn(2, 4, 8, 12)
    call = spied(extractor._model.denoiser.network, lambda: extractor._model.denoiser(latents, 5))
    packed = diffusers.FluxPipeline._pack_latents(latents, 2, 4, 8, 12)
    assert torch.equal(call["arg0"], packed)


def test_a_map_is_the_mean_of_the_layers_output_over_noise_draws(folders, family):
    """Against the whole network with a plain hook, one member after the other."""
    extractor = create_extractor(str(folders[family]), replace(OPTIONS, layer=LAYERS[family]))
    (result,) = extractor.extract([frame(3)])
    whole = create_extractor(str(folders[family]), replace(OPTIONS, layer=last_layer(family)))
    denoiser, model = whole._model.denoiser, whole._model
    outputs = []
    module = dict(denoiser.network.named_modules())[LAYERS[family]]
    module.register_forward_hook(lambda m, i, output: outputs.append(output))
    with torch.no_grad():
        pixels = torch.from_numpy(frame(3).rgb).permute(2, 0, 1)[None] / 255 * 2 - 1
        posterior = model.encoder(pixels)
        for member in range(2):
            key = {"frame": 3, "member": member, "shape": tuple(posterior.mean.shape[1:])}
            noise = SeededNoise(0)
            latent = posterior.mean + posterior.std * noise.draw("posterior", **key)
            draw = noise.draw("diffusion", **key)
            noisy = model.levels.signal[300] * latent + model.levels.noise[300] * draw
            whole._tap(lambda noisy=noisy: denoiser(noisy, 300), type(result.grid)(*SIZE))
    grid = result.grid
    maps = [as_map(output, grid) for output in outputs]
    torch.testing.assert_close(result.data, torch.stack(maps).mean(0), rtol=1e-4, atol=1e-5)


def last_layer(family: str) -> str:
    """A layer that comes after the tested one, so that nothing before it is missing."""
    later = {"sdxl": "up_blocks.2", "flux": "single_transformer_blocks.1", "ddpm": "up_blocks.1"}
    return later.get(family, "proj_out_2" if family == "dit" else "proj_out")


def as_map(output: object, grid) -> torch.Tensor:
    if isinstance(output, tuple):
        output = output[-1]
    if output.ndim == 4:
        return output[0]
    return output[0, -grid.height * grid.width :].T.reshape(-1, *grid)


def test_a_map_does_not_depend_on_batch_order_or_other_frames(folders, family):
    one = create_extractor(str(folders[family]), OPTIONS)
    many = create_extractor(str(folders[family]), replace(OPTIONS, batch_size=5))
    frames = [frame(i) for i in (5, 0, 3)]
    together = one.extract(frames)
    torch.manual_seed(1)
    for image, mate in zip(reversed(frames), reversed(together), strict=True):
        assert torch.equal(one.extract([image])[0].data, mate.data)
    for first, second in zip(together, many.extract(frames), strict=True):
        torch.testing.assert_close(first.data, second.data, rtol=1e-4, atol=1e-5)


def test_a_prompt_changes_the_map(folders, family):
    changed = replace(OPTIONS, prompt="cow")
    if family not in TEXT:
        with pytest.raises(InputError, match="prompt is 'cow', and .* attends to no text; leave"):
            create_extractor(str(folders[family]), changed)
        return
    plain, prompted = (
        create_extractor(str(folders[family]), options) for options in (OPTIONS, changed)
    )
    assert plain.identity != prompted.identity
    maps = [extractor.extract([frame()])[0].data for extractor in (plain, prompted)]
    assert not torch.allclose(*maps, atol=1e-4)


def test_layers_are_listed_without_weights_and_each_can_be_tapped(folders, family):
    located = locate(str(folders[family]))
    layers = {layer.name: layer for layer in located.family.layers(located.files)}
    assert LAYERS[family] in layers
    for layer in (LAYERS[family], next(iter(layers)), next(reversed(layers))):
        extractor = create_extractor(str(folders[family]), replace(OPTIONS, layer=layer))
        (result,) = extractor.extract([frame()])
        assert result.data.shape[0] == layers[layer].channels
        assert result.grid.width == pytest.approx(SIZE[1] / layers[layer].stride, abs=1)


def test_half_precision_is_close(folders, family):
    half = create_extractor(str(folders[family]), replace(OPTIONS, dtype="bf16"))
    exact = create_extractor(str(folders[family]), OPTIONS)
    maps = [extractor.extract([frame()])[0].data for extractor in (half, exact)]
    assert maps[0].dtype == torch.float32
    assert torch.cosine_similarity(*maps, dim=0).min() > 0.97


def test_blocks_after_the_layer_are_given_up(folders):
    extractor = create_extractor(
        str(folders["flux"]), replace(OPTIONS, layer="transformer_blocks.0")
    )
    network = extractor._model.denoiser.network
    left = [bool(list(block.parameters())) for block in network.transformer_blocks]
    assert left == [True, False]
    assert not list(network.single_transformer_blocks.parameters())
    assert not list(network.proj_out.parameters())


def test_flow_matching_mixes_linearly():
    levels = NoiseLevels.of_flow(1000)
    assert (levels.signal[250].item(), levels.noise[250].item()) == (0.75, 0.25)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "sd3",
            {"up_ft_index": 1},
            r"up_ft_index is 1, and .* has no up blocks; name a layer with",
        ),
        ("sd3", {"input_size": (64, 1024)}, "1024x64 pixels; .* takes at most 512 a side"),
        ("flux", {"input_size": (64, 72)}, "72x64 pixels; .* takes multiples of 16"),
        ("sdxl", {"prompt": "cow " * 76}, "The prompt has 76 tokens, and .* takes 75; shorten it"),
    ],
)
def test_settings_that_do_not_fit_are_refused(folders, name, change, message):
    with pytest.raises(InputError, match=message):
        create_extractor(str(folders[name]), replace(OPTIONS, **change)).extract([frame()])


def test_a_network_of_an_unknown_class_is_refused(folders, tmp_path):
    import json
    import shutil

    folder = tmp_path / "pipeline"
    shutil.copytree(folders["dit"], folder)
    config = folder / "transformer/config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "_class_name": "EvilModel"}))
    with pytest.raises(ModelError, match="is a EvilModel; known here are UNet2DConditionModel, UN"):
        create_extractor(str(folder), OPTIONS)


def test_sd3_without_t5_says_what_is_missing(folders, tmp_path):
    import shutil

    folder = tmp_path / "pipeline"
    shutil.copytree(folders["sd3"], folder)
    shutil.rmtree(folder / "text_encoder_3")
    with pytest.raises(ModelError, match="has no text_encoder_3, the T5 that its transformer att"):
        create_extractor(str(folder), OPTIONS)
