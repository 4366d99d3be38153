"""Feature maps of a clip's frames as they stream by, from the extractor or from disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import TypeVar

import torch

from propagate.features.base import FeatureExtractor
from propagate.features.cache import FeatureCache
from propagate.output.map_store import MapStore
from propagate.output.workspace import Workspace
from propagate.stages import Behind, ahead, iterated
from propagate.stopwatch import Stopwatch
from propagate.types import FeatureMap, Frame
from propagate.video.base import FrameReader

T = TypeVar("T")

# Pictures that are searched for some to fit on, and the deviation of grey values, of 0 to 255, that
# a picture of something has at every so many pixels.
_LOOKED_AT = 250
_LEAST_CONTRAST = 4.0
_EVERY = 4


class ClipFeatures:
    """Streams a clip in batches, and extracts those that are used.

    A batch is the same in a run and its continuation, and so to the last bit are its maps; that is
    why it is extracted whole, or not at all.

    Args:
        reader: the clip.
        extractor: where features come from.
        dtype: what maps are kept as.
        capacity: how many maps stay in memory beside a batch.
        extract_ahead: whether a thread extracts a batch while the one before is used. It pays on a
            device of its own; a processor's cores are busy either way.
        clock: collects the seconds spent in "decode" and "extract".
    """

    def __init__(
        self,
        reader: FrameReader,
        extractor: FeatureExtractor,
        *,
        dtype: torch.dtype,
        capacity: int,
        extract_ahead: bool,
        clock: Stopwatch,
    ) -> None:
        self._reader = reader
        self._cache = FeatureCache(extractor, capacity=capacity + extractor.batch_size, dtype=dtype)
        self._extract_ahead = extract_ahead
        self._clock = clock

    def open_store(self, workspace: Workspace, device: torch.device) -> MapStore:
        """The maps of this clip and extractor on disk."""
        identity, source = self._cache.identity, self._reader.source
        return MapStore(workspace.maps, identity=identity, source=source, device=device)

    def stream(
        self, used: Callable[[int], bool], maps: MapStore | None = None, *, keep: int = 0
    ) -> Iterator[tuple[Frame, dict[int, FeatureMap]]]:
        """All frames, each with the maps of those of its batch that use them.

        Args:
            used: whether a frame, by number, needs its map.
            maps: where maps are taken from, if they are there, and put.
            keep: bytes that it may hold when more is put there.
        """

        def save(item: tuple[Frame, FeatureMap]) -> None:
            if maps is not None and maps.nbytes < keep:
                maps.save(*item)

        with Behind(save, self._cache.batch_size, "save") as saving:
            batches = ((batch, self._found(batch, used, maps, saving)) for batch in self._batches())
            for batch, found in ahead(batches, 1, "extract") if self._extract_ahead else batches:
                for frame in batch:
                    yield frame, found

    def store(self, needed: Callable[[int], bool], maps: MapStore) -> Iterator[Frame]:
        """All frames, those that are needed with their maps in the store by then."""
        for batch in self._batches():
            if any(needed(frame.index) and frame.index not in maps for frame in batch):
                for frame, features in self._extract(batch):
                    if needed(frame.index):
                        maps.save(frame, features)
            yield from batch

    def _found(
        self,
        batch: Sequence[Frame],
        used: Callable[[int], bool],
        maps: MapStore | None,
        saving: Behind[tuple[Frame, FeatureMap]],
    ) -> dict[int, FeatureMap]:
        needed = [frame.index for frame in batch if used(frame.index)]
        if not needed:
            return {}
        if maps is not None and all(index in maps for index in needed):
            return {index: maps.load(index) for index in needed}
        found = {}
        for frame, features in self._extract(batch):
            if frame.index in needed:
                found[frame.index] = features
            saving.put((frame, features))
        return found

    def _batches(self) -> Iterator[list[Frame]]:
        size = self._cache.batch_size
        return batched(ahead(self._clock.iterate("decode", self._reader), size, "decode"), size)

    def _extract(self, batch: Sequence[Frame]) -> Iterator[tuple[Frame, FeatureMap]]:
        with self._clock.measure("extract"):
            return zip(batch, self._cache.extract(batch), strict=True)


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of up to `size` items, read no further ahead than needed."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def frames_to_fit(reader: FrameReader, count: int) -> list[Frame]:
    """The first pictures of a clip that show something, for what is fitted on them.

    A clip may begin in black, and components of nothing would tell no part of it from another.

    Args:
        reader: the clip.
        count: how many pictures; fewer where the clip has fewer.

    Returns:
        In order; the very first ones where none of the first `_LOOKED_AT` shows anything.
    """
    with iterated(reader) as frames:
        first = list(islice(frames, count))
        looked_at = islice(chain(first, frames), _LOOKED_AT)
        return list(islice(filter(_shows_something, looked_at), count)) or first


def _shows_something(frame: Frame) -> bool:
    return float(frame.rgb[::_EVERY, ::_EVERY].std()) >= _LEAST_CONTRAST
