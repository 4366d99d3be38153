"""The ground of the synthetic clip: a brick path, gravel along it, lawn beyond."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

ASSETS = Path(__file__).parent / "assets"

# Half extent of the ground, in frame heights.
EXTENT = (2.0, 1.4)


class _Texture(NamedTuple):
    """How a grey picture covers the ground.

    Args:
        height: of the picture on the ground, in frame heights.
        tints: colours (RGB) of its darkest, middle and lightest grey.
        edge: how far from the middle of the path it begins (-1: everywhere), in frame heights.
        raggedness: how much that border wanders, in frame heights.
        repeats: whether its left edge continues its right one; else it is mirrored.
    """

    height: float
    tints: tuple[tuple[int, int, int], ...]
    edge: float
    raggedness: float
    repeats: bool = False


_TEXTURES = {
    "brick": _Texture(1.15, ((70, 42, 36), (146, 92, 74), (216, 204, 186)), -1, 0, repeats=True),
    "gravel": _Texture(0.75, ((52, 48, 44), (150, 141, 130), (240, 234, 222)), 0.62, 0.012),
    "grass": _Texture(0.80, ((30, 38, 20), (98, 117, 64), (200, 208, 150)), 0.86, 0.035),
}


def ground_picture(frame_height: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The ground from above.

    Args:
        frame_height: pixels per frame height, which sets the resolution.
        rng: of the borders' and blotches' shapes.

    Returns:
        uint8 [h, w, 3], and the matrix [3, 3] from its pixels to the ground in frame heights.
    """
    width, height = (round(2 * extent * frame_height) for extent in EXTENT)
    blotches = _smooth_noise(rng, (height, width), cells=14)
    ragged = _smooth_noise(rng, (height, width), cells=60) + 0.5 * blotches
    across = np.abs(np.linspace(-EXTENT[0], EXTENT[0], width, dtype=np.float32))
    ground: np.ndarray = np.zeros((height, width, 3), np.float32)
    for name, texture in _TEXTURES.items():
        inside = np.clip((across - texture.edge + texture.raggedness * ragged) * 70 + 0.5, 0, 1)
        tiled = _tiled(name, texture, frame_height, (height, width))
        ground += inside[..., None] * (tiled - ground)
    ground = ground * (1 + 0.10 * blotches[..., None])
    to_ground = np.array([[1, 0, -width / 2], [0, 1, -height / 2], [0, 0, frame_height]])
    return np.clip(ground, 0, 255).astype(np.uint8), to_ground / frame_height


def read_image(name: str) -> np.ndarray:
    """An image of `assets/`: uint8 [h, w] or [h, w, 3]."""
    with Image.open(ASSETS / name) as image:
        return np.asarray(image)


def _tiled(name: str, texture: _Texture, frame_height: int, shape: tuple[int, int]) -> np.ndarray:
    """A tinted texture, over and over until it fills `shape`; float32 [h, w, 3]."""
    grey = read_image(f"{name}.jpg")
    height = round(texture.height * frame_height)
    width = round(grey.shape[1] * height / grey.shape[0])
    steps = np.percentile(grey, (1, 50, 99))
    grey = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA)
    channels = zip(*texture.tints, strict=True)
    tint = np.stack([np.interp(np.arange(256), steps, channel) for channel in channels], axis=1)
    rows = _mirrored(shape[0], height)
    columns = np.arange(shape[1]) % width if texture.repeats else _mirrored(shape[1], width)
    return np.asarray(tint.astype(np.float32)[grey[rows[:, None], columns]])


def _mirrored(count: int, length: int) -> np.ndarray:
    """Indices 0, 1, .., length - 1, length - 1, .., 1, 0, 0, 1, .. .."""
    index = np.arange(count) % (2 * length)
    return np.minimum(index, 2 * length - 1 - index)


def _smooth_noise(rng: np.random.Generator, shape: tuple[int, int], *, cells: int) -> np.ndarray:
    """Noise of about unit size that varies over 1 / `cells` of the width; float32 [h, w]."""
    coarse = rng.standard_normal((cells * shape[0] // shape[1] + 1, cells), np.float32)
    return np.asarray(cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC))
