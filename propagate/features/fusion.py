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
    """Concatenate maps so that the cosine of the result is the weighted mean of their cosines.

    Each map is resized (bilinear) to the grid of the finest one, L2-normalised per cell and scaled
    by the square root of its share of the weights.

    Args:
        maps: (map, weight) pairs; weights greater than 0.

    Returns:
        Unit-norm cells, all channels of all maps.
    """
    total = sum(weight for _, weight in maps)
    grid = max((data.shape[1:] for data, _ in maps), key=lambda side: side[0] * side[1])
    parts = []
    for data, weight in maps:
        if data.shape[1:] != grid:
            data = F.interpolate(data[None], size=grid, mode="bilinear")[0]
        parts.append(F.normalize(data, dim=0) * (weight / total) ** 0.5)
    return torch.cat(parts)
