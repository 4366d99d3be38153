"""PCK and corner errors, by hand and against the published code's own numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from propagate.errors import InputError
from propagate.metrics.homography import accuracy, area_under_curve, corner_errors, warp
from propagate.metrics.pck import (
    box_side,
    correct_points,
    image_side,
    keypoint_side,
    mask_side,
    summarise,
)
from propagate.types import Size


def test_sides() -> None:
    assert image_side(Size(30, 40)) == 40
    assert box_side((10, 20, 50, 30)) == 40
    assert keypoint_side(np.array([[0, 0], [3, 9], [np.nan, np.nan]])) == 9
    assert mask_side(np.ones((4, 9))) == 6
    with pytest.raises(InputError, match="no keypoint with a place"):
        keypoint_side(np.full((2, 2), np.nan))


def test_the_threshold_itself_is_an_option() -> None:
    true = np.zeros((4, 2))
    predicted = np.array([[3, 4], [3, 4.01], [0, 0], [np.nan, np.nan]])
    loose = correct_points(predicted, true, side=10, alpha=0.5)
    strict = correct_points(predicted, true, side=10, alpha=0.5, strict=True)
    assert loose.tolist() == [True, False, True, False]
    assert strict.tolist() == [False, False, True, False]


def test_per_image_per_point_per_category() -> None:
    right, wrong = [True], [False]
    pairs = [
        ("dog", np.array(right * 4)),
        ("cat", np.array(right + wrong)),
        ("dog", np.array(wrong * 2)),
        ("cow", np.zeros(0, dtype=bool)),
    ]
    found = summarise(pairs)
    assert (found.overall.pairs, found.overall.points) == (3, 8)
    assert found.overall.per_image == pytest.approx((1 + 0.5 + 0) / 3)
    assert found.overall.per_point == pytest.approx(5 / 8)
    assert list(found.categories) == ["cat", "dog"]
    assert found.categories["dog"].per_image == 0.5
    assert found.categories["dog"].per_point == pytest.approx(4 / 6)
    assert found.category_mean.per_image == 0.5
    with pytest.raises(InputError, match="nothing to score"):
        summarise(pairs[3:])


@pytest.mark.parametrize(("side", "alpha"), [(0, 0.1), (10, 0), (float("nan"), 0.1)])
def test_useless_thresholds_are_refused(side: float, alpha: float) -> None:
    with pytest.raises(InputError, match="must be greater than 0"):
        correct_points(np.zeros((1, 2)), np.zeros((1, 2)), side=side, alpha=alpha)


@pytest.mark.parametrize("case", ["spair", "self"])
def test_pck_equals_the_published_code(shared_dir: Path, case: str) -> None:
    folder = shared_dir / "oracles/spair-pck"
    expected = json.loads((folder / f"expected_{case}.json").read_text())
    points = np.load(folder / f"expected_{case}_points.npz")
    pairs = []
    for number, pair in enumerate(expected["pairs"]):
        rows = points["pair"] == number
        correct = correct_points(
            points["predicted_xy"][rows], points["target_xy"][rows], side=pair["threshold_side"]
        )
        np.testing.assert_array_equal(correct, points["correct"][rows])
        pairs.append((pair["category"], correct))
    found = summarise(pairs)
    assert found.overall.per_image == pytest.approx(expected["per_image"], abs=1e-15)
    assert found.overall.per_point == pytest.approx(expected["per_point"], abs=1e-15)


def test_corner_errors_of_a_shift() -> None:
    shift = np.array([[1, 0, 3], [0, 1, 4], [0, 0, 1.0]])
    assert corner_errors(shift, np.eye(3), Size(20, 30)).tolist() == [5, 5, 5, 5]
    double = np.diag([2, 2, 1.0])
    far = np.hypot(29, 19)
    assert corner_errors(double, np.eye(3), Size(20, 30)) == pytest.approx([0, 19, 29, far])
    assert np.isinf(corner_errors(None, np.eye(3), Size(20, 30))).all()


def test_a_corner_at_infinity_is_an_infinite_error() -> None:
    to_infinity = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0.0]])
    assert np.isinf(corner_errors(to_infinity, np.eye(3), Size(20, 30))[0])


def test_accuracy_counts_the_threshold_itself() -> None:
    assert accuracy(np.array([1.0, 3.0, np.inf, 5.1])).tolist() == [0.25, 0.5, 0.5]
    with pytest.raises(InputError, match="at least one"):
        accuracy(np.zeros(0))


def test_area_under_curve() -> None:
    # By hand: one error at 1 of two; 0 to 1 rises to 1/2, then flat to 2.
    assert area_under_curve(np.array([1.0, np.inf]), [2.0]) == pytest.approx([(0.25 + 0.5) / 2])
    assert area_under_curve(np.zeros(3), [1.0]) == pytest.approx([1.0])
    assert area_under_curve(np.array([9.0]), [5.0]) == pytest.approx([0.0])


@given(st.lists(st.floats(0, 20), min_size=1, max_size=20), st.floats(0.5, 10))
def test_area_is_below_accuracy(errors: list[float], threshold: float) -> None:
    values = np.array(errors)
    area = area_under_curve(values, [threshold])[0]
    assert -1e-12 <= area <= accuracy(values, [threshold])[0] + 1e-12


@pytest.mark.parametrize("estimator", ["lmeds", "ransac"])
@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_corner_errors_equal_the_published_code(
    shared_dir: Path, metric: str, estimator: str
) -> None:
    expected = np.load(shared_dir / f"oracles/hpatches/expected_sift_{metric}_{estimator}.npz")
    scene = shared_dir / "data/hpatches-sequences-release/v_dogman"
    errors = []
    for i in range(2, 7):
        truth = np.loadtxt(scene / f"H_1_{i}")
        found = corner_errors(expected[f"H_{i}"], truth, Size(522, 788))
        np.testing.assert_allclose(found, expected[f"corner_errors_{i}"], rtol=1e-9)
        errors.append(found.mean())
    np.testing.assert_array_equal(accuracy(np.array(errors)), expected["correct"].mean(axis=0))


def test_warp_divides_by_the_third_coordinate() -> None:
    matrix = np.array([[1, 0, 0], [0, 1, 0], [0.1, 0, 1.0]])
    np.testing.assert_allclose(warp(matrix, np.array([[10.0, 4.0]])), [[5.0, 2.0]])
