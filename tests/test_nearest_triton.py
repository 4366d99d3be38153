"""The search in Triton against the obvious one, and how a vote and a machine without it do.

On a GPU the kernel runs as it is. Elsewhere Triton's interpreter stands in, in a process of its own
as the variable must be set before Triton loads; the interpreter of Triton 3.7 knows NumPy 2.4:

    pip install 'triton>=3.7'
    TRITON_INTERPRET=1 python -m pytest tests/test_nearest_triton.py
"""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
from collections.abc import Sequence

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from benchmarks.reference import dense_similarity, dense_vote, inside_window
from propagate import affinity
from propagate.affinity import ContextFrame, vote
from propagate.config import PropagationSettings, WindowShape
from propagate.kernels import nearest_triton
from propagate.kernels.search import search_for
from propagate.kernels.sketch import Sketch

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
runs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None
    or (DEVICE.type == "cpu" and os.environ.get("TRITON_INTERPRET") != "1"),
    reason="needs triton, and a GPU or its interpreter: "
    "TRITON_INTERPRET=1 python -m pytest tests/test_nearest_triton.py",
)


def maps(count: int, *shape: int, seed: int = 0, tied: bool = False) -> list[Tensor]:
    """Unit features; `tied` ones are axes, with cosines of 0 or 1 in any order of summation."""
    generator = torch.Generator().manual_seed(seed)
    found = [torch.randn(shape, generator=generator) for _ in range(count)]
    if tied:
        axes = torch.eye(shape[-1])
        return [axes[features.argmax(-1)].to(DEVICE) for features in found]
    return [torch.nn.functional.normalize(features, dim=-1).to(DEVICE) for features in found]


def nearest_of_all(
    query: Tensor,
    keys: Sequence[Tensor],
    limited: Sequence[bool],
    *,
    radius: int,
    window: WindowShape,
    keep: int,
    sketches: Sequence[Sketch] = (),
) -> tuple[Tensor, Tensor]:
    """The contract of a search, by sorting everything."""
    height, width, _ = query.shape
    settings = PropagationSettings(radius=radius, window=window)
    inside = inside_window(height, width, settings).to(query.device)
    columns = []
    for key, bounded in zip(keys, limited, strict=True):
        products = query.float().flatten(0, 1) @ key.float().flatten(0, 1).T
        columns.append(products.masked_fill(~inside, -torch.inf) if bounded else products)
    best, cells = torch.cat(columns, 1).sort(dim=1, descending=True, stable=True)
    missing = max(keep - best.shape[1], 0)
    best = torch.nn.functional.pad(best[:, :keep], (0, missing), value=-torch.inf)
    cells = torch.nn.functional.pad(cells[:, :keep], (0, missing))
    return best, cells.masked_fill(best.isinf(), 0).int()


@runs_triton
@settings(deadline=None, max_examples=10, suppress_health_check=[HealthCheck.too_slow])
@given(
    height=st.integers(1, 11),
    width=st.integers(1, 19),
    channels=st.integers(1, 40),
    frames=st.integers(1, 3),
    free=st.integers(0, 1),
    radius=st.integers(0, 6),
    window=st.sampled_from(["square", "circle", "open-circle"]),
    keep=st.integers(1, 6),
    parts=st.integers(1, 3),
    tied=st.booleans(),
    half=st.booleans(),
    seed=st.integers(0, 2**16),
)
@example(3, 17, 70, 2, 1, 3, "circle", 17, 2, False, True, 0)
@example(2, 2, 3, 1, 0, 1, "open-circle", 7, 1, True, False, 0)
def test_equals_a_search_of_everything(
    height, width, channels, frames, free, radius, window, keep, parts, tied, half, seed
) -> None:
    query, *keys = maps(frames + 1, height, width, channels, seed=seed, tied=tied)
    if half:
        query, *keys = (features.half() for features in (query, *keys))
    limited = [i >= free for i in range(frames)]
    how = {"radius": radius, "window": window, "keep": keep}
    best, cells = nearest_triton.nearest(query, keys, limited, parts=parts, **how)
    expected, where = nearest_of_all(query, keys, limited, **how)
    torch.testing.assert_close(best, expected, atol=1e-5, rtol=0)
    if tied:
        assert torch.equal(cells, where)
    else:
        # Rounding may swap two that are alike; each must be what it is said to be.
        flat = torch.stack([key.float() for key in keys]).view(-1, channels)
        products = (query.float().view(-1, 1, channels) * flat[cells.long()]).sum(-1)
        found = best.isfinite()
        torch.testing.assert_close(products[found], expected[found], atol=1e-5, rtol=0)
        assert all(len(set(row)) == len(row) for row in cells[found.all(1)].tolist())


@runs_triton
@settings(deadline=None, max_examples=6, suppress_health_check=[HealthCheck.too_slow])
@given(
    height=st.integers(1, 10),
    width=st.integers(1, 12),
    frames=st.integers(1, 3),
    radius=st.integers(0, 4),
    topk=st.integers(1, 5),
    window=st.sampled_from(["square", "circle", "open-circle"]),
    ties=st.booleans(),
    tied=st.booleans(),
)
def test_a_vote_equals_the_one_in_torch(
    height, width, frames, radius, topk, window, ties, tied
) -> None:
    # Exactly k of those that tie is a choice, which the two make in different ways.
    knobs = PropagationSettings(radius=radius, topk=topk, window=window, ties=ties or tied)
    query, *keys = maps(frames + 1, height, width, 6, tied=tied)
    labels = torch.rand(frames, height * width, 3, device=DEVICE)
    limited = [i > 0 for i in range(frames)]
    context = [ContextFrame(*one) for one in zip(keys, labels, limited, strict=True)]
    votes = []
    for search in (nearest_triton.nearest, None):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(affinity, "search_for", lambda *_, found=search: found)
            votes.append(vote(query, context, knobs))
    torch.testing.assert_close(*votes, atol=1e-5, rtol=0)


@runs_triton
@pytest.mark.skipif(DEVICE.type == "cpu", reason="Triton's interpreter has no bfloat16 products")
def test_bfloat16_is_summed_in_float32() -> None:
    query, *keys = (features.bfloat16() for features in maps(4, 60, 107, 640))
    how = {"radius": 12, "window": "square", "keep": 5}
    best, _ = nearest_triton.nearest(query, keys, [True] * 3, **how)
    expected, _ = nearest_of_all(query, keys, [True] * 3, **how)
    torch.testing.assert_close(best, expected, atol=1e-5, rtol=0)


@runs_triton
def test_layouts_change_nothing() -> None:
    query, key = maps(2, 5, 6, 9)
    how = {"limited": [True], "radius": 2, "window": "circle", "keep": 3}
    first = nearest_triton.nearest(query, [key], **how)
    channels_first = key.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    unaligned = torch.cat([key.new_zeros(1), key.flatten()])[1:].view(key.shape)
    for given_ in (channels_first, unaligned):
        again = nearest_triton.nearest(query, [given_], **how)
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tied", [False, True])
def test_a_vote_takes_what_a_search_finds(
    dtype: torch.dtype, tied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(affinity, "search_for", lambda *_: nearest_of_all)
    query, *keys = (features.to(dtype) for features in maps(4, 9, 12, 6, tied=tied))
    labels = torch.rand(3, 9 * 12, 4, device=DEVICE)
    limited = [False, True, True]
    context = [ContextFrame(*one) for one in zip(keys, labels, limited, strict=True)]
    knobs = PropagationSettings(radius=3, topk=5)
    found = vote(query, context, knobs)
    if tied and dtype != torch.float32:
        best, cells = nearest_of_all(query, keys, limited, radius=3, window="square", keep=5)
        weights = torch.softmax(best / knobs.temperature, 1)[..., None]
        scores = (weights * labels.flatten(0, 1)[cells.long()]).sum(1)
        expected = scores.T.view(4, 9, 12), None
    else:
        exact = [features.float() for features in (query, *keys)]
        scores = dense_vote(exact[0], exact[1:], labels, limited, knobs)
        expected = scores, dense_similarity(exact[0], exact[1:], limited, knobs)
    torch.testing.assert_close(found.scores, expected[0], atol=2e-5, rtol=0)
    if expected[1] is not None:
        torch.testing.assert_close(found.similarity, expected[1], atol=2e-5, rtol=0)


def test_a_cpu_has_another_search() -> None:
    query = torch.zeros(40, 40, 3)
    assert not nearest_triton.available(query, 5)
    assert search_for(query, 5) is not nearest_triton.nearest
    assert search_for(query.bfloat16(), 5) is None


def test_without_triton_the_vote_runs_in_torch(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "propagate.kernels.triton_source", None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    with caplog.at_level(logging.INFO):
        assert not nearest_triton._works.__wrapped__(DEVICE, torch.float32)
    assert "nearest can't run in Triton, so it runs in torch" in caplog.text
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


def test_old_gpus_long_lists_and_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    class OnGpu:
        device, dtype = torch.device("cuda", 0), torch.float32

    monkeypatch.setattr(nearest_triton, "_works", lambda *_: True)
    assert nearest_triton.available(OnGpu(), 64)
    assert not nearest_triton.available(OnGpu(), 65)
    monkeypatch.setenv("PROPAGATE_NATIVE", "0")
    assert not nearest_triton.available(OnGpu(), 5)
    monkeypatch.undo()
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    assert not nearest_triton._works.__wrapped__(OnGpu.device, torch.float32)


@runs_triton
def test_a_kernel_that_is_wrong_is_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    works = nearest_triton._works.__wrapped__
    assert works(DEVICE, torch.float32)
    right = nearest_triton._unpacked
    monkeypatch.setattr(
        nearest_triton, "_unpacked", lambda *found: (right(*found)[0] + 1, right(*found)[1])
    )
    with caplog.at_level(logging.INFO):
        assert not works(DEVICE, torch.float32)
    assert "wrong on this GPU (17.0), so it runs in torch" in caplog.text
