"""Features that several combinations share, and the seconds that went into them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from propagate.features.base import FeatureExtractor, FittedExtractor
from propagate.features.cache import FeatureCache
from propagate.types import FeatureMap, Frame


class TimedExtractor:
    """An extractor that adds up the seconds it takes.

    Args:
        extractor: what computes.
    """

    def __init__(self, extractor: FeatureExtractor) -> None:
        self._extractor = extractor
        self.seconds = 0.0

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
            maps = self._extractor.extract(frames)
            if maps and maps[0].data.is_cuda:
                # A GPU is still at work when its results are returned.
                torch.cuda.synchronize(maps[0].data.device)
        return maps

    @contextmanager
    def measure(self) -> Iterator[None]:
        """Add the time spent in the `with` block."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - start


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
