"""Label propagation through one clip: a context window of labelled frames, and the vote.

Source: `eval_video_tracking_davis` in DIFT's `eval_davis.py`: the first frame stays for good,
the latest results join it, and soft labels (never the decoded masks) are what is passed on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812, the field's usual name

from propagate.affinity import ContextFrame, basis_of, laid_out, vote
from propagate.config import Precision, PropagationSettings
from propagate.cuts import continuity
from propagate.errors import InputError
from propagate.features.device import resolve_dtype
from propagate.kernels.nearest import compiled
from propagate.kernels.sketch import Basis, Sketch
from propagate.types import FeatureMap, LabelField

if TYPE_CHECKING:
    from jaxtyping import Float32
    from torch import Tensor


@dataclass(frozen=True)
class ContextEntry:
    """One frame of the context window.

    Args:
        index: index of the frame in its clip.
        features: unit-norm features.
        labels: its labels, given or propagated.
        pinned: whether a user gave the labels, so that the frame never leaves the context.
        sketch: of the features, where it makes the vote faster.
    """

    index: int
    features: FeatureMap
    labels: LabelField
    pinned: bool
    sketch: Sketch | None = None


class ContextWindow:
    """The pinned reference frames and the `n_last_frames` latest results, references first.

    Args:
        n_last_frames: how many results.
        repeat_first: whether copies of the first reference stand in for results to come.
    """

    def __init__(self, n_last_frames: int, *, repeat_first: bool = False) -> None:
        self._pinned: list[ContextEntry] = []
        self._recent: deque[ContextEntry] = deque(maxlen=n_last_frames)
        self._repeat_first = repeat_first

    def add(self, entry: ContextEntry) -> None:
        """Take a frame in; the oldest unpinned one leaves when the window is full."""
        if entry.pinned and self._repeat_first and not self._pinned:
            stand_in = replace(entry, pinned=False)
            self._recent.extend([stand_in] * (self._recent.maxlen or 0))
        (self._pinned if entry.pinned else self._recent).append(entry)

    def forget(self) -> None:
        """Drop the results, keep the references."""
        self._recent.clear()

    @property
    def latest_result(self) -> ContextEntry | None:
        """The result that came last, if any is kept."""
        return self._recent[-1] if self._recent else None

    def __iter__(self) -> Iterator[ContextEntry]:
        yield from self._pinned
        yield from self._recent

    def __len__(self) -> int:
        return len(self._pinned) + len(self._recent)


def similarity_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """What similarities are computed in.

    Args:
        precision: "auto" is float32 on a CPU with the compiled search, which is exact and leaves
            most products out; else bfloat16 or float16 where the device computes in it.
        device: where they are computed.
    """
    if precision == "auto" and device.type == "cpu" and compiled():
        return torch.float32
    return resolve_dtype(precision, device)


class Propagator:
    """Carries labels through one clip, frame by frame.

    Args:
        settings: context, window and vote.
        dtype: what similarities are computed in. float32 reproduces the published algorithm;
            bfloat16 ranks neighbours faster and scores the best of them again in float32.
    """

    def __init__(
        self, settings: PropagationSettings, *, dtype: torch.dtype = torch.float32
    ) -> None:
        self._settings = settings
        self._dtype = dtype
        self._context = ContextWindow(settings.n_last_frames, repeat_first=settings.repeat_first)
        self._ids: tuple[int, ...] = ()
        self._next_index = 0
        self._basis: Basis | None = None
        self._latest: _Seen | None = None

    @property
    def context(self) -> tuple[ContextEntry, ...]:
        """The frames that will vote for the next one, references first."""
        return tuple(self._context)

    def step(
        self, features: FeatureMap, labels: LabelField | None = None, *, index: int | None = None
    ) -> LabelField:
        """Label one frame, and let it vote for those after it.

        Args:
            features: of this frame; the same grid and channels in every call.
            labels: what is known about this frame, on the grid of the features, or the finer one
                that the settings' `patch` asks for. It becomes a pinned reference and is returned
                as it is; ids not seen before are new objects.
            index: index of the frame in its clip; one more than the last when left out.

        Returns:
            Soft labels on the grid of the labels, float32; the channels of a frame sum to 1 where
            the labels that voted do.

        Raises:
            InputError: for a first frame without labels, or labels on another grid.
        """
        index = self._next_index if index is None else index
        result = labels if labels is not None else self.vote(features)
        self.add(ContextEntry(index, features, result, pinned=labels is not None))
        return result

    def vote(self, features: FeatureMap) -> LabelField:
        """What the context says about the next frame, which does not join it yet.

        Raises:
            InputError: there is no context.
        """
        if not len(self._context):
            raise InputError(
                "The first frame needs labels; pass them as Propagator.step(f, labels)."
            )
        self.meet(features)
        context = [
            ContextFrame(
                entry.features.data.permute(1, 2, 0),
                _per_cell(self._channels(entry.labels), self._settings.patch),
                self._settings.limit_references or not entry.pinned,
                entry.sketch,
            )
            for entry in self._context
        ]
        query = self._seen(features)
        cells = query.features.data.permute(1, 2, 0)
        votes = vote(cells, context, self._settings, sketch=query.sketch)
        patch = self._settings.patch
        similarity = votes.similarity.repeat_interleave(patch, 0).repeat_interleave(patch, 1)
        return LabelField(F.pixel_shuffle(votes.scores, patch), self._ids, similarity=similarity)

    def add(self, entry: ContextEntry) -> None:
        """Let a frame vote for those after it.

        Raises:
            InputError: its labels are on another grid than its features.
        """
        self._check(entry.features, entry.labels)
        self._ids += tuple(i for i in entry.labels.ids if i not in self._ids)
        seen = self._seen(entry.features)
        self._context.add(replace(entry, features=seen.features, sketch=seen.sketch))
        self._next_index = entry.index + 1

    def forget(self) -> None:
        """Let only the references go on voting."""
        self._context.forget()

    def meet(self, features: FeatureMap) -> None:
        """Forget the results if they are of another scene than a frame, which is the next one.

        `vote` does so. A reference in between makes the latest result a frame older, which changes
        little.

        Args:
            features: of the frame.
        """
        latest = self._context.latest_result
        if latest is None or not self._settings.cut_below:
            return
        if continuity(latest.features, self._seen(features).features) < self._settings.cut_below:
            self.forget()

    def _seen(self, features: FeatureMap) -> _Seen:
        """Features as the vote reads them; a frame is voted for, and then votes."""
        if self._latest is None or self._latest.given is not features:
            unit = features.normalised(self._dtype)
            cells = laid_out(unit.data.permute(1, 2, 0))
            if not len(self._context):
                self._basis = basis_of(cells)
            sketch = self._basis.sketch(cells) if self._basis else None
            self._latest = _Seen(features, replace(unit, data=cells.permute(2, 0, 1)), sketch)
        return self._latest

    def _check(self, features: FeatureMap, labels: LabelField) -> None:
        wanted = features.grid.finer(self._settings.patch)
        if labels.grid != wanted:
            raise InputError(
                f"The labels are on a grid of {labels.grid} cells and the features on "
                f"{features.grid}; encode the labels on a grid of {wanted}."
            )

    def _channels(self, labels: LabelField) -> Tensor:
        """Scores with one channel per id seen so far; objects that came later score 0."""
        if labels.ids == self._ids:
            return labels.scores
        scores = labels.scores.new_zeros(len(self._ids), *labels.grid)
        scores[[self._ids.index(i) for i in labels.ids]] = labels.scores
        return scores


class _Seen(NamedTuple):
    """Features as they were given, the same of unit norm and as `vote` reads them, their sketch."""

    given: FeatureMap
    features: FeatureMap
    sketch: Sketch | None


def _per_cell(scores: Float32[Tensor, "k h w"], patch: int) -> Float32[Tensor, "cells channels"]:
    """What each cell of the features carries: the scores of its patch, channel by channel."""
    return F.pixel_unshuffle(scores, patch).flatten(1).T
