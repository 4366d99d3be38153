"""The aggregation network of Diffusion Hyperfeatures.

Source: Luo et al., "Diffusion Hyperfeatures: Searching Through Time and Space for Semantic
Correspondence", NeurIPS 2023. Every layer has a bottleneck of its own, which all steps of the
diffusion share; their results are added with weights that a softmax over all layers and steps
makes. Tensors have the published names, so the published weights load as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812, the field's usual name
from torch import nn

from propagate.errors import InputError, ModelError

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

_SQUEEZE = 4  # channels of a bottleneck's result per channel inside


class _NormedConv(nn.Conv2d):
    """A convolution without bias, and the group norm of its output."""

    def __init__(self, inside: int, outside: int, kernel: int, groups: int) -> None:
        super().__init__(inside, outside, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.GroupNorm(groups, outside)
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.norm(super().forward(x))
        return normed


class _Bottleneck(nn.Module):
    """ResNet's bottleneck (He et al., 2016) with group norms and stride 1."""

    def __init__(self, inside: int, outside: int, groups: int) -> None:
        super().__init__()
        narrow = outside // _SQUEEZE
        self.shortcut = None if inside == outside else _NormedConv(inside, outside, 1, groups)
        self.conv1 = _NormedConv(inside, narrow, 1, groups)
        self.conv2 = _NormedConv(narrow, narrow, 3, groups)
        self.conv3 = _NormedConv(narrow, outside, 1, groups)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.conv2(F.relu(self.conv1(x))))
        return F.relu(self.conv3(y) + (x if self.shortcut is None else self.shortcut(x)))


class AggregationNetwork(nn.Module):
    """Maps of some layers, at some steps each, to one map.

    Args:
        channels: of each layer's maps.
        steps: how many diffusion steps; 1 for networks that have none.
        width: channels of the result; a multiple of 4 times `groups`.
        groups: of the group norms.

    Raises:
        InputError: `width` and `groups` don't fit, or there is no layer or step.
    """

    def __init__(
        self, channels: Sequence[int], *, steps: int = 1, width: int = 384, groups: int = 32
    ) -> None:
        super().__init__()
        if not channels or steps < 1:
            raise InputError("An aggregation needs one layer and one step at least.")
        if groups < 1 or width < 1 or width % (_SQUEEZE * groups):
            raise InputError(
                f"An aggregation of width {width} can't have {groups} groups; the width must be a "
                f"multiple of {_SQUEEZE} times the groups."
            )
        self.channels = tuple(channels)
        self.steps = steps
        self.width = width
        self.bottleneck_layers = nn.ModuleList(
            nn.Sequential(_Bottleneck(count, width, groups)) for count in channels
        )
        self.mixing_weights = nn.Parameter(torch.ones(steps * len(channels)))

    def mixing(self) -> Float[Tensor, "steps layers"]:
        """The share of each step and layer; all add up to 1."""
        return self.mixing_weights.softmax(0).reshape(self.steps, len(self.channels))

    def part(
        self, layer: int, step: int, maps: Float[Tensor, "b c gh gw"]
    ) -> Float[Tensor, "b width gh gw"]:
        """What one layer at one step adds to the result.

        Args:
            layer: position of the layer.
            step: position of the step.
            maps: of the layer, on the common grid.

        Raises:
            ModelError: there is no such layer, or it has other channels.
        """
        if layer >= len(self.channels) or maps.shape[1] != self.channels[layer]:
            raise ModelError(
                f"The aggregation was made for layers of {', '.join(map(str, self.channels))} "
                f"channels, and layer {layer + 1} of the model has {maps.shape[1]}; take the model "
                "and layers that it was trained on."
            )
        result: Tensor = self.bottleneck_layers[layer](maps)
        return self.mixing()[step, layer] * result

    def forward(
        self, maps: Iterable[tuple[int, int, Float[Tensor, "b c gh gw"]]]
    ) -> Float[Tensor, "b width gh gw"]:
        """The aggregated map of each image.

        Args:
            maps: (layer, step, maps); they are used up one by one.
        """
        total: Tensor | None = None
        for layer, step, data in maps:
            part = self.part(layer, step, data)
            total = part if total is None else total + part
        if total is None:
            raise InputError("An aggregation of no map at all can't be.")
        return total


class Accumulator:
    """Adds maps up as they appear, so that none needs to stay.

    Args:
        network: in eval mode; called without gradients.
        count: how many maps there must be.
    """

    def __init__(self, network: AggregationNetwork, count: int) -> None:
        self._network = network
        self._missing = count
        self._total: Tensor | None = None

    @torch.no_grad()
    def take(self, layer: int, step: int, maps: Float[Tensor, "b c gh gw"]) -> None:
        """Add the maps of a layer at a step, on the common grid."""
        part = self._network.part(layer, step, maps.float())
        self._total = part if self._total is None else self._total.add_(part)
        self._missing -= 1

    def result(self) -> Float[Tensor, "b width gh gw"]:
        """The sum.

        Raises:
            ModelError: some maps were not added.
        """
        if self._total is None or self._missing:
            raise ModelError(
                f"The aggregation was made for {len(self._network.channels)} layers, and the model "
                f"gives {self._missing} maps fewer; take the layers that it was trained on."
            )
        return self._total


class Recorder:
    """Keeps maps as they appear, for a network that is trained on them."""

    def __init__(self) -> None:
        self._maps: list[tuple[int, int, Tensor]] = []

    def take(self, layer: int, step: int, maps: Float[Tensor, "b c gh gw"]) -> None:
        """Keep the maps of a layer at a step."""
        # Those made under `inference_mode` can't take part in a backward pass.
        with torch.inference_mode(mode=False):
            self._maps.append((layer, step, maps.float().clone()))

    def result(self) -> list[tuple[int, int, Float[Tensor, "b c gh gw"]]]:
        """(layer, step, maps), in the order they came."""
        return self._maps
