"""Cosine with every pixel of a map upsampled to its image, without ever holding that map.

Upsampling is linear, so the product of a vector with an upsampled feature is the upsampled map of
its products with the cells. The norm of the upsampled feature is a polynomial of its place between
four cells, whose coefficients are the products of neighbouring cells. So a few numbers per cell and
one per pixel give exactly what upsampling all channels would.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812, the field's usual name

from propagate.types import FeatureMap, Size

if TYPE_CHECKING:
    from jaxtyping import Float64
    from torch import Tensor

# Similarities held at once: 2 million float64 are 16 MB; one map at least.
_BLOCK = 1 << 21
_LEAST_NORM = 1e-12


class UpsampledCosine:
    """Cosines with the map that `torch.nn.Upsample` makes (bilinear, align_corners=False).

    In float64 on the CPU: the argmax is the same on every device.

    Args:
        features: of any grid; not normalised before it is upsampled.
    """

    def __init__(self, features: FeatureMap) -> None:
        self._cells = features.data.double().cpu()
        self._size = features.image_size
        self._norms = _norms(self._cells, self._size)

    def maps(self, vectors: Float64[Tensor, "k c"]) -> Iterator[Float64[Tensor, "h w"]]:
        """The cosine of each vector with every pixel, at image size, one after the other.

        Args:
            vectors: unit norm.
        """
        products = torch.einsum("kc,chw->khw", vectors, self._cells)
        at_once = max(_BLOCK // (self._size.height * self._size.width), 1)
        for part in torch.split(products, at_once):
            upsampled = F.interpolate(part[None], tuple(self._size), mode="bilinear")[0]
            yield from upsampled / self._norms


def _norms(data: Float64[Tensor, "c gh gw"], size: Size) -> Float64[Tensor, "h w"]:
    """Norm of the upsampled vector of every pixel."""
    padded = F.pad(data[None], (0, 1, 0, 1), mode="replicate")[0]
    here, right = padded[:, :-1, :-1], padded[:, :-1, 1:]
    below, diagonal = padded[:, 1:, :-1], padded[:, 1:, 1:]
    squares = padded.square().sum(0)
    column, x = _between(size.width, data.shape[2])
    row, y = _between(size.height, data.shape[1])
    beside = (here * right).sum(0)
    beside = torch.cat([beside, beside[-1:]])
    in_row = _mixed(squares, beside, column, x)
    under = (padded[:, :-1] * padded[:, 1:]).sum(0)
    across = ((here * diagonal).sum(0) + (right * below).sum(0)) / 2
    between_rows = _mixed(under, across, column, x)
    squared = _mixed(in_row.T, between_rows.T, row, y).T
    return squared.clamp_min(0).sqrt().clamp_min(_LEAST_NORM)


def _mixed(
    ends: Float64[Tensor, "n m1"],
    middle: Float64[Tensor, "n m"],
    cell: Tensor,
    share: Float64[Tensor, " pixels"],
) -> Float64[Tensor, "n pixels"]:
    """(1-s)^2 ends[i] + s^2 ends[i+1] + 2 s (1-s) middle[i], for the i and s of every pixel."""
    return (
        (1 - share) ** 2 * ends[:, cell]
        + share**2 * ends[:, cell + 1]
        + 2 * share * (1 - share) * middle[:, cell]
    )


def _between(pixels: int, cells: int) -> tuple[Tensor, Float64[Tensor, " pixels"]]:
    """The cell before each pixel's centre, and how far the pixel is on the way to the next."""
    place = (torch.arange(pixels, dtype=torch.float64) + 0.5) * (cells / pixels) - 0.5
    place = place.clamp_min(0)
    cell = place.floor().long()
    return cell, place - cell
