"""Frames to what a network takes, and what it gives to the map of a frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from propagate.config import Resizing
from propagate.errors import ModelError
from propagate.features.device import dtype_name
from propagate.geometry import resize_rgb
from propagate.types import FeatureMap, Frame, Size

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8
    from torch import Tensor


def pixel_batch(
    frames: Sequence[Frame], size: Size, resizing: Resizing
) -> UInt8[Tensor, "b 3 h w"]:
    """RGB values 0-255 of frames resized to `size`, on the CPU."""
    resized = [resize_rgb(frame.rgb, size, resizing) for frame in frames]
    # Pillow's arrays can't be written to, which torch warns of.
    return torch.stack([torch.tensor(rgb).permute(2, 0, 1) for rgb in resized])


def finite_map(
    data: Float[Tensor, "c gh gw"], frame: Frame, input_size: Size, dtype: torch.dtype
) -> FeatureMap:
    """The map of a frame.

    Args:
        data: float32.
        frame: what it is of.
        input_size: what the frame was resized to.
        dtype: what it was computed in, for the message.

    Raises:
        ModelError: the features are not finite, as can happen in fp16.
    """
    if not torch.isfinite(data).all():
        raise ModelError(
            f"The features of frame {frame.index} are not finite in {dtype_name(dtype)}; use dtype "
            "'fp32' or 'bf16'."
        )
    return FeatureMap(data, frame.size, input_size)
