"""Keypoints that any program wrote, against true ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from propagate.benchmarks.base import Row, short
from propagate.errors import InputError
from propagate.labels.keypoint_files import read_keypoints
from propagate.labels.keypoint_formats.base import KeypointFile
from propagate.metrics.pck import keypoint_side
from propagate.metrics.points import pck, scaled_distances
from propagate.types import Keypoints, PointName

if TYPE_CHECKING:
    from jaxtyping import Float64

_THRESHOLDS = (0.05, 0.1, 0.2)
PROTOCOL = (
    "PCK: a point is right within the threshold x the longer side of the box around the true "
    "points of its frame; visible true points of all annotated frames but the first, whose points "
    "are what the copy has; error: median distance in pixels."
)


def score_keypoints(pred: Path, truth: Path) -> list[Row]:
    """PCK and error of every point, by its name.

    Args:
        pred: keypoint file of the results.
        truth: keypoint file with the true places of some frames.

    Raises:
        InputError: a file can't be read, has no numbers of frames, or lacks a frame or a point.
    """
    contents = [read_keypoints(path) for path in (pred, truth)]
    _check_pixels(pred, truth, contents)
    found, true = (
        _frames(path, content) for path, content in zip((pred, truth), contents, strict=True)
    )
    first, *later = sorted(true)
    if not later:
        raise InputError(f"{truth} has one annotated frame, which is given; nothing is to score.")
    names = true[first].names
    places = np.stack([_places(true[index], names, truth, index) for index in later])
    scale = np.array([keypoint_side(frame) for frame in places])
    missing = next((index for index in later if index not in found), None)
    if missing is not None:
        raise InputError(f"{pred} has no points of frame {missing}, which {truth} has.")
    predicted = np.stack([_places(found[index], names, pred, index) for index in later])
    copied = np.repeat(_places(true[first], names, truth, first)[None], len(later), axis=0)
    return [
        Row(truth.stem, str(name), _scores(predicted[:, k], copied[:, k], places[:, k], scale))
        for k, name in enumerate(names)
        if np.isfinite(places[:, k]).any()
    ]


def _scores(
    pred: Float64[np.ndarray, "t 2"],
    copied: Float64[np.ndarray, "t 2"],
    true: Float64[np.ndarray, "t 2"],
    scale: Float64[np.ndarray, " t"],
) -> dict[str, float]:
    own, floor = (
        scaled_distances(places[:, None], true[:, None], scale)[:, 0] for places in (pred, copied)
    )
    pixels = np.linalg.norm(pred - true, axis=1)[np.isfinite(true).all(1)]
    shares = {
        f"{prefix}@{short(threshold)}": pck(distances, threshold)
        for prefix, distances in (("PCK", own), ("copy PCK", floor))
        for threshold in _THRESHOLDS
    }
    return {**shares, "error": float(np.median(np.nan_to_num(pixels, nan=np.inf)))}


def _check_pixels(pred: Path, truth: Path, contents: Sequence[KeypointFile]) -> None:
    """Both files must count in the same pixels, as far as they tell."""
    sizes = {frame.size for content in contents for frame in content.frames} - {None}
    if any(content.needs_size for content in contents) or len(sizes) > 1:
        shown = " and ".join(sorted(map(str, sizes))) or "unknown size"
        raise InputError(
            f"{pred} and {truth} count in pictures of {shown}; write both in pixels of the clip, "
            "for example as a CSV of frame,name,x,y,visible."
        )


def _frames(path: Path, content: KeypointFile) -> dict[int, Keypoints]:
    frames = {frame.index: frame.keypoints for frame in content.frames if frame.index is not None}
    if not frames:
        raise InputError(f"{path} doesn't say which frames its points are in; give a frame column.")
    return frames


def _places(
    points: Keypoints, names: tuple[PointName, ...], path: Path, index: int
) -> Float64[np.ndarray, "k 2"]:
    """In the order of `names`; NaN for what is not visible."""
    missing = next((name for name in names if name not in points.names), None)
    if missing is not None:
        raise InputError(
            f"{path} has no point {str(missing)!r} in frame {index}; both files must have the same "
            "points."
        )
    rows = [points.names.index(name) for name in names]
    visible = points.visible[rows]
    return np.where(visible[:, None], points.xy[rows].astype(np.float64), np.nan)
