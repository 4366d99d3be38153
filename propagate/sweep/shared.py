"""Features that several combinations share, and the seconds that went into them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from propagate.features.base import FeatureExtractor, FittedExtractor, LayeredExtractor
from propagate.features.cache import FeatureCache
from propagate.types import FeatureMap, Frame


class _Timed:
    """Adds up seconds."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def measure(self) -> Iterator[None]:
        """Add the time spent in the `with` block, with what a GPU still does then."""
        start = time.perf_counter()
        try:
            yield
            if torch.cuda.is_available():
                torch.cuda.synchronize()
        finally:
            self.seconds += time.perf_counter() - start


class TimedExtractor(_Timed):
    """An extractor that adds up the seconds it takes.

    Args:
        extractor: what computes.
    """

    def __init__(self, extractor: FeatureExtractor) -> None:
        super().__init__()
        self._extractor = extractor

    @property
    def inner(self) -> FeatureExtractor:
        """What computes."""
        return self._extractor

    @property
    def identity(self) -> str:
        """The extractor's."""
        return self._extractor.identity

    @property
    def batch_size(self) -> int:
        """The extractor's."""
        return self._extractor.batch_size

    def extract(self, frames: Sequence[Frame]) -> list[FeatureMap]:
        """The extractor's maps."""
        with self.measure():
            return self._extractor.extract(frames)


def shared_features(
    extractor: TimedExtractor, *, capacity: int, dtype: torch.dtype
) -> FeatureCache:
    """A cache of an extractor's maps, itself a `FittedExtractor` if the extractor is one.

    Args:
        extractor: what computes a missing map.
        capacity: how many maps are kept.
        dtype: what maps are stored as.
    """
    if isinstance(extractor.inner, FittedExtractor):
        return _FittedCache(extractor.inner, extractor, capacity=capacity, dtype=dtype)
    return FeatureCache(extractor, capacity=capacity, dtype=dtype)


class _FittedCache(FeatureCache):
    def __init__(
        self, fitted: FittedExtractor, timed: TimedExtractor, *, capacity: int, dtype: torch.dtype
    ) -> None:
        super().__init__(timed, capacity=capacity, dtype=dtype)
        self._fitted = fitted
        self._timed = timed

    @property
    def fit_frames(self) -> int:
        return self._fitted.fit_frames

    def fit(self, frames: Sequence[Frame]) -> None:
        with self._timed.measure():
            self._fitted.fit(frames)


class LayeredFeatures(_Timed):
    """The maps of several layers of a unit's frames, all computed in one pass and kept.

    Args:
        extractor: what computes them.
        dtype: what maps are stored as.
    """

    def __init__(self, extractor: LayeredExtractor, *, dtype: torch.dtype) -> None:
        super().__init__()
        self._extractor = extractor
        self._dtype = dtype
        self._maps: dict[tuple[str, int], list[FeatureMap]] = {}

    def layer(self, index: int) -> LayerView:
        """One of the layers."""
        return LayerView(self, self._extractor, index)

    def maps(self, frames: Sequence[Frame]) -> list[list[FeatureMap]]:
        """For each frame its unit-norm map of each layer; computed when first asked for."""
        missing = [frame for frame in frames if (frame.source, frame.index) not in self._maps]
        if missing:
            with self.measure():
                computed = self._extractor.extract_layers(missing)
            for frame, layers in zip(missing, computed, strict=True):
                unit = [item.normalised(self._dtype) for item in layers]
                self._maps[frame.source, frame.index] = unit
        return [self._maps[frame.source, frame.index] for frame in frames]


class LayerView:
    """One layer of features that are shared: an extractor that has seconds.

    Args:
        features: of all layers.
        extractor: what computes them.
        index: of the layer.
    """

    def __init__(self, features: LayeredFeatures, extractor: LayeredExtractor, index: int) -> None:
        self._features = features
        self._extractor = extractor
        self._index = index

    @property
    def identity(self) -> str:
        """That of an extractor of this layer alone."""
        return self._extractor.layer_identity(self._index)

    @property
    def batch_size(self) -> int:
        """The extractor's."""
        return self._extractor.batch_size

    @property
    def seconds(self) -> float:
        """What computing all layers took so far."""
        return self._features.seconds

    def extract(self, frames: Sequence[Frame]) -> list[FeatureMap]:
        """Unit-norm maps of the layer, in order."""
        return [layers[self._index] for layers in self._features.maps(frames)]
