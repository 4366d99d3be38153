"""Keypoints from images of other instances: the most similar place of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812, the field's usual name

from propagate.errors import InputError
from propagate.geometry import map_points
from propagate.matching.everywhere import cells, centred
from propagate.matching.sampling import vectors_at, window_centre
from propagate.matching.transfer import MatchingSettings, Trust
from propagate.types import FeatureMap, Keypoints, PointName, Size

if TYPE_CHECKING:
    from jaxtyping import Bool, Float32, Float64
    from torch import Tensor

# A point that comes back this far from where it was, as a share of the extent of its source's
# points, has half of the full cycle score.
_HALF_WAY = 0.25
# Points that are close together, or alone, count as spread over this share of their image.
_LEAST_EXTENT = 0.2


def transfer_points(
    sources: Sequence[tuple[FeatureMap, Keypoints]],
    target: FeatureMap,
    settings: MatchingSettings | None = None,
    *,
    visible_from: float = 0.0,
) -> tuple[Keypoints, tuple[Trust, ...]]:
    """The place of each point that its surroundings in the sources resemble most.

    Features are centred in each image and read between cells at the exact place of a point; those
    of a point that several sources show are averaged. The place is the centre of the similarities
    around the highest one (window soft-argmax). The way back says how much it can be trusted.

    Args:
        sources: one or more maps with the points of their image; points of one name are the same.
        target: of any grid.
        settings: temperature and reach of the soft-argmax.
        visible_from: the least confidence of a point that counts as visible.

    Returns:
        The points of all sources, in the target's pixels, and the trust in each; a point that no
        source shows has no place.

    Raises:
        InputError: there is no source.
    """
    settings = settings or MatchingSettings()
    if not sources:
        raise InputError("There is no source to transfer points from; give one or more.")
    names = tuple(dict.fromkeys(name for _, points in sources for name in points.names))
    looked_at = [_Source(centred(features), points, names) for features, points in sources]
    target = centred(target)
    summed = sum((source.vectors for source in looked_at), start=torch.zeros(1))
    vectors = F.normalize(summed, dim=1)
    places, similarity = _find(vectors, target, settings)
    found = vectors_at(target, places)
    cycle = np.max([source.returns(found, settings) for source in looked_at], axis=0)
    shown = np.any([source.shown for source in looked_at], axis=0)
    trust = tuple(
        Trust(float(s), float(c)) if known else Trust(0.0, 0.0)
        for s, c, known in zip(similarity, cycle, shown, strict=True)
    )
    confidence = np.array([item.confidence for item in trust], dtype=np.float32)
    xy = map_points(places, target.grid, target.image_size).astype(np.float32)
    xy[~shown] = np.nan
    points = Keypoints(names, xy, shown & (confidence >= visible_from), confidence)
    return points, trust


class _Source:
    """One image with points, by the names of all of them.

    Args:
        features: centred.
        points: of this image.
        names: of the points of all images.
    """

    def __init__(
        self, features: FeatureMap, points: Keypoints, names: tuple[PointName, ...]
    ) -> None:
        self._features = features
        cells_xy = map_points(points.xy.astype(np.float64), features.image_size, features.grid)
        rows = {name: row for row, name in enumerate(points.names) if points.visible[row]}
        self.shown: Bool[np.ndarray, " k"] = np.array([name in rows for name in names])
        self._places = np.zeros((len(names), 2))
        for number, name in enumerate(names):
            if name in rows:
                self._places[number] = cells_xy[rows[name]]
        self._extent = _extent(self._places[self.shown], features.grid)
        vectors = vectors_at(features, self._places)
        self.vectors: Float32[Tensor, "k c"] = vectors * torch.from_numpy(self.shown)[:, None].to(
            vectors.device
        )

    def returns(
        self, vectors: Float32[Tensor, "k c"], settings: MatchingSettings
    ) -> Float64[np.ndarray, " k"]:
        """1 for a vector that is found where its point is, less the farther off; 0 if not shown."""
        places, _ = _find(vectors, self._features, settings)
        off = np.linalg.norm(places - self._places, axis=1) / self._extent
        return np.asarray(np.where(self.shown, 1 / (1 + (off / _HALF_WAY) ** 2), 0.0))


def _extent(places: Float64[np.ndarray, "k 2"], grid: Size) -> float:
    """Longer side of the box around the points, in cells."""
    spread = np.ptp(places, axis=0).max() if len(places) else 0.0
    return float(max(spread, _LEAST_EXTENT * max(grid)))


def _find(
    vectors: Float32[Tensor, "k c"], features: FeatureMap, settings: MatchingSettings
) -> tuple[Float64[np.ndarray, "k 2"], Float64[np.ndarray, " k"]]:
    """Most similar place (x, y) of each vector, in cells, and the highest cosine."""
    cosines = (vectors @ cells(features).T).reshape(-1, *features.grid)
    maps = cosines.double().cpu().numpy()
    places = [
        window_centre(map_, temperature=settings.temperature, reach=settings.reach) for map_ in maps
    ]
    return np.array(places).reshape(-1, 2), maps.max((1, 2), initial=-1.0)
