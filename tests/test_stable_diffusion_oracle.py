"""The published featurizer, number by number: DIFT's own outputs as golden values."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from propagate.features.hub import resolve
from propagate.features.sd_loading import load_parts
from propagate.features.stable_diffusion import StableDiffusionExtractor, StableDiffusionSettings
from propagate.geometry import InputSize
from propagate.types import Frame

SIZES = ("square", "odd")
TOLERANCE = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture(scope="module")
def oracle(shared_dir) -> Path:
    return shared_dir / "oracles/sd-unet"


class GivenNoise:
    """The oracle's noise for one of its images, whatever the frame."""

    identity = "given"

    def __init__(self, oracle: Path, image: str) -> None:
        stored = load_file(oracle / "noise.safetensors")
        kinds = {"posterior": "posterior_noise", "diffusion": "noise"}
        self._noise = {kind: stored[f"{name}_{image}"] for kind, name in kinds.items()}

    def draw(self, kind, *, frame, member, shape):
        return self._noise[kind][member].reshape(shape)


def make(oracle: Path, image: str, **options) -> StableDiffusionExtractor:
    settings = StableDiffusionSettings(
        model=str(oracle / "pipeline"),
        t=json.loads((oracle / "config.json").read_text())["t"],
        input_size=InputSize(short_side=None, multiple=8),
        device="cpu",
        dtype="fp32",
        **options,
    )
    return StableDiffusionExtractor(settings, noise=GivenNoise(oracle, image))


def read(oracle: Path, image: str) -> Frame:
    bgr = cv2.imread(str(oracle / f"image_{image}.png"))
    return Frame("oracle", 0, np.ascontiguousarray(bgr[..., ::-1]), 0.0, image)


CASES = [
    *(("mean", 1, "", block) for block in range(4)),
    *(("sample", 2, "", block) for block in range(4)),
    ("sample", 1, "", 2),
    ("mean", 1, "prompt", 1),
]


@pytest.mark.parametrize("image", SIZES)
@pytest.mark.parametrize(("latent", "ensemble", "prompt", "block"), CASES)
def test_features(oracle, image, latent, ensemble, prompt, block):
    name = f"expected_{image}_{latent}_ensemble{ensemble}{'_prompt' if prompt else ''}.safetensors"
    expected = load_file(oracle / name)
    extractor = make(
        oracle,
        image,
        up_ft_index=block,
        latent=latent,
        ensemble_size=ensemble,
        prompt=json.loads((oracle / "config.json").read_text())["prompt"] if prompt else "",
    )
    frame = read(oracle, image)
    (result,) = extractor.extract([frame])
    torch.testing.assert_close(result.data, expected[f"up_ft_{block}"], **TOLERANCE)
    noisy = extractor.noisy_latents(extractor.posterior(frame.rgb), 0)
    torch.testing.assert_close(noisy, expected["noisy_latents"], **TOLERANCE)


@pytest.mark.parametrize("image", SIZES)
def test_posterior(oracle, image):
    with np.load(oracle / f"expected_{image}_vae.npz") as expected:
        mean, std = (torch.from_numpy(expected[f"posterior_{part}"]) for part in ("mean", "std"))
    result = make(oracle, image).posterior(read(oracle, image).rgb)
    torch.testing.assert_close(result.mean, mean, **TOLERANCE)
    torch.testing.assert_close(result.std, std, **TOLERANCE)


@pytest.mark.parametrize("name", ["prompt", "null"])
def test_prompt_embedding(oracle, name):
    config = json.loads((oracle / "config.json").read_text())
    prompt = config["prompt" if name == "prompt" else "null_prompt"]
    parts = load_parts(resolve(str(oracle / "pipeline")), prompt, torch.float32)
    with np.load(oracle / "expected_text.npz") as expected:
        embedding = torch.from_numpy(expected[f"{name}_embeds"])
    torch.testing.assert_close(parts.prompt_embedding[0], embedding, **TOLERANCE)


def test_noise_schedule(oracle):
    parts = load_parts(resolve(str(oracle / "pipeline")), "", torch.float32)
    with np.load(oracle / "expected_schedule.npz") as expected:
        assert np.array_equal(parts.alphas_cumprod.numpy(), expected["alphas_cumprod"])
