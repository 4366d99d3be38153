"""Passes over stored features, forward and backward, and how the two become one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Generic

import torch

from propagate.errors import InputError
from propagate.labels.references import References
from propagate.output.field_store import FieldStore
from propagate.output.map_store import MapStore
from propagate.output.workspace import Workspace
from propagate.passes import Pass
from propagate.progress import Progress, no_progress
from propagate.spans import Span, backward_start
from propagate.types import L, LabelField, Size

if TYPE_CHECKING:
    from jaxtyping import Float32
    from torch import Tensor

_CERTAINTY_POWER = 1.0


class TwoWay(Generic[L]):
    """Both passes over the spans of a clip, from stored maps to stored soft labels.

    Args:
        references: of the clip.
        make_pass: a fresh pass over it.
        maps: of the clip's frames.
        workspace: for the soft labels; what it holds already is not computed again.
        device: where soft labels go.
        forward: whether there is a forward pass.
        keeps: how many of its results a pass has in its context.
    """

    def __init__(
        self,
        references: References[L],
        make_pass: Callable[[], Pass[L]],
        maps: MapStore,
        workspace: Workspace,
        *,
        device: torch.device,
        forward: bool,
        keeps: int,
    ) -> None:
        self._references: References[L] = references
        self._make_pass: Callable[[], Pass[L]] = make_pass
        self._maps = maps
        self._forward = FieldStore(workspace.forward, device=device)
        self._backward = FieldStore(workspace.backward, device=device)
        self._goes_forward = forward
        self._keeps = keeps

    def run(self, span: Span, progress: Progress[int] = no_progress) -> None:
        """Both passes over a span, as far as its last annotated frame.

        Args:
            span: all its frames up to that one have maps.
            progress: wraps the frames of a pass.
        """
        start = backward_start(span, self._references)
        if start is None:
            return
        indices = [i for i in self._maps.indices if i in span and i != span.left and i <= start]
        forward = self._goes_forward and span.left is not None
        if forward:
            self._go(self._begin(), indices, self._forward, progress("forward", None, indices))
        going = self._begin()
        if forward and start in self._forward:
            # An incomplete reference: what it doesn't state is as the forward pass has it.
            going.enter(start, self._maps.load(start), self._forward.load(start))
            indices = indices[:-1]
        indices = indices[::-1]
        self._go(going, indices, self._backward, progress("backward", None, indices))

    def continued(self, span: Span) -> Pass[L]:
        """The forward pass behind the last annotated frame of the last span."""
        going = self._begin()
        for index in span.holds(self._references):
            going.enter(index, self._maps.load(index), self._forward.load(index))
        return going

    def found(self, index: int) -> LabelField:
        """What the passes found for a frame, both in one."""
        forward, backward = (
            store.load(index) if index in store else None
            for store in (self._forward, self._backward)
        )
        field = self._fused(index, forward, backward)
        if index in self._references:
            field = self._make_pass().amended(index, self._maps.load(index), field)
        return field

    def given(self, index: int) -> LabelField:
        """Soft labels of a frame's reference."""
        return self._make_pass().given(index, self._maps.load(index))

    @cached_property
    def input_size(self) -> Size:
        """Size that the network saw the clip at."""
        return self._maps.load(self._references.indices[0]).input_size

    def _begin(self) -> Pass[L]:
        going = self._make_pass()
        for index in sorted(self._references.complete):
            going.pin(index, self._maps.load(index))
        return going

    def _go(
        self, going: Pass[L], indices: Sequence[int], store: FieldStore, shown: Iterable[int]
    ) -> None:
        done: list[int] = [index for index in indices if index in store]
        needed = {*done[len(done) - min(self._keeps, len(done)) :], *self._references.indices}
        for index in shown:
            if index not in store:
                features = self._maps.load(index)
                store.save(index, going.vote(features))
                going.take(index, features, self._voted(index, store))
            elif index in needed:
                going.enter(index, self._maps.load(index), self._voted(index, store))

    def _voted(self, index: int, store: FieldStore) -> LabelField:
        """What a frame goes into the context with: at a reference, all that is known by then."""
        field = store.load(index)
        if store is self._backward and index in self._references and index in self._forward:
            return self._fused(index, self._forward.load(index), field)
        return field

    def _fused(
        self, index: int, forward: LabelField | None, backward: LabelField | None
    ) -> LabelField:
        if forward is None or backward is None:
            field = backward if forward is None else forward
            if field is None:
                raise InputError(f"No pass came by frame {index}; it has no labels.")
            return field
        return fuse(forward, backward, self._shares(index, forward.ids))

    def _shares(self, index: int, ids: Sequence[int]) -> list[float]:
        """For each channel how much the forward pass counts, by distance alone."""
        known = self._references.ids
        shares = [
            _share(*(self._references.distance(index, i, step=step) for step in (-1, 1)))
            for i in ids
            if i in known
        ]
        # Background lies between those that it may take for one another.
        return [sum(shares) / len(shares)] * (len(ids) - len(shares)) + shares


def _share(left: int | None, right: int | None) -> float:
    if left is None or right is None:
        return float(right is None)
    return right / (left + right) if left + right else 0.5


def fuse(forward: LabelField, backward: LabelField, shares: Sequence[float]) -> LabelField:
    """Soft labels of both passes in one.

    Args:
        forward: of a frame.
        backward: of the same frame, with the same ids.
        shares: of the forward pass in each channel by distance, 0 to 1. Where a pass is less sure
            of an object than the other it counts less than that.
    """
    weights = torch.tensor(shares, device=forward.scores.device)
    certain = [_certainty(field) ** _CERTAINTY_POWER for field in (forward, backward)]
    ahead, back = weights * certain[0], (1 - weights) * certain[1]
    total = ahead + back
    share = torch.where(total > 0, ahead / total.clamp_min(1e-12), weights)[:, None, None]
    scores = share * forward.scores + (1 - share) * backward.scores
    return LabelField(scores, forward.ids, _mean(forward.similarity, backward.similarity))


def _certainty(field: LabelField) -> Float32[Tensor, " k"]:
    """The mean score of each channel where it has any, by its own weight: 1 if it is 0 or 1."""
    total = field.scores.sum((1, 2))
    return field.scores.square().sum((1, 2)) / total.clamp_min(1e-12)


def _mean(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    if one is None or other is None:
        return other if one is None else one
    return (one + other) / 2
