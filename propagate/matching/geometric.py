"""Geometric matching: the same points of one scene in two pictures, and the transform between them.

Keypoints from a detector (`detectors.py`), descriptors from a feature map, mutual nearest
neighbours, and a homography or fundamental matrix that most of the matches agree with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import cv2
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812, the field's usual name

from propagate.errors import InputError
from propagate.geometry import map_points
from propagate.matching.sampling import vectors_at
from propagate.types import FeatureMap, Matches

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Float32, Float64, Int64
    from torch import Tensor

Sampling = Literal["exact", "published"]
Metric = Literal["cosine", "l2"]
Model = Literal["homography", "fundamental"]
Estimator = Literal["magsac", "lmeds", "ransac"]

_METHODS = {
    ("homography", "magsac"): cv2.USAC_MAGSAC,
    ("homography", "lmeds"): cv2.LMEDS,
    ("homography", "ransac"): cv2.RANSAC,
    ("fundamental", "magsac"): cv2.USAC_MAGSAC,
    ("fundamental", "lmeds"): cv2.FM_LMEDS,
    ("fundamental", "ransac"): cv2.FM_RANSAC,
}
_LEAST = {"homography": 4, "fundamental": 8}
# Similarities held at once: 4 million float32 are 16 MB.
_BLOCK = 1 << 22


@dataclass(frozen=True, kw_only=True)
class GeometricSettings:
    """How points of two pictures are matched.

    Args:
        metric: cosine, or L2 distance of descriptors as they are.
        sampling: "exact" reads the map at the point; "published" as `eval_hpatches.py` of DIFT,
            which is up to half a pixel off and mixes the border with zeros.
        ratio: the best match must be nearer than this share of the second best's distance
            (Lowe's test); None for no test.
        model: what transform to fit.
        estimator: MAGSAC, least median of squares, or RANSAC, of OpenCV.
        threshold: pixels from its place at which a match is an inlier.

    Raises:
        InputError: a value is out of range.
    """

    metric: Metric = "cosine"
    sampling: Sampling = "exact"
    ratio: float | None = None
    model: Model = "homography"
    estimator: Estimator = "magsac"
    threshold: float = 3.0

    def __post_init__(self) -> None:
        for name, kind in (
            ("metric", Metric),
            ("sampling", Sampling),
            ("model", Model),
            ("estimator", Estimator),
        ):
            value, allowed = getattr(self, name), get_args(kind)
            if value not in allowed:
                raise InputError(f"{name} is {value!r}; it must be one of {', '.join(allowed)}.")
        if self.ratio is not None and not 0 < self.ratio <= 1:
            raise InputError(f"ratio is {self.ratio}; it must be greater than 0 and at most 1.")
        if not self.threshold > 0:
            raise InputError(f"threshold is {self.threshold} pixels; it must be greater than 0.")


@dataclass(frozen=True, repr=False, eq=False)
class Transform:
    """What most of the matches agree with.

    Args:
        matrix: float64 [3, 3], a homography (target ~ matrix @ source) or fundamental matrix
            (target @ matrix @ source = 0), in the pixels of the points; None where none was found.
        inliers: bool [n], the matches that agree.
    """

    matrix: Float64[np.ndarray, "3 3"] | None
    inliers: Bool[np.ndarray, " n"]

    def __repr__(self) -> str:
        found = "none" if self.matrix is None else "found"
        return f"Transform({found}, {int(self.inliers.sum())} of {len(self.inliers)} inliers)"


def descriptors_at(
    features: FeatureMap, xy: Float64[np.ndarray, "n 2"], sampling: Sampling = "exact"
) -> Float[Tensor, "n c"]:
    """Vectors of a map at places in pixels; unit norm if "exact", else as they are."""
    if sampling == "exact":
        return vectors_at(features, map_points(xy, features.image_size, features.grid))
    size = np.array([features.image_size.width, features.image_size.height])
    middle = (size - 1) / 2
    # Normalised for align_corners=True, sampled with False, zeros outside: as published.
    where = torch.from_numpy((xy - 0.5 - middle) / middle).to(features.data)[None, None]
    read = F.grid_sample(features.data[None], where, align_corners=False)
    return read[0, :, 0].T


def mutual_nearest(
    source: Float[Tensor, "n c"],
    target: Float[Tensor, "m c"],
    *,
    metric: Metric = "cosine",
    ratio: float | None = None,
) -> tuple[Int64[np.ndarray, "k 2"], Float64[np.ndarray, " k"]]:
    """Pairs of descriptors that are each other's nearest; of equally near ones the first.

    Some rows at a time, so memory does not grow with n times m.

    Args:
        source: descriptors of one picture.
        target: of the other.
        metric: see `GeometricSettings`.
        ratio: see `GeometricSettings`.

    Returns:
        Rows of `source` and `target`, in the order of `source`, and how alike they are: the
        cosine, or minus the distance.
    """
    if not len(source) or not len(target):
        return np.zeros((0, 2), dtype=np.int64), np.zeros(0)
    if metric == "cosine":
        source, target = F.normalize(source, dim=1), F.normalize(target, dim=1)
    best, second, forth = [], [], []
    back_best = target.new_full((len(target),), -torch.inf)
    back = torch.zeros(len(target), dtype=torch.long, device=target.device)
    rows = max(_BLOCK // len(target), 1)
    for start in range(0, len(source), rows):
        part = source[start : start + rows]
        alike = part @ target.T
        if metric == "l2":
            alike = 2 * alike - part.square().sum(1, keepdim=True) - target.square().sum(1)
        values, columns = alike.max(dim=1)
        best.append(values)
        forth.append(columns)
        if len(target) > 1:
            second.append(alike.topk(2, dim=1).values[:, 1])
        values, at = alike.max(dim=0)
        better = values > back_best
        back = torch.where(better, at + start, back)
        back_best = torch.where(better, values, back_best)
    nearest, alike = torch.cat(forth), torch.cat(best)
    kept = back[nearest] == torch.arange(len(source), device=source.device)
    if ratio is not None and second:
        kept &= _distance(alike, metric) < ratio * _distance(torch.cat(second), metric)
    chosen = kept.nonzero()[:, 0]
    pairs = torch.stack([chosen, nearest[chosen]], dim=1).cpu().numpy()
    alike = alike[chosen] if metric == "cosine" else -_distance(alike[chosen], metric)
    return pairs, alike.double().cpu().numpy()


def _distance(alike: Float[Tensor, " n"], metric: Metric) -> Float[Tensor, " n"]:
    """Euclidean distance, of unit vectors for the cosine."""
    squared = 2 - 2 * alike if metric == "cosine" else -alike
    return squared.clamp_min(0).sqrt()


def match_keypoints(
    source: FeatureMap,
    target: FeatureMap,
    source_xy: Float64[np.ndarray, "n 2"],
    target_xy: Float64[np.ndarray, "m 2"],
    settings: GeometricSettings | None = None,
) -> Matches:
    """Keypoints of two pictures whose features are each other's nearest.

    Args:
        source: map of one picture.
        target: map of the other, with as many channels.
        source_xy: keypoints in pixels.
        target_xy: keypoints in pixels.
        settings: metric, sampling and ratio.

    Returns:
        Matches in the order of `source_xy`.
    """
    settings = settings or GeometricSettings()
    pairs, alike = mutual_nearest(
        descriptors_at(source, source_xy, settings.sampling),
        descriptors_at(target, target_xy, settings.sampling),
        metric=settings.metric,
        ratio=settings.ratio,
    )
    return Matches(source_xy[pairs[:, 0]], target_xy[pairs[:, 1]], alike, pairs[:, 0])


def fit_transform(
    source_xy: Float[np.ndarray, "n 2"],
    target_xy: Float[np.ndarray, "n 2"],
    settings: GeometricSettings | None = None,
) -> Transform:
    """The transform that most of some matched places agree with, by OpenCV.

    Args:
        source_xy: places in one picture, in pixels from wherever.
        target_xy: places in the other, counted in the same way.
        settings: model, estimator and threshold.

    Returns:
        No matrix, and no inlier, where there are too few matches (4 for a homography, 8 for a
        fundamental matrix) or nothing fits.
    """
    settings = settings or GeometricSettings()
    nothing = Transform(None, np.zeros(len(source_xy), dtype=np.bool_))
    if len(source_xy) < _LEAST[settings.model]:
        return nothing
    method = _METHODS[settings.model, settings.estimator]
    fit: Any = cv2.findHomography if settings.model == "homography" else cv2.findFundamentalMat
    points: tuple[Float32[np.ndarray, "n 2"], ...] = tuple(
        np.ascontiguousarray(xy, dtype=np.float32) for xy in (source_xy, target_xy)
    )
    matrix, inliers = fit(*points, method, settings.threshold)
    # OpenCV may give several fundamental matrices below each other.
    if matrix is None or matrix.shape != (3, 3) or inliers is None:
        return nothing
    return Transform(np.asarray(matrix), inliers.ravel().astype(np.bool_))
