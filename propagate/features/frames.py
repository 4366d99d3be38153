"""Frames to what a network takes, and a network's layers to the map of a frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from propagate.errors import ModelError
from propagate.features.device import dtype_name
from propagate.features.fusion import fuse
from propagate.geometry import resize_rgb
from propagate.types import Frame, Size

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8
    from torch import Tensor


def pixel_batch(frames: Sequence[Frame], size: Size) -> UInt8[Tensor, "b 3 h w"]:
    """RGB values 0-255 of frames resized to `size`, on the CPU."""
    resized = [torch.from_numpy(resize_rgb(frame.rgb, size)) for frame in frames]
    return torch.stack([rgb.permute(2, 0, 1) for rgb in resized])


def map_of_layers(
    layers: Sequence[Float[Tensor, "c h w"]], frame: Frame, dtype: torch.dtype
) -> Float[Tensor, "channels gh gw"]:
    """The only layer's map as it is, or several fused with equal weights.

    Args:
        layers: one map or more, float32.
        frame: what they are of, for the message.
        dtype: what they were computed in, for the message.

    Raises:
        ModelError: the features are not finite, as can happen in fp16.
    """
    data = layers[0] if len(layers) == 1 else fuse([(layer, 1.0) for layer in layers])
    if not torch.isfinite(data).all():
        raise ModelError(
            f"The features of frame {frame.index} are not finite in {dtype_name(dtype)}; use dtype "
            "'fp32' or 'bf16'."
        )
    return data
