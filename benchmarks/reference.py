"""The published propagation step, restated slowly and obviously: the oracle and the baseline.

It does what `label_propagation` in DIFT's `eval_davis.py` does, with the same cost: one dense
matrix of all context cells against all cells of the frame, and one mask of that size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from propagate.config import PropagationSettings


def inside_window(height: int, width: int, settings: PropagationSettings) -> Tensor:
    """Bool [cells, cells]: whether two cells of a grid see each other."""
    rows = torch.arange(height).repeat_interleave(width)
    columns = torch.arange(width).repeat(height)
    dy = (rows[:, None] - rows[None, :]).abs()
    dx = (columns[:, None] - columns[None, :]).abs()
    if settings.radius == 0:
        return torch.ones_like(dy, dtype=torch.bool)
    if settings.window == "circle":
        return dy**2 + dx**2 <= settings.radius**2
    if settings.window == "open-circle":
        return dy**2 + dx**2 < settings.radius**2
    return (dy <= settings.radius) & (dx <= settings.radius)


def dense_vote(
    query: Tensor,
    keys: Sequence[Tensor],
    labels: Sequence[Tensor],
    limited: Sequence[bool],
    settings: PropagationSettings,
) -> Tensor:
    """Soft labels [k, gh, gw] from unit features [gh, gw, c] and labels [gh * gw, k] per frame."""
    height, width, _ = query.shape
    weight = dense_weights(query, keys, limited, settings)
    return (torch.cat(list(labels)).T @ weight).view(-1, height, width)


def dense_similarity(
    query: Tensor, keys: Sequence[Tensor], limited: Sequence[bool], settings: PropagationSettings
) -> Tensor:
    """Mean cosine [gh, gw] of each cell to its voters, by the weights of their votes.

    Not part of the published step.
    """
    height, width, _ = query.shape
    cosine = torch.cat([key.flatten(0, 1) for key in keys]) @ query.flatten(0, 1).T
    return (cosine * dense_weights(query, keys, limited, settings)).sum(0).view(height, width)


def dense_weights(
    query: Tensor, keys: Sequence[Tensor], limited: Sequence[bool], settings: PropagationSettings
) -> Tensor:
    """Weight [context cells, cells] of each vote; the weights for a cell sum to 1."""
    height, width, _ = query.shape
    window = inside_window(height, width, settings)
    flat = query.flatten(0, 1)
    weights = []
    for key, bounded in zip(keys, limited, strict=True):
        similarity = torch.exp(key.flatten(0, 1) @ flat.T / settings.temperature)
        weights.append(similarity * window if bounded else similarity)
    weight = torch.cat(weights)
    k = min(settings.topk, weight.shape[0])
    threshold = weight.topk(k, dim=0).values[-1]
    weight[weight < threshold] = 0
    return weight / weight.sum(0)
