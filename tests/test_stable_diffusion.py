"""DIFT_sd on a tiny random pipeline, against the slow and obvious way to compute it."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from propagate.config import ModelOptions
from propagate.errors import InputError, ModelError
from propagate.features.base import FeatureExtractor
from propagate.features.diffusion.create import create, network_dtype
from propagate.features.diffusion.extractor import DiffusionExtractor
from propagate.features.diffusion.loading import load_pipeline
from propagate.features.diffusion.model import Posterior
from propagate.features.fusion import fuse
from propagate.features.noise import NoiseSource, SeededNoise
from propagate.features.registry import locate
from propagate.types import Frame, Size
from tests.tiny_pipeline import save_tiny_pipeline

NATIVE = Size(50, 70)
EVEN, ODD = Size(64, 64), Size(72, 104)  # latents of 8x8, and of 9x13, which no level halves


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory) -> Path:
    return save_tiny_pipeline(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def settings() -> ModelOptions:
    return ModelOptions(
        t=200, up_ft_index=2, ensemble_size=3, input_size=ODD, device="cpu", dtype="fp32"
    )


@pytest.fixture(scope="module")
def make(pipeline):
    """Makes an extractor of the tiny pipeline."""

    def make(options: ModelOptions, noise: NoiseSource | None = None) -> DiffusionExtractor:
        files, dtype = locate(str(pipeline)).files, network_dtype(options)
        model = load_pipeline(files, prompt=options.prompt or "", dtype=dtype)
        return create(model, options, noise=noise)

    return make


@pytest.fixture(scope="module")
def extractor(make, settings) -> DiffusionExtractor:
    return make(settings)


def frame(index: int, size: Size = NATIVE) -> Frame:
    pixels = np.random.default_rng(index).integers(0, 256, (*size, 3), dtype=np.uint8)
    return Frame("clip", index, cv2.GaussianBlur(pixels, (0, 0), 3), 0.0, f"{index}")


def reference(folder: Path, settings: ModelOptions, image: Frame, size: Size) -> torch.Tensor:
    """DIFT's steps, each for every ensemble member, with the whole networks."""
    step = torch.tensor([settings.t])
    tokenizer = CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer")
    text = CLIPTextModel.from_pretrained(folder, subfolder="text_encoder")
    options = {"use_safetensors": True, "low_cpu_mem_usage": False}
    vae = AutoencoderKL.from_pretrained(folder, subfolder="vae", **options)
    unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet", **options)
    scheduler = DDIMScheduler.from_pretrained(folder, subfolder="scheduler")
    outputs = []
    unet.up_blocks[settings.up_ft_index].register_forward_hook(
        lambda block, inputs, output: outputs.append(output)
    )
    resized = cv2.resize(image.rgb, (size.width, size.height), interpolation=cv2.INTER_LINEAR)
    pixels = torch.from_numpy(resized).permute(2, 0, 1)[None] / 255 * 2 - 1
    noise = SeededNoise(settings.seed)
    with torch.no_grad():
        tokens = tokenizer(
            settings.prompt or "", padding="max_length", return_tensors="pt"
        ).input_ids
        embedding = text(tokens)[0]
        for member in range(settings.ensemble_size):
            posterior = vae.encode(pixels).latent_dist
            key = {"frame": image.index, "member": member, "shape": posterior.mean.shape[1:]}
            latent = posterior.mean
            if settings.latent != "mean":
                latent = latent + posterior.std * noise.draw("posterior", **key)
            latent = latent * vae.config.scaling_factor
            noisy = scheduler.add_noise(latent, noise.draw("diffusion", **key)[None], step)
            unet(noisy, step, encoder_hidden_states=embedding)
    return torch.cat(outputs).mean(dim=0)


@pytest.mark.parametrize("size", [EVEN, ODD], ids=str)
@pytest.mark.parametrize("block", [0, 1, 2, 3])
def test_every_up_block_equals_the_full_network(pipeline, make, settings, block, size):
    chosen = replace(settings, up_ft_index=block, input_size=size)
    (result,) = make(chosen).extract([frame(4)])
    expected = reference(pipeline, chosen, frame(4), size)
    torch.testing.assert_close(result.data, expected, rtol=1e-4, atol=1e-5)
    assert (result.image_size, result.input_size) == (NATIVE, size)


@pytest.mark.parametrize(
    "change",
    [
        {"latent": "mean"},
        {"prompt": "a brown cow, grazing"},
        {"ensemble_size": 1},
        {"t": 0},
        {"t": 999},
        {"seed": 2**40},
        {"batch_size": 2},
    ],
    ids=str,
)
def test_every_setting_does_what_it_says(pipeline, make, settings, change):
    chosen = replace(settings, **change)
    (result,) = make(chosen).extract([frame(1)])
    expected = reference(pipeline, chosen, frame(1), ODD)
    torch.testing.assert_close(result.data, expected, rtol=1e-4, atol=1e-5)


def test_a_map_depends_on_its_frame_alone_to_the_last_bit(make, settings, extractor):
    frames = [frame(index) for index in (5, 0, 3)]
    together = extractor.extract(frames)
    torch.manual_seed(99)
    for image, mate in zip(reversed(frames), reversed(together), strict=True):
        (alone,) = extractor.extract([image])
        assert torch.equal(alone.data, mate.data)
    (fresh,) = make(settings).extract([frames[1]])
    assert torch.equal(fresh.data, together[1].data)


def test_the_same_picture_at_another_index_gets_other_noise(extractor):
    picture = frame(0)
    later = Frame("clip", 1, picture.rgb, 0.0, "1")
    first, second = extractor.extract([picture, later])
    assert not torch.allclose(first.data, second.data, atol=1e-3)


def test_an_ensemble_member_does_not_depend_on_how_many_there_are(make, settings, extractor):
    pixels = torch.from_numpy(frame(0, ODD).rgb).permute(2, 0, 1)[None]
    batch = extractor.posterior(pixels)
    posterior = Posterior(batch.mean[0], batch.std[0])
    one = make(replace(settings, ensemble_size=1))
    more = extractor.noisy_latents(posterior, 7)
    assert more.shape == (3, 4, 9, 13)
    assert torch.equal(one.noisy_latents(posterior, 7), more[:1])
    assert not torch.allclose(more[0], more[1], atol=0.1)


def test_images_are_encoded_once_and_members_of_all_frames_share_batches(make, settings):
    extractor = make(replace(settings, ensemble_size=5, batch_size=4))
    encoded, batches = [], []
    extractor._model.encoder.network.encoder.register_forward_hook(
        lambda m, i, output: encoded.append(len(output))
    )
    extractor._model.denoiser.network.conv_in.register_forward_hook(
        lambda m, i, output: batches.append(len(output))
    )
    extractor.extract([frame(0), frame(1)])
    assert encoded == [2]
    assert batches == [4, 4, 2]


def test_the_batch_changes_a_map_by_rounding_only(make, settings, extractor):
    frames = [frame(index) for index in range(3)]
    together = make(replace(settings, batch_size=7)).extract(frames)
    for one, many in zip(extractor.extract(frames), together, strict=True):
        torch.testing.assert_close(one.data, many.data, rtol=1e-5, atol=1e-5)


def test_several_layers_are_fused_in_one_pass(make, settings):
    names = ("up_blocks.1.resnets.0", "up_blocks.2")
    maps = [
        make(replace(settings, up_ft_index=None, layer=name)).extract([frame(0)])[0].data
        for name in names
    ]
    (fused,) = make(replace(settings, up_ft_index=None, layer="+".join(names))).extract([frame(0)])
    torch.testing.assert_close(fused.data, fuse([(data, 1.0) for data in maps]))


def test_layers_come_one_by_one_from_one_pass(make, settings):
    together = make(replace(settings, up_ft_index=None, layer="1+up_blocks.2"))
    (found,) = together.extract_layers([frame(0)])
    for index, data in enumerate(found):
        alone = make(replace(settings, up_ft_index=index + 1))
        assert together.layer_identity(index) == alone.identity
        assert torch.equal(alone.extract([frame(0)])[0].data, data.data)


def test_without_a_layer_it_is_the_last_but_one_up_block(make, settings, extractor):
    assert make(replace(settings, up_ft_index=None)).identity == extractor.identity


def test_compiled_blocks_give_the_same_map(make, settings, extractor, monkeypatch):
    compiled = []

    def eager(function, **options):
        compiled.append(function)
        return function

    monkeypatch.setattr(torch, "compile", eager)
    (result,) = make(replace(settings, compile=True)).extract([frame(0)])
    # Four down blocks, the middle one, three up blocks, and the embedding of the step.
    assert len(compiled) == 9
    assert torch.equal(result.data, extractor.extract([frame(0)])[0].data)


@pytest.fixture
def no_gc():
    """Without the garbage collector, what lies in a reference cycle stays."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def alive(name: str) -> int:
    return sum(type(thing).__name__ == name for thing in gc.get_objects())


def test_what_comes_after_the_up_block_is_not_kept(make, settings):
    kept = make(replace(settings, up_ft_index=1))
    blocks = kept._model.denoiser.network.up_blocks
    assert [bool(list(block.parameters())) for block in blocks] == [True, True, False, False]
    assert not hasattr(kept._model.encoder.network, "decoder")


def test_the_text_encoder_is_freed_at_once(make, settings, no_gc):
    encoders, networks = alive("CLIPTextModel"), alive("UNet2DConditionModel")
    extractor = make(settings)
    assert alive("UNet2DConditionModel") == networks + 1
    assert alive("CLIPTextModel") == encoders
    assert extractor.batch_size == 1


def test_stopping_early_leaves_no_activations_behind(make, settings, no_gc):
    extractor = make(settings)
    before = alive("Tensor")
    extractor.extract([frame(0)])
    assert alive("Tensor") == before


def test_it_is_a_feature_extractor(extractor):
    assert isinstance(extractor, FeatureExtractor)
    assert extractor.extract([]) == []


def test_half_precision_is_close_and_gives_float32(make, settings, extractor):
    half = make(replace(settings, dtype="bf16"))
    (close,), (exact,) = half.extract([frame(2)]), extractor.extract([frame(2)])
    assert close.data.dtype == torch.float32
    cosine = torch.cosine_similarity(close.data, exact.data, dim=0)
    assert cosine.min() > 0.99
    assert not torch.equal(close.data, exact.data)


CHANGES = {
    "t": 201,
    "up_ft_index": 1,
    "ensemble_size": 2,
    "prompt": "cow",
    "seed": 1,
    "latent": "mean",
    "input_size": EVEN,
    "dtype": "bf16",
}


def test_the_identity_tells_everything_that_changes_the_numbers(make, settings, extractor):
    others = [make(replace(settings, **{name: value})).identity for name, value in CHANGES.items()]
    assert len({extractor.identity, *others}) == 1 + len(CHANGES)
    memory = make(replace(settings, batch_size=2, memory=1.0, offline=True))
    assert memory.identity == extractor.identity


def test_the_identity_names_the_noise(make, settings, extractor):
    class Zeros:
        identity = "zeros"

        def draw(self, kind, *, frame, member, shape):
            return torch.zeros(shape)

    silent = make(settings, noise=Zeros())
    assert "zeros" in silent.identity
    assert silent.identity != extractor.identity


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"t": -1}, "t is -1; it must be 0 or more"),
        ({"up_ft_index": -1}, "up_ft_index is -1; it must be 0 or more"),
        ({"ensemble_size": 0}, "ensemble_size is 0; it must be 1 or more"),
        ({"batch_size": 0}, "batch_size is 0; it must be 1 or more"),
        ({"memory": 0.0}, "memory is 0.0 GB; it must be greater than 0"),
        ({"input_size": (0, 8)}, "input_size is 8x0; both sides must be 1 or more"),
        ({"layer": "conv_in"}, "layer 'conv_in' and up_ft_index 2 both say where"),
        ({"seed": -5}, "seed is -5; it must be 0 or more"),
        ({"latent": "mode"}, "latent is 'mode'; it must be one of sample, mean"),
        ({"dtype": "float32"}, "dtype is 'float32'; it must be one of auto, fp32, bf16, fp16"),
    ],
)
def test_a_bad_setting_is_refused_when_made(settings, change, message):
    with pytest.raises(InputError, match=message):
        replace(settings, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"t": 1000}, "t is 1000; .* has steps 0 to 999"),
        ({"up_ft_index": 4}, "up_ft_index is 4, and this UNet has up blocks 0 to 3"),
        ({"up_ft_index": None, "layer": "up_block.1"}, "no layer 'up_block.1'; closest are up_blo"),
        ({"up_ft_index": None, "layer": "time_embedding"}, r"gives \[1, 32\], which is no map"),
        ({"device": "tpu"}, "device is 'tpu'; it must be 'auto'"),
        ({"prompt": "cow " * 76}, "The prompt has 76 tokens, and the text encoder .* takes 75"),
    ],
)
def test_a_setting_that_does_not_fit_the_weights_is_refused(make, settings, change, message):
    with pytest.raises(InputError, match=message):
        make(replace(settings, **change))


def test_the_longest_prompt_is_accepted(make, settings):
    extractor = make(replace(settings, prompt="cow " * 75))
    assert extractor._model.denoiser._conditions["encoder_hidden_states"].shape == (1, 77, 16)


def test_an_input_smaller_than_one_latent_pixel_is_refused(make, settings):
    small = make(replace(settings, input_size=Size(7, 64)))
    with pytest.raises(InputError, match="input would be 64x7 pixels; both sides must be at lea"):
        small.extract([frame(0)])


def test_features_that_overflow_are_an_error(make, settings):
    class Infinite:
        identity = "infinite"

        def draw(self, kind, *, frame, member, shape):
            return torch.full(shape, torch.inf)

    broken = make(settings, noise=Infinite())
    with pytest.raises(ModelError, match="frame 3 are not finite in fp32; use dtype 'fp32' or"):
        broken.extract([frame(3)])
