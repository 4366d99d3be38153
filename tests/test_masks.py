"""Masks to soft labels and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from propagate.labels.masks import decode_masks, encode_masks
from propagate.types import LabelField, Masks, Size


def random_ids(height: int, width: int, objects: int, seed: int) -> np.ndarray:
    """Smooth random regions with ids 0, 1, 3, 5, ..."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 1, (objects + 1, 2)) * (height, width)
    yx = np.mgrid[:height, :width].transpose(1, 2, 0)
    nearest = np.linalg.norm(yx[:, :, None] - points, axis=-1).argmin(-1)
    return np.array([0, *range(1, 2 * objects, 2)], np.uint8)[nearest]


sizes = st.integers(16, 70)


@settings(deadline=None, max_examples=50)
@given(sizes, sizes, st.integers(3, 20), st.integers(3, 20), st.integers(1, 5), st.integers(0, 99))
def test_area_encoding_is_the_mean_over_each_cell(h, w, gh, gw, objects, seed) -> None:
    ids = random_ids(h * 1, w * 1, objects, seed)
    # Cells of whole pixels, so that the slow version is a plain mean.
    ids = ids[: h // gh * gh, : w // gw * gw] if h >= gh and w >= gw else ids
    if ids.shape[0] % gh or ids.shape[1] % gw:
        return
    field = encode_masks(Masks(ids), Size(gh, gw))
    cells = ids.reshape(gh, ids.shape[0] // gh, gw, -1)
    for channel, label in zip(field.scores, field.ids, strict=True):
        np.testing.assert_allclose(channel.numpy(), (cells == label).mean((1, 3)), atol=1e-5)


@settings(deadline=None, max_examples=40)
@given(sizes, sizes, st.integers(2, 30), st.integers(2, 30), st.integers(1, 6), st.integers(0, 99))
def test_bilinear_decoding_equals_the_dense_argmax(h, w, gh, gw, objects, seed) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(objects + 1, gh, gw, generator=generator)
    scores[1:] *= torch.rand(objects, gh, gw, generator=generator) < 0.3
    ids = (0, *range(2, 2 * objects + 2, 2))
    found = decode_masks(LabelField(scores, ids), Size(h, w), input_size=Size(gh, gw)).ids
    dense = torch.nn.functional.interpolate(scores[None].double(), size=(h, w), mode="bilinear")[0]
    expected = np.array(ids)[dense.argmax(0).numpy()]
    top = dense.topk(2, dim=0).values
    # In float32 near ties may go either way.
    clear = (top[0] - top[1] > 1e-4).numpy()
    np.testing.assert_array_equal(found[clear], expected[clear])


def test_round_trip_at_the_grid_of_the_pixels() -> None:
    ids = random_ids(40, 56, 4, seed=3)
    for method in ("area", "nearest"):
        field = encode_masks(Masks(ids), Size(40, 56), method=method)
        decoded = decode_masks(field, Size(40, 56), input_size=Size(40, 56)).ids
        np.testing.assert_array_equal(decoded, ids)


def test_void_pixels_vote_for_nothing() -> None:
    ids = np.zeros((8, 8), np.uint8)
    ids[:, 4:] = 255
    ids[:4, 3] = 7
    field = encode_masks(Masks(ids, void=255), Size(2, 2))
    assert field.ids == (0, 7)
    np.testing.assert_allclose(field.scores.sum(0), [[1, 0], [1, 0]])
    assert field.scores[1, 0, 0] == pytest.approx(1 / 4)


def test_large_ids_keep_their_value() -> None:
    ids = np.zeros((8, 8), np.int32)
    ids[2:, 2:] = 70000
    field = encode_masks(Masks(ids), Size(8, 8))
    np.testing.assert_array_equal(decode_masks(field, Size(8, 8), input_size=Size(8, 8)).ids, ids)
