"""OpenAI's ADM (guided-diffusion) as a `UNet2DModel` of diffusers.

Source: Dhariwal and Nichol, "Diffusion Models Beat GANs on Image Synthesis", 2021.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch
from diffusers import UNet2DModel
from safetensors import safe_open

from propagate.errors import InputError, ModelError
from propagate.features.diffusion.adm_checkpoint import convert
from propagate.features.diffusion.denoisers import UnconditionalUNet
from propagate.features.diffusion.model import DiffusionModel, NoiseLevels, PixelEncoder
from propagate.features.hub import ResolvedModel, private_path
from propagate.features.tap import list_layers
from propagate.types import Size

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from jaxtyping import Float64
    from torch import Tensor

    from propagate.features.card import LayerInfo

_HEAD_CHANNELS = 64  # width of an attention head in all of OpenAI's published models
_STEPS = 1000


def load_adm(files: ResolvedModel, *, dtype: torch.dtype = torch.float32) -> DiffusionModel:
    """Load a checkpoint, converting it once to safetensors beside the hub's cache.

    Args:
        files: one `.pt` (a state dict) or `.safetensors` file with the original key names. A
            `config.json` beside it may say `num_head_channels`, as guided-diffusion calls the
            width of an attention head; it is 64 otherwise.
        dtype: what the network computes in.

    Raises:
        ModelError: the file is damaged, holds other things than tensors, or is no unconditional
            ADM UNet with residual up- and downsampling.
    """
    with safe_open(_converted(files), framework="pt") as file:
        config = json.loads(file.metadata()["config"])
        with torch.device("meta"):
            network = UNet2DModel(**config)
        state = {key: file.get_tensor(key).to(dtype) for key in file.keys()}  # noqa: SIM118
    network.load_state_dict(state, assign=True)
    network.requires_grad_(False).eval()
    levels = NoiseLevels.of_diffusion(linear_alphas_cumprod().float())
    multiple = 2 ** (len(config["block_out_channels"]) - 1)
    return DiffusionModel(
        name=files.name,
        identity=f"dift-adm {files.identity}",
        encoder=PixelEncoder(),
        levels=levels,
        denoiser=UnconditionalUNet(network, multiple=multiple),
        up_block=lambda index: output_block(config, index),
    )


def adm_layers(files: ResolvedModel) -> list[LayerInfo]:
    """What can be tapped, for a 512x512 image; converts the checkpoint if that was not done.

    Raises:
        ModelError: as `load_adm`.
    """
    with safe_open(_converted(files), framework="pt") as file:
        config = json.loads(file.metadata()["config"])
    size = Size(512, 512)
    with torch.device("meta"), torch.no_grad():
        network = UNet2DModel(**config).eval()
        denoiser = UnconditionalUNet(network, multiple=1)
        image = torch.zeros(1, 3, *size)
        return list_layers(network, lambda: denoiser(image, 1), size)


def _converted(files: ResolvedModel) -> Path:
    source = files.folder / files.layout.files[0]
    head_channels = _head_channels(source.with_name("config.json"))
    target = private_path(f"adm-{files.fingerprint()}-{head_channels}.safetensors")
    if not target.exists():
        convert(source, target, head_channels)
    return target


def _head_channels(path: Path) -> int:
    """What a file with guided-diffusion's flags says, at its top or one level below."""
    if not path.is_file():
        return _HEAD_CHANNELS
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path} is no JSON ({error}); mend it, or take it away.") from error
    flags = [config, *(config.values() if isinstance(config, dict) else ())]
    found = (part.get("num_head_channels") for part in flags if isinstance(part, dict))
    return next((width for width in found if isinstance(width, int) and width > 0), _HEAD_CHANNELS)


def linear_alphas_cumprod() -> Float64[Tensor, 1000]:
    """The linear schedule of 1000 steps (DDPM: betas from 1e-4 to 0.02), in float64."""
    return (1 - torch.linspace(1e-4, 0.02, _STEPS, dtype=torch.float64)).cumprod(0)


def output_block(config: Mapping[str, Any], index: int) -> str:
    """Name of the module whose output is that of ADM's output block `index`, coarsest first.

    Raises:
        InputError: there is no such block.
    """
    levels, per_level = len(config["block_out_channels"]), config["layers_per_block"] + 1
    if not 0 <= index < levels * per_level:
        raise InputError(
            f"up_ft_index is {index}, and this ADM has output blocks 0 to {levels * per_level - 1}."
        )
    level, position = divmod(index, per_level)
    if position == per_level - 1 and level < levels - 1:
        return f"up_blocks.{level}.upsamplers.0"
    attends = config["up_block_types"][level] == "AttnUpBlock2D"
    return f"up_blocks.{level}.{'attentions' if attends else 'resnets'}.{position}"
