"""Rectangles of queries, the rectangles of keys that their windows cover, and what lies outside.

A tile's product holds more than the windows: its corners are masked.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import torch

from propagate.config import WindowShape
from propagate.types import Size

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor


class Span(NamedTuple):
    """Cells start to stop along one axis; hashable, which `slice` is not before Python 3.12."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        """How many cells."""
        return self.stop - self.start

    @property
    def slice(self) -> slice:
        """The same, to index with."""
        return slice(self.start, self.stop)


class Tile(NamedTuple):
    """A rectangle of queries and the rectangle of keys that covers all their windows."""

    rows: Span
    columns: Span
    window_rows: Span
    window_columns: Span

    @property
    def queries(self) -> tuple[slice, slice]:
        """Rows and columns of the queries."""
        return self.rows.slice, self.columns.slice

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the keys."""
        return self.window_rows.slice, self.window_columns.slice


@lru_cache(maxsize=16)
def tiles_of(grid: Size, radius: int, side: int) -> tuple[Tile, ...]:
    """Cover the grid with tiles of nearly equal size; radius 0 means whole-grid windows."""
    rows, columns = _split(grid.height, side), _split(grid.width, side)

    def reach(part: Span, length: int) -> Span:
        if radius == 0:
            return Span(0, length)
        return Span(max(part.start - radius, 0), min(part.stop + radius, length))

    return tuple(
        Tile(row, column, reach(row, grid.height), reach(column, grid.width))
        for row in rows
        for column in columns
    )


def _split(length: int, side: int) -> list[Span]:
    parts = max(round(length / side), 1)
    edges = [length * part // parts for part in range(parts + 1)]
    return [Span(start, stop) for start, stop in pairwise(edges)]


# A few times the tiles of a 480p grid. An entry holds an index per key, and is stale when the
# context has grown.
@lru_cache(maxsize=128)
def cells_of(
    tile: Tile, grid: Size, free: int, limited: int, device: torch.device
) -> Int[Tensor, " m"]:
    """Row of the label table for each key of a tile: whole frames first, then windows."""
    area = grid.height * grid.width
    flat = torch.arange(area, device=device).view(grid)
    window = flat[tile.window].flatten()
    whole = torch.arange(free * area, device=device)
    return torch.cat([whole, *(window + frame * area for frame in range(free, free + limited))])


def outside(
    tile: Tile, radius: int, shape: WindowShape, dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "q window"]:
    """What to add to the similarities of one frame: 0 in a query's window, -inf outside it."""
    rows, columns = (
        (part.start - window.start, part.length, window.length)
        for part, window in ((tile.rows, tile.window_rows), (tile.columns, tile.window_columns))
    )
    return _outside_relative(rows, columns, radius, shape, dtype, device)


@lru_cache(maxsize=64)
def _outside_relative(
    rows: tuple[int, int, int],
    columns: tuple[int, int, int],
    radius: int,
    shape: WindowShape,
    dtype: torch.dtype,
    device: torch.device,
) -> Float[Tensor, "q window"]:
    """The mask by (offset of the tile in its window, tile side, window side): tiles share it."""
    dy, dx = (
        torch.arange(offset, offset + side)[:, None] - torch.arange(window)[None, :]
        for offset, side, window in (rows, columns)
    )
    dy, dx = dy[:, None, :, None], dx[None, :, None, :]
    squares = dy.square() + dx.square()
    if shape == "square":
        inside = (dy.abs() <= radius) & (dx.abs() <= radius)
    else:
        inside = squares <= radius**2 if shape == "circle" else squares < radius**2
    mask = torch.zeros(inside.shape, dtype=dtype).masked_fill_(~inside, -torch.inf)
    return mask.flatten(2).flatten(0, 1).to(device)
