"""Labels finer than features: a patch of soft labels per cell, which the vote moves as one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from propagate.config import PropagationSettings
from propagate.errors import InputError
from propagate.labels.masks import encode_masks
from propagate.propagation import Propagator
from propagate.types import FeatureMap, LabelField, Masks, Size

GRID = Size(5, 20)


def features(seed: int) -> FeatureMap:
    generator = torch.Generator().manual_seed(seed)
    return FeatureMap(torch.randn(6, *GRID, generator=generator), Size(40, 160), Size(40, 160))


def labels(patch: int, seed: int = 0) -> LabelField:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(3, *GRID.finer(patch), generator=generator).softmax(0)
    return LabelField(scores, (0, 2, 5))


def moved_by_loops(
    query: FeatureMap, key: FeatureMap, field: LabelField, patch: int, how: PropagationSettings
) -> torch.Tensor:
    """The vote by its definition: for each cell the best cells, and the mean of their patches."""
    unit = [item.normalised(torch.float32).data for item in (query, key)]
    result = torch.zeros_like(field.scores)
    for row in range(GRID.height):
        for column in range(GRID.width):
            found = sorted(
                (float(unit[0][:, row, column] @ unit[1][:, y, x]), y, x)
                for y in range(GRID.height)
                for x in range(GRID.width)
            )[-how.topk :]
            weights = [math.exp(cosine / how.temperature) for cosine, _, _ in found]
            for weight, (_, y, x) in zip(weights, found, strict=True):
                share = weight / sum(weights)
                for i in range(patch):
                    for j in range(patch):
                        from_y, from_x = y * patch + i, x * patch + j
                        at_y, at_x = row * patch + i, column * patch + j
                        result[:, at_y, at_x] += share * field.scores[:, from_y, from_x]
    return result


@pytest.mark.parametrize("patch", [1, 2, 3])
def test_patches_move_as_by_loops(patch: int) -> None:
    how = PropagationSettings(patch=patch, topk=3)
    propagator = Propagator(how)
    propagator.step(features(0), labels(patch))
    found = propagator.step(features(1))
    wanted = moved_by_loops(features(1), features(0), labels(patch), patch, how)
    torch.testing.assert_close(found.scores, wanted, atol=1e-5, rtol=0)
    assert found.similarity is not None
    assert tuple(found.similarity.shape) == GRID.finer(patch)


@settings(max_examples=20, deadline=None)
@given(patch=st.integers(1, 4), shift=st.integers(-3, 3), seed=st.integers(0, 99))
def test_what_moves_by_whole_cells_keeps_its_outline(patch: int, shift: int, seed: int) -> None:
    picture = np.random.default_rng(seed).integers(0, 2, GRID.finer(patch)).astype(np.uint8)
    first = encode_masks(Masks(picture), GRID.finer(patch), ids=(0, 1))
    start = features(seed)
    moved = FeatureMap(start.data.roll(shift, 2), start.image_size, start.input_size)
    propagator = Propagator(PropagationSettings(topk=1, patch=patch))
    propagator.step(start, first)
    wanted = first.scores.roll(shift * patch, 2)
    torch.testing.assert_close(propagator.step(moved).scores, wanted)


def test_labels_on_another_grid_are_refused() -> None:
    with pytest.raises(InputError, match="encode the labels on a grid of 40x10"):
        Propagator(PropagationSettings(patch=2)).step(features(0), labels(1))


def test_a_patch_without_labels_is_refused() -> None:
    with pytest.raises(InputError, match="patch is 0; it must be 1 or more"):
        PropagationSettings(patch=0)
