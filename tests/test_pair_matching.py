"""Semantic and geometric matching of two feature maps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st

from propagate.errors import InputError
from propagate.matching.detectors import detect
from propagate.matching.geometric import (
    GeometricSettings,
    descriptors_at,
    fit_transform,
    match_keypoints,
    mutual_nearest,
)
from propagate.matching.semantic import (
    PUBLISHED,
    SemanticSettings,
    match_either_way,
    match_points,
    similarity_map,
)
from propagate.matching.upsampled import UpsampledCosine
from propagate.metrics.homography import corner_errors, warp
from propagate.types import FeatureMap, Matches, Size


def random_map(seed: int, size: Size, grid: Size = Size(6, 8), channels: int = 16) -> FeatureMap:
    generator = torch.Generator().manual_seed(seed)
    data = torch.randn(channels, *grid, generator=generator)
    return FeatureMap(data, size, size)


def upsampled(features: FeatureMap) -> torch.Tensor:
    """The map that `UpsampledCosine` never makes."""
    data = features.data.double()[None]
    return F.interpolate(data, tuple(features.image_size), mode="bilinear")[0]


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 1000),
    *(st.tuples(st.integers(1, low), st.integers(1, low)) for low in (7, 40)),
)
def test_cosines_equal_those_of_the_upsampled_map(
    seed: int, grid: tuple[int, int], size: tuple[int, int]
) -> None:
    features = random_map(seed, Size(*size), Size(*grid), channels=5)
    vectors = F.normalize(random_map(seed + 1, Size(1, 1), Size(1, 3), 5).data[:, 0].T.double())
    slow = torch.einsum("kc,chw->khw", vectors, F.normalize(upsampled(features), dim=0))
    fast = torch.stack(list(UpsampledCosine(features).maps(vectors)))
    torch.testing.assert_close(fast, slow, atol=1e-7, rtol=0)


def spair_pairs(shared_dir: Path, case: str) -> list[tuple[dict[str, Any], FeatureMap, FeatureMap]]:
    """Annotation and both maps of each pair of the oracle, in its order."""
    folder = shared_dir / "oracles/spair-pck"
    maps = np.load(folder / "expected_features.npz")
    found = []
    for pair in json.loads((folder / f"expected_{case}.json").read_text())["pairs"]:
        path = (
            shared_dir / "data/SPair-71k/PairAnnotation/test" / pair["pair"]
            if case == "spair"
            else folder / "self_pairs" / pair["pair"].replace(":", "_")
        )
        content = json.loads(path.read_text())
        both = []
        for side in ("src", "trg"):
            width, height, _ = content[f"{side}_imsize"]
            data = torch.from_numpy(maps[content[f"{side}_imname"]])
            both.append(FeatureMap(data, Size(height, width), Size(224, 336)))
        found.append((content, both[0], both[1]))
    return found


@pytest.mark.parametrize("case", ["spair", "self"])
def test_predicted_pixels_equal_the_published_code(shared_dir: Path, case: str) -> None:
    points = np.load(shared_dir / f"oracles/spair-pck/expected_{case}_points.npz")
    for number, (content, source, target) in enumerate(spair_pairs(shared_dir, case)):
        matches = match_points(source, target, np.array(content["src_kps"]) + 0.5, PUBLISHED)
        rows = points["pair"] == number
        clear = points["best_minus_second"][rows] > 1e-6
        expected = points["predicted_xy"][rows] + 0.5
        np.testing.assert_array_equal(matches.target_xy[clear], expected[clear])


SHIFTED = Size(48, 64)


def shifted(cells: int) -> tuple[FeatureMap, FeatureMap]:
    """A map, and the same map moved right by some cells of 8 pixels."""
    source = random_map(3, SHIFTED)
    moved = torch.roll(source.data, cells, dims=2)
    return source, FeatureMap(moved, SHIFTED, SHIFTED)


@pytest.mark.parametrize("place", ["pixel", "soft-argmax"])
def test_a_moved_point_is_found(place: Any) -> None:
    source, target = shifted(2)
    xy = np.array([[12.0, 20.0], [28.0, 36.0]])
    chosen = SemanticSettings(place=place, temperature=0.01)
    matches = match_points(source, target, xy, chosen)
    np.testing.assert_allclose(matches.target_xy, xy + np.array([16, 0]), atol=0.6)
    assert matches.query.tolist() == [0, 1]
    assert (matches.scores > 0.98).all()


def test_top_places_differ_and_descend() -> None:
    source, target = shifted(2)
    chosen = SemanticSettings(place="pixel", top=3, reach=1)
    matches = match_points(source, target, np.array([[12.0, 20.0]]), chosen)
    assert matches.query.tolist() == [0, 0, 0]
    assert (np.diff(matches.scores) <= 0).all()
    far = np.abs(matches.target_xy[:, None] - matches.target_xy[None]).max(2)
    assert far[~np.eye(3, dtype=bool)].min() > 8


def test_more_places_than_there_are() -> None:
    source, target = shifted(0)
    matches = match_points(
        source, target, np.array([[12.0, 20.0]]), SemanticSettings(top=99, reach=8)
    )
    assert len(matches) == 1


def test_the_way_back_drops_what_is_not_there() -> None:
    source, target = shifted(2)
    # What was moved to columns 2 to 4 is painted over.
    painted = target.data.clone()
    painted[:, :, 2:5] = torch.randn(16, 6, 3, generator=torch.Generator().manual_seed(9))
    target = FeatureMap(painted, SHIFTED, SHIFTED)
    gone, there = (
        np.array([[x, y] for x in columns for y in range(4, 48, 8)], dtype=np.float64)
        for columns in ((4, 12, 20), (28, 36, 44))
    )
    chosen = SemanticSettings(mutual=0.05, temperature=0.01)
    assert len(match_points(source, target, gone, chosen)) < len(gone) / 2
    assert len(match_points(source, target, there, chosen)) == len(there)


def test_mirrored_source_wins_where_the_target_is_mirrored() -> None:
    source = random_map(3, SHIFTED)
    mirrored = FeatureMap(source.data.flip(2), SHIFTED, SHIFTED)
    xy = np.array([[12.0, 20.0]])
    chosen = SemanticSettings(temperature=0.01)
    matches, turned = match_either_way(source, mirrored, mirrored, xy, chosen)
    assert turned
    np.testing.assert_array_equal(matches.source_xy, xy)
    np.testing.assert_allclose(matches.target_xy, [[64 - 12, 20]], atol=0.6)
    assert not match_either_way(source, mirrored, source, xy, chosen)[1]


def test_similarity_map_has_its_peak_at_the_match() -> None:
    source, target = shifted(2)
    found = similarity_map(source, target, np.array([12.0, 20.0]))
    assert found.shape == (48, 64)
    row, column = np.unravel_index(found.argmax(), found.shape)
    assert abs(column - 27.5) <= 1
    assert abs(row - 19.5) <= 1


def test_useless_points_and_maps_are_refused() -> None:
    source, target = shifted(1)
    with pytest.raises(InputError, match=r"\(70, 3\) lies outside of the image of 64x48"):
        match_points(source, target, np.array([[70.0, 3.0]]))
    with pytest.raises(InputError, match="16 channels and the target 4"):
        match_points(source, random_map(0, SHIFTED, channels=4), np.array([[7.0, 3.0]]))
    with pytest.raises(InputError, match=r"must be \[n, 2\]"):
        match_points(source, target, np.array([7.0, 3.0]))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"place": "cell"}, "place is 'cell'"),
        ({"mutual": 2}, "mutual is 2"),
        ({"top": 0}, "top is 0"),
        ({"temperature": 0}, "temperature is 0"),
    ],
)
def test_semantic_settings_are_checked(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SemanticSettings(**values)


def test_no_point_gives_no_match() -> None:
    source, target = shifted(1)
    assert len(match_points(source, target, np.zeros((0, 2)))) == 0


def slow_mutual(alike: np.ndarray) -> list[tuple[int, int]]:
    forth, back = alike.argmax(1), alike.argmax(0)
    return [(i, int(j)) for i, j in enumerate(forth) if back[j] == i]


@settings(max_examples=50, deadline=None)
@given(
    st.integers(0, 1000), st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 10, 1 << 22])
)
def test_mutual_nearest_equals_the_obvious_way(seed: int, n: int, m: int, block: int) -> None:
    from propagate.matching import geometric

    generator = torch.Generator().manual_seed(seed)
    # Small integers: many ties.
    a, b = (torch.randint(0, 3, (k, 2), generator=generator).float() for k in (n, m))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(geometric, "_BLOCK", block)
        pairs, scores = mutual_nearest(a, b, metric="l2")
    distance = np.linalg.norm(a.numpy()[:, None] - b.numpy()[None], axis=2)
    assert [tuple(pair) for pair in pairs.tolist()] == slow_mutual(-(distance**2))
    np.testing.assert_allclose(scores, [-distance[i, j] for i, j in pairs], atol=1e-6)


def test_ratio_drops_what_has_a_rival() -> None:
    a = torch.tensor([[0.0, 0.0], [10.0, 0.0]])
    b = torch.tensor([[1.0, 0.0], [-1.2, 0.0], [10.1, 0.0]])
    both, _ = mutual_nearest(a, b, metric="l2")
    clear, _ = mutual_nearest(a, b, metric="l2", ratio=0.8)
    assert (both.tolist(), clear.tolist()) == ([[0, 0], [1, 2]], [[1, 2]])


def test_matches_and_homographies_equal_the_published_code(shared_dir: Path) -> None:
    folder = shared_dir / "oracles/hpatches"
    files = {i: np.load(folder / f"sift/{i}.npz") for i in range(1, 7)}
    sampled = np.load(folder / "expected_sampled_descriptors.npz")
    expected = np.load(folder / "expected_matches.npz")
    for name in expected.files:
        kind, _, other, metric = name.split("_")
        first, second = (
            torch.from_numpy(
                files[i]["descriptors"] if kind == "sift" else sampled[f"descriptors_{i}"]
            )
            for i in (1, int(other))
        )
        pairs, _ = mutual_nearest(first, second, metric=metric)  # type: ignore[arg-type]
        np.testing.assert_array_equal(pairs, expected[name], err_msg=name)
    for metric in ("cosine", "l2"):
        for estimator in ("lmeds", "ransac"):
            whole = np.load(folder / f"expected_sift_{metric}_{estimator}.npz")
            for i in range(2, 7):
                if whole["mean_corner_error"][i - 2] >= 10:
                    continue  # the fit failed; which way depends on OpenCV's version
                places = whole[f"points_1_{i}"]
                chosen = GeometricSettings(estimator=estimator)  # type: ignore[arg-type]
                found = fit_transform(places[:, 0], places[:, 1], chosen)
                off = corner_errors(found.matrix, whole[f"H_{i}"], Size(522, 788))
                assert off.max() < 0.01


def test_sampled_descriptors_equal_the_published_code(shared_dir: Path) -> None:
    expected = np.load(shared_dir / "oracles/hpatches/expected_sampled_descriptors.npz")
    data = torch.from_numpy(expected["feature_map_1"])
    features = FeatureMap(data, Size(522, 788), Size(176, 256))
    xy = expected["keypoints_1"].astype(np.float64) + 0.5
    found = descriptors_at(features, xy, "published").numpy()
    np.testing.assert_allclose(found, expected["descriptors_1"], atol=1e-5)


def test_exact_sampling_reads_a_cell_at_its_centre() -> None:
    features = random_map(1, SHIFTED)
    centre = np.array([[8 * 3 + 4.0, 8 * 2 + 4.0]])
    cell = F.normalize(features.data[:, 2, 3], dim=0)
    torch.testing.assert_close(descriptors_at(features, centre)[0], cell)
    published = F.normalize(descriptors_at(features, centre, "published"), dim=1)[0]
    assert (published - cell).abs().max() > 1e-3  # up to half a pixel off


@pytest.mark.parametrize("estimator", ["magsac", "lmeds", "ransac"])
def test_a_homography_is_found_among_outliers(estimator: Any) -> None:
    rng = np.random.default_rng(0)
    truth = np.array([[1.1, 0.05, 5], [-0.04, 0.9, 8], [1e-4, 0, 1]])
    source = rng.uniform(0, 200, (60, 2))
    target = warp(truth, source)
    target[:20] += rng.uniform(30, 60, (20, 2))
    found = fit_transform(source, target, GeometricSettings(estimator=estimator))
    assert corner_errors(found.matrix, truth, Size(200, 200)).max() < 0.1
    assert found.inliers[20:].all()
    assert not found.inliers[:20].any()


def test_a_fundamental_matrix_is_found() -> None:
    rng = np.random.default_rng(0)
    world = rng.uniform((-1, -1, 4), (1, 1, 8), (50, 3))
    source = 200 * world[:, :2] / world[:, 2:] + 100
    moved = world + np.array([0.5, 0.1, 0.2])
    target = 200 * moved[:, :2] / moved[:, 2:] + 100
    found = fit_transform(source, target, GeometricSettings(model="fundamental"))
    assert found.matrix is not None
    ends = [np.column_stack([xy, np.ones(50)]) for xy in (target, source)]
    assert np.abs(np.einsum("ni,ij,nj->n", ends[0], found.matrix, ends[1])).max() < 1e-2
    assert found.inliers.all()


def test_too_few_matches_give_no_transform() -> None:
    found = fit_transform(np.zeros((3, 2)), np.zeros((3, 2)))
    assert found.matrix is None
    assert found.inliers.tolist() == [False] * 3
    same = fit_transform(np.zeros((9, 2)), np.zeros((9, 2)))
    assert same.matrix is None


@pytest.mark.parametrize("detector", ["sift", "orb", "gftt"])
def test_detectors_find_a_square_where_it_is(detector: Any) -> None:
    rgb = np.zeros((160, 200, 3), dtype=np.uint8)
    rgb[60:68, 80:88] = 255
    found = detect(rgb, detector, count=40)
    assert 0 < len(found) <= 40
    off = np.linalg.norm(found - (84, 64), axis=1)
    assert off.max() < 12
    assert len(detect(np.zeros_like(rgb), detector)) == 0
    with pytest.raises(InputError, match="'surf'; it must be one of sift, orb, gftt"):
        detect(rgb, "surf")  # type: ignore[arg-type]


def test_keypoints_of_a_moved_map_match() -> None:
    source, target = shifted(2)
    xy = np.array([[x, y] for x in range(4, 44, 8) for y in range(4, 48, 8)], dtype=np.float64)
    for sampling in ("exact", "published"):
        chosen = GeometricSettings(sampling=sampling)  # type: ignore[arg-type]
        matches = match_keypoints(source, target, xy, xy + np.array([16, 0]), chosen)
        inside = np.abs(matches.target_xy - matches.source_xy - (16, 0)).max(1) == 0
        assert inside.mean() > 0.8
    assert isinstance(matches, Matches)
    assert len(match_keypoints(source, target, xy[:0], xy)) == 0


def test_matches_are_checked() -> None:
    with pytest.raises(InputError, match="Matches.scores must be float64"):
        Matches(np.zeros((1, 2)), np.zeros((1, 2)), np.zeros(2), np.zeros(1, dtype=np.int64))
