"""Where the maps of an aggregation come from, one by one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

import torch.nn.functional as F  # noqa: N812, the field's usual name

from propagate.features.base import LayeredExtractor
from propagate.types import FeatureMap, Frame, Size

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
Place = tuple[int, int]
"""Position of a layer, and of a step."""


class Sink(Protocol[R_co]):
    """Takes the maps of some images, and makes something of them."""

    def take(self, layer: int, step: int, maps: Float[Tensor, "b c gh gw"]) -> None:
        """The maps of all images of one layer at one step."""
        ...

    def result(self) -> R_co:
        """What came of them."""
        ...


class MapSource(Protocol):
    """A frozen model whose maps can be aggregated."""

    @property
    def identity(self) -> str:
        """Everything that changes the maps."""
        ...

    @property
    def batch_size(self) -> int:
        """How many frames to pass at once for best speed."""
        ...

    def run(
        self,
        frames: Sequence[Frame],
        make: Callable[[], Sink[R]],
        wanted: Collection[Place] | None = None,
    ) -> list[tuple[R, Size]]:
        """What a new sink makes of each consecutive part of the frames.

        Args:
            frames: all of one size.
            make: makes a sink, for a part of the frames that goes through the model together.
            wanted: the layers and steps that are needed; all if None.

        Returns:
            Results, with the size that the images were resized to.
        """
        ...


class LayeredSource:
    """The layers of any extractor that has several, at one step.

    Args:
        extractor: gives its layers one by one.
    """

    def __init__(self, extractor: LayeredExtractor) -> None:
        self._extractor = extractor

    @property
    def identity(self) -> str:
        """The extractor's."""
        return self._extractor.identity

    @property
    def batch_size(self) -> int:
        """The extractor's."""
        return self._extractor.batch_size

    def plain(self, frame: Frame) -> FeatureMap:
        """The layers as they are fused without any training."""
        return self._extractor.extract([frame])[0]

    def run(
        self,
        frames: Sequence[Frame],
        make: Callable[[], Sink[R]],
        wanted: Collection[Place] | None = None,
    ) -> list[tuple[R, Size]]:
        """See `MapSource`; one frame after the other, on the grid of the finest layer."""
        maps = self._extractor.extract_layers(frames)
        return [(_passed(one, make(), wanted), one[0].input_size) for one in maps]


def _passed(layers: Sequence[FeatureMap], sink: Sink[R], wanted: Collection[Place] | None) -> R:
    finest = max(layers, key=lambda item: item.grid.height * item.grid.width).grid
    for position, layer in enumerate(layers):
        if wanted is None or (position, 0) in wanted:
            sink.take(position, 0, on_grid(layer.data[None], finest))
    return sink.result()


def on_grid(maps: Float[Tensor, "b c h w"], grid: Size) -> Float[Tensor, "b c gh gw"]:
    """Maps on another grid (bilinear, as published)."""
    if maps.shape[2:] == tuple(grid):
        return maps
    return F.interpolate(maps, size=tuple(grid), mode="bilinear")
