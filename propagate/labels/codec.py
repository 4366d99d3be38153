"""What the propagation of any kind of label needs: onto the feature grid, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar, overload

from propagate.config import KeypointSettings, MaskDecoding, MaskEncoding, VideoSettings
from propagate.labels.keypoints import decode_keypoints, encode_keypoints
from propagate.labels.masks import decode_masks, encode_masks
from propagate.types import Keypoints, LabelField, Masks, PointName, Size

L = TypeVar("L", Masks, Keypoints)
"""A kind of label."""


class Codec(Protocol[L]):
    """Turns labels of one kind into soft labels and back."""

    def encode(self, labels: L, grid: Size, *, image_size: Size) -> LabelField:
        """Soft labels on a grid of cells for the labels of an image."""
        ...

    def decode(self, field: LabelField, *, image_size: Size, input_size: Size) -> L:
        """Labels of an image, which the network saw at `input_size`."""
        ...


@dataclass(frozen=True)
class MaskCodec:
    """`encode_masks` and `decode_masks` by fixed methods."""

    encoding: MaskEncoding = "area"
    decoding: MaskDecoding = "bilinear"

    def encode(self, labels: Masks, grid: Size, *, image_size: Size) -> LabelField:
        """One channel for background and one per object."""
        del image_size
        return encode_masks(labels, grid, method=self.encoding)

    def decode(self, field: LabelField, *, image_size: Size, input_size: Size) -> Masks:
        """The best id of every pixel."""
        return decode_masks(field, image_size, input_size=input_size, method=self.decoding)


@dataclass(frozen=True)
class KeypointCodec:
    """`encode_keypoints` and `decode_keypoints` for points of fixed names."""

    names: tuple[PointName, ...]
    settings: KeypointSettings

    def encode(self, labels: Keypoints, grid: Size, *, image_size: Size) -> LabelField:
        """One channel per point."""
        return encode_keypoints(labels, grid, image_size=image_size, sigma=self.settings.sigma)

    def decode(self, field: LabelField, *, image_size: Size, input_size: Size) -> Keypoints:
        """The best place of every point."""
        del input_size
        return decode_keypoints(field, image_size, names=self.names, settings=self.settings)


@overload
def codec_for(labels: Masks, settings: VideoSettings) -> Codec[Masks]: ...
@overload
def codec_for(labels: Keypoints, settings: VideoSettings) -> Codec[Keypoints]: ...
def codec_for(
    labels: Masks | Keypoints, settings: VideoSettings
) -> Codec[Masks] | Codec[Keypoints]:
    """The codec for labels of the kind of `labels`."""
    if isinstance(labels, Keypoints):
        return KeypointCodec(labels.names, settings.keypoints)
    return MaskCodec(settings.mask_encoding, settings.mask_decoding)
