"""Keypoints on the grid and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from propagate.config import KeypointSettings, PropagationSettings, VideoSettings
from propagate.errors import InputError
from propagate.geometry import map_points
from propagate.labels.codec import KeypointCodec, MaskCodec, codec_for
from propagate.labels.keypoints import calibrated_confidence, decode_keypoints, encode_keypoints
from propagate.labels.references import keypoint_references, mask_references
from propagate.propagation import Propagator
from propagate.types import FeatureMap, Keypoints, LabelField, Masks, PointName, Size

sides = st.integers(1, 2000)
unit = st.floats(0, 1, width=32)
IMAGE = Size(480, 854)
GRID = Size(60, 106)


def points(*places: tuple[float, float], visible: bool = True) -> Keypoints:
    names = tuple(PointName(f"p{index}") for index in range(len(places)))
    xy = np.array(places, dtype=np.float32).reshape(-1, 2)
    return Keypoints(names, xy, np.full(len(places), visible) & np.isfinite(xy).all(1))


@given(st.lists(st.tuples(unit, unit), min_size=1), sides, sides, sides, sides)
def test_points_survive_the_way_to_cells_and_back(
    places: list[tuple[float, float]], height: int, width: int, rows: int, columns: int
) -> None:
    image, grid = Size(height, width), Size(rows, columns)
    xy = np.array(places) * (width, height)
    cells = map_points(xy, image, grid)
    assert (cells >= 0).all()
    assert (cells <= np.array([columns, rows]) + 1e-9).all()
    np.testing.assert_allclose(map_points(cells, grid, image), xy, atol=1e-9)


def test_corners_of_image_and_grid_are_the_same_places() -> None:
    corners = np.array([[0, 0], [854, 480], [427, 240]], dtype=np.float32)
    cells = map_points(corners, IMAGE, GRID)
    np.testing.assert_array_equal(cells, [[0, 0], [106, 60], [53, 30]])
    assert cells.dtype == np.float32


inner = st.tuples(st.floats(90, 760), st.floats(90, 390))


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
@given(place=inner)
def test_decoding_gives_the_encoded_place_back(place: tuple[float, float], sigma: float) -> None:
    settings = KeypointSettings(sigma=sigma, reach=int(4 * sigma) + 1)
    given_points = points(place)
    field = encode_keypoints(given_points, GRID, image_size=IMAGE, sigma=sigma)
    found = decode_keypoints(field, IMAGE, names=given_points.names, settings=settings)
    # A Gaussian of half a cell is so narrow that its samples are off by up to 0.02 cells.
    np.testing.assert_allclose(found.xy, given_points.xy, atol=0.2)
    assert found.visible.all()
    assert found.confidence == pytest.approx(1, abs=5e-3)


@given(place=st.tuples(unit, unit))
def test_points_at_the_border_stay_in_the_image(place: tuple[float, float]) -> None:
    given_points = points((place[0] * 854, place[1] * 480))
    field = encode_keypoints(given_points, GRID, image_size=IMAGE)
    found = decode_keypoints(field, IMAGE, names=given_points.names)
    assert (found.xy >= 0).all()
    assert (found.xy <= (854, 480)).all()
    # What the border cuts off pulls inwards, by less than a cell.
    np.testing.assert_allclose(found.xy, given_points.xy, atol=8)


def test_a_narrow_gaussian_between_cells_does_not_vanish() -> None:
    field = encode_keypoints(points((80, 80)), GRID, image_size=IMAGE, sigma=0.01)
    assert float(field.scores.sum()) == pytest.approx(1)


def test_points_that_are_not_visible_have_no_scores_and_come_back_lost() -> None:
    known = points((100, 100), (np.nan, np.nan))
    field = encode_keypoints(known, GRID, image_size=IMAGE)
    assert field.ids == (1, 2)
    assert float(field.scores[1].abs().sum()) == 0
    found = decode_keypoints(field, IMAGE, names=known.names)
    assert found.visible.tolist() == [True, False]
    assert np.isnan(found.xy[1]).all()
    assert found.confidence is not None
    assert found.confidence[1] == 0


def test_a_stray_cell_does_not_win_over_a_patch() -> None:
    scores = torch.zeros(1, 60, 106)
    scores[0, 30:33, 50:53] = 0.1
    scores[0, 5, 5] = 0.15
    found = decode_keypoints(LabelField(scores, (1,)), IMAGE, names=(PointName("a"),))
    np.testing.assert_allclose(found.xy[0], [51.5 * 854 / 106, 31.5 * 8], rtol=1e-5)
    share = np.sqrt(0.9 * 0.9 / 1.05)
    assert found.confidence == pytest.approx(calibrated_confidence(share))


def test_weighted_decoding_is_the_mean_of_the_best_cells() -> None:
    scores = torch.zeros(1, 60, 106)
    scores[0, 10, 20], scores[0, 10, 40], scores[0, 50, 90] = 0.6, 0.2, 0.1
    settings = KeypointSettings(decoding="weighted", cells=2)
    found = decode_keypoints(
        LabelField(scores, (1,)), GRID, names=(PointName("a"),), settings=settings
    )
    np.testing.assert_allclose(found.xy[0], [25.5, 10.5], rtol=1e-6)


def test_a_ring_around_an_empty_middle_has_a_place() -> None:
    scores = torch.zeros(1, 9, 9)
    scores[0, 2:7, 2:7] = 1
    scores[0, 3:6, 3:6] = 0
    settings = KeypointSettings(reach=1)
    found = decode_keypoints(
        LabelField(scores, (1,)), Size(9, 9), names=(PointName("a"),), settings=settings
    )
    assert np.isfinite(found.xy).all()


def test_low_confidence_means_not_visible() -> None:
    scores = torch.zeros(1, 9, 9)
    scores[0, 4, 4] = 0.01
    found = decode_keypoints(LabelField(scores, (1,)), Size(9, 9), names=(PointName("a"),))
    assert found.visible.tolist() == [False]
    np.testing.assert_allclose(found.xy, [[4.5, 4.5]])


@given(st.lists(st.floats(0, 1), min_size=2, max_size=5))
def test_calibration_keeps_order_and_ends(shares: list[float]) -> None:
    found = [calibrated_confidence(share) for share in sorted(shares)]
    assert found == sorted(found)
    assert calibrated_confidence(0) == 0
    assert calibrated_confidence(1) == pytest.approx(1)


def test_points_follow_a_shift_through_the_core() -> None:
    generator = torch.Generator().manual_seed(0)
    ground = torch.randn(8, 20, 30, generator=generator)
    known = points((100.5, 60.25), (160, 110))
    propagator = Propagator(PropagationSettings(topk=1, radius=5))
    image = Size(160, 240)
    for shift in range(4):
        features = FeatureMap(ground.roll(shift, dims=2), image, image)
        if shift == 0:
            labels = encode_keypoints(known, Size(20, 30), image_size=image)
            propagator.step(features, labels)
            continue
        field = propagator.step(features)
    found = decode_keypoints(field, image, names=known.names)
    np.testing.assert_allclose(found.xy, known.xy + np.array([3 * 8, 0]), atol=0.1)


def test_the_codec_follows_the_kind_of_labels() -> None:
    settings = VideoSettings()
    assert isinstance(codec_for(keypoint_references({0: points((1, 1))}), settings), KeypointCodec)
    masks = mask_references({0: Masks(np.ones((4, 4), np.uint8))})
    assert isinstance(codec_for(masks, settings), MaskCodec)


NAMES = (PointName("a"), PointName("b"))
PLACES = np.zeros((2, 2), np.float32)
SEEN = np.ones(2, bool)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Keypoints(NAMES, PLACES[:1], SEEN), "one row per name"),
        (lambda: Keypoints(NAMES, PLACES.astype(np.float64), SEEN), "not float64"),
        (lambda: Keypoints(NAMES, PLACES, SEEN[:1]), "one per name"),
        (lambda: Keypoints(NAMES[:1] * 2, PLACES, SEEN), "a is there twice"),
        (lambda: Keypoints(NAMES, PLACES * np.nan, SEEN), "a is visible but has no place"),
        (lambda: Keypoints(NAMES, PLACES, SEEN, np.full(2, 2, np.float32)), "from 0 to 1"),
        (lambda: KeypointSettings(sigma=0), "sigma is 0"),
        (lambda: KeypointSettings(cells=0), "cells is 0"),
        (lambda: KeypointSettings(visible_from=2), "visible_from is 2"),
        (lambda: KeypointSettings(decoding="best"), "decoding is 'best'"),
    ],
)
def test_values_are_checked(make, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_names_and_representation() -> None:
    assert str(PointName("head", "fly1")) == "fly1/head"
    assert str(PointName("head")) == "head"
    assert repr(points((1, 1), (np.nan, 0))) == "Keypoints(2 points, 1 visible)"
