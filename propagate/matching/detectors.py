"""Keypoints: corners and blobs that are found again in another picture of the same scene."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import cv2
import numpy as np

from propagate.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Float64, UInt8

Detector = Literal["sift", "orb", "gftt", "superpoint"]
SUPERPOINT = "superpoint"
"""Name of the published weights."""


def detect(
    rgb: UInt8[np.ndarray, "h w 3"],
    detector: Detector,
    *,
    count: int = 1000,
    weights: str = SUPERPOINT,
    device: str = "auto",
    offline: bool = False,
) -> Float64[np.ndarray, "n 2"]:
    """The keypoints of a picture at the size it has.

    Args:
        rgb: the picture; all of them look at its greyscale.
        detector: SIFT, ORB, corners that are good to track (GFTT), or SuperPoint's network.
        count: the most points; those with the highest scores.
        weights: name, folder or hub repository of SuperPoint's weights.
        device: where SuperPoint runs.
        offline: never download its weights.

    Returns:
        Different places, in pixels from the outer corner of the top-left pixel; by x, then y.

    Raises:
        InputError: an unknown detector, or `count` below 1.
        ModelError: SuperPoint's weights are not to be had, or of another model.
    """
    if detector not in get_args(Detector):
        raise InputError(
            f"The detector is {detector!r}; it must be one of {', '.join(get_args(Detector))}."
        )
    if count < 1:
        raise InputError(f"The number of keypoints is {count}; it must be 1 or more.")
    if detector == "superpoint":
        from propagate.features.superpoint import load_superpoint

        found = load_superpoint(weights, device=device, offline=offline).keypoints(rgb, count)
        return np.unique(found, axis=0)
    # OpenCV counts from the centre of the first pixel.
    return np.unique(_by_opencv(rgb, detector, count).astype(np.float64), axis=0) + 0.5


def _by_opencv(
    rgb: UInt8[np.ndarray, "h w 3"], detector: Detector, count: int
) -> Float64[np.ndarray, "n 2"]:
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    if detector == "gftt":
        corners = cv2.goodFeaturesToTrack(grey, count, 0.01, 5)
        return np.zeros((0, 2)) if corners is None else corners.reshape(-1, 2)
    vision: Any = cv2  # its stubs lack them
    made = vision.SIFT_create(count) if detector == "sift" else vision.ORB_create(count)
    return np.array([point.pt for point in made.detect(grey, None)]).reshape(-1, 2)
