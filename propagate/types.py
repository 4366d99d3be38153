"""Core value objects. Frozen, checked when made; `repr` shows shapes, not numbers.

Axes are named in the annotations: `h w` image pixels, `gh gw` grid cells, `c` channels,
`k` label channels. Images are RGB. Coordinates are in pixels with the origin at the outer
corner of the top-left pixel, so the centre of pixel (0, 0) is (0.5, 0.5).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from propagate.errors import InputError

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float, Integer, UInt8
    from torch import Tensor


class Size(NamedTuple):
    """Height and width, in pixels or grid cells."""

    height: int
    width: int

    def __str__(self) -> str:
        """Width first, the way people write image sizes: `854x480`."""
        return f"{self.width}x{self.height}"


@dataclass(frozen=True, repr=False)
class Frame:
    """One decoded picture of a clip.

    Args:
        source: identity of the clip, the same for all its frames.
        index: ordinal of the decoded picture in the clip, from 0.
        rgb: uint8 [h, w, 3].
        pts: presentation time in seconds (0.0 where the source has no clock).
        name: file stem for what is written about this frame; unique in the clip.
    """

    source: str
    index: int
    rgb: UInt8[np.ndarray, "h w 3"]
    pts: float
    name: str

    def __post_init__(self) -> None:
        if self.rgb.dtype != np.uint8 or self.rgb.ndim != 3 or self.rgb.shape[2] != 3:
            raise InputError(
                f"Frame.rgb must be uint8 [h, w, 3], not {self.rgb.dtype} {list(self.rgb.shape)}."
            )
        if self.index < 0:
            raise InputError(f"Frame.index counts from 0, so it can't be {self.index}.")

    @property
    def size(self) -> Size:
        """Picture size in pixels."""
        return Size(self.rgb.shape[0], self.rgb.shape[1])

    def __repr__(self) -> str:
        return f"Frame({self.source!r}, index={self.index}, {self.size}, pts={self.pts:.3f})"


@dataclass(frozen=True, repr=False)
class FeatureMap:
    """A grid of feature vectors that covers one image edge to edge.

    Args:
        data: floating point [c, gh, gw].
        image_size: native size of the image the map describes, in pixels.
        input_size: size the image was resized to before the network saw it, in pixels.
        unit: whether every cell's vector already has L2 norm 1.
    """

    data: Float[Tensor, "c gh gw"]
    image_size: Size
    input_size: Size
    unit: bool = False

    def __post_init__(self) -> None:
        if self.data.ndim != 3 or not self.data.is_floating_point():
            raise InputError(
                f"FeatureMap.data must be floating point [c, gh, gw], "
                f"not {self.data.dtype} {list(self.data.shape)}."
            )

    @property
    def grid(self) -> Size:
        """Grid size in cells."""
        return Size(self.data.shape[1], self.data.shape[2])

    def normalised(self, dtype: torch.dtype) -> FeatureMap:
        """The same map with L2 norm 1 in every cell, as `dtype`, stored channels last.

        Norms are taken in float32, with 1e-12 as the least (as `torch.nn.functional.normalize`).
        Returns `self` when nothing is to be done.
        """
        cells = self.data.permute(1, 2, 0)
        if self.unit and self.data.dtype == dtype and cells.is_contiguous():
            return self
        cells = cells.float()
        if not self.unit:
            cells = cells / cells.norm(dim=2, keepdim=True).clamp_min(1e-12)
        data = cells.to(dtype).contiguous().permute(2, 0, 1)
        return FeatureMap(data, self.image_size, self.input_size, unit=True)

    def __repr__(self) -> str:
        return (
            f"FeatureMap({list(self.data.shape)} {self.data.dtype}, image {self.image_size}"
            f"{', unit' if self.unit else ''})"
        )


@dataclass(frozen=True, repr=False)
class Masks:
    """One integer id per pixel: 0 is background, every other id an object.

    Args:
        ids: integer [h, w].
        void: id whose pixels are unknown (they vote for nothing), or None.
    """

    ids: Integer[np.ndarray, "h w"]
    void: int | None = None

    def __post_init__(self) -> None:
        if self.ids.ndim != 2 or not np.issubdtype(self.ids.dtype, np.integer):
            raise InputError(
                f"Masks.ids must be integer [h, w], not {self.ids.dtype} {list(self.ids.shape)}."
            )

    @property
    def size(self) -> Size:
        """Mask size in pixels."""
        return Size(self.ids.shape[0], self.ids.shape[1])

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Ids of the objects that have at least one pixel, ascending, without 0 and void."""
        return tuple(int(i) for i in np.unique(self.ids) if i != 0 and i != self.void)

    def __repr__(self) -> str:
        return f"Masks({self.size}, objects={list(self.object_ids)}, void={self.void})"


@dataclass(frozen=True, repr=False)
class LabelField:
    """Soft labels on a feature grid.

    Args:
        scores: float32 [k, gh, gw], one channel per label, each in [0, 1].
        ids: the label that each channel stands for; for masks channel 0 is background, id 0.
    """

    scores: Float[Tensor, "k gh gw"]
    ids: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.scores.ndim != 3 or self.scores.shape[0] != len(self.ids):
            raise InputError(
                f"LabelField.scores must be [k, gh, gw] with k = {len(self.ids)} ids, "
                f"not {list(self.scores.shape)}."
            )
        if len(set(self.ids)) != len(self.ids):
            raise InputError(f"LabelField.ids must differ from each other: {self.ids}.")

    @property
    def grid(self) -> Size:
        """Grid size in cells."""
        return Size(self.scores.shape[1], self.scores.shape[2])

    def __repr__(self) -> str:
        return f"LabelField({list(self.scores.shape)}, ids={list(self.ids)})"


@dataclass(frozen=True)
class ClipLosses:
    """What a reader could not decode, for the report after the last frame.

    Args:
        messages: one sentence per loss, empty when the whole clip decoded.
    """

    messages: tuple[str, ...] = field(default=())

    def __bool__(self) -> bool:
        return bool(self.messages)
