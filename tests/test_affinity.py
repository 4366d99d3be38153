"""The tiled vote against the dense one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.reference import dense_similarity, dense_vote
from propagate import affinity
from propagate.affinity import ContextFrame, Vote, vote
from propagate.config import PropagationSettings
from propagate.errors import InputError
from propagate.kernels.library import load


@pytest.fixture(params=["compiled", "torch"], autouse=True)
def path(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every test goes both ways; the compiled one skips where there is no compiler."""
    if request.param == "compiled":
        if load("nearest") is None:
            pytest.skip("no C compiler here")
        yield request.param
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(affinity, "available", lambda _: False)
        patch.setattr(affinity, "search_for", lambda *_: None)
        yield request.param


def unit(*shape: int, generator: torch.Generator) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(shape, generator=generator), dim=-1)


def both(
    grid: tuple[int, int],
    frames: int,
    knobs: PropagationSettings,
    *,
    seed: int,
    tied: bool = False,
    free: int = 0,
) -> tuple[Vote, Vote]:
    """The tiled and the dense result for random frames, the first `free` of them without window."""
    generator = torch.Generator().manual_seed(seed)
    maps = [unit(*grid, 6, generator=generator) for _ in range(frames + 1)]
    if tied:
        # Axis-aligned unit vectors: cosines are 0 or 1 whatever the order of summation.
        maps = [torch.nn.functional.one_hot(m.argmax(-1), 6).float() for m in maps]
    labels = [torch.rand(grid[0] * grid[1], 3, generator=generator) for _ in range(frames)]
    limited = [i >= free for i in range(frames)]
    context = [
        ContextFrame(key, label, bounded)
        for key, label, bounded in zip(maps[1:], labels, limited, strict=True)
    ]
    dense = Vote(
        dense_vote(maps[0], maps[1:], labels, limited, knobs),
        dense_similarity(maps[0], maps[1:], limited, knobs),
    )
    return vote(maps[0], context, knobs), dense


@settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    height=st.integers(1, 31),
    width=st.integers(1, 45),
    frames=st.integers(1, 4),
    radius=st.integers(0, 9),
    topk=st.integers(1, 12),
    temperature=st.sampled_from([0.05, 0.1, 0.5]),
    window=st.sampled_from(["square", "circle", "open-circle"]),
    tied=st.booleans(),
    free=st.integers(0, 2),
    seed=st.integers(0, 2**16),
)
def test_equals_the_dense_algorithm(
    height, width, frames, radius, topk, temperature, window, tied, free, seed
) -> None:
    knobs = PropagationSettings(radius=radius, topk=topk, temperature=temperature, window=window)
    tiled, dense = both((height, width), frames, knobs, seed=seed, tied=tied, free=free)
    torch.testing.assert_close(tiled.scores, dense.scores, atol=2e-5, rtol=0)
    torch.testing.assert_close(tiled.similarity, dense.similarity, atol=2e-5, rtol=0)


def test_result_does_not_depend_on_the_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    knobs = PropagationSettings(radius=4, topk=5)
    results = []
    for side in (1, 5, 12, 100):
        monkeypatch.setitem(affinity._TILE_SIDE, "cpu", side)
        results.append(both((23, 17), 3, knobs, seed=1)[0])
    for result in results[1:]:
        torch.testing.assert_close(result.scores, results[0].scores, atol=1e-6, rtol=0)
        torch.testing.assert_close(result.similarity, results[0].similarity, atol=1e-6, rtol=0)


def test_a_still_picture_ties_without_being_compared_with_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = torch.Generator().manual_seed(0)
    query, key = (unit(14, 40, 6, generator=generator) for _ in range(2))
    if affinity.search_for(query, 30) is None:
        pytest.skip("no compiled search here")
    frame = ContextFrame(key, torch.rand(14 * 40, 3, generator=generator))
    alone = vote(query, [frame], PropagationSettings(radius=5, topk=1))
    monkeypatch.setattr(affinity, "_vote_in_tiles", None)
    stood = vote(query, [frame] * 8, PropagationSettings(radius=5, topk=5))
    torch.testing.assert_close(stood.scores, alone.scores)
    torch.testing.assert_close(stood.similarity, alone.similarity)


def test_small_temperature_does_not_overflow() -> None:
    tiled, _ = both((9, 9), 2, PropagationSettings(temperature=0.001), seed=0)
    assert tiled.scores.isfinite().all()
    assert tiled.similarity.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_reduced_precision_agrees_where_labels_are_clear(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    scene = torch.randn(24, 30, 32, generator=generator)
    maps = [
        torch.nn.functional.normalize(
            scene + 0.3 * torch.randn(scene.shape, generator=generator), dim=-1
        )
        for _ in range(4)
    ]
    inside = (torch.arange(30) < 13).float().repeat(24)
    labels = torch.stack([1 - inside, inside], 1)
    knobs = PropagationSettings(radius=5, topk=5)
    exact, reduced = (
        vote(maps[0].to(d), [ContextFrame(m.to(d), labels) for m in maps[1:]], knobs)
        for d in (torch.float32, dtype)
    )
    assert (exact.scores.argmax(0) == reduced.scores.argmax(0)).float().mean() > 0.999
    torch.testing.assert_close(reduced.scores.sum(0), torch.ones(24, 30))
    torch.testing.assert_close(reduced.similarity, exact.similarity, atol=0.01, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_copy_is_as_alike_as_can_be_and_a_window_smaller_than_topk_is_no_trouble(dtype) -> None:
    cells = unit(6, 7, 16, generator=torch.Generator().manual_seed(0)).to(dtype)
    context = [ContextFrame(cells, torch.rand(42, 2))]
    single = vote(cells, context, PropagationSettings(topk=1, radius=2))
    torch.testing.assert_close(single.similarity, torch.ones(6, 7), atol=0.01, rtol=0)
    cramped = vote(cells, context, PropagationSettings(topk=40, radius=1))
    assert ((cramped.similarity > -1) & (cramped.similarity < 1.01)).all()


def test_no_context() -> None:
    with pytest.raises(InputError, match="give the first one its labels"):
        vote(torch.zeros(2, 2, 3), [], PropagationSettings())


def test_grids_must_agree() -> None:
    context = [ContextFrame(torch.zeros(3, 2, 3), torch.zeros(6, 2))]
    with pytest.raises(InputError, match="extract all frames of a clip with one extractor"):
        vote(torch.zeros(2, 2, 3), context, PropagationSettings())
