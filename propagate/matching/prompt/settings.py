"""The constants of prompt-optimised matching."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from propagate.errors import InputError
from propagate.features.diffusion.attention import AttentionLayer, Heads
from propagate.types import Size

NoiseShape = Literal["normal", "uniform"]
LayerCount = Literal["level", "cells"]

_MOST_CELLS = 32 * 32
_UNIT = 64  # pixels of an input whose latents every level of Stable Diffusion halves evenly


@dataclass(frozen=True, kw_only=True)
class PromptSettings:
    """How prompts are optimised in one image and looked up in another.

    The defaults are the published constants, without the reference program's oddities; `PUBLISHED`
    has those too. Pixels are those of the network's input.

    Args:
        size: side of the network's input, or of a square of the same area with `keep_aspect`; a
            multiple of 64.
        keep_aspect: keep the image's shape, else it is stretched to a square.
        steps: of Adam.
        learning_rate: of Adam.
        embeddings: prompts for each point, whose maps are averaged.
        crops: of the target, whose maps are averaged.
        crop_percent: sides of a crop in percent of the image's.
        margin: how far from the border of its crop a point stays, as a share of the crop's side,
            where the image allows it.
        window_positions: different places of crops along an axis, so that many points share what
            was encoded; None for any pixel.
        follow: crops of the target after the first four (the corners) stay around the best place
            so far, for each prompt its own; else all prompts share one set of crops.
        sigma: of the Gaussian that the attention is to look like, in pixels at 512.
        target_stride: pixels per cell of that Gaussian.
        cell_centres: the Gaussian's cells are where their centres are, else their corners.
        token: of the prompt, whose attention is looked at, counted from 0.
        layers: cross-attention layers that are averaged, counted in the order they run.
        layer_count: layers that are passed over in counting: those at the latents' own resolution
            ("level"), or those with more than 1024 cells ("cells").
        heads: of each layer.
        noise: what is added to latents.
        optimise_t: noise step of the optimisation.
        infer_t: noise step of looking up.

    Raises:
        InputError: a value is out of range.
    """

    size: int = 512
    keep_aspect: bool = True
    steps: int = 129
    learning_rate: float = 0.0023755632081200314
    embeddings: int = 5
    crops: int = 20
    crop_percent: float = 93.16549294381423
    margin: float = 0.15
    window_positions: int | None = 5
    follow: bool = False
    sigma: float = 27.97853316316864
    target_stride: int = 8
    cell_centres: bool = True
    token: int = 1
    layers: tuple[int, ...] = (5, 6, 7, 8)
    layer_count: LayerCount = "level"
    heads: Heads = "all"
    noise: NoiseShape = "normal"
    optimise_t: int = 140
    infer_t: int = 140

    def __post_init__(self) -> None:
        least = {
            "size": _UNIT,
            "steps": 1,
            "embeddings": 1,
            "crops": 1,
            "target_stride": 1,
            "token": 0,
            "optimise_t": 0,
            "infer_t": 0,
            **({} if self.window_positions is None else {"window_positions": 2}),
        }
        for name, low in least.items():
            if getattr(self, name) < low:
                raise InputError(f"{name} is {getattr(self, name)}; it must be {low} or more.")
        if self.size % _UNIT:
            raise InputError(f"size is {self.size}; it must be a multiple of {_UNIT}.")
        for name in ("learning_rate", "sigma"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} is {getattr(self, name)}; it must be greater than 0.")
        if not 0 < self.crop_percent <= 100:
            raise InputError(f"crop_percent is {self.crop_percent}; it must be above 0, up to 100.")
        if not 0 <= self.margin < 0.5:
            raise InputError(f"margin is {self.margin}; it must be from 0 to less than 0.5.")
        if not self.layers or min(self.layers) < 0 or len(set(self.layers)) < len(self.layers):
            raise InputError(f"layers is {self.layers}; name different numbers from 0.")
        most = len(positions(self.window_positions)) if self.window_positions else self.crops
        if not self.follow and self.crops > most:
            raise InputError(
                f"crops is {self.crops}; with {self.window_positions} window positions along an "
                f"axis there are {most}."
            )
        for name, kind in (("noise", NoiseShape), ("layer_count", LayerCount), ("heads", Heads)):
            if getattr(self, name) not in get_args(kind):
                raise InputError(
                    f"{name} is {getattr(self, name)!r}; it must be one of "
                    f"{', '.join(get_args(kind))}."
                )

    def input_size(self, image: Size) -> Size:
        """What an image is resized to."""
        if not self.keep_aspect:
            return Size(self.size, self.size)
        ratio = (image.height / image.width) ** 0.5
        sides = (self.size * ratio, self.size / ratio)
        return Size(*(max(round(side / _UNIT), 1) * _UNIT for side in sides))

    def chosen_layers(self, every: list[AttentionLayer], latent: Size) -> list[AttentionLayer]:
        """The layers to average for latents of a size.

        Args:
            every: cross-attention layers in the order they run.
            latent: height and width.

        Raises:
            InputError: there are fewer than `layers` counts.
        """
        if self.layer_count == "level":
            counted = [layer for layer in every if layer.level > 0]
        else:
            counted = [
                layer
                for layer in every
                if layer.grid(latent).height * layer.grid(latent).width <= _MOST_CELLS
            ]
        if max(self.layers) >= len(counted):
            raise InputError(
                f"layers is {self.layers}, and this network has cross-attention layers 0 to "
                f"{len(counted) - 1} that count; choose others, or another model."
            )
        return [counted[index] for index in self.layers]


def positions(per_axis: int) -> list[tuple[int, int]]:
    """Row and column numbers of all crops, the four corners first."""
    last = per_axis - 1
    corners = [(0, 0), (last, 0), (0, last), (last, last)]
    others = [(row, column) for row in range(per_axis) for column in range(per_axis)]
    return corners + [place for place in others if place not in corners]


CORRECTED = PromptSettings()
"""The published constants, without what looks like an oversight in the reference program."""

PUBLISHED = PromptSettings(
    keep_aspect=False,
    window_positions=None,
    follow=True,
    target_stride=1,
    cell_centres=False,
    layer_count="cells",
    heads="second-half",
    noise="uniform",
    infer_t=40,
)
"""As the reference program of the paper does it (ubc-vision/LDM_correspondences)."""
