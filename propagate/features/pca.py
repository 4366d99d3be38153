"""Principal components of features, fitted on the first frames of what is looked at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from propagate.features.base import FeatureExtractor
from propagate.types import FeatureMap, Frame

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class _Basis(NamedTuple):
    """Components of a clip, and how many of its frames they were fitted on."""

    mean: Float[Tensor, " c"]
    directions: Float[Tensor, "c k"]
    frames: int


class _Known(NamedTuple):
    """A frame whose map was needed for the components already."""

    frame: Frame
    map: FeatureMap


class PCAExtractor:
    """Keeps the `components` strongest principal components of an extractor's maps.

    Components are fitted once per clip, on unit-norm cells of its first frames, so that they do
    not depend on where a run is resumed.

    Args:
        extractor: what computes full maps.
        components: how many to keep at most.
        whitening: how much the weaker of them are lifted: each is divided by its standard deviation
            to this power. 0 keeps angles as they are, 1 makes all components equally strong.
        fit_frames: how many frames they are fitted on.
    """

    def __init__(
        self,
        extractor: FeatureExtractor,
        components: int,
        *,
        whitening: float = 0.0,
        fit_frames: int = 4,
    ) -> None:
        self._extractor = extractor
        self._components = components
        self._whitening = whitening
        self._fit_frames = fit_frames
        self._bases: dict[str, _Basis] = {}
        self._known: list[_Known] = []

    @property
    def identity(self) -> str:
        """The extractor's, with the number of components and of frames fitted on."""
        whitened = f" whitening={self._whitening:g}" if self._whitening else ""
        return f"{self._extractor.identity} pca={self._components}/{self._fit_frames}{whitened}"

    @property
    def fit_frames(self) -> int:
        """How many frames components are fitted on."""
        return self._fit_frames

    @property
    def batch_size(self) -> int:
        """The extractor's."""
        return self._extractor.batch_size

    def fit(self, frames: Sequence[Frame]) -> None:
        """Fit the components of the clip that `frames` begins, unless that was done.

        What was fitted on fewer frames, as by `extract` without this, is fitted again.

        Maps with fewer channels, or frames with fewer cells, have fewer components.
        """
        first = frames[: self._fit_frames]
        fitted = self._bases.get(first[0].source) if first else None
        if not first or (fitted is not None and len(first) <= fitted.frames):
            return
        maps = [item for frame in first for item in self._extractor.extract([frame])]
        mean, basis, deviations = principal_components(map(_cells, maps), self._components)
        if self._whitening:
            basis = whitened(basis, deviations, self._whitening)
        fitted = _Basis(mean, basis, len(first))
        self._bases[first[0].source] = fitted
        projected = (_project(item, fitted) for item in maps)
        self._known = [_Known(*pair) for pair in zip(first, projected, strict=True)]

    def extract(self, frames: Sequence[Frame]) -> list[FeatureMap]:
        """Projected maps [components, gh, gw], float32, not normalised.

        A clip that was not fitted before is fitted on the first frames of this call.
        """
        for source in {frame.source: None for frame in frames if frame.source not in self._bases}:
            self.fit([frame for frame in frames if frame.source == source])
        known = [self._take(frame) for frame in frames]
        others = [frame for frame, item in zip(frames, known, strict=True) if item is None]
        maps = iter(self._extractor.extract(others) if others else ())
        return [
            item or _project(next(maps), self._bases[frame.source])
            for frame, item in zip(frames, known, strict=True)
        ]

    def _take(self, frame: Frame) -> FeatureMap | None:
        """The map of a frame that components were fitted on, once: it comes but once in a run."""
        for index, known in enumerate(self._known):
            if _same(known.frame, frame):
                return self._known.pop(index).map
        return None


def principal_components(
    parts: Iterable[Float[Tensor, "n c"]], components: int
) -> tuple[Float[Tensor, " c"], Float[Tensor, "c k"], Float[Tensor, " k"]]:
    """Mean and strongest orthonormal directions of some vectors, and their deviations along each.

    Computed in float64, one part at a time. The sign of a direction is such that its largest entry
    is positive.

    Args:
        parts: of the vectors; there is at least one vector.
        components: how many directions at most.
    """
    moments = _Moments()
    for part in parts:
        moments.add(part)
    values, vectors = torch.linalg.eigh(moments.scatter)
    kept = min(components, moments.count, len(values))
    basis = vectors.flip(1)[:, :kept]
    deviations = (values.flip(0)[:kept].clamp_min(0) / moments.count).sqrt()
    largest = basis.gather(0, basis.abs().argmax(dim=0, keepdim=True))
    return moments.mean.float(), (basis * largest.sign()).float(), deviations


class _Moments:
    """Sums over vectors, of their difference to the first: it cancels what all have in common."""

    def __init__(self) -> None:
        self.count = 0
        self._origin = self._total = self._products = torch.zeros(())

    def add(self, vectors: Float[Tensor, "n c"]) -> None:
        """Take some vectors in."""
        vectors = vectors.double()
        if not self.count:
            self._origin = vectors[0]
        vectors = vectors - self._origin
        self.count += len(vectors)
        self._total = self._total + vectors.sum(0)
        self._products = self._products + vectors.T @ vectors

    @property
    def mean(self) -> Float[Tensor, " c"]:
        """Of all vectors."""
        return self._origin + self._total / self.count

    @property
    def scatter(self) -> Float[Tensor, "c c"]:
        """Sum of the outer products of the centred vectors."""
        return self._products - self._total.outer(self._total) / self.count


def whitened(
    basis: Float[Tensor, "c k"], deviations: Float[Tensor, " k"], power: float
) -> Float[Tensor, "c k"]:
    """Directions divided by the deviation of the vectors along each, to a power.

    Deviations are relative to the largest; one of none at all counts as a thousandth of it.
    """
    relative = (deviations / deviations.amax().clamp_min(1e-12)).clamp_min(1e-3)
    return (basis * relative.pow(-power)).float()


def _same(one: Frame, other: Frame) -> bool:
    """Whether two frames are the same place of a clip and the same picture."""
    places = (one.source, one.index) == (other.source, other.index)
    return places and np.array_equal(one.rgb, other.rgb)


def _cells(item: FeatureMap) -> Float[Tensor, "n c"]:
    return item.normalised(torch.float32).data.flatten(1).T.cpu()


def _project(item: FeatureMap, onto: _Basis) -> FeatureMap:
    mean, basis = onto.mean.to(item.data.device), onto.directions.to(item.data.device)
    cells = item.normalised(torch.float32).data.permute(1, 2, 0)
    projected = torch.addmm(-mean @ basis, cells.flatten(0, 1), basis).view(*cells.shape[:2], -1)
    return FeatureMap(projected.permute(2, 0, 1), item.image_size, item.input_size)
