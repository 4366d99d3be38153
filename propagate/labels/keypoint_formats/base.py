"""What a keypoint format is, and what all of them share.

A format is a module of this package with a `FORMAT`. Inside the program points are in pixels from
the outer corner of the top-left pixel, whose centre is (0.5, 0.5); every format says which
convention its files have, and converts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from propagate.errors import LabelError
from propagate.types import Keypoints, PointName, Size

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

Edge = tuple[str, str]
"""Two parts that a skeleton joins, within each individual."""

PIXEL_CENTRE = 0.5
"""What to add where a file counts from the centre of the first pixel."""


@dataclass(frozen=True)
class AnnotatedFrame:
    """The points of one frame of a file.

    Args:
        keypoints: of the frame.
        index: which frame of its clip it is, from 0, or None where the file doesn't say.
        name: stem of the image's file name, or None.
        size: size of the picture that the places count in (1x1 where they go from 0 to 1), or
            None where the file doesn't say.
    """

    keypoints: Keypoints
    index: int | None = None
    name: str | None = None
    size: Size | None = None


@dataclass(frozen=True)
class KeypointFile:
    """What a keypoint file holds.

    Args:
        frames: annotated frames, in the file's order.
        edges: of the skeleton; may be empty.
        needs_size: whether places count in pictures of a size that only the user can tell.
        notes: sentences about choices made while reading.
    """

    frames: tuple[AnnotatedFrame, ...]
    edges: tuple[Edge, ...] = ()
    needs_size: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class KeypointFormat:
    """How one kind of file is told from others, read and written.

    Args:
        name: what messages and callers call it.
        suffixes: endings its files have, lower case.
        matches: whether a file with one of these endings is of this kind.
        read: the content; raises LabelError.
        write: the reverse, where there is one.
    """

    name: str
    suffixes: tuple[str, ...]
    matches: Callable[[Path], bool]
    read: Callable[[Path], KeypointFile]
    write: Callable[[Path, KeypointFile], None] | None = None


def make_keypoints(
    names: Sequence[PointName],
    xy: Float[np.ndarray, "k 2"],
    visible: Bool[np.ndarray, " k"],
    confidence: Float[np.ndarray, " k"] | None = None,
) -> Keypoints:
    """Points of one frame; those without a finite place count as not visible."""
    with np.errstate(over="ignore"):
        places = np.array(xy).astype(np.float32).reshape(len(names), 2)
    known = np.isfinite(places).all(axis=1)
    places[~known] = np.nan
    if confidence is not None:
        confidence = np.clip(np.nan_to_num(confidence), 0, 1).astype(np.float32)
    return Keypoints(tuple(names), places, np.asarray(visible, dtype=bool) & known, confidence)


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        LabelError: it is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise LabelError(
            f"The keypoint file {path} is not valid JSON ({error}); save it again."
        ) from error


def number_at_end(name: str | None) -> int | None:
    """The number a file stem ends with: 42 for `img0042`."""
    match = re.search(r"(\d{1,18})$", name or "", re.ASCII)
    return int(match[1]) if match else None


def stem(text: str) -> str:
    """Stem of a file name that may come from another system's path."""
    return re.split(r"[\\/]", text)[-1].rsplit(".", 1)[0]


def edges_of(pairs: Sequence[Sequence[int]], parts: Sequence[str], *, first: int = 0) -> list[Edge]:
    """Pairs of numbers, counted from `first`, as pairs of parts; those out of range are dropped."""
    numbers = range(first, first + len(parts))
    return [(parts[a - first], parts[b - first]) for a, b in pairs if a in numbers and b in numbers]
