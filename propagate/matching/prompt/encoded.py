"""An image whose crops are encoded when they are asked for, each once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from propagate.geometry import resize_rgb
from propagate.matching.prompt.crops import Window, cropped
from propagate.recent import Recent
from propagate.types import Frame, Size

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8
    from torch import Tensor

    Encode = Callable[[Float[Tensor, "b 3 h w"]], Float[Tensor, "b c gh gw"]]

_MOST_CROPS = 1296  # every place of a published crop; 64 KiB each


class EncodedImage:
    """Latents of crops of one image.

    Args:
        frame: the image.
        size: what it is resized to, and each of its crops again.
        encode: images from 0 to 1 to latents on the CPU.
        most: latents that are kept, those used last.
    """

    def __init__(
        self, frame: Frame, size: Size, encode: Encode, *, most: int = _MOST_CROPS
    ) -> None:
        self.native = frame.size
        self.size = size
        self.key = image_key(frame)
        self.rgb: UInt8[np.ndarray, "h w 3"] = resize_rgb(frame.rgb, size)
        self._encode = encode
        self._latents: Recent[Window, Float[Tensor, "c gh gw"]] = Recent(most)

    def latents(self, windows: Sequence[Window]) -> Float[Tensor, "b c gh gw"]:
        """Latents of crops, one for each window; equal ones are encoded once."""
        return torch.stack([self._latents.get(w, partial(self._encoded, w)) for w in windows])

    def _encoded(self, window: Window) -> Float[Tensor, "c gh gw"]:
        return self._encode(cropped(self.rgb, [window]))[0]


def image_key(frame: Frame) -> tuple[int, ...]:
    """Four numbers that tell an image's pixels from any other's."""
    digest = hashlib.sha256(f"{frame.size} ".encode())
    digest.update(np.ascontiguousarray(frame.rgb).tobytes())
    return tuple(np.frombuffer(digest.digest()[:16], dtype=np.uint32).tolist())
