"""What an aggregation is trained with: points of two images that must find each other.

Source: Diffusion Hyperfeatures' training code: cosines of the source's points with every cell of
the target go through a cross entropy with the cell of the true place, and the same back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812, the field's usual name

from propagate.types import Size

if TYPE_CHECKING:
    from jaxtyping import Float, Int64
    from torch import Tensor

CellRule = Literal["exact", "published"]

LOGIT_SCALE = 1 / 0.07
"""What cosines are multiplied with; CLIP's first value, which is not trained here."""


def cells_of(
    xy: Float[np.ndarray, "n 2"], image: Size, grid: Size, rule: CellRule = "exact"
) -> Int64[np.ndarray, " n"]:
    """The cell of each point, counted row by row.

    Args:
        xy: pixels from the outer corner of the top-left pixel; points outside take the nearest
            cell.
        image: size of the image.
        grid: size of the map.
        rule: "exact" is the cell that the point lies in. "published" takes a point for the centre
            of a pixel, scales it, and rounds, halves to even: half a cell further on the average.
    """
    scale = np.array([grid.width / image.width, grid.height / image.height])
    if rule == "published":
        places = np.round(np.clip((xy - 0.5) * scale, 0, (grid.width - 1, grid.height - 1)))
    else:
        places = np.clip(np.floor(xy * scale), 0, (grid.width - 1, grid.height - 1))
    return np.asarray(grid.width * places[:, 1] + places[:, 0]).astype(np.int64)


def cosines(
    source: Float[Tensor, "c gh gw"], target: Float[Tensor, "c gh2 gw2"]
) -> Float[Tensor, "n m"]:
    """Cosine of every cell of one map with every cell of another, each row by row."""
    return F.normalize(source.flatten(1), dim=0).T @ F.normalize(target.flatten(1), dim=0)


def symmetric_loss(
    source: Float[Tensor, "c gh gw"],
    target: Float[Tensor, "c gh2 gw2"],
    source_cells: Int64[Tensor, " n"],
    target_cells: Int64[Tensor, " n"],
) -> Float[Tensor, ""]:
    """Mean of the cross entropies there and back.

    Args:
        source: aggregated map of an image.
        target: of the other one, of any grid.
        source_cells: where the points are in the source, counted row by row.
        target_cells: where the same points are in the target.
    """
    there = F.normalize(source.flatten(1), dim=0)
    back = F.normalize(target.flatten(1), dim=0)
    forward = F.cross_entropy(LOGIT_SCALE * (there[:, source_cells].T @ back), target_cells)
    backward = F.cross_entropy(LOGIT_SCALE * (back[:, target_cells].T @ there), source_cells)
    return (forward + backward) / 2


class PairLoss(torch.nn.Module):
    """A network and its loss as one module, which is what several GPUs share.

    Args:
        network: gives the aggregated maps of one image from (layer, step, maps).
    """

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(
        self,
        source: list[tuple[int, int, Tensor]],
        target: list[tuple[int, int, Tensor]],
        source_cells: Int64[Tensor, " n"],
        target_cells: Int64[Tensor, " n"],
    ) -> Float[Tensor, ""]:
        """The loss of one pair."""
        maps = self.network(source)[0], self.network(target)[0]
        return symmetric_loss(maps[0], maps[1], source_cells, target_cells)
