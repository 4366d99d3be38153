"""Masks to polygons and back."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from propagate.labels.outlines import fill, joined, outlines
from propagate.labels.rle import encode_rle
from propagate.types import Size
from tests.tiny_labels import bool_masks


def rings_of(mask: np.ndarray, tolerance: float = 0.0) -> list[np.ndarray]:
    pieces = outlines(mask, tolerance=tolerance)
    return [ring for piece in pieces for ring in (piece.ring, *piece.holes)]


@given(bool_masks())
def test_outlines_are_exact_with_holes_and_pieces(mask: np.ndarray) -> None:
    size = Size(*mask.shape)
    rings = rings_of(mask)
    np.testing.assert_array_equal(fill(rings, size), mask)
    pieces = outlines(mask)
    assert sum(piece.area - piece.hole_area for piece in pieces) == mask.sum()
    assert [piece.area for piece in pieces] == sorted((p.area for p in pieces), reverse=True)


@given(bool_masks())
def test_joined_outlines_are_exact_after_a_trip_through_text(mask: np.ndarray) -> None:
    rings = rings_of(mask)
    if not rings:
        return
    height, width = mask.shape
    shares = [[float(f"{v:.7g}") for v in p] for p in joined(rings) / (width, height)]
    back = fill([np.array(shares) * (width, height)], Size(height, width))
    np.testing.assert_array_equal(back, mask)


@given(bool_masks())
def test_pycocotools_fills_the_same_pixels(mask: np.ndarray) -> None:
    coco = pytest.importorskip("pycocotools.mask")
    size = Size(*mask.shape)
    for piece in outlines(mask):
        (theirs,) = coco.frPyObjects([piece.ring.ravel().tolist()], *size)
        assert theirs["counts"].decode() == encode_rle(fill([piece.ring], size))


def test_a_pixel_is_a_square_at_its_place() -> None:
    mask = np.zeros((4, 5), dtype=bool)
    mask[2, 3] = True
    (piece,) = outlines(mask)
    assert sorted(map(tuple, piece.ring.tolist())) == [(3, 2), (3, 3), (4, 2), (4, 3)]


def test_straight_lines_have_no_points_between() -> None:
    mask = np.zeros((40, 50), dtype=bool)
    mask[5:30, 10:45] = True
    (piece,) = outlines(mask)
    assert len(piece.ring) == 4
    assert piece.area == mask.sum()


def test_a_hole_belongs_to_its_piece() -> None:
    mask = np.zeros((20, 40), dtype=bool)
    mask[2:18, 2:18] = True
    mask[6:9, 5:9] = False
    mask[5:8, 30:33] = True
    first, second = outlines(mask)
    assert first.hole_area == 12
    assert second.holes == ()


@given(
    radius=st.floats(4, 14),
    x=st.floats(16, 24),
    y=st.floats(16, 24),
    stretch=st.floats(0.5, 1),
    tolerance=st.floats(0.2, 2),
)
def test_simplified_outlines_stay_within_the_tolerance(
    radius: float, x: float, y: float, stretch: float, tolerance: float
) -> None:
    rows, columns = np.mgrid[:40, :40] + 0.5
    mask = (columns - x) ** 2 + ((rows - y) / stretch) ** 2 <= radius**2
    rings = rings_of(mask, tolerance)
    changed = fill(rings, Size(40, 40)) != mask
    # Distance of each pixel's centre to the nearest centre on the other side of the border.
    inside = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    outside = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    assert not changed[np.maximum(inside, outside) > tolerance + 1].any()
    assert sum(map(len, rings)) <= sum(map(len, rings_of(mask)))


def test_simplifying_saves_points() -> None:
    rows, columns = np.mgrid[:200, :200]
    mask = (columns - 100) ** 2 + (rows - 100) ** 2 <= 80**2
    exact, simple = (sum(map(len, rings_of(mask, tolerance))) for tolerance in (0, 1))
    assert simple < exact / 7
    back = fill(rings_of(mask, 1), Size(200, 200))
    assert (back & mask).sum() / (back | mask).sum() > 0.97


@pytest.mark.parametrize("tolerance", [1, 5])
def test_a_small_or_thin_piece_does_not_vanish(tolerance: float) -> None:
    mask = np.zeros((20, 20), dtype=bool)
    mask[3, 2:18] = True
    mask[10, 10] = True
    np.testing.assert_array_equal(fill(rings_of(mask, tolerance), Size(20, 20)), mask)


def test_polygons_of_other_tools_may_leave_the_frame() -> None:
    ring = np.array([[-3.0, -2.0], [2.2, -2.0], [2.2, 99.0], [-3.0, 99.0]])
    expected = np.zeros((3, 4), dtype=bool)
    expected[:, :2] = True
    np.testing.assert_array_equal(fill([ring], Size(3, 4)), expected)
