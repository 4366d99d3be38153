"""Loads a diffusers pipeline for features: encoder, conditions, noise levels, network."""

from __future__ import annotations

import hashlib
from math import isqrt
from typing import TYPE_CHECKING, Any

import torch
from diffusers import DDIMScheduler

from propagate.errors import ModelError
from propagate.features.card import LayerInfo
from propagate.features.diffusion.kinds import kind_of, network_class
from propagate.features.diffusion.model import (
    DiffusionModel,
    Encoder,
    NoiseLevels,
    PixelEncoder,
    up_block,
)
from propagate.features.diffusion.parts import (
    check_safetensors,
    has_part,
    load_diffusers,
    load_part,
    read_config,
)
from propagate.features.diffusion.vae import load_vae, vae_factor
from propagate.features.quiet import quiet_libraries
from propagate.features.tap import list_layers
from propagate.types import Size

if TYPE_CHECKING:
    from torch import Tensor, nn

    from propagate.features.hub import ResolvedModel

    Conditions = dict[str, Tensor]

# The image whose layers `models layers` shows: square, as DiT has it.
_LISTED = Size(512, 512)


def load_pipeline(
    files: ResolvedModel,
    *,
    prompt: str | None = "",
    dtype: torch.dtype = torch.float32,
    levels: NoiseLevels | None = None,
    network: nn.Module | None = None,
) -> DiffusionModel:
    """Load the parts of a pipeline that features need.

    Text encoders are gone from memory before the other networks load.

    Args:
        files: a pipeline's folder, as `save_pretrained` of diffusers writes it.
        prompt: text condition; None loads no text encoder, for who calls the network with
            conditions of their own.
        dtype: what networks compute in; small text encoders are in fp32.
        levels: other noise levels than the scheduler's.
        network: takes the place of the pipeline's own denoising network.

    Raises:
        ModelError: a file is damaged or does not fit its configuration, the parts don't fit
            together, or the denoising network is of a class that is not known here.
        InputError: the prompt is longer than the text encoder takes, or there is no such encoder.
    """
    check_safetensors(files)
    sub, config, kind = kind_of(files)
    with quiet_libraries(), torch.no_grad():
        conditions = {} if prompt is None else kind.encode(files, prompt, dtype)
        found = levels or _noise_levels(files)
        encoder: Encoder
        if has_part(files, "vae"):
            encoder = load_vae(files, dtype)
        else:
            encoder = PixelEncoder(_pixel_factor(kind.channels(config)))
        _check_fit(files, config, kind.channels(config), conditions, encoder)
        if network is None:
            network = load_diffusers(files, sub, network_class(config), dtype)
    typed = {name: _as_type(part, dtype) for name, part in conditions.items()}
    words = hashlib.sha256(prompt.encode()).hexdigest()[:12] if prompt else "none"
    return DiffusionModel(
        name=files.name,
        identity=f"dift {files.identity} prompt={words}",
        encoder=encoder,
        levels=found,
        denoiser=kind.build(network, config, typed, encoder.factor),
        up_block=lambda index: up_block(files.name, network, index),
        prediction=_prediction(files),
    )


def pipeline_layers(files: ResolvedModel) -> list[LayerInfo]:
    """What can be tapped of a pipeline's denoising network, for a 512x512 image.

    Found on the meta device from the configuration alone.

    Raises:
        ModelError: the network is of a class that is not known here, or its configuration damaged.
    """
    _, config, kind = kind_of(files)
    has_vae = has_part(files, "vae")
    pixels = _pixel_factor(kind.channels(config))
    factor = vae_factor(read_config(files, "vae/config.json")) if has_vae else pixels
    with quiet_libraries(), torch.device("meta"), torch.no_grad():
        network = network_class(config).from_config(config).eval()
        conditions = {name: torch.zeros(shape) for name, shape in kind.shapes(config).items()}
        denoiser = kind.build(network, config, conditions, factor)
        size = Size(_LISTED.height // factor, _LISTED.width // factor)
        latents = torch.zeros(1, kind.channels(config), *size)
        return list_layers(network, lambda: denoiser(latents, 1), size, pixels_per_unit=factor)


def _pixel_factor(channels: int) -> int:
    """Side of the squares of pixels that a network without a VAE takes as `channels` numbers."""
    factor = isqrt(channels // 3)
    return factor if 3 * factor**2 == channels else 1


def _prediction(files: ResolvedModel) -> str:
    config = read_config(files, "scheduler/scheduler_config.json")
    flow = str(config.get("_class_name")).startswith("FlowMatch")
    return "flow" if flow else str(config.get("prediction_type", "epsilon"))


def _noise_levels(files: ResolvedModel) -> NoiseLevels:
    config = read_config(files, "scheduler/scheduler_config.json")
    if str(config.get("_class_name")).startswith("FlowMatch"):
        return NoiseLevels.of_flow(int(config.get("num_train_timesteps", 1000)))
    # Every scheduler of the family has the same noise levels; only its way through them differs.
    scheduler = load_part(files, "scheduler", DDIMScheduler.from_pretrained)
    return NoiseLevels.of_diffusion(scheduler.alphas_cumprod.float())


def _as_type(part: Tensor, dtype: torch.dtype) -> Tensor:
    return part.to(dtype) if part.is_floating_point() else part


def _check_fit(
    files: ResolvedModel,
    config: dict[str, Any],
    channels: int,
    conditions: Conditions,
    encoder: Encoder,
) -> None:
    known = {"class_embed_type": (None,), "addition_embed_type": (None, "text_time")}
    extra = next((key for key, values in known.items() if config.get(key) not in values), None)
    if extra is not None:
        raise ModelError(
            f"The UNet of {files.name} needs more than an image and a prompt ({extra} is "
            f"{config[extra]!r}), which is not known here."
        )
    given = getattr(encoder, "channels", 3)
    if given != channels:
        raise ModelError(
            f"The network of {files.name} takes {channels} channels and its VAE gives {given}; "
            "take the text-to-image weights, not those for inpainting, depth or upscaling."
        )
    states = conditions.get("encoder_hidden_states")
    width = next((config[key] for key in _TEXT_WIDTHS if config.get(key)), None)
    if states is not None and width is not None and states.shape[-1] != width:
        raise ModelError(
            f"The network of {files.name} attends to text of width {width} and its text encoder "
            f"gives {states.shape[-1]}; the parts are of different pipelines."
        )


# Where a configuration says how wide the text is, the first that is set.
_TEXT_WIDTHS = ("caption_channels", "joint_attention_dim", "cross_attention_dim")
