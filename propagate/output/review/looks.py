"""What can be measured of an object in a frame: its area, its place, and its pieces."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np

from propagate.labels.clip_labels import FrameLabels
from propagate.types import Keypoints, Masks

if TYPE_CHECKING:
    from jaxtyping import Bool

Condition = Literal["given", "visible", "occluded", "lost", "absent"]
"""A `State`, or `absent`: no pixel or place, and nobody said why."""

_PIECE = 0.05  # of an object's area; anything smaller is a speck


@dataclass(frozen=True)
class Look:
    """An object, or a point, in one frame.

    Args:
        condition: what became of it.
        area: in pixels; 0 for points.
        x: of its centre of mass, in pixels; NaN where it has none.
        y: the same.
        pieces: parts that don't touch and have a twentieth of the area each, at least.
        confidence: 0 to 1, or None where nobody said.
    """

    condition: Condition
    area: int = 0
    x: float = math.nan
    y: float = math.nan
    pieces: int = 0
    confidence: float | None = None

    @property
    def placed(self) -> bool:
        """Whether it is anywhere in the picture."""
        return math.isfinite(self.x)


def looks_of_masks(labels: FrameLabels, *, given: bool) -> dict[int, Look]:
    """Every object that has a pixel or that something is said about.

    Args:
        labels: of a frame.
        given: whether the user made them, where the labels don't say by object.
    """
    said = {*labels.masks.object_ids, *labels.confidence, *labels.occluded, *labels.states}
    return {object_id: _look_of_mask(labels, object_id, given) for object_id in sorted(said)}


def looks_of_points(points: Keypoints, *, given: bool) -> list[Look]:
    """Every point, in their order; a hidden one counts as occluded."""
    looks = []
    for number, (x, y) in enumerate(points.xy.tolist()):
        visible, placed = bool(points.visible[number]), math.isfinite(x)
        condition: Condition = "visible" if visible else "occluded" if placed else "absent"
        sure = None if points.confidence is None else float(points.confidence[number])
        looks.append(Look("given" if given and visible else condition, x=x, y=y, confidence=sure))
    return looks


def _look_of_mask(labels: FrameLabels, object_id: int, given: bool) -> Look:
    mask = _cropped(labels.masks, object_id)
    confidence = labels.confidence.get(object_id)
    condition: Condition = "visible" if mask is not None else "absent"
    if object_id in labels.occluded:
        condition = "occluded"
    condition = labels.states.get(object_id, "given" if given else condition)
    if mask is None:
        return Look(condition, confidence=confidence)
    (top, left), inside = mask
    rows, columns = np.nonzero(inside)
    return Look(
        condition,
        area=len(rows),
        x=float(left + columns.mean() + 0.5),
        y=float(top + rows.mean() + 0.5),
        pieces=_pieces(inside),
        confidence=confidence,
    )


def _cropped(
    masks: Masks, object_id: int
) -> tuple[tuple[int, int], Bool[np.ndarray, "h w"]] | None:
    """The mask of one object without the empty space around it, and its first row and column."""
    mask = masks.ids == object_id
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return None
    top, bottom = rows[[0, -1]].tolist()
    columns = np.flatnonzero(mask[top : bottom + 1].any(axis=0))
    left, right = columns[[0, -1]].tolist()
    return (top, left), mask[top : bottom + 1, left : right + 1]


def _pieces(mask: Bool[np.ndarray, "h w"]) -> int:
    _, _, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    areas: Sequence[int] = statistics[1:, cv2.CC_STAT_AREA].tolist()
    return sum(area >= _PIECE * sum(areas) for area in areas)
