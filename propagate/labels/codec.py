"""What the propagation of any kind of label needs: onto the feature grid, and back."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, overload

import numpy as np
import torch

from propagate.config import KeypointSettings, MaskDecoding, MaskEncoding, VideoSettings
from propagate.labels.keypoints import decode_keypoints, encode_keypoints
from propagate.labels.keypoints_crw import decode_crw, encode_crw
from propagate.labels.masks import decode_masks, encode_masks
from propagate.labels.references import References
from propagate.types import Keypoints, L, LabelField, Masks, PointName, Size

if TYPE_CHECKING:
    from jaxtyping import UInt8

    RGB = UInt8[np.ndarray, "h w 3"]

# A sum of scores below this says nothing.
_NOTHING = 1e-6


class Codec(Protocol[L]):
    """Turns labels of one kind into soft labels and back."""

    def encode(self, labels: L, grid: Size, *, image_size: Size) -> LabelField:
        """Soft labels on a grid of cells for the labels of an image; the same ids every time."""
        ...

    def decode(
        self, field: LabelField, *, image_size: Size, input_size: Size, rgb: RGB | None = None
    ) -> L:
        """Labels of an image, which the network saw at `input_size`; `rgb` is the image."""
        ...

    def amend(self, field: LabelField, given: LabelField, stated: Collection[int]) -> LabelField:
        """Propagated soft labels with what a user said about some objects in their place."""
        ...

    def without(self, field: LabelField, stated: Collection[int]) -> LabelField:
        """Soft labels of which stated objects can't be decoded."""
        ...

    def restore(self, decoded: L, given: L, stated: Collection[int]) -> L:
        """Labels decoded `without` the stated objects, with those as the user gave them."""
        ...


@dataclass(frozen=True)
class MaskCodec:
    """Masks by fixed methods.

    Args:
        ids: objects that the clip has, without background.
        encoding: see `encode_masks`.
        decoding: see `decode_masks`.
    """

    ids: tuple[int, ...]
    encoding: MaskEncoding = "area"
    decoding: MaskDecoding = "bilinear"

    def encode(self, labels: Masks, grid: Size, *, image_size: Size) -> LabelField:
        """One channel for background and one per object."""
        del image_size
        return encode_masks(labels, grid, method=self.encoding, ids=(0, *self.ids))

    def decode(
        self, field: LabelField, *, image_size: Size, input_size: Size, rgb: RGB | None = None
    ) -> Masks:
        """The best id of every pixel."""
        return decode_masks(field, image_size, input_size=input_size, method=self.decoding, rgb=rgb)

    def amend(self, field: LabelField, given: LabelField, stated: Collection[int]) -> LabelField:
        """Stated channels as given; what is left of each cell goes to the others as they stood."""
        told = [i for i, label in enumerate(field.ids) if label in stated]
        free = [i for i, label in enumerate(field.ids) if label not in stated]
        scores = field.scores.clone()
        scores[told] = given.scores.to(scores.device)[[given.ids.index(field.ids[i]) for i in told]]
        left = (1 - scores[told].sum(0)).clamp_min(0)
        others = scores[free]
        total = others.sum(0)
        others *= torch.where(total > _NOTHING, left / total, 0)
        # Where nothing else was there it is background, the first channel.
        others[0] += torch.where(total > _NOTHING, 0, left)
        scores[free] = others
        return LabelField(scores, field.ids, field.similarity)

    def without(self, field: LabelField, stated: Collection[int]) -> LabelField:
        """Without the channels of stated objects."""
        free = [i for i, label in enumerate(field.ids) if label not in stated]
        return LabelField(field.scores[free], tuple(field.ids[i] for i in free))

    def restore(self, decoded: Masks, given: Masks, stated: Collection[int]) -> Masks:
        """Pixels of stated objects as given; no other pixel has one of their ids."""
        told = np.isin(given.ids, list(stated))
        kind = np.result_type(decoded.ids, given.ids)
        return Masks(np.where(told, given.ids, decoded.ids).astype(kind, copy=False))


@dataclass(frozen=True)
class KeypointCodec:
    """Points of fixed names, by the settings' encoding and decoding."""

    names: tuple[PointName, ...]
    settings: KeypointSettings

    def encode(self, labels: Keypoints, grid: Size, *, image_size: Size) -> LabelField:
        """One channel per point."""
        encode = encode_crw if self.settings.encoding == "crw" else encode_keypoints
        return encode(labels, grid, image_size=image_size, sigma=self.settings.sigma)

    def decode(
        self, field: LabelField, *, image_size: Size, input_size: Size, rgb: RGB | None = None
    ) -> Keypoints:
        """The best place of every point."""
        del input_size, rgb
        if self.settings.decoding == "crw":
            return decode_crw(field, image_size, names=self.names, cells=self.settings.cells)
        return decode_keypoints(field, image_size, names=self.names, settings=self.settings)

    def amend(self, field: LabelField, given: LabelField, stated: Collection[int]) -> LabelField:
        """Channels of stated points as given."""
        told = [i for i, label in enumerate(field.ids) if label in stated]
        scores = field.scores.clone()
        scores[told] = given.scores.to(scores.device)[told]
        return LabelField(scores, field.ids)

    def without(self, field: LabelField, stated: Collection[int]) -> LabelField:
        """As it is: points don't take places from one another."""
        del stated
        return field

    def restore(self, decoded: Keypoints, given: Keypoints, stated: Collection[int]) -> Keypoints:
        """Stated points as given, the others as decoded."""
        told = np.isin(np.arange(1, len(self.names) + 1), list(stated))
        certain = np.ones(len(told), np.float32)
        known = certain if given.confidence is None else given.confidence
        found = certain if decoded.confidence is None else decoded.confidence
        return Keypoints(
            self.names,
            np.where(told[:, None], given.xy, decoded.xy),
            np.where(told, given.visible, decoded.visible),
            np.where(told, known, found),
        )


@overload
def codec_for(references: References[Masks], settings: VideoSettings) -> Codec[Masks]: ...
@overload
def codec_for(references: References[Keypoints], settings: VideoSettings) -> Codec[Keypoints]: ...
def codec_for(
    references: References[Masks] | References[Keypoints], settings: VideoSettings
) -> Codec[Masks] | Codec[Keypoints]:
    """The codec for labels of the kind of `references`."""
    first: Masks | Keypoints = references[references.indices[0]].labels
    if isinstance(first, Keypoints):
        return KeypointCodec(first.names, settings.keypoints)
    return MaskCodec(references.ids, settings.mask_encoding, settings.mask_decoding)
