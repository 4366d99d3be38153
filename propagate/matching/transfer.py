"""Soft labels from images of other instances, and how far they can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch

from propagate.errors import InputError
from propagate.matching.everywhere import cells, vote_everywhere
from propagate.types import FeatureMap, LabelField

if TYPE_CHECKING:
    from jaxtyping import Float32
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class MatchingSettings:
    """How labels go from one image to another.

    Args:
        topk: how many cells of all sources together vote for a cell.
        temperature: a cell votes with weight exp(cosine / temperature).
        reach: cells to each side of the best one that decide where a point lies.
        fleck: pieces of a mask smaller than this share of the object's largest one are dropped.
    """

    topk: int = 10
    temperature: float = 0.05
    reach: int = 3
    fleck: float = 0.25

    def __post_init__(self) -> None:
        for name, least in (("topk", 1), ("reach", 0)):
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}; it must be {least} or more.")
        if not 0 <= self.fleck <= 1:
            raise InputError(f"fleck is {self.fleck}; it must be from 0 to 1.")
        if not self.temperature > 0:
            raise InputError(f"temperature is {self.temperature}; it must be greater than 0.")


@dataclass(frozen=True)
class Trust:
    """What speaks for a transferred label.

    Args:
        similarity: mean cosine of its places to those that voted for them; of centred features for
            points.
        cycle: share of it that comes back where it was, when the result votes for the source.
    """

    similarity: float
    cycle: float

    @property
    def confidence(self) -> float:
        """Both in one number from 0 to 1."""
        return min(max(self.similarity, 0.0), 1.0) * min(max(self.cycle, 0.0), 1.0)


@dataclass(frozen=True)
class FieldTransfer:
    """Soft labels that came from other images.

    Args:
        field: on the target's grid.
        trust: in each id of `field`, in order.
    """

    field: LabelField
    trust: tuple[Trust, ...]


def transfer_field(
    sources: Sequence[tuple[FeatureMap, LabelField]],
    target: FeatureMap,
    settings: MatchingSettings | None = None,
) -> FieldTransfer:
    """Label a target by the cells of the sources that it resembles most.

    Cells without any label don't vote. Features are taken as they are: centred ones, which find
    points better, gave worse masks.

    Args:
        sources: one or more, each with labels on its own grid; an id that several of them have is
            one and the same object.
        target: of any grid.
        settings: of the vote.

    Raises:
        InputError: there is no source, labels are on another grid than their features, or no cell
            has a label.
    """
    settings = settings or MatchingSettings()
    if not sources:
        raise InputError("There is no source to transfer labels from; give one or more.")
    ids = tuple(sorted({i for _, field in sources for i in field.ids}))
    keys, labels = (
        torch.cat(parts)
        for parts in zip(*(_known(*source, ids) for source in sources), strict=True)
    )
    if not len(keys):
        raise InputError("No cell of the sources has a label; mark an object in one of them.")
    queries = cells(target.normalised(torch.float32))
    keys, labels = keys.to(queries.device), labels.to(queries.device)
    vote = partial(vote_everywhere, topk=settings.topk, temperature=settings.temperature)
    forth = vote(queries, keys, labels)
    back = vote(keys, queries, forth.labels)
    trust = tuple(
        Trust(_mean(forth.similarity, there), _mean(returned, here))
        for there, here, returned in zip(forth.labels.T, labels.T, back.labels.T, strict=True)
    )
    return FieldTransfer(LabelField(forth.labels.T.reshape(-1, *target.grid), ids), trust)


def _known(
    features: FeatureMap, field: LabelField, ids: tuple[int, ...]
) -> tuple[Float32[Tensor, "n c"], Float32[Tensor, "n k"]]:
    """The cells of a source that have labels, and these with a column for each of `ids`."""
    if field.grid != features.grid:
        raise InputError(
            f"The labels are on a grid of {field.grid} cells and the features on {features.grid}; "
            "encode the labels on the grid of the features."
        )
    keys = cells(features.normalised(torch.float32))
    table = field.scores.new_zeros(len(keys), len(ids))
    table[:, [ids.index(i) for i in field.ids]] = field.scores.flatten(1).T
    known = table.sum(1) > 0
    return keys[known.to(keys.device)], table[known]


def _mean(values: Float32[Tensor, " n"], weights: Float32[Tensor, " n"]) -> float:
    """Weighted mean; 0 where nothing has a weight."""
    total = weights.sum()
    return float((values * weights).sum() / total) if total > 0 else 0.0
