"""Run-length encoding against strings worked out by others, and masks to polygons and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from propagate.errors import LabelError
from propagate.labels.rle import (
    decode_rle,
    encode_rle,
    mask_to_runs,
    runs_to_mask,
    runs_to_string,
    string_to_runs,
)
from propagate.types import Size
from tests.tiny_labels import bool_masks

KNOWN = [
    ([0, 6, 1, 3], "061M"),
    ([0, 6, 1, 1], "061K"),
    ([0, 6, 1, 6], "0610"),
    ([0, 1, 1, 2, 1, 3, 1, 4, 1], "011101010"),
    ([0, 1024], "0PP1"),
]
# The example line of the documentation of MOTS.
MOTS = "WSV:2d;1O10000O10000O1O100O100O1O100O1000000000000000O100O102N5K00O1O1N2O110OO2O001O1NTga3"


@pytest.mark.parametrize(("runs", "text"), KNOWN)
def test_known_strings(runs: list[int], text: str) -> None:
    assert runs_to_string(runs) == text
    assert string_to_runs(text) == runs


def test_documented_mask_has_its_size() -> None:
    mask = decode_rle(MOTS, Size(375, 1242))
    assert mask.any()
    assert encode_rle(mask) == MOTS


def test_runs_go_down_the_columns_from_background() -> None:
    mask = np.array([[1, 0, 0], [1, 1, 0]], dtype=bool)
    assert mask_to_runs(mask) == [0, 2, 1, 1, 2]
    assert mask_to_runs(~mask) == [2, 1, 1, 2]


@given(bool_masks())
def test_round_trip(mask: np.ndarray) -> None:
    np.testing.assert_array_equal(decode_rle(encode_rle(mask), Size(*mask.shape)), mask)


@given(bool_masks())
def test_pycocotools_agrees(mask: np.ndarray) -> None:
    coco = pytest.importorskip("pycocotools.mask")
    theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert encode_rle(mask) == theirs["counts"].decode()


@given(st.text(alphabet=[chr(c) for c in range(40, 120)], max_size=20))
def test_no_string_breaks_it(text: str) -> None:
    try:
        mask = decode_rle(text, Size(3, 4))
    except LabelError:
        return
    assert mask.shape == (3, 4)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ("061", "the runs cover 7 pixels, but 2x3 has 6"),
        ([3, -1, 4], "not whole numbers"),
        ([1.5, 4.5], "not whole numbers"),
        ([[1], [2, 3]], "not whole numbers"),
        ([2**62] * 4 + [6], "the runs cover"),
        ("06 ", "has ' ' where no number"),
        ("0P", "ends in the middle"),
        ("P" * 100, "where no number"),
    ],
)
def test_malformed_runs_are_named(counts: str | list[int], message: str) -> None:
    with pytest.raises(LabelError, match=message):
        decode_rle(counts, Size(3, 2))


def test_plain_runs_are_read_too() -> None:
    mask = runs_to_mask([1, 2, 3], Size(2, 3))
    np.testing.assert_array_equal(mask, [[0, 1, 0], [1, 0, 0]])
