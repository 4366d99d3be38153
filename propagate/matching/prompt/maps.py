"""Attention maps: what they are to look like, how far off they are, and their best pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from propagate.types import Size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float
    from torch import Tensor


def gaussian_maps(
    shares: Float[Tensor, "b 2"], grid: Size, sigma: float, *, cell_centres: bool
) -> Float[Tensor, "b gh gw"]:
    """Gaussians with a peak of 1.

    Args:
        shares: (x, y) of the peaks as shares of the grid's sides.
        grid: cells.
        sigma: in cells.
        cell_centres: cell i lies at i + 0.5, else at i.
    """
    offset = 0.5 if cell_centres else 0.0
    rows = torch.arange(grid.height, device=shares.device) + offset
    columns = torch.arange(grid.width, device=shares.device) + offset
    dx = columns - shares[:, :1] * grid.width
    dy = rows - shares[:, 1:] * grid.height
    squared = dy[:, :, None] ** 2 + dx[:, None, :] ** 2
    return torch.exp(-squared / (2 * sigma**2))


def layer_means(
    maps: Sequence[Float[Tensor, "b heads gh gw"]], grid: Size
) -> Float[Tensor, "b layers h w"]:
    """Means over the heads of each layer, resized bilinearly to one grid.

    Means are taken first, which gives the same and is less to resize.
    """
    means = [layer.mean(dim=1, keepdim=True) for layer in maps]
    return torch.cat(
        [
            functional.interpolate(mean, size=grid, mode="bilinear", align_corners=False)
            for mean in means
        ],
        dim=1,
    )


def map_losses(
    layers: Float[Tensor, "b layers gh gw"], wanted: Float[Tensor, "b gh gw"]
) -> Float[Tensor, " b"]:
    """Mean squared difference from what is wanted, over cells and layers."""
    return ((layers - wanted[:, None]) ** 2).mean(dim=(1, 2, 3))


def brightest_pixel(values: Float[Tensor, "b h w"]) -> Float[Tensor, "b 2"]:
    """Column and row of the first maximum in row order, as fp32."""
    best = values.flatten(1).argmax(dim=1)
    width = values.shape[2]
    return torch.stack([best % width, best // width], dim=1).float()
