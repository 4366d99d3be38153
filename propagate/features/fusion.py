"""Several feature maps of one image as one: of a network's layers, or of several models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812, the field's usual name

from propagate.features.base import FeatureExtractor
from propagate.types import FeatureMap, Frame, Size

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


def fuse(
    maps: Sequence[tuple[Float[Tensor, "c gh gw"], float]], grid: tuple[int, int] | None = None
) -> Float[Tensor, "channels gh gw"]:
    """Concatenate maps so that each takes its share of the cosine.

    Each map is L2-normalised per cell, brought to one grid (bilinear, or the mean over each cell of
    a map that is finer) and scaled by the square root of its weight's share; the result is
    normalised again. Where a map changes quickly, at an outline, such vectors are shorter, so that
    the other maps decide there.

    Args:
        maps: (map, weight) pairs; weights greater than 0.
        grid: of the result; None for that of the finest map.

    Returns:
        Unit-norm cells, all channels of all maps. Where all maps have one grid, the cosine of two
        cells is the weighted mean of their cosines in each map.
    """
    total = sum(weight for _, weight in maps)
    finest = max((data.shape[1:] for data, _ in maps), key=lambda side: side[0] * side[1])
    grid = grid or (finest[0], finest[1])
    parts = []
    for data, weight in maps:
        # Maps lie in memory with channels last, and so they stay: a cell is read at once.
        cells = F.normalize(data.permute(1, 2, 0), dim=2)
        if tuple(cells.shape[:2]) != tuple(grid):
            cells = on_grid(cells[None].permute(0, 3, 1, 2), grid)[0].permute(1, 2, 0)
        parts.append(cells * (weight / total) ** 0.5)
    return F.normalize(torch.cat(parts, 2), dim=2).permute(2, 0, 1)


def on_grid(maps: Float[Tensor, "b c h w"], grid: tuple[int, int]) -> Float[Tensor, "b c gh gw"]:
    """Maps on another grid: the mean over each of its cells if it is coarser, bilinear if not."""
    return F.interpolate(maps, size=grid, mode="area" if maps.shape[2] > grid[0] else "bilinear")


def fuse_maps(
    maps: Sequence[FeatureMap],
    weights: Sequence[float] | None = None,
    grid: Size | None = None,
) -> FeatureMap:
    """Maps of one image as one, on the device of the finest; a single one as it is.

    Args:
        maps: one or more.
        weights: of each; equal ones if None.
        grid: of the result; None for that of the finest.
    """
    if len(maps) == 1:
        return maps[0]
    finest = max(maps, key=lambda item: item.grid.height * item.grid.width)
    data = [item.data.to(finest.data.device).float() for item in maps]
    fused = fuse(list(zip(data, weights or [1.0] * len(maps), strict=True)), grid)
    return FeatureMap(fused, finest.image_size, finest.input_size, unit=True)


class FusedExtractor:
    """Maps of several extractors as one, on the grid of the finest.

    Args:
        extractors: two or more.
        weights: the share of each in the cosine.
    """

    def __init__(self, extractors: Sequence[FeatureExtractor], weights: Sequence[float]) -> None:
        self._parts = list(zip(extractors, weights, strict=True))

    @property
    def identity(self) -> str:
        """Those of the parts, with their weights."""
        return " + ".join(f"({part.identity}) x{weight:g}" for part, weight in self._parts)

    @property
    def batch_size(self) -> int:
        """The least of the parts'."""
        return min(part.batch_size for part, _ in self._parts)

    def extract(self, frames: Sequence[Frame]) -> list[FeatureMap]:
        """Fused unit maps, in order."""
        maps = [part.extract(frames) for part, _ in self._parts]
        weights = [weight for _, weight in self._parts]
        return [fuse_maps(of_frame, weights) for of_frame in zip(*maps, strict=True)]
