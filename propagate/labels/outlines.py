"""Masks to polygons and back, exact to the pixel.

Points are in pixels from the outer corner of the top-left pixel, so the outline of a single pixel
is a square of side 1. Outlines run along the borders between pixels; a polygon covers the pixels
whose centres are inside by the even-odd rule, so that holes are just further rings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from propagate.types import Size

if TYPE_CHECKING:
    from jaxtyping import Bool, Float64

    Ring = Float64[np.ndarray, "n 2"]


@dataclass(frozen=True)
class Outline:
    """A connected piece of a mask.

    Args:
        ring: float64 [n, 2], its outer border as x, y.
        holes: the borders of its holes, each [n, 2].
    """

    ring: Ring
    holes: tuple[Ring, ...]

    @property
    def area(self) -> float:
        """Pixels within the outer border, holes included."""
        return _area(self.ring)

    @property
    def hole_area(self) -> float:
        """Pixels of the holes."""
        return sum(_area(hole) for hole in self.holes)


def outlines(mask: Bool[np.ndarray, "h w"], *, tolerance: float = 0.0) -> list[Outline]:
    """The pieces of a mask, largest first; pixels that touch at a corner belong together.

    Args:
        mask: what to outline.
        tolerance: how far, in pixels, a border may be moved to save points. 0 keeps every pixel.
            A piece too small or thin for it keeps its exact border.
    """
    box = cv2.boundingRect(mask.view(np.uint8))
    left, top, width, height = box
    if not width:
        return []
    # At twice the size the two sides of every pixel are different pixels, so that the outline
    # that OpenCV draws through them tells where the border between two pixels is.
    part = mask[top : top + height, left : left + width].view(np.uint8)
    double = cv2.resize(part, (2 * width, 2 * height), interpolation=cv2.INTER_NEAREST)
    found, tree = cv2.findContours(double, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    rings = [_border(points, left, top) for points in found]
    if tolerance > 0:
        rings = [_simplified(ring, tolerance) for ring in rings]
    pieces = [
        Outline(ring, tuple(rings[i] for i, link in enumerate(tree[0]) if link[3] == index))
        for index, ring in enumerate(rings)
        if tree[0][index][3] < 0
    ]
    return sorted(pieces, key=lambda piece: -piece.area)


def fill(rings: Sequence[Ring], size: Size) -> Bool[np.ndarray, "h w"]:
    """The pixels whose centres are inside an odd number of rings.

    Args:
        rings: each [n, 2] with n >= 3, x and y in pixels; they may leave the frame.
        size: of the frame.
    """
    height, width = size
    flips = np.zeros((height, width + 1), dtype=np.uint8)
    for ring in rings:
        start = np.asarray(ring, dtype=np.float64)
        end = np.roll(start, -1, axis=0)
        # Both directions of an edge must give the very same crossings.
        down = (start[:, 1] <= end[:, 1])[:, None]
        upper, lower = np.where(down, start, end), np.where(down, end, start)
        first = np.clip(np.ceil(upper[:, 1] - 0.5), 0, height).astype(np.int64)
        stop = np.clip(np.ceil(lower[:, 1] - 0.5), 0, height).astype(np.int64)
        counts = stop - first
        edge = np.repeat(np.arange(len(start)), counts)
        row = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
        dx, dy = (lower - upper)[edge].T
        x = upper[edge, 0] + dx * ((row + 0.5 - upper[edge, 1]) / dy)
        column = np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)
        np.add.at(flips, (row, column), 1)
    inside: Bool[np.ndarray, "h w"] = np.cumsum(flips, axis=1, dtype=np.uint8)[:, :width] % 2 == 1
    return inside


def joined(rings: Sequence[Ring]) -> Ring:
    """One ring that encloses what several enclose, which are joined by lines without an area."""
    whole = rings[0]
    for ring in rings[1:]:
        i, j = _nearest(whole, ring)
        whole = np.concatenate(
            [whole[: i + 1], ring[j:], ring[: j + 1], whole[i : i + 1], whole[i + 1 :]]
        )
    return whole


def _border(points: np.ndarray, left: int, top: int) -> Ring:
    """From pixels of the doubled mask to corners of pixels, without points along straight lines."""
    corners = (points[:, 0].astype(np.int64) + 1) // 2
    corners = corners[(corners != np.roll(corners, 1, axis=0)).any(axis=1)]
    before, after = corners - np.roll(corners, 1, axis=0), np.roll(corners, -1, axis=0) - corners
    turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    back = (before * after).sum(axis=1) < 0
    ring: Ring = (corners[turns | back] + (left, top)).astype(np.float64)
    return ring


def _simplified(ring: Ring, tolerance: float) -> Ring:
    simple = cv2.approxPolyDP(ring.astype(np.float32)[:, None], tolerance, True)[:, 0]
    if len(simple) < 3 or _area(simple) < _area(ring) / 2:
        return ring
    return np.asarray(simple, dtype=np.float64)


def _area(ring: np.ndarray) -> float:
    x, y = np.asarray(ring, dtype=np.float64).T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def _nearest(whole: Ring, ring: Ring) -> tuple[int, int]:
    """Points of two rings that are close; exactly the nearest where that is cheap."""
    steps = [max(1, len(points) // 256) for points in (whole, ring)]
    a, b = whole[:: steps[0]], ring[:: steps[1]]
    distances = ((a[:, None] - b[None]) ** 2).sum(axis=2)
    i, j = divmod(int(distances.argmin()), len(b))
    return i * steps[0], j * steps[1]
