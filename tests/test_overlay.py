"""Overlays and contact sheets: which pixels change, and to what."""

from __future__ import annotations

import numpy as np
import pytest

from propagate.errors import InputError
from propagate.labels.palette import VOC_PALETTE
from propagate.output.contact_sheet import CAPTION_HEIGHT, GAP, PAPER, contact_sheet
from propagate.output.overlay import HALO, draw_overlay


def picture(height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(height)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def two_objects() -> np.ndarray:
    ids = np.zeros((40, 60), dtype=np.uint8)
    ids[10:30, 10:25] = 1
    ids[10:30, 25:50] = 4
    return ids


def naive_tint(rgb: np.ndarray, ids: np.ndarray, opacity: float) -> np.ndarray:
    blend = np.rint(rgb * (1 - opacity) + VOC_PALETTE[ids] * opacity)
    return np.where((ids > 0)[..., None], blend, rgb)


@pytest.mark.parametrize("opacity", [0, 0.3, 0.5, 1])
def test_tint(opacity: float) -> None:
    rgb, ids = picture(40, 60), two_objects()
    before = rgb.copy()
    drawn = draw_overlay(rgb, ids, opacity=opacity, contour=False)
    np.testing.assert_array_equal(rgb, before)
    assert drawn.dtype == np.uint8
    assert np.abs(drawn - naive_tint(rgb, ids, opacity)).max() <= 1


def test_contour_lies_inside_each_object_with_a_dark_halo_outside() -> None:
    rgb, ids = picture(40, 60), two_objects()
    flat = draw_overlay(rgb, ids, contour=False)
    drawn = draw_overlay(rgb, ids)
    changed = (drawn != flat).any(axis=2)
    inner = np.zeros_like(changed)
    inner[10:30, 10:50] = True
    inner[11:29, 11:24] = inner[11:29, 26:49] = False
    halo = np.zeros_like(changed)
    halo[9:31, 9:51] = True
    halo[10:30, 10:50] = False
    np.testing.assert_array_equal(changed, inner | halo)
    assert (drawn[halo] == HALO).all()
    assert tuple(drawn[10, 12]) == (255, 51, 51)
    assert tuple(drawn[10, 40]) == (51, 51, 255)


def test_lines_grow_with_the_picture() -> None:
    ids = np.zeros((1080, 40), dtype=np.uint8)
    ids[100:200, 10:30] = 1
    rgb = np.full((1080, 40, 3), 90, dtype=np.uint8)
    column = draw_overlay(rgb, ids)[:, 20]
    assert (column[98:100] == HALO).all()
    assert (column[100:102] == (255, 51, 51)).all()
    assert (column[97] == 90).all()
    assert tuple(column[102]) != (255, 51, 51)


def test_objects_at_the_frame_edge_have_no_line_there() -> None:
    rgb, ids = picture(40, 60), np.ones((40, 60), dtype=np.uint8)
    np.testing.assert_array_equal(draw_overlay(rgb, ids), draw_overlay(rgb, ids, contour=False))


def test_no_object_changes_nothing() -> None:
    rgb = picture(40, 60)
    np.testing.assert_array_equal(draw_overlay(rgb, np.zeros((40, 60), dtype=np.int64)), rgb)


def test_own_palette_and_large_ids() -> None:
    palette = np.array([[0, 0, 0], [10, 200, 30]], dtype=np.uint8)
    ids = two_objects().astype(np.int32)
    options = {"opacity": 1, "contour": False, "palette": palette}
    drawn = draw_overlay(picture(40, 60), ids, **options)
    assert tuple(drawn[20, 15]) == (10, 200, 30)
    assert tuple(drawn[20, 40]) == tuple(VOC_PALETTE[4])
    drawn = draw_overlay(picture(40, 60), ids * 256, **options)
    assert tuple(drawn[20, 15]) == (10, 200, 30)


def test_overlay_errors() -> None:
    with pytest.raises(InputError, match=r"opacity is 50; it must be from 0 to 1"):
        draw_overlay(picture(4, 5), np.zeros((4, 5), dtype=np.uint8), opacity=50)
    with pytest.raises(InputError, match=r"frame is \[4, 5\] and its mask \[5, 4\]"):
        draw_overlay(picture(4, 5), np.zeros((5, 4), dtype=np.uint8))


def test_sheet_layout() -> None:
    red = np.full((50, 100, 3), (255, 0, 0), dtype=np.uint8)
    blue = np.full((100, 100, 3), (0, 0, 255), dtype=np.uint8)
    sheet = contact_sheet([(red, "one"), (blue, ""), (red, "three")], columns=2, tile_width=80)
    cell = 80 + CAPTION_HEIGHT
    assert sheet.shape == (GAP + 2 * (cell + GAP), GAP + 2 * (80 + GAP), 3)
    first = sheet[GAP : GAP + 40, GAP : GAP + 80]
    second = sheet[GAP : GAP + 80, 2 * GAP + 80 : 2 * GAP + 160]
    third = sheet[2 * GAP + cell : 2 * GAP + cell + 40, GAP : GAP + 80]
    assert (first == (255, 0, 0)).all()
    assert (second == (0, 0, 255)).all()
    assert (third == (255, 0, 0)).all()
    caption = sheet[GAP + 40 : GAP + 40 + CAPTION_HEIGHT, GAP : GAP + 80]
    assert caption.min() < 100
    no_caption = sheet[GAP + 80 : GAP + 80 + CAPTION_HEIGHT, 2 * GAP + 80 :]
    assert (no_caption == PAPER).all()


def test_long_captions_stay_in_their_tile() -> None:
    tile = np.zeros((20, 60, 3), dtype=np.uint8)
    sheet = contact_sheet([(tile, "word " * 50)], columns=1, tile_width=60)
    assert (sheet[:, -GAP:] == PAPER).all()
    assert sheet[GAP + 20 : -GAP, GAP:-GAP].min() < 100


def test_fewer_tiles_than_columns() -> None:
    tile = np.zeros((20, 60, 3), dtype=np.uint8)
    assert contact_sheet([(tile, "")], columns=5, tile_width=60).shape[1] == 60 + 2 * GAP


def test_empty_sheets() -> None:
    with pytest.raises(InputError, match="A sheet of 0 tiles in 3 columns"):
        contact_sheet([], columns=3)
    with pytest.raises(InputError, match="in 0 columns"):
        contact_sheet([(picture(4, 5), "")], columns=0)
