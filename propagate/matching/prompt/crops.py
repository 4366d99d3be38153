"""Crops of an image, and the random numbers that say where they lie."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import torch
from torch.nn import functional

from propagate.matching.prompt.settings import NoiseShape, PromptSettings, positions
from propagate.types import Size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float, UInt8
    from torch import Tensor


class Window(NamedTuple):
    """A rectangle of an image, in pixels."""

    top: int
    height: int
    left: int
    width: int

    def share(self, xy: tuple[float, float]) -> tuple[float, float]:
        """Where a place of the image lies in the window, from 0 to 1 inside of it."""
        return (xy[0] - self.left) / self.width, (xy[1] - self.top) / self.height


class Draws(Protocol):
    """Random numbers of one prompt."""

    def integer(self, low: int, high: int) -> int:
        """One from `low` to `high` - 1."""
        ...

    def noise(self, shape: tuple[int, ...], kind: NoiseShape) -> Tensor:
        """fp32 on the CPU: standard normal, or uniform in [0, 1)."""
        ...


class SeededDraws:
    """Numbers that follow from a key alone, whatever the batch, the order or the device.

    Args:
        seed: 0 or more.
        key: tells one prompt's numbers from another's; each 0 or more.
    """

    def __init__(self, seed: int, key: Sequence[int]) -> None:
        bits = np.random.MT19937(np.random.SeedSequence(seed, spawn_key=tuple(key)))
        self._state = np.random.RandomState(bits)  # frozen for good, see features/noise.py

    def integer(self, low: int, high: int) -> int:
        """See `Draws`."""
        return int(self._state.randint(low, high))

    def noise(self, shape: tuple[int, ...], kind: NoiseShape) -> Tensor:
        """See `Draws`."""
        draw = self._state.standard_normal if kind == "normal" else self._state.random_sample
        return torch.from_numpy(np.asarray(draw(shape), dtype=np.float32))


def draw_window(
    image: Size, xy: tuple[float, float], draws: Draws, settings: PromptSettings
) -> Window:
    """A crop around a place, at random; x is drawn before y.

    Args:
        image: size in pixels.
        xy: the place in pixels; it may lie on the image's border.
        draws: random numbers.
        settings: the crop's size, its margin, and which places it may have.
    """
    left, width = _draw_start(image.width, xy[0], draws, settings)
    top, height = _draw_start(image.height, xy[1], draws, settings)
    return Window(top, height, left, width)


def shared_windows(image: Size, draws: Draws, settings: PromptSettings) -> list[Window]:
    """Different crops of an image for all prompts: the corners, then others at random."""
    count = settings.window_positions
    if count is None:
        corners = [(x, y) for x in (0.0, float(image.width)) for y in (0.0, float(image.height))]
        centre = (image.width / 2, image.height / 2)
        places = corners + [centre] * settings.crops
        return [draw_window(image, xy, draws, settings) for xy in places[: settings.crops]]
    every = positions(count)
    chosen, rest = every[:4], every[4:]
    while len(chosen) < settings.crops:
        chosen.append(rest.pop(draws.integer(0, len(rest))))
    height, width = (_side(side, settings) for side in image)
    tops, lefts = (_starts(side, settings, count) for side in image)
    return [Window(tops[i], height, lefts[j], width) for i, j in chosen[: settings.crops]]


def cropped(rgb: UInt8[np.ndarray, "h w 3"], windows: Sequence[Window]) -> Float[Tensor, "n 3 h w"]:
    """Crops of an image from 0 to 1, each resized bilinearly to the image's own size."""
    pixels = torch.tensor(rgb).permute(2, 0, 1)[None].float() / 255
    return torch.cat([resized(pixels, window) for window in windows])


def resized(pixels: Float[Tensor, "b c h w"], window: Window) -> Float[Tensor, "b c h w"]:
    """One crop, at the size of the whole."""
    top, height, left, width = window
    part = pixels[:, :, top : top + height, left : left + width]
    return functional.interpolate(part, size=pixels.shape[2:], mode="bilinear", align_corners=False)


def _side(side: int, settings: PromptSettings) -> int:
    return max(int(side * settings.crop_percent / 100), 1)


def _starts(side: int, settings: PromptSettings, count: int) -> list[int]:
    most = side - _side(side, settings)
    return [round(index * most / (count - 1)) for index in range(count)]


def _draw_start(side: int, at: float, draws: Draws, settings: PromptSettings) -> tuple[int, int]:
    crop = _side(side, settings)
    margin = int(crop * settings.margin)
    most = side - crop
    low = min(max(int(at) - crop + margin, 0), most)
    high = max(min(int(at) - margin, most), 0)
    if settings.window_positions is None:
        return draws.integer(low, high + 1), crop
    starts = _starts(side, settings, settings.window_positions)
    allowed = [start for start in starts if low <= start <= high]
    # Between two of few positions the closest is taken.
    allowed = allowed or [min(starts, key=lambda start: abs(start - (low + high) / 2))]
    return allowed[draws.integer(0, len(allowed))], crop
