"""Semantic and geometric matches: both images' features, and what is alike in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from propagate.config import Task
from propagate.features.registry import create_extractor
from propagate.match.report import Found
from propagate.match.request import MatchRequest
from propagate.matching.feature_matcher import MapCache, fitted, mirror
from propagate.matching.geometric import Transform, fit_transform, match_keypoints
from propagate.matching.semantic import match_either_way, match_points, similarity_map
from propagate.output.match_picture import draw_similarity
from propagate.stopwatch import Stopwatch
from propagate.types import FeatureMap, Frame, Matches

if TYPE_CHECKING:
    from jaxtyping import Float64


def find_by_features(
    request: MatchRequest,
    source: Frame,
    target: Frame,
    xy: Float64[np.ndarray, "n 2"],
    candidates: Float64[np.ndarray, "m 2"] | None,
    clock: Stopwatch,
) -> Found:
    """Matches by features.

    Args:
        request: what to do; its method is "semantic" or "geometric".
        source: the image with the points.
        target: the other one.
        xy: the points, in pixels.
        candidates: what they are paired with in geometric matching, in pixels of the target.
        clock: is told of the stages.

    Raises:
        PropagateError: the model can't be loaded, or a point lies outside of its image.
    """
    task: Task = "geometric" if request.method == "geometric" else "semantic"
    with clock.measure("load model"):
        extractor = create_extractor(request.model, request.options, task=task)
    with clock.measure("features"):
        cache = MapCache(fitted(extractor, lambda: [source, target]))
        maps = cache.of(source), cache.of(target)
        mirrored = cache.of(mirror(source)) if request.flip else None
    with clock.measure("match"):
        matches, transform, flipped = _match(request, maps, mirrored, xy, candidates)
    heat = None
    if request.heatmap is not None:
        at = np.array(request.heatmap, dtype=np.float64)
        heat = draw_similarity(
            source.rgb, target.rgb, at, similarity_map(*maps, at, request.semantic)
        )
    return Found(matches, extractor.identity, transform, flipped, heat)


def _match(
    request: MatchRequest,
    maps: tuple[FeatureMap, FeatureMap],
    mirrored: FeatureMap | None,
    xy: Float64[np.ndarray, "n 2"],
    candidates: Float64[np.ndarray, "m 2"] | None,
) -> tuple[Matches, Transform | None, bool]:
    source, target = maps
    if candidates is not None:
        matches = match_keypoints(source, target, xy, candidates, request.geometric)
        transform = fit_transform(matches.source_xy, matches.target_xy, request.geometric)
        return matches, transform, False
    if mirrored is not None and len(xy):
        matches, flipped = match_either_way(source, mirrored, target, xy, request.semantic)
        return matches, None, flipped
    return match_points(source, target, xy, request.semantic), None, False
