"""Sizes and resizing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from propagate.errors import InputError
from propagate.geometry import InputSize, resize_area, resize_ids
from propagate.types import Size

sides = st.integers(1, 400)


def test_network_sizes_of_dift(shared_dir: Path) -> None:
    path = shared_dir / "oracles/davis-protocol/sizes.json"
    for case in json.loads(path.read_text())["sizes"]:
        native = Size(case["native_height"], case["native_width"])
        size = InputSize(short_side=480, multiple=32).of(native)
        assert size == (case["network_height"], case["network_width"])
        for stride, grid in case["grid"].items():
            assert [size.height // int(stride), size.width // int(stride)] == grid


@given(sides, sides, st.integers(1, 64))
def test_both_sides_are_multiples(height: int, width: int, multiple: int) -> None:
    size = InputSize(short_side=64, multiple=multiple).of(Size(height, width))
    assert all(side % multiple == 0 and side > 0 for side in size)


def test_exact_size_wins() -> None:
    assert InputSize(exact=Size(7, 9)).of(Size(480, 854)) == Size(7, 9)


def test_native_size_is_only_floored() -> None:
    assert InputSize(short_side=None, multiple=16).of(Size(101, 203)) == Size(96, 192)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 90), st.integers(1, 90))
def test_ids_resize_as_pillow_does(h: int, w: int, height: int, width: int) -> None:
    ids = np.random.default_rng(h * w).integers(0, 255, (h, w), dtype=np.uint8)
    expected = Image.fromarray(ids).resize((width, height), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(resize_ids(ids, Size(height, width)), np.array(expected))


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 40), st.integers(1, 40))
def test_area_keeps_the_mean(gh: int, gw: int, h: int, w: int) -> None:
    values = np.random.default_rng(h * w).random((max(h, gh), max(w, gw)), dtype=np.float32)
    cells = resize_area(values, Size(gh, gw))
    assert cells.mean() == pytest.approx(values.mean(), abs=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"multiple": 0}, "multiple is 0; it must be 1 or more"),
        ({"short_side": 20, "multiple": 32}, "short_side is 20; it must be at least 32"),
        ({"exact": Size(0, 5)}, "The input size 5x0 must be at least 1x1"),
    ],
)
def test_impossible_sizes(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        InputSize(**arguments)
