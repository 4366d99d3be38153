"""Scene cuts, told from feature maps alone: passes run over stored maps, in either direction.

Two frames of one shot show the same things in nearly the same places. Both maps are averaged over
coarse cells, so that small things count for little; what all cells of a map have in common is taken
off, which a flash or blur changes most; and each cell looks for its like in the other map, near its
own place, so that motion doesn't count either.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812, the field's usual name

from propagate.errors import InputError
from propagate.types import FeatureMap, Size

if TYPE_CHECKING:
    from jaxtyping import Bool, Float32
    from torch import Tensor

# Coarse cells along the short side, and how many of them away a thing may have moved to.
_SIDE = 15
_REACH = 2
# Mean square of what is left without the common part; below it a map is one colour.
_FLAT = 1e-6


def continuity(one: FeatureMap, other: FeatureMap) -> float:
    """How much two frames look like the same shot.

    Args:
        one: unit-norm map of a frame.
        other: of the frame before or after it, on the same grid; the order doesn't matter.

    Returns:
        Mean over coarse cells of the best centred cosine nearby: 1 for copies, some .25 for frames
        that have nothing to do with each other. Two frames of one colour are copies.

    Raises:
        InputError: grids or channels differ.
    """
    if one.data.shape != other.data.shape:
        raise InputError(
            f"One frame has features {list(one.data.shape)} and the other "
            f"{list(other.data.shape)}; extract all frames with one extractor at one size."
        )
    maps = torch.stack([_coarse(one), _coarse(other)])
    maps = maps - maps.mean((2, 3), keepdim=True)
    if float(maps.square().sum(1).mean()) < _FLAT:
        return 1.0
    cells = F.normalize(maps, dim=1).flatten(2)
    cosine = cells[0].T @ cells[1]
    near = _near(Size(*maps.shape[2:]), cosine.device)
    cosine = cosine.masked_fill(~near, -1)
    return float((cosine.amax(0).mean() + cosine.amax(1).mean()) / 2)


def _coarse(features: FeatureMap) -> Float32[Tensor, "c h w"]:
    factor = max(round(min(features.grid) / _SIDE), 1)
    height, width = (max(side // factor, 1) for side in features.grid)
    return F.adaptive_avg_pool2d(features.data.float(), (height, width))


@lru_cache(maxsize=4)
def _near(grid: Size, device: torch.device) -> Bool[Tensor, "cells cells"]:
    """Whether two coarse cells are in each other's reach."""
    apart = [(torch.arange(n)[:, None] - torch.arange(n)).abs() <= _REACH for n in grid]
    near = apart[0][:, None, :, None] & apart[1][None, :, None, :]
    return near.flatten(2).flatten(0, 1).to(device)
