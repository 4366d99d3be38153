"""A rolling cache around an extractor: no feature map is computed twice while it is in reach."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from propagate.errors import InputError
from propagate.features.base import FeatureExtractor
from propagate.types import FeatureMap, Frame

if TYPE_CHECKING:
    import torch


class CacheKey(NamedTuple):
    """What a feature map depends on: the extractor's settings, the clip, the frame's index."""

    identity: str
    source: str
    frame: int


class FeatureCache:
    """A `FeatureExtractor` that remembers the latest maps, unit-norm and in a compact dtype.

    The maps it returns share memory with its store and with every context they stand in, so a
    frame's features exist once, however many users they have.

    Args:
        extractor: what computes a missing map.
        capacity: how many maps are kept; the least recently used one leaves first.
        dtype: what maps are stored as.
    """

    def __init__(self, extractor: FeatureExtractor, *, capacity: int, dtype: torch.dtype) -> None:
        if capacity < 1:
            raise InputError(f"The cache's capacity is {capacity} maps; it must be 1 or more.")
        self._extractor = extractor
        self._capacity = capacity
        self._dtype = dtype
        self._maps: OrderedDict[CacheKey, FeatureMap] = OrderedDict()

    @property
    def identity(self) -> str:
        """The extractor's identity and the dtype of the store."""
        return f"{self._extractor.identity}/{str(self._dtype).removeprefix('torch.')}"

    @property
    def batch_size(self) -> int:
        """The extractor's."""
        return self._extractor.batch_size

    def __len__(self) -> int:
        return len(self._maps)

    @property
    def nbytes(self) -> int:
        """Memory held by the stored maps, in bytes."""
        return sum(item.data.nbytes for item in self._maps.values())

    def extract(self, frames: Sequence[Frame]) -> list[FeatureMap]:
        """Unit-norm maps of `frames`, in order; those not in store are computed in one batch."""
        keys = [CacheKey(self.identity, frame.source, frame.index) for frame in frames]
        missing = {
            key: frame for key, frame in zip(keys, frames, strict=True) if key not in self._maps
        }
        found = {key: self._maps[key] for key in keys if key in self._maps}
        if missing:
            computed = self._extractor.extract(list(missing.values()))
            for key, features in zip(missing, computed, strict=True):
                found[key] = features.normalised(self._dtype)
        for key in keys:
            self._maps[key] = found[key]
            self._maps.move_to_end(key)
        while len(self._maps) > self._capacity:
            self._maps.popitem(last=False)
        return [found[key] for key in keys]
