"""Several feature maps of one image as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812, the field's usual name

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


def fuse(
    maps: Sequence[tuple[Float[Tensor, "c gh gw"], float]],
) -> Float[Tensor, "channels gh gw"]:
    """Concatenate maps so that each takes its share of the cosine.

    Each map is L2-normalised per cell, resized (bilinear) to the grid of the finest one and scaled
    by the square root of its weight's share; the result is normalised again. Where a coarse map
    changes quickly, at an outline, its interpolated vectors are shorter, so that the finer maps
    decide there.

    Args:
        maps: (map, weight) pairs; weights greater than 0.

    Returns:
        Unit-norm cells, all channels of all maps. Where all maps have one grid, the cosine of two
        cells is the weighted mean of their cosines in each map.
    """
    total = sum(weight for _, weight in maps)
    grid = max((data.shape[1:] for data, _ in maps), key=lambda side: side[0] * side[1])
    parts = []
    for data, weight in maps:
        part = F.normalize(data, dim=0)
        if part.shape[1:] != grid:
            part = F.interpolate(part[None], size=grid, mode="bilinear")[0]
        parts.append(part * (weight / total) ** 0.5)
    return F.normalize(torch.cat(parts), dim=0)
