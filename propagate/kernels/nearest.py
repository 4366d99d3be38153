"""The most similar cells of a context by one pass over its keys; see `nearest.c`."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch

from propagate.config import WindowShape
from propagate.kernels.library import load
from propagate.kernels.sketch import Sketch

if TYPE_CHECKING:
    from jaxtyping import Float32, Int32
    from torch import Tensor

# Stripes per thread: more even work, against keys that are read again for each.
_STRIPES = 2


def compiled() -> bool:
    """Whether this machine has it."""
    return load("nearest") is not None


def available(query: Float32[Tensor, "gh gw c"]) -> bool:
    """Whether `nearest` can be called: on a CPU, in float32, on a grid that is wide enough."""
    if query.device.type != "cpu" or query.dtype != torch.float32:
        return False
    library = load("nearest")
    return library is not None and query.shape[1] >= library.narrowest()


def as_rows(features: Float32[Tensor, "gh gw c"]) -> Float32[Tensor, "gh gw c"]:
    """The same values, in memory as [gh][c][gw]."""
    return features.transpose(1, 2).contiguous().transpose(1, 2)


def nearest(
    query: Float32[Tensor, "gh gw c"],
    keys: Sequence[Float32[Tensor, "gh gw c"]],
    limited: Sequence[bool],
    *,
    radius: int,
    window: WindowShape,
    keep: int,
    sketches: Sequence[Sketch] = (),
) -> tuple[Float32[Tensor, "cells keep"], Int32[Tensor, "cells keep"]]:
    """The `keep` largest dot products of each cell with those of the context, falling.

    Args:
        query: of the frame; any strides, fastest as `as_rows` has them.
        keys: of each context frame, the same.
        limited: whether the window bounds each of them.
        radius: of the window in cells; 0 bounds none.
        window: its shape.
        keep: how many.
        sketches: of the query and of the keys, all of one basis. They change nothing but the time.

    Returns:
        Products, -inf where there are fewer cells, and where they are: frame x cells + cell. The
        first of equals is kept.

    Raises:
        RuntimeError: `available` says no.
        MemoryError: not even the queries fit.
    """
    height, width, channels = query.shape
    maps = [_column_major(map_) for map_ in (query, *keys)]
    bounded = [limit and radius > 0 for limit in limited]
    best = torch.full((height * width, keep), -math.inf)
    cells = torch.zeros((height * width, keep), dtype=torch.int32)
    shared = (
        *_pointers(maps),
        *_pointers([_leading(*pair) for pair in zip(sketches, maps, strict=False)]),
        *_pointers([sketch.rests.transpose(1, 2) for sketch in sketches]),
        (ctypes.c_int * len(sketches[0].levels))(*sketches[0].levels) if sketches else None,
        (ctypes.c_uint8 * len(keys))(*bounded),
        *(len(keys), height, width, channels, radius),
        (ctypes.c_int32 * (radius + 1))(*_reach(radius, window)),
        keep,
    )
    found = _floats(best), ctypes.cast(cells.data_ptr(), ctypes.POINTER(ctypes.c_int32))

    def search(rows: tuple[int, int]) -> None:
        # Other threads run meanwhile: ctypes lets go of the interpreter.
        if _function()(*shared, *rows, *found):
            raise MemoryError("not enough memory for the queries of a frame")

    threads = torch.get_num_threads()
    stripes = _stripes(height, threads * _STRIPES if threads > 1 else 1)
    if len(stripes) == 1:
        search(stripes[0])
    else:
        list(_pool(threads).map(search, stripes))
    return best, cells


def _leading(sketch: Sketch, map_: Float32[Tensor, "gh gw c"]) -> Float32[Tensor, "gh gw n"]:
    """The leading coordinates of a map, which may be its own channels."""
    return map_ if sketch.leading is None else sketch.leading.transpose(1, 2)


def _pointers(maps: Sequence[Tensor]) -> tuple[Any, Any]:
    """Where maps [gh, gw, c] are, and the distances of their rows and channels; NULL for none."""
    if not maps:
        return None, None
    strides = [step for map_ in maps for step in (map_.stride(0), map_.stride(2))]
    floats = ctypes.POINTER(ctypes.c_float)
    return (floats * len(maps))(*map(_floats, maps)), (ctypes.c_ssize_t * len(strides))(*strides)


def _column_major(features: Float32[Tensor, "gh gw c"]) -> Float32[Tensor, "gh gw c"]:
    """With neighbours in a row side by side in memory."""
    return features if features.stride(1) == 1 else as_rows(features)


def _reach(radius: int, window: WindowShape) -> list[int]:
    """Columns to each side for each distance in rows; -1 where the window has no cell."""
    if window == "square":
        return [radius] * (radius + 1)
    # Strictly inside means that squares, which are whole numbers, are at most one less.
    limit = radius**2 - (window == "open-circle")
    left = (limit - rows**2 for rows in range(radius + 1))
    return [math.isqrt(room) if room >= 0 else -1 for room in left]


def _stripes(height: int, count: int) -> list[tuple[int, int]]:
    count = min(count, height)
    edges = [height * i // count for i in range(count + 1)]
    return list(pairwise(edges))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "nearest")


@cache
def _function() -> Any:
    library = load("nearest")
    if library is None:
        raise RuntimeError("nearest is not compiled here; ask `available` first.")
    function = library.nearest
    floats, integers = ctypes.POINTER(ctypes.c_float), ctypes.POINTER(ctypes.c_int32)
    maps = (ctypes.POINTER(floats), ctypes.POINTER(ctypes.c_ssize_t)) * 3
    number = ctypes.c_int
    function.argtypes = [
        *(*maps, ctypes.POINTER(number), ctypes.POINTER(ctypes.c_uint8)),
        *(number,) * 5,
        *(integers, number, number, number, floats, integers),
    ]
    function.restype = number
    return function


def _floats(tensor: Tensor) -> Any:
    return ctypes.cast(tensor.data_ptr(), ctypes.POINTER(ctypes.c_float))
