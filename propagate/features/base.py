"""What every feature extractor offers to the rest of the program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from propagate.types import FeatureMap, Frame


@runtime_checkable
class FeatureExtractor(Protocol):
    """Turns frames into feature maps. Owns resizing and normalisation of its input.

    The map of a frame depends on the frame and the extractor's settings alone: not on the other
    frames of the batch, their order, or how often it was asked for. Noise comes from
    (seed, frame index).
    """

    @property
    def identity(self) -> str:
        """Everything that changes the numbers: weights, layers, step, ensemble, size, seed."""
        ...

    @property
    def batch_size(self) -> int:
        """How many frames to pass to `extract` at once for best speed."""
        ...

    def extract(self, frames: Sequence[Frame]) -> list[FeatureMap]:
        """Feature maps of `frames`, in order; float, [c, gh, gw] each.

        All frames of one call have the same size.
        """
        ...


@runtime_checkable
class FittedExtractor(FeatureExtractor, Protocol):
    """An extractor that looks at the first frames of a clip before it extracts any."""

    @property
    def fit_frames(self) -> int:
        """How many frames it looks at."""
        ...

    def fit(self, frames: Sequence[Frame]) -> None:
        """Look at the first frames of a clip, in order; a clip that was seen before is passed."""
        ...


@runtime_checkable
class LayeredExtractor(FeatureExtractor, Protocol):
    """An extractor that can give its layers one by one, all from one pass."""

    def layer_identity(self, index: int) -> str:
        """The identity that it would have with its layer `index` alone."""
        ...

    def extract_layers(self, frames: Sequence[Frame]) -> list[list[FeatureMap]]:
        """For each frame the map of each layer, as `extract` gives it for that layer alone."""
        ...
