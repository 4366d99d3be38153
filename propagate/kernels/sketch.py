"""Upper bounds of dot products from a few coordinates, for `nearest` to leave products out.

In an orthonormal basis in which most of a vector's length lies in its first coordinates, a dot
product is that of the first coordinates plus, by Cauchy and Schwarz, at most the product of the
norms of the rest. The principal directions of one frame of a clip are such a basis for all of them.
A bad basis makes bounds loose and the search slow, never wrong.
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
        data: float32 [gh, coordinates + levels, gw]: the leading coordinates, then for each level
            the norm of the coordinates beyond it.
        levels: numbers of coordinates, rising.
    """

    data: Float32[Tensor, "gh rows gw"]
    levels: tuple[int, ...]


@dataclass(frozen=True)
class Basis:
    """The leading vectors of an orthonormal basis.

    Args:
        vectors: float32 [c, coordinates].
        levels: numbers of coordinates after which bounds are looked at; the last is all of them.
    """

    vectors: Float32[Tensor, "c n"]
    levels: tuple[int, ...]

    @classmethod
    def of(cls, features: Float32[Tensor, "gh gw c"]) -> Basis | None:
        """The principal directions of a map, or None where too many are needed to be worth it."""
        cells = features.flatten(0, 1)
        cells = cells[:: -(-len(cells) // _SAMPLED)]
        if not cells.isfinite().all():
            return None
        _, values, vectors = torch.linalg.svd(cells, full_matrices=False)
        held = values.double().square().cumsum(0)
        shares = torch.tensor(_SHARES, dtype=held.dtype) * held[-1]
        needed = (torch.searchsorted(held, shares) + 1).tolist()
        levels = tuple(-(-number // _STEP) * _STEP for number in needed)
        if levels[-1] > min(_WORTH * cells.shape[1], len(vectors)):
            return None
        return cls(vectors[: levels[-1]].T.contiguous(), levels)

    def sketch(self, features: Float32[Tensor, "gh gw c"]) -> Sketch:
        """What bounds the dot products of a map's cells."""
        leading = features @ self.vectors
        squares = features.square().sum(2)
        held = leading.square().cumsum(2)
        rest = [
            (squares - held[:, :, level - 1]).clamp_min(0).add(_SLACK * squares).sqrt()
            for level in self.levels
        ]
        data = torch.cat([leading.transpose(1, 2), torch.stack(rest, 1)], 1)
        return Sketch(data.contiguous(), self.levels)
