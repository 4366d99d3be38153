"""Run-length encoding of masks as COCO defines it.

Runs go down the columns and start with background. The compressed string writes each run, from
the fourth on as the difference to the one two before, in groups of 5 bits, lowest first: a
character is 48 plus the group, plus 32 if more follow; bit 4 of the last group is the sign.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from propagate.errors import LabelError
from propagate.types import Size

if TYPE_CHECKING:
    from jaxtyping import Bool

_FIRST, _MORE, _SIGN, _BITS = 48, 32, 16, 5
_MAX_GROUPS = 12


def encode_rle(mask: Bool[np.ndarray, "h w"]) -> str:
    """The compressed string of a mask."""
    return runs_to_string(mask_to_runs(mask))


def decode_rle(counts: str | Sequence[int], size: Size) -> Bool[np.ndarray, "h w"]:
    """The mask of a compressed string or of a plain list of runs.

    Raises:
        LabelError: the runs are malformed or don't add up to the size.
    """
    runs = string_to_runs(counts) if isinstance(counts, str) else counts
    return runs_to_mask(runs, size)


def mask_to_runs(mask: Bool[np.ndarray, "h w"]) -> list[int]:
    """Lengths of the runs of background, object, background, ... down the columns."""
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts = np.concatenate([[0], changes, [flat.size]])
    runs: list[int] = np.diff(starts).tolist()
    return [0, *runs] if flat.size and flat[0] else runs


def runs_to_mask(runs: Sequence[int], size: Size) -> Bool[np.ndarray, "h w"]:
    """The mask that has these runs.

    Raises:
        LabelError: a run is no whole number of 0 or more, or they don't add up to the size.
    """
    try:
        lengths = np.array(runs)
    except ValueError:
        lengths = np.zeros(1)
    whole = lengths.ndim == 1 and (np.issubdtype(lengths.dtype, np.integer) or not lengths.size)
    if not whole or (lengths < 0).any():
        raise LabelError("the run lengths are not whole numbers of 0 or more")
    # Of Python's numbers, which don't overflow.
    covered = sum(lengths.tolist())
    if covered != size.height * size.width:
        raise LabelError(
            f"the runs cover {covered} pixels, but {size} has {size.height * size.width}"
        )
    values = np.arange(len(lengths)) % 2 == 1
    mask: Bool[np.ndarray, "h w"] = np.repeat(values, lengths.astype(np.int64)).reshape(
        size, order="F"
    )
    return mask


def runs_to_string(runs: Sequence[int]) -> str:
    """The compressed string of runs."""
    characters = []
    for position, run in enumerate(runs):
        value = run - runs[position - 2] if position > 2 else run
        while True:
            group = value & (_MORE - 1)
            value >>= _BITS
            last = value == (-1 if group & _SIGN else 0)
            characters.append(chr(_FIRST + group + (0 if last else _MORE)))
            if last:
                break
    return "".join(characters)


def string_to_runs(text: str) -> list[int]:
    """The runs of a compressed string.

    Raises:
        LabelError: a character is not allowed, or the string ends within a number.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        group = ord(character) - _FIRST
        if not 0 <= group < 2 * _MORE or shift > _BITS * _MAX_GROUPS:
            raise LabelError(f"the run-length string has {character!r} where no number can have it")
        value |= (group & (_MORE - 1)) << shift
        shift += _BITS
        if group & _MORE:
            continue
        if group & _SIGN:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    if shift:
        raise LabelError("the run-length string ends in the middle of a number")
    return runs
