"""One pass over a clip in one direction.

A pass starts anew at each annotated frame: its context is then the references alone, and fills
with its own results as it goes. So what lies between two complete references depends on nothing
but them, the references between them, and those that are pinned for good.
"""

from __future__ import annotations

from typing import Generic

import torch

from propagate.config import PropagationSettings
from propagate.labels.codec import Codec
from propagate.labels.references import References
from propagate.propagation import ContextEntry, Propagator
from propagate.types import FeatureMap, L, LabelField


class Pass(Generic[L]):
    """One direction's way through a clip.

    Args:
        references: of the clip.
        codec: of their labels.
        settings: context, window and vote.
        dtype: what similarities are computed in.
    """

    def __init__(
        self,
        references: References[L],
        codec: Codec[L],
        settings: PropagationSettings,
        *,
        dtype: torch.dtype,
    ) -> None:
        self._references: References[L] = references
        self._codec: Codec[L] = codec
        self._patch = settings.patch
        self._propagator = Propagator(settings, dtype=dtype)

    @property
    def context(self) -> tuple[ContextEntry, ...]:
        """The frames that will vote for the next one."""
        return self._propagator.context

    def pin(self, index: int, features: FeatureMap) -> LabelField:
        """Take the reference of an annotated frame, all of it, into the context for good."""
        field = self.given(index, features)
        self._propagator.add(ContextEntry(index, features, field, pinned=True))
        return field

    def add(self, entry: ContextEntry) -> None:
        """Take a frame into the context as it is."""
        self._propagator.add(entry)

    def step(self, index: int, features: FeatureMap) -> LabelField:
        """Label a frame; what a reference states about it is put in, and stays in the context."""
        return self.take(index, features, self.vote(features))

    def vote(self, features: FeatureMap) -> LabelField:
        """What the context says about the next frame, to be followed by `take`."""
        return self._propagator.vote(features)

    def enter(self, index: int, features: FeatureMap, voted: LabelField) -> LabelField:
        """`step` over a frame that was voted for before."""
        self._propagator.meet(features)
        return self.take(index, features, voted)

    def take(self, index: int, features: FeatureMap, field: LabelField) -> LabelField:
        """Let a frame vote for those after it, by the labels voted for it."""
        annotated = index in self._references
        if annotated:
            field = self.amended(index, features, field)
            self._propagator.forget()
        self._propagator.add(ContextEntry(index, features, field, pinned=annotated))
        return field

    def amended(self, index: int, features: FeatureMap, field: LabelField) -> LabelField:
        """A frame's soft labels with what its reference states in their place."""
        given = self.given(index, features)
        return self._codec.amend(field, given, self._references[index].stated)

    def given(self, index: int, features: FeatureMap) -> LabelField:
        """Soft labels of a frame's reference, for each cell of its features a patch."""
        labels = self._references[index].labels
        grid = features.grid.finer(self._patch)
        field = self._codec.encode(labels, grid, image_size=features.image_size)
        return LabelField(field.scores.to(features.data.device), field.ids)
