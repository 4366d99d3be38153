"""Noise is a function of (seed, kind, frame, member) and of nothing else."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from propagate.errors import InputError
from propagate.features.noise import SeededNoise

SHAPE = (4, 6, 5)
INDEX = st.integers(0, 2**31)


@given(seed=st.integers(0, 2**64), frame=INDEX, member=st.integers(0, 100))
def test_the_same_key_gives_the_same_numbers_whatever_was_drawn_before(seed, frame, member):
    noise = SeededNoise(seed)
    first = noise.draw("diffusion", frame=frame, member=member, shape=SHAPE)
    noise.draw("posterior", frame=frame + 1, member=member, shape=SHAPE)
    torch.manual_seed(7)
    again = SeededNoise(seed).draw("diffusion", frame=frame, member=member, shape=SHAPE)
    assert torch.equal(first, again)
    assert first.dtype == torch.float32
    assert first.shape == SHAPE


def test_every_part_of_the_key_matters():
    draws = [
        SeededNoise(seed).draw(kind, frame=frame, member=member, shape=SHAPE)
        for seed in (0, 1, 2**32, 2**64)
        for kind in ("posterior", "diffusion")
        for frame in (0, 1, 2**31)
        for member in (0, 1)
    ]
    flat = torch.stack(draws).flatten(1)
    correlation = torch.corrcoef(flat) - torch.eye(len(draws))
    assert correlation.abs().max() < 0.6  # independent vectors of 120 numbers; equal ones give 1


def test_the_numbers_are_standard_normal():
    draw = SeededNoise(3).draw("diffusion", frame=0, member=0, shape=(100, 100, 10))
    assert abs(draw.mean()) < 0.01
    assert abs(draw.std() - 1) < 0.01
    assert abs((draw.abs() < 1).float().mean() - 0.6827) < 0.005


def test_the_stream_is_frozen():
    draw = SeededNoise(0).draw("diffusion", frame=0, member=0, shape=(3,))
    torch.testing.assert_close(
        draw, torch.tensor([-0.67860746, -0.73988044, -0.24459471]), rtol=1e-6, atol=0
    )


def test_a_negative_seed_is_refused():
    with pytest.raises(InputError, match="seed is -1; it must be 0 or more"):
        SeededNoise(-1)
