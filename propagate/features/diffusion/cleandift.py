"""CleanDIFT: a UNet of Stable Diffusion that was tuned to clean latents.

Source: Stracke et al., "CleanDIFT: Diffusion Features without Noise", CVPR 2025, and its published
weights: the state dict of a `UNet2DConditionModel`, which takes the place of the base model's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from diffusers import UNet2DConditionModel
from safetensors import SafetensorError
from safetensors.torch import load_file

from propagate.errors import ModelError
from propagate.features.diffusion.loading import load_pipeline
from propagate.features.diffusion.model import DiffusionModel, NoiseLevels
from propagate.features.diffusion.parts import read_config

if TYPE_CHECKING:
    from propagate.features.hub import ResolvedModel

_STEPS = 1000


def load_cleandift(
    files: ResolvedModel, weights: str, *, prompt: str, dtype: torch.dtype
) -> DiffusionModel:
    """Load the UNet with text encoder and VAE of its base model.

    Args:
        files: the folder with the UNet's weights; its `base` is the pipeline.
        weights: name of the file in it.
        prompt: text condition.
        dtype: what the networks compute in.

    Raises:
        ModelError: the base is missing, or the weights don't fit its UNet.
    """
    if files.base is None:
        raise ModelError(f"{files.name} needs the pipeline that it was tuned from.")
    unet = _load_unet(files, files.base, weights, dtype)
    model = load_pipeline(
        files.base,
        prompt=prompt,
        dtype=dtype,
        levels=NoiseLevels.of_clean(_STEPS),
        network=unet,
    )
    own = replace(files, base=None).identity
    return replace(
        model, name=files.name, identity=f"cleandift {weights} of {own} on {model.identity}"
    )


def _load_unet(
    files: ResolvedModel, base: ResolvedModel, weights: str, dtype: torch.dtype
) -> UNet2DConditionModel:
    path = files.folder / weights
    config = read_config(base, "unet/config.json")
    try:
        with torch.device("meta"):
            unet = UNet2DConditionModel.from_config(config)
        state = {key: value.to(dtype) for key, value in load_file(path).items()}
        unet.load_state_dict(state, assign=True)
    except (SafetensorError, OSError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0]
        raise ModelError(
            f"{path} does not fit the UNet of {base.name} ({first}); it is damaged or was tuned "
            "from another model, so download both again."
        ) from error
    return unet.requires_grad_(False).eval()
