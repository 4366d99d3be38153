"""ADM's UNet written out plainly from its paper, on tensors under their original names.

Slow and obvious: the oracle of `propagate.features.diffusion.adm` where the published outputs are
not at hand.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

CHANNELS = (32, 64, 64)  # of each level, finest first
ATTENTION = (False, True, True)
RESNETS = 2
HEAD = 64
GROUPS = 32
OUTPUTS = (RESNETS + 1) * len(CHANNELS)


def random_state(seed: int = 0) -> dict[str, Tensor]:
    """Random weights of the architecture above, as `torch.save` would have them."""
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {}

    def layer(key: str, *shape: int, scale: float = 1.0) -> None:
        fan_in = math.prod(shape[1:])
        state[f"{key}.weight"] = torch.randn(shape, generator=generator) * scale / fan_in**0.5
        state[f"{key}.bias"] = 0.1 * torch.randn(shape[0], generator=generator)

    def norm(key: str, channels: int) -> None:
        state[f"{key}.weight"] = 1 + 0.1 * torch.randn(channels, generator=generator)
        state[f"{key}.bias"] = 0.1 * torch.randn(channels, generator=generator)

    def residual(key: str, given: int, out: int) -> None:
        norm(f"{key}.in_layers.0", given)
        layer(f"{key}.in_layers.2", out, given, 3, 3)
        layer(f"{key}.emb_layers.1", 2 * out, 4 * CHANNELS[0])
        norm(f"{key}.out_layers.0", out)
        layer(f"{key}.out_layers.3", out, out, 3, 3)
        if given != out:
            layer(f"{key}.skip_connection", out, given, 1, 1)

    def attention(key: str, channels: int) -> None:
        norm(f"{key}.norm", channels)
        layer(f"{key}.qkv", 3 * channels, channels, 1)
        layer(f"{key}.proj_out", channels, channels, 1)

    layer("time_embed.0", 4 * CHANNELS[0], CHANNELS[0])
    layer("time_embed.2", 4 * CHANNELS[0], 4 * CHANNELS[0])
    layer("input_blocks.0.0", CHANNELS[0], 3, 3, 3)
    skips, width, block = [CHANNELS[0]], CHANNELS[0], 1
    for level, channels in enumerate(CHANNELS):
        for _ in range(RESNETS):
            residual(f"input_blocks.{block}.0", width, channels)
            if ATTENTION[level]:
                attention(f"input_blocks.{block}.1", channels)
            width = channels
            skips.append(width)
            block += 1
        if level < len(CHANNELS) - 1:
            residual(f"input_blocks.{block}.0", width, width)
            skips.append(width)
            block += 1
    residual("middle_block.0", width, width)
    attention("middle_block.1", width)
    residual("middle_block.2", width, width)
    for block in range(OUTPUTS):
        level = len(CHANNELS) - 1 - block // (RESNETS + 1)
        residual(f"output_blocks.{block}.0", width + skips.pop(), CHANNELS[level])
        width, part = CHANNELS[level], 1
        if ATTENTION[level]:
            attention(f"output_blocks.{block}.1", width)
            part = 2
        if block % (RESNETS + 1) == RESNETS and level:
            residual(f"output_blocks.{block}.{part}", width, width)
    norm("out.0", width)
    layer("out.2", 6, width, 3, 3)
    return state


def output_blocks(state: dict[str, Tensor], x: Tensor, t: int) -> list[Tensor]:
    """Output of every output block for noisy images [n, 3, h, w] of step `t`."""
    half = CHANNELS[0] // 2
    angles = t * torch.exp(-math.log(10000) * torch.arange(half) / half)
    embedding = torch.cat([angles.cos(), angles.sin()])[None]
    embedding = _linear(state, "time_embed.2", F.silu(_linear(state, "time_embed.0", embedding)))
    h = F.conv2d(x, state["input_blocks.0.0.weight"], state["input_blocks.0.0.bias"], padding=1)
    skips, block = [h], 1
    for level in range(len(CHANNELS)):
        for _ in range(RESNETS):
            h = _residual(state, f"input_blocks.{block}.0", h, embedding)
            h = _attention(state, f"input_blocks.{block}.1", h)
            skips.append(h)
            block += 1
        if level < len(CHANNELS) - 1:
            h = _residual(state, f"input_blocks.{block}.0", h, embedding, "down")
            skips.append(h)
            block += 1
    h = _residual(state, "middle_block.0", h, embedding)
    h = _attention(state, "middle_block.1", h)
    h = _residual(state, "middle_block.2", h, embedding)
    outputs = []
    for block in range(OUTPUTS):
        h = torch.cat([h, skips.pop()], dim=1)
        h = _residual(state, f"output_blocks.{block}.0", h, embedding)
        h = _attention(state, f"output_blocks.{block}.1", h)
        for part in (1, 2):
            if f"output_blocks.{block}.{part}.in_layers.0.weight" in state:
                h = _residual(state, f"output_blocks.{block}.{part}", h, embedding, "up")
        outputs.append(h)
    return outputs


def _linear(state: dict[str, Tensor], key: str, x: Tensor) -> Tensor:
    return F.linear(x, state[f"{key}.weight"], state[f"{key}.bias"])


def _norm(state: dict[str, Tensor], key: str, x: Tensor) -> Tensor:
    return F.group_norm(x, GROUPS, state[f"{key}.weight"], state[f"{key}.bias"])


def _residual(
    state: dict[str, Tensor], key: str, x: Tensor, embedding: Tensor, resample: str = ""
) -> Tensor:
    h = F.silu(_norm(state, f"{key}.in_layers.0", x))
    if resample == "down":
        h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
    elif resample == "up":
        h, x = (F.interpolate(part, scale_factor=2, mode="nearest") for part in (h, x))
    h = F.conv2d(h, state[f"{key}.in_layers.2.weight"], state[f"{key}.in_layers.2.bias"], padding=1)
    scale, shift = _linear(state, f"{key}.emb_layers.1", F.silu(embedding)).chunk(2, dim=1)
    h = _norm(state, f"{key}.out_layers.0", h) * (1 + scale[..., None, None])
    h = F.silu(h + shift[..., None, None])
    h = F.conv2d(
        h, state[f"{key}.out_layers.3.weight"], state[f"{key}.out_layers.3.bias"], padding=1
    )
    if f"{key}.skip_connection.weight" in state:
        weight, bias = (state[f"{key}.skip_connection.{part}"] for part in ("weight", "bias"))
        x = F.conv2d(x, weight, bias)
    return x + h


def _attention(state: dict[str, Tensor], key: str, x: Tensor) -> Tensor:
    if f"{key}.qkv.weight" not in state:
        return x
    count, channels, height, width = x.shape
    flat = _norm(state, f"{key}.norm", x).flatten(2)
    qkv = F.conv1d(flat, state[f"{key}.qkv.weight"], state[f"{key}.qkv.bias"])
    q, k, v = qkv.reshape(count * (channels // HEAD), 3 * HEAD, -1).split(HEAD, dim=1)
    weights = torch.softmax(torch.einsum("bct,bcs->bts", q, k) / HEAD**0.5, dim=-1)
    h = torch.einsum("bts,bcs->bct", weights, v).reshape(count, channels, -1)
    h = F.conv1d(h, state[f"{key}.proj_out.weight"], state[f"{key}.proj_out.bias"])
    return x + h.reshape(count, channels, height, width)
