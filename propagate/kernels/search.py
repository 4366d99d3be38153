"""Which search this machine has for a frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from propagate.config import WindowShape
from propagate.kernels import nearest, nearest_triton
from propagate.kernels.sketch import Sketch

if TYPE_CHECKING:
    from jaxtyping import Float, Float32, Int32
    from torch import Tensor


class Search(Protocol):
    """The `keep` largest dot products of each cell with those of the context, and where they are.

    See `nearest.nearest`, whose contract all keep.
    """

    def __call__(
        self,
        query: Float[Tensor, "gh gw c"],
        keys: Sequence[Float[Tensor, "gh gw c"]],
        limited: Sequence[bool],
        *,
        radius: int,
        window: WindowShape,
        keep: int,
        sketches: Sequence[Sketch] = (),
    ) -> tuple[Float32[Tensor, "cells keep"], Int32[Tensor, "cells keep"]]:
        """Search."""


def search_for(query: Float[Tensor, "gh gw c"], keep: int) -> Search | None:
    """The compiled search on the query's device and in its precision; None where there is none.

    Args:
        query: of the frame.
        keep: how many of the best are wanted.
    """
    if nearest.available(query):
        return nearest.nearest
    if nearest_triton.available(query, keep):
        return nearest_triton.nearest
    return None
