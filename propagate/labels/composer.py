"""Masks of single objects to one id per pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from propagate.labels.clip_labels import id_dtype
from propagate.types import Masks, Size

if TYPE_CHECKING:
    from jaxtyping import Bool


class Composer:
    """Puts masks of single objects, which may overlap, together to one id per pixel.

    A pixel that several objects claim goes to the one on top: the higher layer, then the one
    with fewer pixels in this frame, then the lower id.

    Args:
        size: of the frame.
    """

    def __init__(self, size: Size) -> None:
        self._size = size
        self._masks: dict[int, Bool[np.ndarray, "h w"]] = {}
        self._layers: dict[int, int] = {}

    def add(self, object_id: int, mask: Bool[np.ndarray, "h w"], *, layer: int = 0) -> None:
        """Add (a piece of) an object; its layer is that of its last piece."""
        known = self._masks.get(object_id)
        self._masks[object_id] = mask if known is None else known | mask
        self._layers[object_id] = layer

    def compose(self) -> tuple[Masks, int]:
        """The ids, and the number of pixels that more than one object claimed."""
        order = sorted(
            self._masks, key=lambda i: (self._layers[i], -np.count_nonzero(self._masks[i]), -i)
        )
        ids = np.zeros(self._size, dtype=id_dtype(max(order, default=0)))
        contested = np.zeros(self._size, dtype=bool)
        for object_id in order:
            mask = self._masks[object_id]
            contested |= mask & (ids != 0)
            ids[mask] = object_id
        return Masks(ids), int(np.count_nonzero(contested))
