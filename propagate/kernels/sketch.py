"""Upper bounds of dot products from a few coordinates, for `nearest` to leave products out.

In an orthonormal basis in which most of a vector's length lies in its first coordinates, a dot
product is that of the first coordinates plus, by Cauchy and Schwarz, at most the product of the
norms of the rest. The principal directions of one frame of a clip are such a basis for all of them,
and so are the channels of principal components. A bad basis makes bounds loose and the search slow,
never wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from jaxtyping import Float32
    from torch import Tensor

# Shares of the squared length that the leading coordinates hold at which bounds are looked at:
# the first is cheap and leaves few segments, the second leaves few of those.
_SHARES = (0.75, 0.9)
# The same for channels that come in falling order of strength, as principal components do. There a
# bound costs no more than to look at it.
_CHANNEL_SHARES = (0.62, 0.81)
_ORDERED = 0.7
_STEP = 8
_SAMPLED = 1024  # cells of a map
# Beyond this share of the channels a sketch costs what it saves.
_WORTH = 0.6
# Of the squared length, added to that of the rest: above what rounding does to products and norms.
_SLACK = 5e-5


@dataclass(frozen=True)
class Sketch:
    """What bounds the dot products of the cells of a map.

    Args:
        leading: float32 [gh, coordinates, gw]; None where they are the map's leading channels.
        rests: float32 [gh, levels, gw]: for each level the norm of the coordinates beyond it.
        levels: numbers of coordinates, rising.
    """

    leading: Float32[Tensor, "gh coordinates gw"] | None
    rests: Float32[Tensor, "gh levels gw"]
    levels: tuple[int, ...]


@dataclass(frozen=True)
class Basis:
    """The leading vectors of an orthonormal basis.

    Args:
        vectors: float32 [c, coordinates]; None for the channels as they are.
        levels: numbers of coordinates after which bounds are looked at; the last is all of them.
    """

    vectors: Float32[Tensor, "c n"] | None
    levels: tuple[int, ...]

    @classmethod
    def of(cls, features: Float32[Tensor, "gh gw c"]) -> Basis | None:
        """What holds most in few coordinates: the channels, or the principal directions of a map.

        None where neither is worth it.
        """
        cells = features.flatten(0, 1)
        cells = cells[:: -(-len(cells) // _SAMPLED)]
        if not cells.isfinite().all():
            return None
        _, values, vectors = torch.linalg.svd(cells, full_matrices=False)
        levels = _levels(cells.square().sum(0), _CHANNEL_SHARES)
        best = _levels(values.square(), _CHANNEL_SHARES)
        if levels[-1] <= min(_ORDERED * cells.shape[1], best[-1] + _STEP):
            return cls(None, levels)
        levels = _levels(values.square(), _SHARES)
        if levels[-1] > min(_WORTH * cells.shape[1], len(vectors)):
            return None
        return cls(vectors[: levels[-1]].T.contiguous(), levels)

    def sketch(self, features: Float32[Tensor, "gh gw c"]) -> Sketch:
        """What bounds the dot products of a map's cells."""
        leading = features if self.vectors is None else features @ self.vectors
        squares = features.square().sum(2)
        held = leading.square().cumsum(2)
        rest = [
            (squares - held[:, :, level - 1]).clamp_min(0).add(_SLACK * squares).sqrt()
            for level in self.levels
        ]
        own = None if self.vectors is None else leading.transpose(1, 2).contiguous()
        return Sketch(own, torch.stack(rest, 1), self.levels)


def _levels(squares: Float32[Tensor, " n"], shares: tuple[float, ...]) -> tuple[int, ...]:
    """Numbers of coordinates, of which these are the squared lengths, that hold these shares."""
    held = squares.double().cumsum(0)
    needed = torch.searchsorted(held, torch.tensor(shares, dtype=held.dtype) * held[-1]) + 1
    return tuple(-(-number // _STEP) * _STEP for number in needed.tolist())
