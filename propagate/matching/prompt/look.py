"""Where the prompts of a point look in another image, and the match that makes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from propagate.errors import ModelError
from propagate.geometry import map_points
from propagate.matching.prompt.maps import brightest_pixel
from propagate.types import Matches

if TYPE_CHECKING:
    from jaxtyping import Float, Float64
    from torch import Tensor

    from propagate.matching.prompt.encoded import EncodedImage


@dataclass(frozen=True, repr=False, eq=False)
class Look:
    """Where the prompts of one point look in the target.

    Args:
        layers: attention to each pixel of the network's input by layer, a mean over crops, heads
            and prompts; 0 to 1.
        xy: the best place, in pixels of the target.
        score: attention there, a mean over layers.
    """

    layers: Float[np.ndarray, "layers h w"]
    xy: Float64[np.ndarray, " 2"]
    score: float


def look_of(layers: Float[Tensor, "layers h w"], image: EncodedImage) -> Look:
    """The best place of a map.

    Args:
        layers: attention to each pixel of the network's input.
        image: the target.

    Raises:
        ModelError: the attention is not finite.
    """
    mean = layers.mean(dim=0)
    if not torch.isfinite(mean).all():
        raise ModelError("The attention is not finite in half precision; use --dtype fp32.")
    pixel = brightest_pixel(mean[None])[0].cpu().numpy().astype(np.float64)
    place = map_points(pixel[None] + 0.5, image.size, image.native)[0]
    return Look(np.asarray(layers.cpu().numpy()), place, float(mean.max()))


def as_matches(points: Float64[np.ndarray, "n 2"], looks: Iterable[Look]) -> Matches:
    """The best places of some points; of each look no more is kept."""
    found = [(look.xy, look.score) for look in looks]
    return Matches(
        points,
        np.array([xy for xy, _ in found], dtype=np.float64).reshape(-1, 2),
        np.array([score for _, score in found], dtype=np.float64),
        np.arange(len(points), dtype=np.int64),
    )
