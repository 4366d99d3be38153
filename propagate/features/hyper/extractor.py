"""Aggregated maps as features like any others."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from propagate.errors import InputError
from propagate.features.frames import finite_map
from propagate.features.hyper.network import Accumulator, AggregationNetwork
from propagate.features.hyper.sources import MapSource, Place
from propagate.types import FeatureMap, Frame


class HyperExtractor:
    """The aggregation of a source's maps, each of which is let go as soon as it is added.

    Args:
        network: frozen, in eval mode, on the device of the source.
        source: of the maps.
        weights: tells the network's weights from any others.
        prune: maps whose share of the mixture is less than this are left out, and not computed
            where that is possible.

    Raises:
        InputError: `prune` leaves nothing.
    """

    def __init__(
        self, network: AggregationNetwork, source: MapSource, *, weights: str, prune: float = 0.0
    ) -> None:
        self._network = network
        self._source = source
        self._weights = weights
        self._prune = prune
        self._wanted = kept_places(network, prune)

    @property
    def identity(self) -> str:
        """Weights, what is left out, and the source's."""
        return aggregated_identity(self._weights, self._prune, self._source.identity)

    @property
    def batch_size(self) -> int:
        """The source's."""
        return self._source.batch_size

    @torch.inference_mode()
    def extract(self, frames: Sequence[Frame]) -> list[FeatureMap]:
        """Maps [width, gh, gw], float32.

        Raises:
            InputError: as the source says.
            ModelError: the maps are not those that the network was made for, or not finite.
        """
        if not frames:
            return []
        count = len(self._wanted)
        parts = self._source.run(frames, lambda: Accumulator(self._network, count), self._wanted)
        maps = [(one, size) for maps, size in parts for one in maps]
        return [
            finite_map(data, frame, size, torch.float32)
            for frame, (data, size) in zip(frames, maps, strict=True)
        ]


def aggregated_identity(weights: str, prune: float, source: str) -> str:
    """What an aggregation's weights, what is left out, and its source are called together."""
    pruned = f" prune={prune:g}" if prune else ""
    return f"hyper {weights}{pruned} of {source}"


def kept_places(network: AggregationNetwork, prune: float) -> frozenset[Place]:
    """The layers and steps whose share of the mixture is `prune` or more.

    Raises:
        InputError: there is none.
    """
    mixing = network.mixing().detach()
    if mixing.max() < prune:
        raise InputError(
            f"prune is {prune:g}, and the largest share of a map is {float(mixing.max()):.4f}; "
            "choose less."
        )
    return frozenset((int(layer), int(step)) for step, layer in (mixing >= prune).nonzero())
