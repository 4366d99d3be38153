"""The search of `nearest.c` for a GPU, in Triton; `nearest_triton.py` calls it.

A program takes a rectangle of queries and its share of the blocks of keys that their windows cover.
Each query keeps its best in registers; a block that has nothing better costs one comparison. A
product and where it is are one whole number that orders as the product does, the first of equals on
top, so that a maximum finds both.

A CUDA build of torch brings Triton along; elsewhere this module can't be imported.
"""

# Triton reads annotations as part of the program, and knows no names but its own.
# mypy: disable-error-code="no-untyped-def, misc, untyped-decorator, no-any-return"

from __future__ import annotations

import triton
import triton.language as tl

# Below all products, and below what the lists start with.
_NOTHING = tl.constexpr(-(2**63))


# Contexts grow: one program for all counts, compiled once. Channels tell how keys can be read.
@triton.jit(do_not_specialize=["count", "height", "width", "radius", "limit", "parts"])
def search(
    query,
    frames,
    found,
    count,
    height,
    width,
    channels,
    radius,
    limit,
    parts,
    square: tl.constexpr,
    rows: tl.constexpr,
    columns: tl.constexpr,
    keys: tl.constexpr,
    depth: tl.constexpr,
    keep: tl.constexpr,
):
    """Search all frames for the queries of one rectangle; programs are (rectangle, part).

    Args:
        query: [height, width, channels], contiguous.
        frames: int64 [count, 2], the address of each frame's keys, laid out as the query, and
            whether the window bounds it.
        found: int64 [parts, height * width, keep], to be filled with packed products, unordered.
        count: of frames.
        height: in cells.
        width: in cells.
        channels: of the features.
        radius: of the window in cells.
        limit: the largest squared distance inside a window that is not square.
        parts: how many programs share the keys of one rectangle.
        square: whether the window is.
        rows: of a rectangle of queries, a power of two, as all that follow.
        columns: of a rectangle of queries.
        keys: in a block.
        depth: channels that are summed at a time.
        keep: how many products a query keeps.
    """
    across = tl.cdiv(width, columns)
    top, left = tl.program_id(0) // across * rows, tl.program_id(0) % across * columns
    part = tl.program_id(1)
    one = tl.arange(0, rows * columns)
    query_y, query_x = top + one // columns, left + one % columns
    real = (query_y < height) & (query_x < width)
    query_cell = query_y * width + query_x
    along = tl.arange(0, depth)
    query_rows = query + query_cell[:, None] * channels + along[None, :]
    # All different, so that one at a time is replaced.
    kept = tl.zeros([rows * columns, keep], tl.int64) + (tl.arange(0, keep)[None, :] + 1) + _NOTHING
    turn = part
    for frame in range(count):
        bounded = tl.load(frames + 2 * frame + 1) != 0
        reach = tl.where(bounded, radius, height + width)
        farthest = tl.where(bounded, limit, (height + width) * (height + width))
        map_ = tl.multiple_of(tl.load(frames + 2 * frame).to(query.dtype), 16)
        first_y, first_x = tl.maximum(top - reach, 0), tl.maximum(left - reach, 0)
        window_width = tl.minimum(left + columns + reach, width) - first_x
        area = (tl.minimum(top + rows + reach, height) - first_y) * window_width
        blocks = tl.cdiv(area, keys)
        for block in range(turn, blocks, parts):
            other = block * keys + tl.arange(0, keys)
            key_y, key_x = first_y + other // window_width, first_x + other % window_width
            key_cell = key_y * width + key_x
            inside = other < area
            key_rows = map_ + key_cell[None, :] * channels + along[:, None]
            products = tl.zeros([rows * columns, keys], tl.float32)
            for start in range(0, channels, depth):
                rest = channels - start
                a = tl.load(query_rows + start, real[:, None] & (along[None, :] < rest), 0.0)
                b = tl.load(key_rows + start, inside[None, :] & (along[:, None] < rest), 0.0)
                products = tl.dot(a, b, products, input_precision="ieee")
            dy = tl.abs(query_y[:, None] - key_y[None, :])
            dx = tl.abs(query_x[:, None] - key_x[None, :])
            near = (dy <= reach) & (dx <= reach) if square else dy * dy + dx * dx <= farthest
            near = near & inside[None, :] & real[:, None]
            # Floats as whole numbers in their order; -0 and 0 are equal.
            bits = tl.where(products == 0, 0.0, products).to(tl.int32, bitcast=True)
            order = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(tl.int64) << 32
            place = (~(frame * height * width + key_cell) & 0x7FFFFFFF).to(tl.int64)
            packed = tl.where(near, order | place[None, :], _NOTHING)
            best, worst = tl.max(packed, 1), tl.min(kept, 1)
            while tl.max((best > worst).to(tl.int32), 0) > 0:
                replaced = (kept == worst[:, None]) & (best > worst)[:, None]
                kept = tl.where(replaced, best[:, None], kept)
                packed = tl.where(packed == best[:, None], _NOTHING, packed)
                best, worst = tl.max(packed, 1), tl.min(kept, 1)
        # The next frame's blocks go on where this one's stopped, so that parts stay even.
        turn = (turn + parts - blocks % parts) % parts
    cells = (part * height * width + query_cell).to(tl.int64)
    out = found + cells[:, None] * keep + tl.arange(0, keep)[None, :]
    tl.store(out, kept, real[:, None])
