"""J and F against the official numbers and against the slow, obvious way."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from propagate.errors import InputError
from propagate.metrics.boundary import (
    boundary_f,
    boundary_map,
    dilate_by_disk,
    tolerance_radius,
)
from propagate.metrics.region import jaccard
from propagate.types import Size

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

EXACT = {"rtol": 0, "atol": 1e-12}
CASES = (
    "protocol_one",
    "protocol_two",
    "protocol_one_void",
    "perturbed_0_008",
    "perturbed_0_05",
    "perturbed_3",
    "perturbed_void",
    "degenerate",
    "degenerate_void",
)


def naive_boundary(mask: np.ndarray) -> np.ndarray:
    """The definition, pixel by pixel."""
    height, width = mask.shape
    boundary = np.zeros(mask.shape, dtype=bool)
    for y in range(height):
        for x in range(width):
            neighbours = [(y, x + 1), (y + 1, x), (y + 1, x + 1)]
            inside = [(v, u) for v, u in neighbours if v < height and u < width]
            boundary[y, x] = any(mask[y, x] != mask[v, u] for v, u in inside)
    return boundary


def full_disk(radius: int) -> np.ndarray:
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return (x * x + y * y <= radius * radius).astype(np.uint8)


def naive_f(pred: np.ndarray, gt: np.ndarray, radius: int) -> float:
    """Full-frame boundaries, each dilated by the whole disk at once."""
    pred_b, gt_b = naive_boundary(pred), naive_boundary(gt)
    near_pred = cv2.dilate(pred_b.astype(np.uint8), full_disk(radius)) > 0
    near_gt = cv2.dilate(gt_b.astype(np.uint8), full_disk(radius)) > 0
    n_pred, n_gt = pred_b.sum(), gt_b.sum()
    precision = 1.0 if n_pred == 0 else (pred_b & near_gt).sum() / n_pred
    recall = 1.0 if n_gt == 0 else (gt_b & near_pred).sum() / n_gt
    if n_pred == 0 and n_gt > 0:
        recall = 0.0
    if n_gt == 0 and n_pred > 0:
        precision = 0.0
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def naive_j(pred: np.ndarray, gt: np.ndarray) -> float:
    union = np.logical_or(pred, gt).sum()
    return 1.0 if union == 0 else np.logical_and(pred, gt).sum() / union


shapes = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=14)


@st.composite
def blobs(draw: st.DrawFn, shape: tuple[int, int]) -> np.ndarray:
    """A rectangle, possibly empty or full, with some noise pixels."""
    height, width = shape
    mask = np.zeros(shape, dtype=bool)
    top, bottom = sorted(draw(st.tuples(*[st.integers(0, height)] * 2)))
    left, right = sorted(draw(st.tuples(*[st.integers(0, width)] * 2)))
    mask[top:bottom, left:right] = True
    return mask ^ draw(hnp.arrays(bool, shape, elements=st.booleans(), fill=st.just(False)))


@st.composite
def mask_triples(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    shape = draw(shapes)
    return draw(blobs(shape)), draw(blobs(shape)), draw(blobs(shape))


@pytest.fixture(scope="module")
def oracle(shared_dir: Path) -> Path:
    return shared_dir / "oracles" / "davis-metrics"


@pytest.mark.parametrize("case", CASES)
def test_official_j_and_f(oracle: Path, case: str) -> None:
    cases = json.loads((oracle / "cases.json").read_text())["cases"]
    bound_th = next(c["bound_th"] for c in cases if c["name"] == case)
    data, expected = np.load(oracle / f"{case}.npz"), np.load(oracle / f"expected_{case}.npz")
    void = data.get("void", None)
    for gt, pred, j, f in zip(data["gt"], data["pred"], expected["J"], expected["F"], strict=True):
        np.testing.assert_allclose(jaccard(pred, gt, void=void), j, **EXACT)
        np.testing.assert_allclose(boundary_f(pred, gt, bound_th=bound_th, void=void), f, **EXACT)


def test_official_boundary_maps(oracle: Path) -> None:
    # All pairs of 11 masks, the true one changing slowest: the first 11 predictions are the masks.
    masks = np.load(oracle / "degenerate.npz")["pred"][0, :11].astype(bool)
    maps = np.load(oracle / "expected_boundary_maps.npz")["bmap"]
    for mask, expected in zip(masks, maps, strict=True):
        np.testing.assert_array_equal(boundary_map(mask), expected.astype(bool))


@given(mask_triples())
@settings(max_examples=150, deadline=None)
def test_j_and_boundary_against_the_definition(masks: tuple[np.ndarray, ...]) -> None:
    pred, gt, void = masks
    assert jaccard(pred, gt) == naive_j(pred, gt)
    assert jaccard(pred, gt, void=void) == naive_j(pred & ~void, gt & ~void)
    np.testing.assert_array_equal(boundary_map(pred), naive_boundary(pred))


@given(mask_triples(), st.integers(1, 6))
@settings(max_examples=200, deadline=None)
def test_f_against_full_frame_dilation(masks: tuple[np.ndarray, ...], radius: int) -> None:
    pred, gt, void = masks
    assert boundary_f(pred, gt, bound_th=radius) == naive_f(pred, gt, radius)
    expected = naive_f(pred & ~void, gt & ~void, radius)
    assert boundary_f(pred, gt, bound_th=radius, void=void) == expected


@given(hnp.arrays(bool, shapes), st.integers(0, 20))
@settings(max_examples=100, deadline=None)
def test_disk_dilation_against_one_big_kernel(mask: np.ndarray, radius: int) -> None:
    whole = cv2.dilate(mask.astype(np.uint8), full_disk(radius)) > 0
    np.testing.assert_array_equal(dilate_by_disk(mask, radius), whole)


def test_stacks_are_scored_frame_by_frame() -> None:
    rng = np.random.default_rng(0)
    pred, gt = rng.random((2, 2, 3, 20, 30)) > 0.5
    j, f = jaccard(pred, gt), boundary_f(pred, gt, bound_th=1)
    assert j.shape == f.shape == (2, 3)
    assert j[1, 2] == naive_j(pred[1, 2], gt[1, 2])
    assert f[1, 2] == naive_f(pred[1, 2], gt[1, 2], 1)


def test_any_non_zero_value_is_inside() -> None:
    mask = np.zeros((6, 8), dtype=np.int32)
    mask[2:4, 3:6] = 7
    assert jaccard(mask, mask > 0) == 1
    assert boundary_f(mask, mask > 0) == 1


@pytest.mark.parametrize(("pred", "gt", "j", "f"), [(0, 0, 1, 1), (1, 0, 0, 1), (1, 1, 1, 1)])
def test_empty_and_full_masks_have_no_boundary(pred: int, gt: int, j: float, f: float) -> None:
    empty_or_full = np.full((5, 7), pred), np.full((5, 7), gt)
    assert jaccard(*empty_or_full) == j
    assert boundary_f(*empty_or_full) == f


def test_one_boundary_missing_gives_zero() -> None:
    dot = np.zeros((9, 9), dtype=bool)
    dot[4, 4] = True
    assert boundary_f(dot, np.zeros_like(dot)) == 0
    assert boundary_f(np.zeros_like(dot), dot) == 0


@pytest.mark.parametrize(
    ("size", "bound_th", "radius"),
    [
        (Size(480, 854), 0.008, 8),
        (Size(1080, 1920), 0.008, 18),
        (Size(3, 4), 0.2, 1),
        (Size(3, 4), 0.21, 2),
        (Size(9, 9), 3, 3),
        (Size(9, 9), 1, 1),
    ],
)
def test_tolerance_radius(size: Size, bound_th: float, radius: int) -> None:
    assert tolerance_radius(size, bound_th) == radius


@pytest.mark.parametrize("bound_th", [0, -1, 1.5, float("nan"), float("inf")])
def test_unusable_tolerance(bound_th: float) -> None:
    with pytest.raises(InputError, match=r"bound_th is .*fraction of the frame diagonal"):
        tolerance_radius(Size(10, 10), bound_th)


@pytest.mark.parametrize("metric", [jaccard, boundary_f])
def test_shapes_must_agree(metric: Callable[..., np.ndarray]) -> None:
    mask = np.zeros((4, 5), dtype=bool)
    with pytest.raises(InputError, match=r"predicted mask has shape \[5, 4\] .*\[4, 5\]"):
        metric(mask.T, mask)
    with pytest.raises(InputError, match=r"void mask has shape \[1, 4, 5\]"):
        metric(mask, mask, void=mask[None])
