"""The published featurizer, number by number: DIFT's own outputs as golden values."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from propagate.features.diffusion.extractor import DiffusionExtractor, DiffusionSettings
from propagate.features.diffusion.loading import load_pipeline
from propagate.features.diffusion.model import Posterior
from propagate.features.registry import locate
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


def make(
    oracle: Path, image: str, *, up_ft_index: int = 2, prompt: str = "", **options
) -> DiffusionExtractor:
    model = load_pipeline(locate(str(oracle / "pipeline")).files, prompt=prompt)
    settings = DiffusionSettings(
        t=json.loads((oracle / "config.json").read_text())["t"],
        layers=(model.up_block(up_ft_index),),
        input_size=InputSize(short_side=None, multiple=8),
        **options,
    )
    return DiffusionExtractor(
        model,
        settings,
        device=torch.device("cpu"),
        dtype=torch.float32,
        noise=GivenNoise(oracle, image),
    )


def posterior_of(extractor: DiffusionExtractor, frame: Frame) -> Posterior:
    batch = extractor.posterior(torch.from_numpy(frame.rgb).permute(2, 0, 1)[None])
    return Posterior(batch.mean[0], batch.std[0])


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
    noisy = extractor.noisy_latents(posterior_of(extractor, frame), 0)
    torch.testing.assert_close(noisy, expected["noisy_latents"], **TOLERANCE)


@pytest.mark.parametrize("image", SIZES)
def test_posterior(oracle, image):
    with np.load(oracle / f"expected_{image}_vae.npz") as expected:
        mean, std = (torch.from_numpy(expected[f"posterior_{part}"]) for part in ("mean", "std"))
    result = posterior_of(make(oracle, image), read(oracle, image))
    torch.testing.assert_close(result.mean / 0.18215, mean, **TOLERANCE)
    torch.testing.assert_close(result.std / 0.18215, std, **TOLERANCE)


@pytest.mark.parametrize("name", ["prompt", "null"])
def test_prompt_embedding(oracle, name):
    config = json.loads((oracle / "config.json").read_text())
    prompt = config["prompt" if name == "prompt" else "null_prompt"]
    model = load_pipeline(locate(str(oracle / "pipeline")).files, prompt=prompt)
    with np.load(oracle / "expected_text.npz") as expected:
        embedding = torch.from_numpy(expected[f"{name}_embeds"])
    torch.testing.assert_close(
        model.denoiser._conditions["encoder_hidden_states"][0], embedding, **TOLERANCE
    )


def test_noise_schedule(oracle):
    model = load_pipeline(locate(str(oracle / "pipeline")).files)
    with np.load(oracle / "expected_schedule.npz") as expected:
        alphas = torch.from_numpy(expected["alphas_cumprod"])
    assert torch.equal(model.levels.signal, alphas.sqrt())
    assert torch.equal(model.levels.noise, (1 - alphas).sqrt())
