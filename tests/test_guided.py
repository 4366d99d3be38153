"""The guided filter, and masks decoded through it."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from propagate.errors import InputError
from propagate.labels.guided import Guide, GuideSettings
from propagate.labels.masks import decode_masks
from propagate.types import LabelField, Size


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def filtered_by_definition(rgb: np.ndarray, scores: np.ndarray, how: GuideSettings) -> np.ndarray:
    """A ridge regression in each window, and the mean of those that a pixel lies in."""
    r, (height, width) = how.radius, scores.shape
    edges = ((r, r), (r, r))
    colour = np.pad(rgb / 255, (*edges, (0, 0)), "symmetric")
    labels = np.pad(scores.astype(float), edges, "symmetric")
    functions = np.zeros((height, width, 4))
    for y, x in product(range(height), range(width)):
        window = slice(y, y + 2 * r + 1), slice(x, x + 2 * r + 1)
        inside, target = colour[window].reshape(-1, 3), labels[window].ravel()
        joint = np.mean((inside - inside.mean(0)) * (target - target.mean())[:, None], axis=0)
        spread = np.cov(inside.T, bias=True) + how.epsilon * np.eye(3)
        slope = np.linalg.solve(spread, joint)
        functions[y, x] = *slope, target.mean() - slope @ inside.mean(0)
    padded = np.pad(functions, (*edges, (0, 0)), "symmetric")
    result = np.zeros((height, width))
    for y, x in product(range(height), range(width)):
        mean = padded[y : y + 2 * r + 1, x : x + 2 * r + 1].mean((0, 1))
        result[y, x] = mean[:3] @ (rgb[y, x] / 255) + mean[3]
    return result


@pytest.mark.parametrize("radius", [1, 3])
def test_the_filter_is_what_its_definition_says(radius: int) -> None:
    how = GuideSettings(radius=radius, epsilon=0.01)
    rgb, scores = picture(14, 11), np.random.default_rng(1).random((14, 11), dtype=np.float32)
    found = Guide(rgb, how).refine(scores)
    np.testing.assert_allclose(found, filtered_by_definition(rgb, scores, how), atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(step=st.integers(1, 3), seed=st.integers(0, 99))
def test_scores_that_sum_to_one_go_on_doing_so(step: int, seed: int) -> None:
    guide = Guide(picture(24, 30, seed), GuideSettings(radius=4, step=step))
    scores = np.random.default_rng(seed).dirichlet(np.ones(3), (24, 30)).astype(np.float32)
    total = sum(guide.refine(np.ascontiguousarray(scores[..., i])) for i in range(3))
    np.testing.assert_allclose(total, 1, atol=1e-3)


def test_an_outline_moves_to_the_edge_of_the_picture() -> None:
    truth = np.zeros((96, 96), np.uint8)
    truth[20:70, 30:77] = 1
    rgb = np.where(truth[..., None] == 1, (220, 60, 40), (30, 90, 160)).astype(np.uint8)
    coarse = torch.from_numpy(truth.reshape(12, 8, 12, 8).mean((1, 3), dtype=np.float32))
    field = LabelField(torch.stack([1 - coarse, coarse]), (0, 1))
    size = Size(96, 96)
    wrong = [
        int((decode_masks(field, size, input_size=size, method=how, rgb=rgb).ids != truth).sum())
        for how in ("bilinear", "guided")
    ]
    assert wrong[1] < wrong[0] / 2


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 99), ids=st.sampled_from([(0, 1), (0, 300), (0, 2, 5)]))
def test_only_the_part_around_objects_is_filtered_and_nothing_else_differs(
    seed: int, ids: tuple[int, ...]
) -> None:
    size, generator = Size(960, 1280), np.random.default_rng(seed)
    rgb = np.kron(picture(30, 40, seed), np.ones((32, 32, 1), np.uint8))
    scores = np.zeros((len(ids), 60, 80), np.float32)
    top, left = generator.integers(0, 50), generator.integers(0, 70)
    for channel in scores[1:]:
        channel[top : top + 8, left : left + 9] = generator.random((10, 10))[:8, :9][: 60 - top]
        # Stray votes: a few that win an island of their own, and traces that win nothing.
        island = generator.integers(0, 55), generator.integers(0, 75)
        channel[island[0] : island[0] + 4, island[1] : island[1] + 4] = generator.random()
        channel[generator.random((60, 80)) < 0.05] += 0.05
    scores[1:] /= len(ids)
    scores[0] = 1 - scores[1:].sum(0)
    field = LabelField(torch.from_numpy(scores), ids)
    found = decode_masks(field, size, input_size=size, method="guided", rgb=rgb).ids
    guide = Guide(rgb, GuideSettings.of(size))
    whole = torch.nn.functional.interpolate(field.scores[None], size=tuple(size), mode="bilinear")
    best = np.argmax([guide.refine(channel) for channel in whole[0].numpy()], axis=0)
    assert np.mean(found != np.array(ids)[best]) < 1e-4


def test_without_a_picture_it_is_bilinear_and_without_objects_background() -> None:
    scores = torch.rand(2, 6, 8, generator=torch.Generator().manual_seed(0))
    field, size = LabelField(scores, (0, 7)), Size(48, 64)
    plain = decode_masks(field, size, input_size=size)
    found = decode_masks(field, size, input_size=size, method="guided")
    np.testing.assert_array_equal(found.ids, plain.ids)
    empty = LabelField(torch.stack([torch.ones(6, 8), torch.zeros(6, 8)]), (0, 7))
    rgb = picture(48, 64)
    assert not decode_masks(empty, size, input_size=size, method="guided", rgb=rgb).ids.any()


@pytest.mark.parametrize("short_side", [1, 48, 480, 1080, 2160])
def test_windows_grow_with_the_picture(short_side: int) -> None:
    how = GuideSettings.of(Size(short_side, 2 * short_side))
    assert how.radius == max(round(short_side / 80), 1)
    assert 1 <= how.radius / how.step <= 5


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"radius": 0}, "radius is 0; it must be 1 or more"),
        ({"radius": 2, "step": 0}, "step is 0; it must be 1 or more"),
        ({"radius": 2, "epsilon": 0.0}, "epsilon is 0.0; it must be greater than 0"),
    ],
)
def test_settings_that_make_no_sense(values: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        GuideSettings(**values)  # type: ignore[arg-type]
