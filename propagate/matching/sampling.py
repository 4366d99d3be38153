"""Features at places between cells, and places between cells from similarities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812, the field's usual name

from propagate.types import FeatureMap

if TYPE_CHECKING:
    from jaxtyping import Float, Float64
    from torch import Tensor


def vectors_at(features: FeatureMap, places: Float64[np.ndarray, "k 2"]) -> Float[Tensor, "k c"]:
    """Unit vectors at places (x, y) in cells, bilinear between the centres of cells."""
    data = features.data
    size = np.array([features.grid.width, features.grid.height])
    where = torch.from_numpy(2 * places / size - 1).to(data)[None, None]
    read = F.grid_sample(data[None], where, padding_mode="border", align_corners=False)
    return F.normalize(read[0, :, 0].T, dim=1)


def window_centre(
    cosine: Float64[np.ndarray, "gh gw"],
    *,
    temperature: float,
    reach: int,
    peak: tuple[int, int] | None = None,
) -> Float64[np.ndarray, " 2"]:
    """Mean place (x, y) of the cells around a peak, weighted by exp(cosine / temperature).

    Args:
        cosine: of every cell.
        temperature: of the weights.
        reach: cells to each side of the peak that count.
        peak: row and column; None for the highest cell.
    """
    row, column = peak or divmod(int(cosine.argmax()), cosine.shape[1])
    top, left = max(row - reach, 0), max(column - reach, 0)
    around = cosine[top : row + reach + 1, left : column + reach + 1]
    weights = np.exp((around - around.max()) / temperature)
    weights /= weights.sum()
    x = weights.sum(0) @ (np.arange(left, left + around.shape[1]) + 0.5)
    y = weights.sum(1) @ (np.arange(top, top + around.shape[0]) + 0.5)
    return np.array([x, y])
