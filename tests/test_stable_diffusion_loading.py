"""Pipelines as they are found in the wild: older, half-precision, damaged, or of another kind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from propagate.errors import ModelError
from propagate.features.diffusion.loading import load_pipeline
from propagate.features.diffusion.model import DiffusionModel
from propagate.features.registry import locate
from tests.tiny_pipeline import save_tiny_pipeline

UNET = "unet/diffusion_pytorch_model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    return save_tiny_pipeline(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def pipeline(original, tmp_path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(original, tmp_path / "pipeline"))


def load(folder: Path, prompt: str = "") -> DiffusionModel:
    return load_pipeline(locate(str(folder)).files, prompt=prompt)


def embedding(model: DiffusionModel) -> torch.Tensor:
    return model.denoiser._conditions["encoder_hidden_states"]


def edit_config(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def same_weights(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    ours, theirs = first.state_dict(), second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_networks_are_frozen_and_in_eval_mode(original):
    parts = load(original)
    for network in (parts.denoiser.network, parts.encoder.network):
        assert not network.training
        assert not any(weight.requires_grad for weight in network.parameters())


def test_loading_prints_nothing(original, capfd):
    load(original)
    assert capfd.readouterr() == ("", "")


def test_loading_leaves_the_libraries_talkative_as_they_were(original):
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    before = diffusers_logging.get_verbosity(), transformers_logging.get_verbosity()
    load(original)
    assert transformers_logging.is_progress_bar_enabled()
    assert (diffusers_logging.get_verbosity(), transformers_logging.get_verbosity()) == before


def test_attention_names_of_older_autoencoders(original, pipeline):
    """Stable Diffusion's own VAE files call their attention weights query, key, ..."""
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    weights = load_file(pipeline / VAE)
    for key in [key for key in weights if ".attentions." in key]:
        name = next((new for new in old if f".{new}." in key), None)
        if name is not None:
            weights[key.replace(f".{name}.", f".{old[name]}.")] = weights.pop(key)
    assert any(".proj_attn." in key for key in weights)
    save_file(weights, pipeline / VAE, metadata={"format": "pt"})
    assert same_weights(load(pipeline).encoder.network, load(original).encoder.network)


def test_half_precision_files(original, pipeline):
    for name in (UNET, VAE, TEXT):
        path = pipeline / name
        half = {key: tensor.half() for key, tensor in load_file(path).items()}
        save_file(half, path.with_suffix(".fp16.safetensors"), metadata={"format": "pt"})
        path.unlink()
    rounded, exact = load(pipeline), load(original)
    for name, weight in rounded.denoiser.network.state_dict().items():
        assert weight.dtype == torch.float32
        assert torch.equal(weight, exact.denoiser.network.state_dict()[name].half().float())
    torch.testing.assert_close(embedding(rounded), embedding(exact), rtol=1e-2, atol=1e-2)


def test_a_scheduler_of_another_class_has_the_same_noise_levels(original, pipeline):
    """Stable Diffusion 1 comes with PNDM's configuration."""
    edit_config(
        pipeline / "scheduler/scheduler_config.json",
        _class_name="PNDMScheduler",
        skip_prk_steps=True,
    )
    assert torch.equal(load(pipeline).levels.signal, load(original).levels.signal)


def test_a_prompt_is_attended_to(original):
    cow, nothing = (embedding(load(original, prompt)) for prompt in ("cow", ""))
    assert not torch.allclose(cow, nothing, atol=1e-2)


@pytest.mark.parametrize("name", [UNET, VAE, TEXT])
def test_a_file_that_was_cut_off_is_named(pipeline, name):
    path = pipeline / name
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match=f"{name} is damaged or incomplete .*download it again"):
        load(pipeline)


@pytest.mark.parametrize("name", [UNET, VAE, TEXT])
def test_a_file_that_is_not_safetensors_is_named(pipeline, name):
    (pipeline / name).write_text("version https://git-lfs.github.com/spec/v1")
    with pytest.raises(ModelError, match=f"{name} is damaged or incomplete"):
        load(pipeline)


@pytest.mark.parametrize("name", [UNET, VAE, TEXT])
def test_missing_tensors_are_an_error_and_not_random_numbers(pipeline, name):
    weights = load_file(pipeline / name)
    gone = next(key for key in sorted(weights) if "norm" in key and key.endswith("weight"))
    del weights[gone]
    save_file(weights, pipeline / name, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lack 1 tensors .*config.json asks for, such as .*norm"):
        load(pipeline)


@pytest.mark.parametrize("name", ["unet", "vae", "text_encoder"])
def test_a_configuration_that_is_not_json_is_an_error(pipeline, name):
    (pipeline / name / "config.json").write_text("{")
    with pytest.raises(ModelError, match=f"pipeline/{name}.* could not be loaded"):
        load(pipeline)


def test_weights_of_another_shape_are_an_error(pipeline):
    edit_config(pipeline / "unet/config.json", block_out_channels=[8, 16, 16, 32])
    with pytest.raises(ModelError, match="pipeline/unet could not be loaded"):
        load(pipeline)


def test_a_tokenizer_that_is_not_json_is_an_error(pipeline):
    (pipeline / "tokenizer/vocab.json").write_text("{")
    with pytest.raises(ModelError, match="pipeline/tokenizer could not be loaded"):
        load(pipeline)


def change_channels(pipeline: Path) -> None:
    weights = load_file(pipeline / UNET)
    weights["conv_in.weight"] = weights["conv_in.weight"].repeat(1, 3, 1, 1)[:, :9].contiguous()
    save_file(weights, pipeline / UNET, metadata={"format": "pt"})
    edit_config(pipeline / "unet/config.json", in_channels=9)


def test_an_inpainting_unet_is_refused(pipeline):
    change_channels(pipeline)
    with pytest.raises(ModelError, match="takes 9 channels and its VAE gives 4; take the text-to"):
        load(pipeline)


def test_a_unet_for_other_text_is_refused(pipeline, tmp_path_factory):
    weights = load_file(pipeline / UNET)
    for key in [key for key in weights if "attn2.to_k" in key or "attn2.to_v" in key]:
        weights[key] = weights[key][:, :12].contiguous()
    save_file(weights, pipeline / UNET, metadata={"format": "pt"})
    edit_config(pipeline / "unet/config.json", cross_attention_dim=12)
    with pytest.raises(ModelError, match=r"attends to text of width 12 .*text encoder gives 16"):
        load(pipeline)


def test_a_unet_with_class_labels_is_refused(pipeline):
    edit_config(pipeline / "unet/config.json", class_embed_type="identity")
    with pytest.raises(ModelError, match=r"more than an image and a prompt \(class_embed_type is"):
        load(pipeline)
