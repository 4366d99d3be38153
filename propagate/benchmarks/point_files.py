"""Predicted keypoints of a clip, kept as a table."""

from __future__ import annotations

from pathlib import Path

from propagate.config import Preset
from propagate.errors import LabelError
from propagate.features.base import FeatureExtractor
from propagate.labels.keypoint_files import read_keypoints, write_keypoints
from propagate.labels.keypoint_formats.base import AnnotatedFrame, KeypointFile
from propagate.pipeline import VideoPropagator
from propagate.types import Keypoints
from propagate.video.base import FrameReader

FILE = "keypoints.csv"


def predict_points(
    reader: FrameReader,
    first: Keypoints,
    settings: Preset,
    extractor: FeatureExtractor,
    folder: Path,
) -> int:
    """Carry the points of a clip's first frame through it, and write what comes out.

    Args:
        reader: the clip.
        first: points of its first frame, in pixels.
        settings: propagation, encoding and decoding.
        extractor: where features come from.
        folder: gets `keypoints.csv`.

    Returns:
        How many frames.
    """
    propagator = VideoPropagator(
        reader,
        first,
        extractor=extractor,
        settings=settings.video,
        device=settings.options.device,
    )
    frames = tuple(AnnotatedFrame(item.labels, index=item.frame.index) for item in propagator)
    write_keypoints(folder / FILE, KeypointFile(frames))
    return len(frames)


def read_points(folder: Path) -> dict[int, Keypoints]:
    """The predicted points by frame.

    Raises:
        LabelError: they are missing or damaged.
    """
    return {
        item.index: item.keypoints
        for item in read_keypoints(folder / FILE).frames
        if item.index is not None
    }


def point_of(points: dict[int, Keypoints], index: int, folder: Path) -> Keypoints:
    """The points of a frame that must be there.

    Raises:
        LabelError: they are not.
    """
    if index not in points:
        raise LabelError(
            f"{folder / FILE} has no points of frame {index}; every annotated frame needs them."
        )
    return points[index]
