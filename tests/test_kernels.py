"""The compiled search against the obvious one, and what happens where it can't be compiled."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.reference import inside_window
from propagate.config import PropagationSettings, WindowShape
from propagate.kernels import library
from propagate.kernels.nearest import as_rows, available, nearest
from propagate.kernels.sketch import Basis


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache, and nothing loaded."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    library.load.cache_clear()
    yield tmp_path / "propagate" / "native"
    library.load.cache_clear()


def maps(count: int, *shape: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator) for _ in range(count)]


@pytest.mark.parametrize("window", ["square", "circle", "open-circle"])
@pytest.mark.parametrize("radius", [0, 1, 7, 40])
def test_equals_a_search_of_everything(window: WindowShape, radius: int) -> None:
    query, *keys = maps(4, 19, 53, 11)
    if not available(query):
        pytest.skip("no C compiler here")
    limited = [False, True, True]
    best, cells = nearest(as_rows(query), keys, limited, radius=radius, window=window, keep=7)
    inside = inside_window(19, 53, PropagationSettings(radius=radius, window=window))
    columns = []
    for key, bounded in zip(keys, limited, strict=True):
        products = query.flatten(0, 1) @ key.flatten(0, 1).T
        columns.append(products.masked_fill(~inside, -torch.inf) if bounded else products)
    expected, where = torch.cat(columns, 1).topk(7, dim=1)
    torch.testing.assert_close(best, expected, atol=1e-5, rtol=0)
    assert torch.equal(cells.long(), where)


def test_threads_and_layouts_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    query, *keys = maps(3, 23, 40, 16)
    if not available(query):
        pytest.skip("no C compiler here")
    how = {"limited": [True, False], "radius": 5, "window": "circle", "keep": 4}
    first = nearest(query, keys, **how)
    channels_first = [key.permute(2, 0, 1).contiguous().permute(1, 2, 0) for key in keys]
    for threads, held in ((1, keys), (3, channels_first), (16, [as_rows(k) for k in keys])):
        monkeypatch.setattr(torch, "get_num_threads", lambda n=threads: n)
        again = nearest(query, held, **how)
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_the_first_of_equals_is_kept() -> None:
    query = torch.ones(2, 40, 3)
    if not available(query):
        pytest.skip("no C compiler here")
    _, cells = nearest(query, [query, query], [False] * 2, radius=0, window="square", keep=3)
    assert cells.tolist() == [[0, 1, 2]] * 80


@st.composite
def related_maps(draw: st.DrawFn) -> list[torch.Tensor]:
    """A query and some keys that few directions explain, so that sketches are of use.

    The directions may be the leading channels, as of principal components.
    """
    height, width = draw(st.integers(1, 9)), draw(st.integers(16, 40))
    seed, channels = draw(st.integers(0, 1000)), draw(st.sampled_from([24, 40]))
    generator = torch.Generator().manual_seed(seed)
    scene = torch.randn(height, width, 6, generator=generator)
    directions = torch.randn(6, channels, generator=generator)
    if draw(st.booleans()):
        directions = torch.eye(6, channels)
    frames = []
    for _ in range(draw(st.integers(2, 5))):
        noise = 0.05 * torch.randn(height, width, channels, generator=generator)
        frames.append(torch.nn.functional.normalize(scene @ directions + noise, dim=2))
    if draw(st.booleans()):  # ties within a frame and between frames
        frames = [torch.nn.functional.normalize((4 * frame).round(), dim=2) for frame in frames]
        frames.append(frames[1])
    return frames


@given(
    maps=related_maps(),
    radius=st.integers(0, 12),
    window=st.sampled_from(["square", "circle", "open-circle"]),
    keep=st.integers(1, 12),
    whole=st.sets(st.integers(0, 4)),
)
def test_sketches_change_nothing(
    maps: list[torch.Tensor], radius: int, window: WindowShape, keep: int, whole: set[int]
) -> None:
    query, *keys = maps
    if not available(query):
        pytest.skip("no C compiler here")
    basis = Basis.of(keys[0])
    if basis is None:
        return
    limited = [index not in whole for index in range(len(keys))]
    how = {"radius": radius, "window": window, "keep": keep}
    plain = nearest(query, keys, limited, **how)
    sketched = nearest(query, keys, limited, **how, sketches=[basis.sketch(m) for m in maps])
    assert torch.equal(plain[0], sketched[0])
    assert torch.equal(plain[1], sketched[1])


@pytest.mark.parametrize("ordered", [False, True])
def test_a_sketch_bounds_every_product(ordered: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    directions = 7 * torch.eye(5, 48) if ordered else torch.randn(5, 48, generator=generator)
    one, other = (
        torch.randn(7, 30, 5, generator=generator) @ directions
        + 0.2 * torch.randn(7, 30, 48, generator=generator)
        for _ in range(2)
    )
    basis = Basis.of(one)
    assert basis is not None
    products = one.flatten(0, 1) @ other.flatten(0, 1).T
    ours, theirs = (basis.sketch(map_) for map_ in (one, other))
    assert (ours.leading is None) == ordered
    if ours.leading is None or theirs.leading is None:
        leading = one.flatten(0, 1), other.flatten(0, 1)
    else:
        leading = _cells(ours.leading), _cells(theirs.leading)
    rests = _cells(ours.rests), _cells(theirs.rests)
    for level, count in enumerate(basis.levels):
        bounds = leading[0][:, :count] @ leading[1][:, :count].T
        bounds += rests[0][:, level, None] * rests[1][:, level]
        assert (bounds > products).all()
        assert (bounds - products).mean() < 0.3 * products.abs().mean()


def _cells(rows: torch.Tensor) -> torch.Tensor:
    """[gh, n, gw] as [cells, n]."""
    return rows.transpose(1, 2).flatten(0, 1)


def test_no_basis_where_all_directions_matter_alike() -> None:
    generator = torch.Generator().manual_seed(1)
    assert Basis.of(torch.randn(20, 30, 64, generator=generator)) is None
    assert Basis.of(torch.full((20, 30, 64), torch.nan)) is None


def test_compiled_once(fresh: Path) -> None:
    if library.load("nearest") is None:
        pytest.skip("no C compiler here")
    (made,) = fresh.iterdir()
    written = made.stat().st_mtime_ns
    library.load.cache_clear()
    assert library.load("nearest") is not None
    assert [path.stat().st_mtime_ns for path in fresh.iterdir()] == [written]


def test_a_compiler_that_fails_is_done_without(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    with caplog.at_level(logging.INFO):
        assert library.load("nearest") is None
    assert "nearest can't be compiled, so it runs in torch" in caplog.text
    assert not available(torch.zeros(40, 40, 3))
    assert list(fresh.iterdir()) == []


def test_no_compiler_and_switched_off(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(library.shutil, "which", lambda _: None)
    with caplog.at_level(logging.INFO):
        assert library.load("nearest") is None
    assert "No C compiler, so nearest runs in torch" in caplog.text
    monkeypatch.undo()
    library.load.cache_clear()
    monkeypatch.setenv("PROPAGATE_NATIVE", "0")
    assert library.load("nearest") is None
    assert not fresh.exists()


def test_a_cache_that_others_can_write_to_is_not_trusted(
    fresh: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fresh.mkdir(parents=True)
    fresh.chmod(0o777)
    with caplog.at_level(logging.INFO):
        assert library.load("nearest") is None
    assert "can be written by others" in caplog.text
