"""Points, names and skeletons in pictures."""

from __future__ import annotations

import numpy as np
import pytest

from propagate.errors import InputError
from propagate.labels.keypoint_formats.base import make_keypoints
from propagate.output.keypoint_overlay import draw_keypoints
from propagate.types import Keypoints, PointName

GREY = np.full((120, 160, 3), 128, np.uint8)


def points(*places: tuple[float, float], seen: bool = True, who: tuple[str, ...] = ()) -> Keypoints:
    owners = who or ("",) * len(places)
    names = [PointName("abc"[i if not who else 0], owner) for i, owner in enumerate(owners)]
    return make_keypoints(names, np.array(places), np.full(len(places), seen))


def changed(picture: np.ndarray) -> np.ndarray:
    return (picture != GREY).any(axis=2)


def test_a_point_is_drawn_around_its_place_and_nowhere_else() -> None:
    picture = draw_keypoints(GREY, points((40.5, 30.5)), names=False)
    rows, columns = np.nonzero(changed(picture))
    assert (rows.mean(), columns.mean()) == pytest.approx((30, 40))
    assert rows.max() - rows.min() == columns.max() - columns.min() < 13
    assert (GREY == 128).all()


def test_a_hidden_point_is_a_ring() -> None:
    hidden = draw_keypoints(GREY, points((40.5, 30.5), seen=False), names=False)
    assert changed(hidden)[28:33, 38:43].any()
    assert not changed(hidden)[30, 40]
    assert changed(draw_keypoints(GREY, points((40.5, 30.5)), names=False))[30, 40]


def test_a_point_without_a_place_is_left_out_with_its_bones() -> None:
    picture = draw_keypoints(GREY, points((np.nan, 1), (np.nan, 2)), edges=[("a", "b")])
    np.testing.assert_array_equal(picture, GREY)


def test_bones_stay_within_an_individual() -> None:
    names = [PointName(part, who) for who in ("one", "two") for part in "ab"]
    places = np.array([[20, 20], [20, 100], [140, 20], [140, 100]])
    two = make_keypoints(names, places, np.ones(4))
    picture = changed(draw_keypoints(GREY, two, edges=[("a", "b")], names=False))
    assert picture[60, 18:22].any()
    assert picture[60, 138:142].any()
    assert not picture[:, 60:100].any()


def test_bones_join_visible_points_only() -> None:
    places, seen = np.array([[20, 20], [20, 100]]), np.array([True, False])
    half = make_keypoints([PointName("a"), PointName("b")], places, seen)
    assert not changed(draw_keypoints(GREY, half, edges=[("a", "b")], names=False))[60].any()


def test_names_don_t_cover_points_or_each_other() -> None:
    alone = changed(draw_keypoints(GREY, points((40, 60))))
    assert alone[52:68, 46:60].any()
    blocked = points((40, 60), (50, 60), (30, 60))
    with_names, without = (draw_keypoints(GREY, blocked, names=names) for names in (True, False))
    assert (with_names[56:64, 30:50] == without[56:64, 30:50]).all()


def test_several_individuals_are_named_instead_of_their_parts() -> None:
    one = draw_keypoints(GREY, points((40, 60), who=("one",)))
    two = draw_keypoints(GREY, points((40, 60), (40, 100), who=("one", "two")))
    assert (one[:90] != two[:90]).any()


def test_places_far_outside_do_no_harm() -> None:
    far = points((1e9, -1e9), (10, 10))
    picture = draw_keypoints(GREY, far, edges=[("a", "b")])
    assert changed(picture).any()


def test_an_edge_must_join_points_that_exist() -> None:
    with pytest.raises(InputError, match="An edge names 'z'; the points are a, b"):
        draw_keypoints(GREY, points((1, 1), (2, 2)), edges=[("a", "z")])
