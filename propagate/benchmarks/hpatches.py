"""HPatches: homographies from the first photo of a scene to each other one, by keypoints.

Protocol: `eval_hpatches.py` and `eval_homography.py` of DIFT: mutual nearest neighbours among the
features at keypoints, mean error of the four corners. The data set is read by `hpatches_scenes`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
import torch

from propagate.benchmarks.base import Benchmark, Curve, Row, UnitScore, decisive_options
from propagate.benchmarks.hpatches_scenes import IMAGES, KeypointSource, Scene
from propagate.benchmarks.pairs import picture, picture_size
from propagate.benchmarks.pictures import compared_corners, compared_sides
from propagate.config import Preset
from propagate.errors import InputError, LabelError
from propagate.features.registry import create_extractor
from propagate.matching.feature_matcher import MapCache, fitted
from propagate.matching.geometric import (
    GeometricSettings,
    fit_transform,
    match_keypoints,
    mutual_nearest,
)
from propagate.metrics.homography import (
    THRESHOLDS,
    accuracy,
    area_under_curve,
    corner_errors,
    warp,
)
from propagate.types import FeatureMap

if TYPE_CHECKING:
    from jaxtyping import Float64, UInt8

_PUBLISHED = 108  # scenes
_FILE = "homographies.json"
_WAYS = {"features": "", "sift": "SIFT "}
_KINDS = {"i": "illumination", "v": "viewpoint"}
_CURVE = tuple(np.arange(0.5, 10.01, 0.5).tolist())
_CORNERS = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], dtype=np.float64)


class _Seen(NamedTuple):
    """What is known of one image of a scene.

    Attributes:
        map: features.
        xy: keypoints, in pixels from the outer corner of the first one.
        sift_xy: SIFT's own, from the centre of the first one.
        descriptors: of these.
    """

    map: FeatureMap
    xy: Float64[np.ndarray, "n 2"]
    sift_xy: np.ndarray
    descriptors: np.ndarray


class HpatchesBenchmark(Benchmark[MapCache]):
    """Scenes of HPatches, beside SIFT's own keypoints and descriptors under the same estimator.

    Args:
        scenes: to score.
        keypoints: where they come from.
        matching: of matcher and estimator; the model must be a homography.

    Raises:
        InputError: `matching` fits something else.
    """

    unit_kind = "scenes"
    streams = False
    picture_kind = "image"

    def __init__(
        self,
        scenes: Sequence[Scene],
        *,
        keypoints: KeypointSource,
        matching: GeometricSettings,
    ) -> None:
        if matching.model != "homography":
            raise InputError("HPatches has homographies only; leave out --transform.")
        self._scenes = {scene.name: scene for scene in scenes}
        self._keypoints = keypoints
        self._matching = matching
        self.published = "hpatches" if len(scenes) == _PUBLISHED else None

    @property
    def name(self) -> str:
        """`HPatches, 108 scenes`."""
        return f"HPatches, {len(self._scenes)} scenes"

    @property
    def protocol(self) -> str:
        """What an error is."""
        return (
            "HPatches: homography from the first image to each other one; @t: share of pairs whose "
            "mean error of the four corners is at most t pixels; AUC: area under that curve."
        )

    @property
    def units(self) -> tuple[str, ...]:
        """Names of the scenes."""
        return tuple(self._scenes)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Accuracy and area of the features' homographies, and accuracy of SIFT's."""
        return tuple(f"{prefix}{t:g}" for prefix in ("@", "AUC@", "SIFT @") for t in THRESHOLDS)

    @property
    def options(self) -> Mapping[str, Any]:
        """Keypoints, matcher and estimator."""
        source = self._keypoints
        weights = source.weights if source.detector == "superpoint" else None
        return {
            "keypoints": {
                "detector": source.detector,
                "count": source.count,
                "folder": None if source.folder is None else str(source.folder.absolute()),
                "weights": weights,
            },
            "matching": asdict(self._matching),
        }

    def decisive(self, settings: Preset) -> dict[str, Any]:
        """Model and model options."""
        return {"model": settings.model, "options": decisive_options(settings)}

    def described(self, settings: Preset) -> str:
        """Keypoints, matcher and estimator."""
        del settings
        return f"{self._keypoints} {self._matching}"

    def load(self, settings: Preset) -> MapCache:
        """The extractor's maps."""
        scene = next(iter(self._scenes.values()))
        extractor = create_extractor(settings.model, settings.options, task="geometric")
        return MapCache(fitted(extractor, lambda: [picture(path) for path in scene.images[:2]]))

    def predict(self, unit: str, settings: Preset, engine: MapCache, folder: Path) -> int:
        """Write the five homographies, of the features and of SIFT."""
        del settings
        scene = self._scenes[unit]
        first, *others = (self._seen(scene, image, engine) for image in range(IMAGES))
        found = [self._estimate(first, other) for other in others]
        (folder / _FILE).write_text(json.dumps(found) + "\n", encoding="utf-8")
        return IMAGES

    def score(self, unit: str, folder: Path) -> UnitScore:
        """Corner errors of the five pairs."""
        scene = self._scenes[unit]
        found = _read(folder / _FILE)
        size = picture_size(scene.images[0])
        rows = []
        for image, (ways, truth) in enumerate(zip(found, scene.homographies, strict=True), 2):
            scores: dict[str, float] = {}
            for way, prefix in _WAYS.items():
                matrix = _matrix(ways[way])
                error = float(corner_errors(matrix, truth, size).mean())
                scores[f"{prefix}error"] = error
                scores[f"{prefix}matches"] = float(ways[way]["matches"])
                scores[f"{prefix}inliers"] = float(ways[way]["inliers"])
                scores |= {f"{prefix}@{t:g}": 100.0 * (error <= t) for t in THRESHOLDS}
            rows.append(Row(unit, f"1-{image}", scores))
        return UnitScore(unit, tuple(rows), data=[_matrix(ways["features"]) for ways in found])

    def summarise(self, scores: Sequence[UnitScore]) -> dict[str, float]:
        """Accuracy and area over all pairs."""
        return _shares([row for score in scores for row in score.rows])

    def listed(self, scores: Sequence[UnitScore]) -> Sequence[Row]:
        """A row for each kind of scene."""
        kinds = {
            name: [row for score in scores if score.unit[0] == kind for row in score.rows]
            for kind, name in _KINDS.items()
        }
        return [Row(name, "", _shares(rows)) for name, rows in kinds.items() if rows]

    def curve(self, scores: Sequence[UnitScore]) -> Curve:
        """Accuracy over the threshold."""
        rows = [row for score in scores for row in score.rows]
        lines = {
            way: (100 * accuracy(_errors(rows, prefix), _CURVE)).tolist()
            for way, prefix in _WAYS.items()
        }
        return Curve("mean corner error, pixels", "pairs", _CURVE, lines)

    def picture(
        self, score: UnitScore, folder: Path
    ) -> tuple[UInt8[np.ndarray, "h w 3"], str] | None:
        """The first image, and the worst other one with its outline: true and as estimated."""
        del folder
        scene = self._scenes[score.unit]
        errors = _errors(score.rows, "")
        worst = int(errors.argmax())
        first, other = (picture(scene.images[i]) for i in (0, worst + 1))
        corners = _CORNERS * (first.size.width - 1, first.size.height - 1)
        matrix = score.data[worst]
        drawn = compared_corners(
            other.rgb,
            None if matrix is None else warp(matrix, corners) + 0.5,
            warp(scene.homographies[worst], corners) + 0.5,
        )
        caption = f"{score.unit} {score.rows[worst].item}: off by {errors[worst]:.1f} px"
        return compared_sides(first.rgb, drawn), caption

    def _seen(self, scene: Scene, image: int, maps: MapCache) -> _Seen:
        frame = picture(scene.images[image])
        sift = _sift(frame.rgb, self._keypoints.count)
        return _Seen(maps.of(frame), self._keypoints.of(scene, image), *sift)

    def _estimate(self, first: _Seen, other: _Seen) -> dict[str, Any]:
        matches = match_keypoints(first.map, other.map, first.xy, other.xy, self._matching)
        pairs, _ = mutual_nearest(
            torch.from_numpy(first.descriptors), torch.from_numpy(other.descriptors), metric="l2"
        )
        return {
            "features": self._fit(matches.source_xy - 0.5, matches.target_xy - 0.5),
            "sift": self._fit(first.sift_xy[pairs[:, 0]], other.sift_xy[pairs[:, 1]]),
        }

    def _fit(
        self, source: Float64[np.ndarray, "n 2"], target: Float64[np.ndarray, "n 2"]
    ) -> dict[str, Any]:
        found = fit_transform(source, target, self._matching)
        return {
            "matches": len(source),
            "inliers": int(found.inliers.sum()),
            "matrix": None if found.matrix is None else found.matrix.tolist(),
        }


def _sift(rgb: UInt8[np.ndarray, "h w 3"], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints (from the centre of the first pixel) and descriptors of OpenCV's SIFT."""
    vision: Any = cv2  # its stubs lack it
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    found, descriptors = vision.SIFT_create(count).detectAndCompute(grey, None)
    if descriptors is None:
        return np.zeros((0, 2)), np.zeros((0, 128), dtype=np.float32)
    places = np.array([point.pt for point in found], dtype=np.float64)
    unique, rows = np.unique(places, axis=0, return_index=True)
    return unique, descriptors[rows]


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        if len(found) == IMAGES - 1 and all(
            {"matches", "inliers", "matrix"} <= set(ways[way]) for ways in found for way in _WAYS
        ):
            return found
        reason = "it has other content"
    except (OSError, ValueError, TypeError, KeyError) as error:
        reason = str(error)
    raise LabelError(
        f"{path} can't be read ({reason}); remove its folder to estimate the scene again."
    )


def _matrix(found: Mapping[str, Any]) -> Float64[np.ndarray, "3 3"] | None:
    return None if found["matrix"] is None else np.array(found["matrix"], dtype=np.float64)


def _errors(rows: Sequence[Row], prefix: str) -> Float64[np.ndarray, " n"]:
    return np.array([row.scores[f"{prefix}error"] for row in rows], dtype=np.float64)


def _shares(rows: Sequence[Row]) -> dict[str, float]:
    """Accuracy and area in per cent."""
    found: dict[str, float] = {"pairs": float(len(rows))}
    for prefix in _WAYS.values():
        errors = _errors(rows, prefix)
        for name, values in (("@", accuracy(errors)), ("AUC@", area_under_curve(errors))):
            pairs = zip(THRESHOLDS, values.tolist(), strict=True)
            found |= {f"{prefix}{name}{t:g}": 100 * value for t, value in pairs}
    return found
