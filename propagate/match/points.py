"""The points that a match is about."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from propagate.errors import InputError
from propagate.labels.keypoint_checks import load_reference_keypoints
from propagate.match.request import MatchRequest
from propagate.matching.detectors import detect
from propagate.types import Frame

if TYPE_CHECKING:
    from jaxtyping import Float64


def asked_points(
    request: MatchRequest, frame: Frame, path: Path | None
) -> tuple[tuple[str, ...], Float64[np.ndarray, "n 2"], tuple[str, ...]]:
    """The points of an image that a request asks for.

    Args:
        request: says how they are found.
        frame: the image.
        path: keypoint file of this image, if there is one.

    Returns:
        Names, places in pixels, and notes.

    Raises:
        InputError: the detector finds none, or the file holds none of this image.
    """
    if path is not None:
        loaded = load_reference_keypoints(path, frame=frame)
        points = loaded.keypoints
        rows = np.flatnonzero(points.visible)
        names = tuple(str(points.names[row]) for row in rows)
        return names, points.xy[rows].astype(np.float64), loaded.notes
    if request.keypoints is not None:
        xy = detect(
            frame.rgb,
            request.keypoints,
            count=request.count,
            weights=request.keypoint_weights,
            device=request.options.device,
            offline=request.options.offline,
        )
        if not len(xy):
            raise InputError(
                f"{request.keypoints} finds no keypoint in {frame.name!r}; take another detector "
                "or --grid."
            )
    elif request.grid is not None:
        xy = _grid(frame, request.grid)
    else:
        xy = np.zeros((0, 2))
    return tuple(str(number) for number in range(len(xy))), xy, ()


def _grid(frame: Frame, count: int) -> Float64[np.ndarray, "n 2"]:
    """Centres of equal, nearly square fields."""
    longer = max(frame.size)
    rows, columns = (max(round(count * side / longer), 1) for side in frame.size)
    x, y = (
        (np.arange(n) + 0.5) * side / n
        for n, side in ((columns, frame.size.width), (rows, frame.size.height))
    )
    return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
