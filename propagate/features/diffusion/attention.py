"""Cross-attention maps of a UNet of diffusers: how much each cell looks at one token of the text.

Only the maps of the layers and the token that were asked for are kept, and the network stops
behind the last of these layers. Gradients flow to the text alone where they are enabled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NoReturn, get_args

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from propagate.errors import InputError, ModelError
from propagate.types import Size

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor, nn

Heads = Literal["all", "second-half"]


@dataclass(frozen=True)
class AttentionLayer:
    """One cross-attention layer.

    Args:
        name: of the module.
        level: how often the latent is halved before it.
    """

    name: str
    level: int

    def grid(self, latent: Size) -> Size:
        """Cells of its map for latents of a size; odd sides are rounded up at each level."""
        height, width = latent
        for _ in range(self.level):
            height, width = -(-height // 2), -(-width // 2)
        return Size(height, width)


def cross_attention_layers(network: nn.Module, model: str) -> list[AttentionLayer]:
    """The cross-attention layers of a UNet in the order they run: down, middle, up.

    Args:
        network: a `UNet2DConditionModel`.
        model: what the error calls it.

    Raises:
        ModelError: the network has none.
    """
    names = [
        name for name, part in network.named_modules() if getattr(part, "is_cross_attention", False)
    ]
    levels = len(getattr(network, "down_blocks", ()))
    stages = ("down_blocks", "mid_block", "up_blocks")
    found = [
        AttentionLayer(name, _level(name, levels))
        for stage in stages
        for name in names
        if name.startswith(f"{stage}.")
    ]
    if not found:
        raise ModelError(
            f"The network of {model} has no cross-attention to text, which prompt-optimised "
            "matching reads; take Stable Diffusion 1 or 2, such as --model sd14."
        )
    return found


def _level(name: str, levels: int) -> int:
    stage, index = name.split(".")[:2]
    if stage == "mid_block":
        return levels - 1
    return int(index) if stage == "down_blocks" else levels - 1 - int(index)


class AttentionTap:
    """Takes the attention to one token out of some layers of a UNet.

    Args:
        network: its chosen layers get another attention processor.
        layers: names of modules.
        token: whose attention is taken, counted from 0.
        heads: "all", or the "second-half" alone.
    """

    def __init__(
        self, network: nn.Module, layers: Sequence[str], *, token: int, heads: Heads = "all"
    ) -> None:
        if heads not in get_args(Heads):
            raise InputError(f"heads is {heads!r}; it must be one of {', '.join(get_args(Heads))}.")
        modules: dict[str, Any] = dict(network.named_modules())
        self._layers = tuple(layers)
        self._found: dict[str, Tensor] = {}
        self._replaced = [(modules[name], modules[name].processor) for name in layers]
        for name in layers:
            modules[name].set_processor(_Recorder(name, token, heads, self._take))

    def remove(self) -> None:
        """Give the layers back the processors they had."""
        for module, processor in self._replaced:
            module.set_processor(processor)

    def __call__(
        self, run: Callable[[], object], grids: Sequence[Size]
    ) -> list[Float[Tensor, "b heads gh gw"]]:
        """The maps of the layers, in the order they were named; fp32, each from 0 to 1.

        Args:
            run: calls the network.
            grids: cells of each layer's map.
        """
        self._found.clear()
        with suppress(_AllFoundError):
            run()
        maps = [self._found[name] for name in self._layers]
        self._found.clear()
        return [
            found.reshape(*found.shape[:2], *grid) for found, grid in zip(maps, grids, strict=True)
        ]

    def _take(self, name: str, found: Tensor) -> None:
        self._found[name] = found
        if len(self._found) == len(self._layers):
            _stop()


class _AllFoundError(Exception):
    """Ends a forward pass whose remaining part nobody needs."""


def _stop() -> NoReturn:
    raise _AllFoundError


class _Recorder:
    """An attention processor as `AttnProcessor2_0`, that hands the map of one token over.

    Where gradients are enabled, the probabilities of all tokens are computed again on the way
    back instead of being kept.
    """

    def __init__(
        self, name: str, token: int, heads: Heads, take: Callable[[str, Tensor], None]
    ) -> None:
        self._name = name
        self._token = token
        self._heads = heads
        self._take = take

    def __call__(
        self,
        attn: Any,
        hidden_states: Float[Tensor, "b cells c"],
        encoder_hidden_states: Float[Tensor, "b tokens d"],
        **_options: object,
    ) -> Float[Tensor, "b cells c"]:
        def by_head(values: Tensor) -> Float[Tensor, "b heads n d"]:
            return values.reshape(*values.shape[:2], attn.heads, -1).transpose(1, 2)

        query = by_head(attn.to_q(hidden_states))
        key = by_head(attn.to_k(encoder_hidden_states))
        first = attn.heads // 2 if self._heads == "second-half" else 0
        self._take(self._name, self._map(query[:, first:], key[:, first:], float(attn.scale)))
        value = by_head(attn.to_v(encoder_hidden_states))
        mixed = functional.scaled_dot_product_attention(query, key, value)
        mixed = mixed.transpose(1, 2).flatten(2)
        out: Tensor = attn.to_out[1](attn.to_out[0](mixed))
        if attn.residual_connection:
            out = out + hidden_states
        return out / float(attn.rescale_output_factor)

    def _map(self, query: Tensor, key: Tensor, scale: float) -> Float[Tensor, "b heads cells"]:
        if not torch.is_grad_enabled():
            return _attention_to(query, key, scale, self._token)
        found: Tensor = checkpoint(
            _attention_to,
            query,
            key,
            scale,
            self._token,
            use_reentrant=False,
            preserve_rng_state=False,
        )
        return found


def _attention_to(
    query: Float[Tensor, "b heads cells d"],
    key: Float[Tensor, "b heads tokens d"],
    scale: float,
    token: int,
) -> Float[Tensor, "b heads cells"]:
    scores = (query.float() * scale) @ key.float().transpose(2, 3)
    return scores.softmax(dim=3).select(3, token)
