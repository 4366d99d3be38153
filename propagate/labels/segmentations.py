"""The ways COCO and its relatives store one mask: compressed or plain runs, or polygons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from propagate.errors import LabelError
from propagate.labels.json_files import Node
from propagate.labels.outlines import fill
from propagate.labels.rle import decode_rle, encode_rle
from propagate.types import Size

if TYPE_CHECKING:
    from jaxtyping import Bool, Float64


def decode_segmentation(node: Node, size: Size) -> Bool[np.ndarray, "h w"]:
    """The mask of a segmentation: `{size, counts}` or polygons `[[x, y, x, y, ...], ...]`.

    Raises:
        LabelError: it is malformed, or of another size than the frame.
    """
    if isinstance(node.value, list):
        return fill_any([ring_of(ring) for ring in node.items()], size)
    height, width = (entry.as_(int) for entry in _pair(node["size"]))
    if (height, width) != tuple(size):
        raise node.error(f"has the size {Size(height, width)}, but its frame has {size}")
    counts = node["counts"]
    try:
        if isinstance(counts.value, str):
            return decode_rle(counts.value, size)
        return decode_rle(counts.as_(list), size)
    except LabelError as error:
        if str(error).startswith(str(node.path)):
            raise
        raise counts.error(f"is malformed: {error}") from error


def ring_of(node: Node) -> Float64[np.ndarray, "n 2"]:
    """A polygon from a flat list of coordinates.

    Raises:
        LabelError: it has no three points, or something that is no number.
    """
    values = [entry.as_(float) for entry in node.items()]
    if len(values) < 6 or len(values) % 2:
        raise node.error(f"has {len(values)} numbers; a polygon has x and y of 3 points or more")
    if not all(map(math.isfinite, values)):
        raise node.error("has a coordinate that is no finite number")
    return np.array(values).reshape(-1, 2)


def fill_any(rings: Sequence[Float64[np.ndarray, "n 2"]], size: Size) -> Bool[np.ndarray, "h w"]:
    """The pixels inside any of the rings, each filled by itself."""
    mask = np.zeros(size, dtype=bool)
    for ring in rings:
        mask |= fill([ring], size)
    return mask


def encode_segmentation(mask: Bool[np.ndarray, "h w"]) -> dict[str, Any]:
    """`{size, counts}` with compressed runs."""
    return {"size": list(mask.shape), "counts": encode_rle(mask)}


def box_of(mask: Bool[np.ndarray, "h w"]) -> list[int]:
    """Left, top, width and height of the smallest box around a mask."""
    return list(cv2.boundingRect(mask.view(np.uint8)))


def _pair(node: Node) -> list[Node]:
    entries = node.items()
    if len(entries) != 2:
        raise node.error("is not [height, width]")
    return entries
