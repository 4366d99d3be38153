"""Loads the parts of a Stable Diffusion pipeline that features need, from safetensors alone."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.utils import is_accelerate_available
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError, safe_open
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from propagate.errors import InputError, ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from jaxtyping import Float
    from torch import Tensor

    from propagate.features.hub import ResolvedModel


@dataclass(frozen=True)
class PipelineParts:
    """What is left of a pipeline for feature extraction; networks in eval mode, on the CPU.

    Args:
        unet: the whole `UNet2DConditionModel`.
        vae: an `AutoencoderKL` without its decoder.
        prompt_embedding: the text encoder's last hidden state after the final layer norm, fp32.
        alphas_cumprod: fp32, one per training step.
    """

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    prompt_embedding: Float[Tensor, "1 tokens width"]
    alphas_cumprod: Float[Tensor, " steps"]


def load_parts(model: ResolvedModel, prompt: str, dtype: torch.dtype) -> PipelineParts:
    """Load UNet and VAE as `dtype`, and encode the prompt in fp32.

    The text encoder is gone from memory before the others load.

    Raises:
        ModelError: a file is damaged or does not fit its configuration, or the networks don't
            fit together as in Stable Diffusion 1 and 2.
        InputError: the prompt is longer than the text encoder takes.
    """
    _check_safetensors(model)
    with _quiet_libraries(), torch.no_grad():
        embedding = _encode_prompt(model, prompt)
        scheduler = _load(model, "scheduler", DDIMScheduler.from_pretrained)
        vae = _load_diffusers(model, "vae", AutoencoderKL, dtype)
        unet = _load_diffusers(model, "unet", UNet2DConditionModel, dtype)
    del vae.decoder, vae.post_quant_conv
    _check_fit(model.name, unet.config, vae.config, embedding.shape[-1])
    return PipelineParts(unet, vae, embedding, scheduler.alphas_cumprod.float())


def _encode_prompt(model: ResolvedModel, prompt: str) -> Float[Tensor, "1 tokens width"]:
    tokenizer = _load(model, "tokenizer", CLIPTokenizer.from_pretrained)
    encoder = _load_network(model, "text_encoder", CLIPTextModel).float()
    length = min(tokenizer.model_max_length, encoder.config.max_position_embeddings)
    ids = tokenizer(prompt, padding="max_length", max_length=length).input_ids
    if len(ids) > length:
        raise InputError(
            f"The prompt has {len(ids) - 2} tokens, and the text encoder of {model.name} takes "
            f"{length - 2}; shorten it."
        )
    embedding: Tensor = encoder(torch.tensor([ids])).last_hidden_state
    return embedding


def _load_diffusers(model: ResolvedModel, sub: str, kind: Any, dtype: torch.dtype) -> Any:
    # Without low_cpu_mem_usage=False diffusers complains where `accelerate` is not installed.
    lean = is_accelerate_available()
    return _load_network(model, sub, kind, torch_dtype=dtype, low_cpu_mem_usage=lean)


def _load_network(model: ResolvedModel, sub: str, kind: Any, **options: Any) -> Any:
    network, info = _load(
        model,
        sub,
        kind.from_pretrained,
        variant=model.layout.variants[sub],
        use_safetensors=True,
        output_loading_info=True,
        **options,
    )
    if info["missing_keys"]:
        raise ModelError(
            f"The weights of {model.name}/{sub} lack {len(info['missing_keys'])} tensors that its "
            f"config.json asks for, such as {min(info['missing_keys'])}; download it again."
        )
    return network.requires_grad_(False).eval()


def _load(model: ResolvedModel, sub: str, load: Callable[..., Any], **options: Any) -> Any:
    try:
        return load(model.folder, subfolder=sub, local_files_only=True, **options)
    except Exception as error:  # the tokenizers' parser raises bare `Exception`
        first = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
        raise ModelError(
            f"{model.name}/{sub} could not be loaded ({type(error).__name__}: {first}); its files "
            "are damaged or not of a Stable Diffusion pipeline, so download them again."
        ) from error


def _check_safetensors(model: ResolvedModel) -> None:
    for name in model.layout.files:
        if name.endswith(".safetensors"):
            _check_file(model.folder / name)


def _check_file(path: Path) -> None:
    try:
        with safe_open(path, framework="pt"):  # reads the header and compares it with the size
            pass
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"{path} is damaged or incomplete ({error}); delete it and download it again."
        ) from error


def _check_fit(name: str, unet: Any, vae: Any, text_width: int) -> None:
    extra = [key for key in ("addition_embed_type", "class_embed_type") if unet.get(key)]
    if extra:
        raise ModelError(
            f"The UNet of {name} needs more than an image and a prompt ({extra[0]} is "
            f"{unet[extra[0]]!r}); only Stable Diffusion 1 and 2 and their fine-tunes work here."
        )
    if unet["in_channels"] != vae["latent_channels"]:
        raise ModelError(
            f"The UNet of {name} takes {unet['in_channels']} channels and its VAE gives "
            f"{vae['latent_channels']}; take the text-to-image weights, not those for inpainting, "
            "depth or upscaling."
        )
    if unet["cross_attention_dim"] != text_width:
        raise ModelError(
            f"The UNet of {name} attends to text of width {unet['cross_attention_dim']} and its "
            f"text encoder gives {text_width}; the parts are of different pipelines."
        )


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Keep loading off the terminal: its progress bars and advice are not for our users."""
    levels = diffusers_logging.get_verbosity(), transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    diffusers_logging.set_verbosity_error()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        diffusers_logging.set_verbosity(levels[0])
        transformers_logging.set_verbosity(levels[1])
        if bars:
            transformers_logging.enable_progress_bar()
