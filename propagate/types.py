"""Core value objects. Frozen, checked when made; `repr` shows shapes, not numbers.

Axes are named in the annotations: `h w` image pixels, `gh gw` grid cells, `c` channels,
`k` label channels. Images are RGB. Coordinates are in pixels with the origin at the outer
corner of the top-left pixel, so the centre of pixel (0, 0) is (0.5, 0.5).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

import numpy as np

from propagate.errors import InputError

if TYPE_CHECKING:
    import torch
    from jaxtyping import Bool, Float, Float32, Float64, Int64, Integer, UInt8
    from torch import Tensor


class Size(NamedTuple):
    """Height and width, in pixels or grid cells."""

    height: int
    width: int

    def finer(self, factor: int) -> Size:
        """Of a grid with `factor` cells along each side of every cell."""
        return Size(self.height * factor, self.width * factor)

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


class PointName(NamedTuple):
    """What a keypoint is called: a part of the skeleton, and whose it is."""

    part: str
    individual: str = ""

    def __str__(self) -> str:
        """`fly1/head`, or `head` where individuals have no names."""
        return f"{self.individual}/{self.part}" if self.individual else self.part


@dataclass(frozen=True, repr=False, eq=False)
class Keypoints:
    """Named points of one frame; several individuals make one flat list.

    Args:
        names: k different names.
        xy: float32 [k, 2], pixels from the outer corner of the top-left pixel; NaN where the
            place is not known.
        visible: bool [k]; a visible point has a place.
        confidence: float32 [k] in [0, 1], or None where nobody said.
    """

    names: tuple[PointName, ...]
    xy: Float32[np.ndarray, "k 2"]
    visible: Bool[np.ndarray, " k"]
    confidence: Float32[np.ndarray, " k"] | None = None

    def __post_init__(self) -> None:
        count = len(self.names)
        if self.xy.dtype != np.float32 or self.xy.shape != (count, 2):
            raise InputError(
                f"Keypoints.xy must be float32 [{count}, 2], one row per name, "
                f"not {self.xy.dtype} {list(self.xy.shape)}."
            )
        if self.visible.dtype != np.bool_ or self.visible.shape != (count,):
            raise InputError(
                f"Keypoints.visible must be bool [{count}], one per name, "
                f"not {self.visible.dtype} {list(self.visible.shape)}."
            )
        self._check_values()

    def _check_values(self) -> None:
        twice = [name for name in self.names if self.names.count(name) > 1]
        if twice:
            raise InputError(f"The keypoint {twice[0]} is there twice; names must differ.")
        unwritable = [name for name in self.names if not str(name).isprintable()]
        if unwritable:
            raise InputError(
                f"The keypoint name {str(unwritable[0])!r} has a line break or the like."
            )
        lost = self.visible & ~np.isfinite(self.xy).all(axis=1)
        if lost.any():
            name = self.names[int(lost.argmax())]
            raise InputError(f"The keypoint {name} is visible but has no place; give x and y.")
        known = self.confidence
        if known is not None and not (
            known.dtype == np.float32
            and known.shape == self.visible.shape
            and bool(((known >= 0) & (known <= 1)).all())
        ):
            raise InputError(
                f"Keypoints.confidence must be float32 [{len(self.names)}] from 0 to 1, "
                f"not {known.dtype} {list(known.shape)}."
            )

    def __repr__(self) -> str:
        return f"Keypoints({len(self.names)} points, {int(self.visible.sum())} visible)"


@dataclass(frozen=True, repr=False, eq=False)
class Matches:
    """Places of one image and the places of another that they were matched with.

    Args:
        source_xy: float64 [n, 2], pixels from the outer corner of the top-left pixel.
        target_xy: float64 [n, 2], the same in the other image.
        scores: float64 [n], how alike the features are; higher is better.
        query: int64 [n], which of the points that were asked for each match belongs to.
    """

    source_xy: Float64[np.ndarray, "n 2"]
    target_xy: Float64[np.ndarray, "n 2"]
    scores: Float64[np.ndarray, " n"]
    query: Int64[np.ndarray, " n"]

    def __post_init__(self) -> None:
        count = len(self.source_xy)
        wanted = {
            "source_xy": (np.float64, (count, 2)),
            "target_xy": (np.float64, (count, 2)),
            "scores": (np.float64, (count,)),
            "query": (np.int64, (count,)),
        }
        for name, (dtype, shape) in wanted.items():
            value = getattr(self, name)
            if value.dtype != dtype or value.shape != shape:
                raise InputError(
                    f"Matches.{name} must be {dtype.__name__} {list(shape)}, "
                    f"not {value.dtype} {list(value.shape)}."
                )

    def __len__(self) -> int:
        return len(self.query)

    def __getitem__(self, chosen: np.ndarray) -> Matches:
        """Some of them, by a mask or by rows."""
        return Matches(
            self.source_xy[chosen], self.target_xy[chosen], self.scores[chosen], self.query[chosen]
        )

    def __repr__(self) -> str:
        return f"Matches({len(self)})"


State = Literal["given", "visible", "occluded", "lost"]
"""What became of an object in a frame: its mask is the user's own, it is seen and the mask probably
right, it has no pixels left, or has some that are probably wrong."""

L = TypeVar("L", Masks, Keypoints)
"""A kind of label."""


@dataclass(frozen=True, repr=False)
class LabelField:
    """Soft labels on a feature grid.

    Args:
        scores: float32 [k, gh, gw], one channel per label, each in [0, 1].
        ids: the label that each channel stands for; for masks channel 0 is background, id 0; for
            keypoints the position in their list.
        similarity: float32 [gh, gw], how alike the features are that each cell's labels were voted
            from (`Vote.similarity`); None for labels that a user gave.
    """

    scores: Float[Tensor, "k gh gw"]
    ids: tuple[int, ...]
    similarity: Float32[Tensor, "gh gw"] | None = None

    def __post_init__(self) -> None:
        if self.scores.ndim != 3 or self.scores.shape[0] != len(self.ids):
            raise InputError(
                f"LabelField.scores must be [k, gh, gw] with k = {len(self.ids)} ids, "
                f"not {list(self.scores.shape)}."
            )
        if len(set(self.ids)) != len(self.ids):
            raise InputError(f"LabelField.ids must differ from each other: {self.ids}.")
        if self.similarity is not None and tuple(self.similarity.shape) != tuple(self.grid):
            raise InputError(
                f"LabelField.similarity must be [{self.grid.height}, {self.grid.width}] as the "
                f"scores, not {list(self.similarity.shape)}."
            )

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
