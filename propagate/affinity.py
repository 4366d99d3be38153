"""Local-window top-k label voting: the inner loop of propagation.

For every cell of the query frame: cosine to all cells of all context frames inside a window
around it, the k best of them jointly, and the mean of their labels weighted by
exp(cosine / temperature). Source: `label_propagation` in DIFT's `eval_davis.py`, which builds the
dense [cells, frames x cells] matrix. Here cost and memory are linear in the window's area: on a CPU
in float32, and on a GPU with Triton, one pass over the keys remembers the best (`kernels/`);
elsewhere the queries go in square tiles, each against the keys of its own window alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import torch

from propagate.config import PropagationSettings
from propagate.errors import InputError
from propagate.kernels.nearest import as_rows, available
from propagate.kernels.search import Search, search_for
from propagate.kernels.sketch import Basis, Sketch
from propagate.tiles import Tile, cells_of, outside, tiles_of
from propagate.types import Size

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Float32, Int
    from torch import Tensor

# Tiles of about this side balance the window's overhang against the size of one matmul.
_TILE_SIDE = {"cpu": 12, "cuda": 32, "mps": 32}
# A reduced-precision product ranks this many candidates, of which the exact product picks k.
_CANDIDATES_PER_VOTE = 3
# How many voters, for each that is asked for, may tie before queries are compared with all keys.
_TIES_PER_VOTE = 4
_TIED_AT_A_TIME = 1024


@dataclass(frozen=True)
class ContextFrame:
    """A frame whose labels are known, in the layout the vote reads.

    Args:
        keys: unit-norm features [gh, gw, c], in any memory layout; see `laid_out`.
        labels: float32 [gh * gw, k].
        limited: whether a query sees only its window of this frame, or all of it.
        sketch: of the keys; see `basis_of`.
    """

    keys: Float[Tensor, "gh gw c"]
    labels: Float32[Tensor, "cells k"]
    limited: bool = True
    sketch: Sketch | None = None


class Vote(NamedTuple):
    """What the context says about a frame.

    Attributes:
        scores: float32 [k, gh, gw], the soft labels.
        similarity: float32 [gh, gw], the mean cosine of each cell to those that voted for it, each
            with the weight of its vote; from -1 to 1, but for rounding.
    """

    scores: Float32[Tensor, "k gh gw"]
    similarity: Float32[Tensor, "gh gw"]


class _Buffers:
    """Memory for the largest tile, used by all: fresh pages for each cost more than the copying.

    Keys of `free` frames, the same for all tiles, come first and are copied once.
    """

    def __init__(
        self, query: Tensor, tiles: Sequence[Tile], free: Sequence[Tensor], *, limited: int
    ) -> None:
        height, width, channels = query.shape
        queries = max(tile.rows.length * tile.columns.length for tile in tiles)
        window = max(tile.window_rows.length * tile.window_columns.length for tile in tiles)
        self._free = len(free) * height * width
        self._keys = query.new_empty(self._free + limited * window, channels)
        self._similarity = query.new_empty(queries * len(self._keys))
        if free:
            torch.cat([keys.flatten(0, 1) for keys in free], out=self._keys[: self._free])

    def keys(self, windows: Sequence[Tensor]) -> Tensor:
        """Keys of the free frames, then those of the windows [rows, columns, c]."""
        count = self._free
        for window in windows:
            start, count = count, count + window.shape[0] * window.shape[1]
            self._keys[start:count].view(window.shape).copy_(window)
        return self._keys[:count]

    def similarity(self, queries: int, keys: int) -> Tensor:
        return self._similarity[: queries * keys].view(queries, keys)


def vote(
    query: Float[Tensor, "gh gw c"],
    context: Sequence[ContextFrame],
    settings: PropagationSettings,
    *,
    sketch: Sketch | None = None,
) -> Vote:
    """Soft labels of a frame from the labels of its context, and how alike the voters are.

    Args:
        query: unit-norm features of the frame to label, same dtype and grid as the keys. In
            float32 the result is exact, ties as set; in bfloat16 or float16 products are summed in
            float32 where Triton is, elsewhere the neighbours are ranked in that precision and the
            best of them scored again with float32 sums.
        context: at least one frame; all with the same grid and number of labels.
        settings: window, top-k and temperature.
        sketch: of the query. Where all frames have one too most products are left out, and the
            result is the same to the last bit.

    Raises:
        InputError: without context, or when grids, channels or dtypes differ.
    """
    grid = Size(query.shape[0], query.shape[1])
    _check(query, context)
    labels = context[0].labels.shape[1]
    scores = torch.empty(grid.height, grid.width, labels, device=query.device)
    alike = torch.empty(grid, device=query.device)
    side = _TILE_SIDE.get(query.device.type, 32)
    bounded = settings.radius > 0 and any(frame.limited for frame in context)
    tiles = tiles_of(grid, settings.radius if bounded else 0, side)
    ties = settings.ties and query.dtype == torch.float32
    search = search_for(query, settings.topk + ties)
    if search is not None:
        find = _Found(search, query, sketch, context, settings)
        tied = _vote_in_one_pass(find, (scores, alike), ties=ties)
        if bool(tied.any()):
            tied = _vote_among_ties(find, (scores, alike), tied)
        tiles = tuple(tile for tile in tiles if bool(tied[tile.queries].any()))
    if tiles:
        _vote_in_tiles(query, context, settings, tiles, scores, alike)
    return Vote(scores.permute(2, 0, 1), alike)


def laid_out(features: Float[Tensor, "gh gw c"]) -> Float[Tensor, "gh gw c"]:
    """The same values in the memory layout that `vote` reads fastest."""
    return as_rows(features) if available(features) else features.contiguous()


def basis_of(features: Float[Tensor, "gh gw c"]) -> Basis | None:
    """What to sketch the frames of a clip with for `vote`, from one of them; None if nothing."""
    return Basis.of(features) if available(features) else None


@dataclass(frozen=True)
class _Found:
    """What a compiled search finds in the context for a frame."""

    search: Search
    query: Float[Tensor, "gh gw c"]
    sketch: Sketch | None
    context: Sequence[ContextFrame]
    settings: PropagationSettings

    def best(self, keep: int) -> tuple[Float32[Tensor, "cells keep"], Int[Tensor, "cells keep"]]:
        """The largest products of each cell, falling, and the rows of `table` that they are of."""
        sketches = [s for s in (self.sketch, *(frame.sketch for frame in self.context)) if s]
        return self.search(
            self.query,
            [frame.keys for frame in self.context],
            [frame.limited for frame in self.context],
            radius=self.settings.radius,
            window=self.settings.window,
            keep=keep,
            sketches=sketches if len(sketches) == 1 + len(self.context) else (),
        )

    @cached_property
    def table(self) -> Float32[Tensor, "n k"]:
        """The labels of all cells of the context."""
        return torch.cat([frame.labels for frame in self.context])


def _vote_in_one_pass(
    find: _Found, result: tuple[Float32[Tensor, "gh gw k"], Float32[Tensor, "gh gw"]], *, ties: bool
) -> Bool[Tensor, "gh gw"]:
    """Fill in scores and cosines; says for which cells more than k voters tie if all are to vote.

    The answer is on the CPU, where it is read tile by tile.
    """
    scores, alike = result
    k = find.settings.topk
    best, cells = find.best(k + ties)
    labels, cosine = _means(best[:, :k], find.table[cells[:, :k]], find.settings.temperature)
    scores.copy_(labels.view(scores.shape))
    alike.copy_(cosine.view(alike.shape))
    if not ties:
        return torch.zeros(alike.shape, dtype=torch.bool)
    return _tie_behind(best, k).view(alike.shape).cpu()


def _vote_among_ties(
    find: _Found,
    result: tuple[Float32[Tensor, "gh gw k"], Float32[Tensor, "gh gw"]],
    tied: Bool[Tensor, "gh gw"],
) -> Bool[Tensor, "gh gw"]:
    """Fill in the tied cells again, with all voters that tie; says for which there are more yet.

    A picture that stands still for some frames ties everywhere, a few voters at a time.
    """
    scores, alike = result
    k = find.settings.topk
    keep = _TIES_PER_VOTE * k + 1
    if search_for(find.query, keep) is None:
        return tied
    best, cells = find.best(keep)
    left = tied.flatten().clone()
    for rows in torch.split(left.nonzero()[:, 0].to(best.device), _TIED_AT_A_TIME):
        found = best[rows]
        voters = found.masked_fill(found < found[:, k - 1 : k], -torch.inf)
        labels, cosine = _means(voters, find.table[cells[rows]], find.settings.temperature)
        scores.view(len(left), -1)[rows] = labels
        alike.view(-1)[rows] = cosine
        left[rows.cpu()] = _tie_behind(found, k).cpu()
    return left.view(tied.shape)


def _tie_behind(best: Float32[Tensor, "q keep"], k: int) -> Bool[Tensor, " q"]:
    """Whether the last that was found ties with the k-th, so that others may too."""
    return (best[:, -1] == best[:, k - 1]) & best[:, -1].isfinite()


def _vote_in_tiles(
    query: Float[Tensor, "gh gw c"],
    context: Sequence[ContextFrame],
    settings: PropagationSettings,
    tiles: Sequence[Tile],
    scores: Float32[Tensor, "gh gw k"],
    alike: Float32[Tensor, "gh gw"],
) -> None:
    """Fill in scores and cosines of some tiles."""
    grid = Size(query.shape[0], query.shape[1])
    if settings.radius == 0:
        limited, free = [], list(context)
    else:
        limited = [frame for frame in context if frame.limited]
        free = [frame for frame in context if not frame.limited]
    table = torch.cat([frame.labels for frame in free + limited])
    buffers = _Buffers(query, tiles, [frame.keys for frame in free], limited=len(limited))
    for tile in tiles:
        queries = query[tile.queries].flatten(0, 1)
        cells = cells_of(tile, grid, len(free), len(limited), query.device)
        keys = buffers.keys([frame.keys[tile.window] for frame in limited])
        similarity = torch.mm(queries, keys.T, out=buffers.similarity(len(queries), len(keys)))
        if limited:
            silent = outside(tile, settings.radius, settings.window, query.dtype, query.device)
            windows = similarity[:, len(free) * grid.height * grid.width :]
            for part in torch.split(windows, silent.shape[1], dim=1):
                part.add_(silent)
        if query.dtype == torch.float32:
            labels, cosine = _vote_exact(similarity, table, cells, settings)
        else:
            labels, cosine = _vote_rescored(similarity, queries, keys, (table, cells), settings)
        scores[tile.queries] = labels.view(tile.rows.length, tile.columns.length, -1)
        alike[tile.queries] = cosine.view(tile.rows.length, tile.columns.length)


def _check(query: Tensor, context: Sequence[ContextFrame]) -> None:
    if not context:
        raise InputError("There is no labelled frame to vote from; give the first one its labels.")
    for frame in context:
        if frame.keys.shape != query.shape or frame.keys.dtype != query.dtype:
            raise InputError(
                f"A context frame has features {list(frame.keys.shape)} {frame.keys.dtype} and the "
                f"query {list(query.shape)} {query.dtype}; they must be the same, so extract all "
                "frames of a clip with one extractor at one size."
            )


def _vote_exact(
    similarity: Float32[Tensor, "q m"],
    table: Float32[Tensor, "n k"],
    cells: Int[Tensor, " m"],
    settings: PropagationSettings,
) -> tuple[Float32[Tensor, "q k"], Float32[Tensor, " q"]]:
    """Means over the top-k columns per row; those that tie with the k-th vote too if they may."""
    k = settings.topk
    best, columns = similarity.topk(min(k + 1, similarity.shape[1]), dim=1)
    if best.shape[1] <= k or not settings.ties:
        best, columns = best[:, :k], columns[:, :k]
        return _means(best, table[cells[columns]], settings.temperature)
    labels, cosine = _means(best[:, :k], table[cells[columns[:, :k]]], settings.temperature)
    tied = (best[:, k] == best[:, k - 1]) & best[:, k].isfinite()
    if bool(tied.any()):
        rows = similarity[tied]
        votes = (rows - best[tied, :1]).div_(settings.temperature).exp_()
        silent = rows < best[tied, k - 1 : k]
        votes.masked_fill_(silent, 0).div_(votes.sum(1, keepdim=True))
        labels[tied] = votes @ table[cells]
        cosine[tied] = (votes * rows.masked_fill_(silent, 0)).sum(1)
    return labels, cosine


def _vote_rescored(
    similarity: Float[Tensor, "q m"],
    queries: Float[Tensor, "q c"],
    keys: Float[Tensor, "m c"],
    labels: tuple[Float32[Tensor, "n k"], Int[Tensor, " m"]],
    settings: PropagationSettings,
) -> tuple[Float32[Tensor, "q k"], Float32[Tensor, " q"]]:
    """Means over the top-k columns, ranked coarsely first and by float32 sums in the end.

    `labels` is the table of all labels, and the row of it that each column stands for.
    """
    table, cells = labels
    count = min(settings.topk * _CANDIDATES_PER_VOTE, similarity.shape[1])
    coarse, columns = similarity.topk(count, dim=1, sorted=False)
    exact = torch.bmm(keys[columns].float(), queries.float()[:, :, None])[:, :, 0]
    exact.masked_fill_(coarse.isinf(), -torch.inf)
    best, order = exact.topk(min(settings.topk, count), dim=1)
    voters = cells[columns.gather(1, order)]
    return _means(best, table[voters], settings.temperature)


def _means(
    best: Float32[Tensor, "q k"], labels: Float32[Tensor, "q k labels"], temperature: float
) -> tuple[Float32[Tensor, "q labels"], Float32[Tensor, " q"]]:
    """Mean label and mean cosine of each row's voters, by the weights of their votes."""
    # Softmax is the published exp(cos / T) over its sum, without the overflow at small T.
    weights = torch.softmax(best / temperature, dim=1)
    # Columns outside the window, -inf, have no weight; 0 * -inf is not 0.
    cosine = (weights * best.clamp_min(-1)).sum(1)
    return torch.bmm(weights[:, None, :], labels)[:, 0], cosine
