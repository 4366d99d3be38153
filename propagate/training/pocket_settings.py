"""How a small denoiser is trained, and what it is built like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from propagate.errors import InputError

STEPS = 1000
"""Noise steps of the schedule, as in DDPM."""

_GROUPS = 16


@dataclass(frozen=True, kw_only=True)
class PocketSettings:
    """A denoiser and its training; the default network is that of the weights that are installed.

    Args:
        channels: of each level, the finest first; each level halves the grid.
        unshuffle: side of the squares of pixels that are one cell of the finest grid.
        depth: residual blocks of each level on the way down; one more on the way up.
        side: of the square crops, in pixels.
        steps: of the optimiser.
        batch: crops a step and process.
        lr: peak learning rate of AdamW.
        warmup: steps until the peak is reached; it falls by a cosine from there.
        decay: weight decay.
        ema: the most that the average of the weights keeps of itself each step.
        t_below: training draws steps below this; what is noisier tells little about an image.
        t_power: t = t_below u^t_power with u uniform in [0, 1), so that small steps are
            more frequent the larger it is.
        teacher: model whose maps a layer learns to predict beside denoising; None for no such
            task.
        align: its weight beside the loss of denoising.
        align_layer: the layer that predicts them.
        clean: with a teacher, the share of crops that are shown without noise (t = 0), for this
            task alone.
        zoom: see `RandomCrops`.
        colour: see `RandomCrops`.
        seed: of the first weights, the crops, and the noise.
        save_every: steps between checkpoints, each with a validation.

    Raises:
        InputError: a value is out of range.
    """

    channels: tuple[int, ...] = (64, 128, 192)
    unshuffle: int = 4
    depth: int = 1
    side: int = 96
    steps: int = 4000
    batch: int = 16
    lr: float = 1.5e-3
    warmup: int = 100
    decay: float = 0.01
    ema: float = 0.995
    t_below: int = 600
    t_power: float = 1.5
    teacher: str | None = None
    align: float = 3.0
    align_layer: str = "up_blocks.1.resnets.1"
    clean: float = 0.75
    zoom: float = 2.25
    colour: float = 0.2
    seed: int = 0
    save_every: int = 250

    def __post_init__(self) -> None:
        counts = ("unshuffle", "depth", "side", "steps", "batch", "save_every", "zoom")
        for name in (*counts, "t_power"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be 1 or more.")
        for name in ("warmup", "decay", "colour", "seed"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)}; it must be 0 or more.")
        for name in ("lr", "align"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} is {getattr(self, name)}; it must be greater than 0.")
        if not 0 <= self.clean < 1:
            raise InputError(f"clean is {self.clean}; it must be in [0, 1).")
        if not 0 <= self.ema < 1:
            raise InputError(f"ema is {self.ema}; it must be in [0, 1).")
        if not 1 <= self.t_below <= STEPS:
            raise InputError(f"t_below is {self.t_below}; it must be 1 to {STEPS}.")
        if not self.channels or any(width < 1 or width % _GROUPS for width in self.channels):
            raise InputError(f"channels are {self.channels}; each must be a multiple of {_GROUPS}.")
        unit = self.unshuffle * 2 ** (len(self.channels) - 1)
        if self.side % unit:
            raise InputError(
                f"side is {self.side}; {len(self.channels)} levels at unshuffle {self.unshuffle} "
                f"take multiples of {unit}."
            )

    def architecture(self) -> dict[str, Any]:
        """Arguments of diffusers' `UNet2DModel`; no attention, so that any size goes through."""
        levels = len(self.channels)
        return {
            "in_channels": 3 * self.unshuffle**2,
            "out_channels": 3 * self.unshuffle**2,
            "block_out_channels": self.channels,
            "layers_per_block": self.depth,
            "down_block_types": ("DownBlock2D",) * levels,
            "up_block_types": ("UpBlock2D",) * levels,
            "norm_num_groups": _GROUPS,
            "add_attention": False,
        }
