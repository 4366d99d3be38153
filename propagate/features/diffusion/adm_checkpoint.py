"""Checkpoints of OpenAI's guided-diffusion under the names of diffusers.

The architecture is read off the names and shapes of the tensors; the width of an attention head,
which they don't show, is a parameter.
"""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import torch
from diffusers import UNet2DModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from propagate.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

    State = Mapping[str, Tensor]

_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}


@dataclass(frozen=True)
class _Architecture:
    """What the tensors tell.

    Args:
        channels: of each level, finest first.
        resnets: residual blocks per level on the way down.
        attention: whether each level attends.
        outputs: channels of the last convolution.
    """

    channels: tuple[int, ...]
    resnets: int
    attention: tuple[bool, ...]
    outputs: int

    def config(self, head_channels: int) -> dict[str, Any]:
        """Arguments of `UNet2DModel`."""
        widths = zip(self.channels, self.attention, strict=True)
        if any(attends and width % head_channels for width, attends in widths):
            raise ValueError(f"channels {self.channels} are no multiples of {head_channels}")
        down = ["AttnDownBlock2D" if has else "ResnetDownsampleBlock2D" for has in self.attention]
        up = ["AttnUpBlock2D" if has else "ResnetUpsampleBlock2D" for has in self.attention]
        return {
            "in_channels": 3,
            "out_channels": self.outputs,
            "block_out_channels": list(self.channels),
            "layers_per_block": self.resnets,
            "down_block_types": down,
            "up_block_types": up[::-1],
            "downsample_type": "resnet",
            "upsample_type": "resnet",
            "resnet_time_scale_shift": "scale_shift",
            "attention_head_dim": head_channels,
            "attn_norm_num_groups": 32,
        }


def convert(source: Path, target: Path, head_channels: int) -> None:
    """Write a checkpoint as safetensors under diffusers' names, with its `UNet2DModel` arguments.

    Args:
        source: a `.pt` (a state dict) or `.safetensors` file with the original key names.
        target: the file to write; its metadata has the arguments as JSON under "config".
        head_channels: width of an attention head.

    Raises:
        ModelError: the file is damaged, holds other things than tensors, or is no unconditional
            ADM UNet with residual up- and downsampling.
    """
    state = _read(source)
    try:
        architecture = _architecture(state)
        config = architecture.config(head_channels)
        with torch.device("meta"):
            expected = UNet2DModel(**config).state_dict()
        converted = _renamed(state, architecture, head_channels)
        fits = converted.keys() == expected.keys() and all(
            converted[key].shape == expected[key].shape for key in expected
        )
    except (KeyError, ValueError, IndexError, RuntimeError):
        fits = False
    if not fits:
        raise ModelError(
            f"{source} is no ADM UNet that is known here; expected is the state dict of an "
            "unconditional model of OpenAI's guided-diffusion with residual up- and downsampling, "
            "such as 256x256_diffusion_uncond.pt."
        )
    # A name of its own, as another process may be converting the same checkpoint.
    temporary = target.with_name(f".{uuid4().hex[:8]}.part")
    contiguous = {key: value.float().contiguous() for key, value in converted.items()}
    try:
        save_file(contiguous, temporary, metadata={"config": json.dumps(config)})
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _read(source: Path) -> State:
    try:
        if source.suffix == ".safetensors":
            with safe_open(source, framework="pt") as file:
                return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        state = torch.load(source, map_location="cpu", weights_only=True, mmap=True)
    except (SafetensorError, OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
        raise ModelError(
            f"{source} could not be read as tensors alone ({first}); it is damaged or holds code, "
            "so download it again from where it was published."
        ) from error
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise ModelError(f"{source} is no state dict; expected are tensors by name, as published.")
    return state


def _architecture(state: State) -> _Architecture:
    blocks = 1 + max(_index(key) for key in state if key.startswith("output_blocks."))
    per_level = 1 + min(block for block in range(blocks) if _upsamples(state, block))
    # Input block 0 is a convolution; each level's first block has its width and its attention.
    firsts = range(1, blocks, per_level)
    return _Architecture(
        channels=tuple(state[f"input_blocks.{b}.0.out_layers.3.weight"].shape[0] for b in firsts),
        resnets=per_level - 1,
        attention=tuple(f"input_blocks.{b}.1.norm.weight" in state for b in firsts),
        outputs=state["out.2.weight"].shape[0],
    )


def _upsamples(state: State, block: int) -> bool:
    """Whether an output block ends with a second residual block, which upsamples."""
    residual = [
        key for key in state if re.fullmatch(rf"output_blocks\.{block}\.\d\.in_layers.0.bias", key)
    ]
    return len(residual) == 2


def _index(key: str) -> int:
    return int(key.split(".")[1])


def _renamed(state: State, architecture: _Architecture, head_channels: int) -> dict[str, Tensor]:
    modules = _module_names(architecture)
    result: dict[str, Tensor] = {}
    for key, value in state.items():
        module, rest = _split(key, modules)
        if rest.startswith("qkv."):
            for name, part in _attention_inputs(value, rest, head_channels):
                result[f"{module}.{name}"] = part
        else:
            name = _renamed_parameter(rest)
            # Convolutions of width 1 over flattened pixels are linear layers in diffusers.
            result[f"{module}.{name}"] = value.squeeze(-1) if "to_out" in name else value
    return result


def _module_names(architecture: _Architecture) -> dict[str, str]:
    """Name in diffusers for each module of the original, but for what is inside of blocks."""
    levels, resnets = len(architecture.channels), architecture.resnets
    names = {
        "time_embed.0": "time_embedding.linear_1",
        "time_embed.2": "time_embedding.linear_2",
        "input_blocks.0.0": "conv_in",
        "middle_block.0": "mid_block.resnets.0",
        "middle_block.1": "mid_block.attentions.0",
        "middle_block.2": "mid_block.resnets.1",
        "out.0": "conv_norm_out",
        "out.2": "conv_out",
    }
    block = 1
    for level in range(levels):
        for position in range(resnets):
            names[f"input_blocks.{block}.0"] = f"down_blocks.{level}.resnets.{position}"
            names[f"input_blocks.{block}.1"] = f"down_blocks.{level}.attentions.{position}"
            block += 1
        names[f"input_blocks.{block}.0"] = f"down_blocks.{level}.downsamplers.0"
        block += 1
    block = 0
    for level in range(levels):
        attends = architecture.attention[levels - 1 - level]
        for position in range(resnets + 1):
            upsampler = 2 if attends else 1
            names[f"output_blocks.{block}.{upsampler}"] = f"up_blocks.{level}.upsamplers.0"
            names[f"output_blocks.{block}.0"] = f"up_blocks.{level}.resnets.{position}"
            if attends:
                names[f"output_blocks.{block}.1"] = f"up_blocks.{level}.attentions.{position}"
            block += 1
    return names


def _split(key: str, modules: Mapping[str, str]) -> tuple[str, str]:
    parts = key.split(".")
    for length in (3, 2):
        start = ".".join(parts[:length])
        if start in modules:
            return modules[start], ".".join(parts[length:])
    raise KeyError(key)


def _renamed_parameter(rest: str) -> str:
    module, _, parameter = rest.rpartition(".")
    if not module:
        return parameter
    renamed = {**_RESNET, "norm": "group_norm", "proj_out": "to_out.0"}[module]
    return f"{renamed}.{parameter}"


def _attention_inputs(value: Tensor, rest: str, head_channels: int) -> list[tuple[str, Tensor]]:
    """Queries, keys and values, which the original interleaves head by head."""
    parameter = rest.removeprefix("qkv.")
    heads = value.shape[0] // (3 * head_channels)
    parts = value.reshape(heads, 3, head_channels, *value.shape[1:]).unbind(1)
    flat = [part.flatten(0, 1) for part in parts]
    if parameter == "weight":
        flat = [part.squeeze(-1) for part in flat]
    return [(f"to_{name}.{parameter}", part) for name, part in zip("qkv", flat, strict=True)]
