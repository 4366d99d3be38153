"""Semantic matching: the place of another image that resembles a point's surroundings most."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch

from propagate.errors import InputError
from propagate.geometry import map_points
from propagate.matching.base import checked_points
from propagate.matching.everywhere import cells, centred
from propagate.matching.sampling import vectors_at, window_centre
from propagate.matching.upsampled import UpsampledCosine
from propagate.types import FeatureMap, Matches, Size

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Float64
    from torch import Tensor

Place = Literal["soft-argmax", "pixel"]


@dataclass(frozen=True, kw_only=True)
class SemanticSettings:
    """How the place of a point is found in another image.

    Args:
        place: "pixel" is the pixel with the highest cosine of the map upsampled to the image, as
            published; "soft-argmax" the centre of the similarities around the best cell.
        centred: take the mean over the image off the features of both; makes parts tell apart.
        mutual: how far, as a share of the source image's longer side, the way back may end from
            the point, else the match is dropped; 0 drops none.
        top: how many places to give for a point, the best ones that lie more than `reach` cells
            apart.
        temperature: of the soft-argmax.
        reach: cells to each side of the best one that the soft-argmax looks at.

    Raises:
        InputError: a value is out of range.
    """

    place: Place = "soft-argmax"
    centred: bool = True
    mutual: float = 0.0
    top: int = 1
    temperature: float = 0.05
    reach: int = 3

    def __post_init__(self) -> None:
        if self.place not in get_args(Place):
            raise InputError(
                f"place is {self.place!r}; it must be one of {', '.join(get_args(Place))}."
            )
        if not 0 <= self.mutual <= 1:
            raise InputError(f"mutual is {self.mutual}; it must be from 0 (off) to 1.")
        for name, least in (("top", 1), ("reach", 0)):
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}; it must be {least} or more.")
        if not self.temperature > 0:
            raise InputError(f"temperature is {self.temperature}; it must be greater than 0.")


# Beyond the centres of the outer cells upsampled features are constant; the first such pixel wins.
_TIE = 1e-12

PUBLISHED = SemanticSettings(place="pixel", centred=False)
"""As `eval_spair.py` of DIFT: features as they are, upsampled to the image, cosine, argmax."""


def match_points(
    source: FeatureMap,
    target: FeatureMap,
    xy: Float[np.ndarray, "n 2"],
    settings: SemanticSettings | None = None,
) -> Matches:
    """Where some points of one image are in another.

    Args:
        source: the image with the points.
        target: the other image, of any grid.
        xy: the points, in pixels of the source from the outer corner of the top-left pixel.
        settings: how; `PUBLISHED` for the protocol of papers.

    Returns:
        In the order of `xy`, best place first; fewer where `mutual` drops some, or `top` asks for
        more than there are. Scores are cosines.

    Raises:
        InputError: a point lies outside of the source, or the maps differ in channels.
    """
    settings = settings or SemanticSettings()
    xy = checked_points(xy, source.image_size)
    if source.data.shape[0] != target.data.shape[0]:
        raise InputError(
            f"The source has {source.data.shape[0]} channels and the target "
            f"{target.data.shape[0]}; take both from one extractor."
        )
    start, end = (_Searched(features, settings) for features in (source, target))
    found = list(end.places(start.vectors(xy), settings.top))
    counts = [len(scores) for _, scores in found]
    query = np.repeat(np.arange(len(xy), dtype=np.int64), counts)
    places = np.concatenate([np.zeros((0, 2)), *(where for where, _ in found)])
    scores = np.concatenate([np.zeros(0), *(score for _, score in found)])
    matches = Matches(xy[query], places, scores, query)
    return matches[_returns(start, end, matches, settings.mutual)] if settings.mutual else matches


def match_either_way(
    source: FeatureMap,
    mirrored: FeatureMap,
    target: FeatureMap,
    xy: Float[np.ndarray, "n 2"],
    settings: SemanticSettings | None = None,
) -> tuple[Matches, bool]:
    """`match_points`, from the source or from its mirror image, whichever is more alike.

    Decided by the mean score of the best places. The points stay those of the source; a left ear
    is looked for as the left ear, though in the mirror image it looks like a right one.

    Args:
        source: the image with the points.
        mirrored: the same image flipped left to right.
        target: the other image.
        xy: as for `match_points`.
        settings: as for `match_points`.

    Returns:
        The matches, and whether they are those of the mirror image.
    """
    plain = match_points(source, target, xy, settings)
    turned = match_points(mirrored, target, _mirror(np.asarray(xy), source.image_size), settings)
    if _mean(plain) >= _mean(turned):
        return plain, False
    back = _mirror(turned.source_xy, source.image_size)
    return Matches(back, turned.target_xy, turned.scores, turned.query), True


def similarity_map(
    source: FeatureMap,
    target: FeatureMap,
    xy: Float[np.ndarray, " 2"],
    settings: SemanticSettings | None = None,
) -> Float64[np.ndarray, "h w"]:
    """Cosine of one point of the source with every pixel of the target.

    Args:
        source: the image with the point.
        target: the other image.
        xy: the point in pixels.
        settings: says whether features are centred.

    Raises:
        InputError: the point lies outside of the source.
    """
    settings = settings or SemanticSettings()
    xy = checked_points(np.asarray(xy)[None], source.image_size)
    vectors = _Searched(source, settings).vectors(xy)
    return next(iter(_Searched(target, settings).upsampled().maps(vectors))).numpy()


class _Searched:
    """A map in which vectors are read and looked for; places are in pixels."""

    def __init__(self, features: FeatureMap, settings: SemanticSettings) -> None:
        given = centred(features) if settings.centred else features
        self.size, self._grid = features.image_size, features.grid
        data = given.data.double().cpu()
        self._features = FeatureMap(data, given.image_size, given.input_size, given.unit)
        self._settings = settings
        self._cosine: UpsampledCosine | None = None

    def vectors(self, xy: Float64[np.ndarray, "n 2"]) -> Float64[Tensor, "n c"]:
        """Unit vectors, read between cells."""
        return vectors_at(self._features, map_points(xy, self.size, self._grid))

    def upsampled(self) -> UpsampledCosine:
        """Made once."""
        if self._cosine is None:
            self._cosine = UpsampledCosine(self._features)
        return self._cosine

    def places(
        self, vectors: Float64[Tensor, "n c"], top: int
    ) -> Iterator[tuple[Float64[np.ndarray, "m 2"], Float64[np.ndarray, " m"]]]:
        """The best places of each vector, and their cosines."""
        if self._settings.place == "pixel":
            apart = np.array([self.size.height, self.size.width]) / self._grid
            radius = np.ceil(self._settings.reach * apart).astype(int)
            for pixels in self.upsampled().maps(vectors):
                rows, columns, scores = _peaks(pixels.numpy(), top, radius)
                yield np.column_stack([columns, rows]) + 0.5, scores
            return
        for cosine in self._cell_maps(vectors):
            radius = np.array([self._settings.reach] * 2)
            rows, columns, scores = _peaks(cosine, top, radius)
            centres = [
                window_centre(
                    cosine,
                    temperature=self._settings.temperature,
                    reach=self._settings.reach,
                    peak=(int(row), int(column)),
                )
                for row, column in zip(rows, columns, strict=True)
            ]
            yield map_points(np.array(centres), self._grid, self.size), scores

    def _cell_maps(self, vectors: Float64[Tensor, "n c"]) -> Iterator[Float64[np.ndarray, "gh gw"]]:
        unit = torch.nn.functional.normalize(cells(self._features), dim=1)
        for vector in vectors:
            yield (unit @ vector).reshape(*self._grid).numpy()


def _peaks(
    cosine: Float64[np.ndarray, "h w"], top: int, radius: np.ndarray
) -> tuple[np.ndarray, np.ndarray, Float64[np.ndarray, " m"]]:
    """Rows, columns and values of the highest places; none within `radius` of a higher one."""
    left = cosine if top == 1 else cosine.copy()
    found: list[tuple[int, int, float]] = []
    for _ in range(top):
        highest = left.max()
        if not np.isfinite(highest):
            break
        row, column = divmod(int((left >= highest - _TIE).argmax()), left.shape[1])
        found.append((row, column, float(left[row, column])))
        if len(found) < top:
            (high, wide) = radius
            left[
                max(row - high, 0) : row + high + 1, max(column - wide, 0) : column + wide + 1
            ] = -np.inf
    rows, columns, scores = (np.array(values) for values in zip(*found, strict=True))
    return rows, columns, scores


def _returns(
    start: _Searched, end: _Searched, matches: Matches, mutual: float
) -> Bool[np.ndarray, " n"]:
    """Which matches lead back to where they came from."""
    back = [where[0] for where, _ in start.places(end.vectors(matches.target_xy), 1)]
    off = np.linalg.norm(np.array(back).reshape(-1, 2) - matches.source_xy, axis=1)
    return np.asarray(off <= mutual * max(start.size))


def _mirror(xy: Float[np.ndarray, "n 2"], size: Size) -> Float64[np.ndarray, "n 2"]:
    return np.asarray(xy * (-1, 1) + (size.width, 0), dtype=np.float64)


def _mean(matches: Matches) -> float:
    return float(matches.scores.mean()) if len(matches) else -1.0
