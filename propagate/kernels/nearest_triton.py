"""The most similar cells of a context, found on a GPU; see `triton_source.py`."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from contextlib import nullcontext
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import torch

from propagate.config import WindowShape
from propagate.kernels.sketch import Sketch

if TYPE_CHECKING:
    from jaxtyping import Float, Float32, Int32, Int64
    from torch import Tensor

# More fit no registers.
_MOST_KEPT = 64
# Programs per multiprocessor, so that all are busy until nearly the end.
_PROGRAMS = 4
# Addresses of keys are multiples of this many bytes.
_ALIGNED = 16
_OLDEST_GPU = (8, 0)
_log = logging.getLogger(__name__)


class _Blocks(NamedTuple):
    """How the work is cut, each number a power of two, and run.

    Attributes:
        rows: of a rectangle of queries.
        columns: of a rectangle of queries.
        keys: in a block; products are `rows * columns` by `keys`.
        depth: channels that are summed at a time.
        warps: per program.
    """

    rows: int
    columns: int
    keys: int
    depth: int
    warps: int


# In 16 bits reading keys takes longer than the products, so more queries share them.
_SHORT = _Blocks(8, 16, 64, 64, 8)
_BLOCKS = {
    torch.float32: _Blocks(8, 8, 64, 16, 4),
    torch.bfloat16: _SHORT,
    torch.float16: _SHORT,
}


def available(query: Float[Tensor, "gh gw c"], keep: int) -> bool:
    """Whether `nearest` is to be called: on a GPU, where Triton works, for a list not too long."""
    if query.device.type != "cuda" or query.dtype not in _BLOCKS or keep > _MOST_KEPT:
        return False
    if os.environ.get("PROPAGATE_NATIVE") == "0":
        return False
    return _works(query.device, query.dtype)


@cache
def _works(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a small search gives what it must; the reason why not is logged."""
    if not torch.version.hip and torch.cuda.get_device_capability(device) < _OLDEST_GPU:
        _log.info("The GPU is too old for nearest in Triton, so it runs in torch.")
        return False
    cell = torch.ones(1, 1, 16, device=device, dtype=dtype)
    try:
        best, _ = nearest(cell, [cell], [True], radius=1, window="square", keep=1)
        product = float(best)
    # Triton is not there, or has no compiler for its launcher, or that one fails: all do without.
    except Exception as error:
        _log.info("nearest can't run in Triton, so it runs in torch: %s", error)
        return False
    if product != cell.numel():
        _log.info("nearest in Triton is wrong on this GPU (%s), so it runs in torch.", product)
    return product == cell.numel()


def nearest(
    query: Float[Tensor, "gh gw c"],
    keys: Sequence[Float[Tensor, "gh gw c"]],
    limited: Sequence[bool],
    *,
    radius: int,
    window: WindowShape,
    keep: int,
    sketches: Sequence[Sketch] = (),
    parts: int | None = None,
) -> tuple[Float32[Tensor, "cells keep"], Int32[Tensor, "cells keep"]]:
    """The `keep` largest dot products of each cell with those of the context, falling.

    Args:
        query: of the frame: float32, bfloat16 or float16; products are summed in float32.
        keys: of each context frame, the same; any strides, fastest when contiguous.
        limited: whether the window bounds each of them.
        radius: of the window in cells; 0 bounds none.
        window: its shape.
        keep: how many, at most 64.
        sketches: as `nearest.nearest` has them; of no use here.
        parts: programs that share the keys of one rectangle of queries; as many as keep the GPU
            busy if not given.

    Returns:
        Products, -inf where there are fewer cells, and where they are: frame x cells + cell. The
        first of equals is kept.

    Raises:
        ImportError: Triton is not there.
    """
    from propagate.kernels.triton_source import search

    del sketches
    height, width, channels = query.shape
    blocks = _BLOCKS[query.dtype]
    rectangles = math.ceil(height / blocks.rows) * math.ceil(width / blocks.columns)
    parts = parts or _parts(query.device, rectangles)
    size = 1 << (keep - 1).bit_length()
    query, *keys = (_aligned(map_) for map_ in (query, *keys))
    table = [
        (key.data_ptr(), int(limit and radius > 0))
        for key, limit in zip(keys, limited, strict=True)
    ]
    frames = torch.tensor(table, dtype=torch.int64, device=query.device)
    found = query.new_empty((parts, height * width, size), dtype=torch.int64)
    with torch.cuda.device(query.device) if query.is_cuda else nullcontext():
        search[rectangles, parts](
            query,
            frames,
            found,
            *(len(keys), height, width, channels, radius),
            radius**2 - (window == "open-circle"),
            parts,
            square=window == "square",
            rows=blocks.rows,
            columns=blocks.columns,
            keys=blocks.keys,
            depth=blocks.depth,
            keep=size,
            num_warps=blocks.warps,
        )
    return _unpacked(found, keep)


def _parts(device: torch.device, rectangles: int) -> int:
    if device.type != "cuda":
        return 1
    processors = torch.cuda.get_device_properties(device).multi_processor_count
    return math.ceil(_PROGRAMS * processors / rectangles)


def _aligned(features: Float[Tensor, "gh gw c"]) -> Float[Tensor, "gh gw c"]:
    """Contiguous, at an address that is read in large steps."""
    features = features.contiguous()
    return features if features.data_ptr() % _ALIGNED == 0 else features.clone()


def _unpacked(
    found: Int64[Tensor, "parts cells size"], keep: int
) -> tuple[Float32[Tensor, "cells keep"], Int32[Tensor, "cells keep"]]:
    """The best of all parts, as products and places."""
    packed = found.transpose(0, 1).flatten(1).topk(keep, dim=1).values
    order = (packed >> 32).int()
    best = (order ^ ((order >> 31) & 0x7FFFFFFF)).view(torch.float32)
    cells = (~packed & 0x7FFFFFFF).int()
    # What the lists start with is below all numbers.
    empty = order == -(2**31)
    return best.masked_fill(empty, -math.inf), cells.masked_fill(empty, 0)
