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

from propagate.errors import InputError, ModelError
from propagate.features.base import FeatureExtractor
from propagate.features.noise import SeededNoise
from propagate.features.stable_diffusion import StableDiffusionExtractor, StableDiffusionSettings
from propagate.geometry import InputSize
from propagate.types import Frame, Size
from tests.tiny_pipeline import save_tiny_pipeline

NATIVE = Size(50, 70)
EVEN, ODD = Size(64, 64), Size(72, 104)  # latents of 8x8, and of 9x13, which no level halves


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory) -> Path:
    return save_tiny_pipeline(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def settings(pipeline) -> StableDiffusionSettings:
    size = InputSize(exact=ODD)
    return StableDiffusionSettings(
        model=str(pipeline), t=200, ensemble_size=3, input_size=size, device="cpu", dtype="fp32"
    )


@pytest.fixture(scope="module")
def extractor(settings) -> StableDiffusionExtractor:
    return StableDiffusionExtractor(settings)


def frame(index: int, size: Size = NATIVE) -> Frame:
    pixels = np.random.default_rng(index).integers(0, 256, (*size, 3), dtype=np.uint8)
    return Frame("clip", index, cv2.GaussianBlur(pixels, (0, 0), 3), 0.0, f"{index}")


def reference(settings: StableDiffusionSettings, image: Frame, size: Size) -> torch.Tensor:
    """DIFT's steps, each for every ensemble member, with the whole networks."""
    folder, step = settings.model, torch.tensor([settings.t])
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
        tokens = tokenizer(settings.prompt, padding="max_length", return_tensors="pt").input_ids
        embedding = text(tokens)[0]
        for member in range(settings.ensemble_size):
            posterior = vae.encode(pixels).latent_dist
            key = {"frame": image.index, "member": member, "shape": posterior.mean.shape[1:]}
            latent = posterior.mean
            if settings.latent == "sample":
                latent = latent + posterior.std * noise.draw("posterior", **key)
            latent = latent * vae.config.scaling_factor
            noisy = scheduler.add_noise(latent, noise.draw("diffusion", **key)[None], step)
            unet(noisy, step, encoder_hidden_states=embedding)
    return torch.cat(outputs).mean(dim=0)


@pytest.mark.parametrize("size", [EVEN, ODD], ids=str)
@pytest.mark.parametrize("block", [0, 1, 2, 3])
def test_every_up_block_equals_the_full_network(settings, block, size):
    chosen = replace(settings, up_ft_index=block, input_size=InputSize(exact=size))
    (result,) = StableDiffusionExtractor(chosen).extract([frame(4)])
    torch.testing.assert_close(result.data, reference(chosen, frame(4), size), rtol=1e-4, atol=1e-5)
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
        {"unet_batch_size": 2},
    ],
    ids=str,
)
def test_every_setting_does_what_it_says(settings, change):
    chosen = replace(settings, **change)
    (result,) = StableDiffusionExtractor(chosen).extract([frame(1)])
    torch.testing.assert_close(result.data, reference(chosen, frame(1), ODD), rtol=1e-4, atol=1e-5)


def test_a_map_depends_on_its_frame_alone_to_the_last_bit(settings, extractor):
    frames = [frame(index) for index in (5, 0, 3)]
    together = extractor.extract(frames)
    torch.manual_seed(99)
    for image, mate in zip(reversed(frames), reversed(together), strict=True):
        (alone,) = extractor.extract([image])
        assert torch.equal(alone.data, mate.data)
    (fresh,) = StableDiffusionExtractor(settings).extract([frames[1]])
    assert torch.equal(fresh.data, together[1].data)


def test_the_same_picture_at_another_index_gets_other_noise(extractor):
    picture = frame(0)
    later = Frame("clip", 1, picture.rgb, 0.0, "1")
    first, second = extractor.extract([picture, later])
    assert not torch.allclose(first.data, second.data, atol=1e-3)


def test_an_ensemble_member_does_not_depend_on_how_many_there_are(settings, extractor):
    posterior = extractor.posterior(frame(0, ODD).rgb)
    one = StableDiffusionExtractor(replace(settings, ensemble_size=1))
    more = extractor.noisy_latents(posterior, 7)
    assert more.shape == (3, 4, 9, 13)
    assert torch.equal(one.noisy_latents(posterior, 7), more[:1])
    assert not torch.allclose(more[0], more[1], atol=0.1)


def test_the_image_is_encoded_once_and_members_share_batches(settings):
    extractor = StableDiffusionExtractor(replace(settings, ensemble_size=5, unet_batch_size=2))
    encoded, batches = [], []
    extractor._vae.encoder.register_forward_hook(lambda m, i, output: encoded.append(len(output)))
    extractor._unet._unet.conv_in.register_forward_hook(
        lambda m, i, output: batches.append(len(output))
    )
    extractor.extract([frame(0), frame(1)])
    assert encoded == [1, 1]
    assert batches == [2, 2, 1] * 2


@pytest.fixture
def no_gc():
    """Without the garbage collector, what lies in a reference cycle stays."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def alive(name: str) -> int:
    return sum(type(thing).__name__ == name for thing in gc.get_objects())


def test_what_comes_after_the_up_block_is_not_kept(settings):
    kept = StableDiffusionExtractor(replace(settings, up_ft_index=1))
    blocks = kept._unet._unet.up_blocks
    assert [bool(list(block.parameters())) for block in blocks] == [True, True, False, False]
    assert not hasattr(kept._vae, "decoder")


def test_the_text_encoder_is_freed_at_once(settings, no_gc):
    encoders, networks = alive("CLIPTextModel"), alive("UNet2DConditionModel")
    extractor = StableDiffusionExtractor(settings)
    assert alive("UNet2DConditionModel") == networks + 1
    assert alive("CLIPTextModel") == encoders
    assert extractor.batch_size == 1


def test_stopping_early_leaves_no_activations_behind(settings, no_gc):
    extractor = StableDiffusionExtractor(settings)
    before = alive("Tensor")
    extractor.extract([frame(0)])
    assert alive("Tensor") == before


def test_it_is_a_feature_extractor(extractor):
    assert isinstance(extractor, FeatureExtractor)
    assert extractor.extract([]) == []


def test_half_precision_is_close_and_gives_float32(settings, extractor):
    half = StableDiffusionExtractor(replace(settings, dtype="bf16"))
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
    "input_size": InputSize(short_side=64),
    "dtype": "bf16",
}


def test_the_identity_tells_everything_that_changes_the_numbers(settings, extractor):
    others = [
        StableDiffusionExtractor(replace(settings, **{name: value})).identity
        for name, value in CHANGES.items()
    ]
    assert len({extractor.identity, *others}) == 1 + len(CHANGES)
    memory = StableDiffusionExtractor(replace(settings, unet_batch_size=1, offline=True))
    assert memory.identity == extractor.identity


def test_the_identity_names_the_noise(settings, extractor):
    class Zeros:
        identity = "zeros"

        def draw(self, kind, *, frame, member, shape):
            return torch.zeros(shape)

    silent = StableDiffusionExtractor(settings, noise=Zeros())
    assert "zeros" in silent.identity
    assert silent.identity != extractor.identity


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"t": -1}, "t is -1; it must be 0 or more"),
        ({"up_ft_index": -1}, "up_ft_index is -1; it must be 0 or more"),
        ({"ensemble_size": 0}, "ensemble_size is 0; it must be 1 or more"),
        ({"unet_batch_size": 0}, "unet_batch_size is 0; it must be 1 or more"),
        ({"seed": -5}, "seed is -5; it must be 0 or more"),
        ({"latent": "mode"}, "latent is 'mode'; it must be 'sample' or 'mean'"),
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
        ({"device": "tpu"}, "device is 'tpu'; it must be 'auto'"),
        ({"prompt": "cow " * 76}, "The prompt has 76 tokens, and the text encoder .* takes 75"),
    ],
)
def test_a_setting_that_does_not_fit_the_weights_is_refused(settings, change, message):
    with pytest.raises(InputError, match=message):
        StableDiffusionExtractor(replace(settings, **change))


def test_the_longest_prompt_is_accepted(settings):
    extractor = StableDiffusionExtractor(replace(settings, prompt="cow " * 75))
    assert extractor._text.shape == (1, 77, 16)


def test_an_input_smaller_than_one_latent_pixel_is_refused(settings):
    small = StableDiffusionExtractor(replace(settings, input_size=InputSize(exact=Size(7, 64))))
    with pytest.raises(InputError, match="input would be 64x7 pixels; both sides must be at lea"):
        small.extract([frame(0)])


def test_features_that_overflow_are_an_error(settings):
    class Infinite:
        identity = "infinite"

        def draw(self, kind, *, frame, member, shape):
            return torch.full(shape, torch.inf)

    broken = StableDiffusionExtractor(settings, noise=Infinite())
    with pytest.raises(ModelError, match="frame 3 are not finite in fp32; use dtype 'fp32' or"):
        broken.extract([frame(3)])
