"""How a prompt was optimised in one picture, and where it looks in the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from propagate.output.text_size import FONT

if TYPE_CHECKING:
    from jaxtyping import Float, Float64, UInt8
    from matplotlib.axes import Axes

_CELL = 2.6  # inches
_DPI = 100
_MARK: dict[str, Any] = {"marker": "+", "color": "cyan", "markersize": 14, "markeredgewidth": 2}


class PromptStep(NamedTuple):
    """Attention in one step of the optimisation.

    Args:
        number: of the step, from 0.
        crop: what was looked at.
        attention: to its places, on any grid.
    """

    number: int
    crop: UInt8[np.ndarray, "h w 3"]
    attention: Float[np.ndarray, "gh gw"]


def draw_prompt(
    source: UInt8[np.ndarray, "h w 3"],
    xy: Float64[np.ndarray, " 2"],
    target: UInt8[np.ndarray, "h2 w2 3"],
    found: Float64[np.ndarray, " 2"],
    *,
    layers: Float[np.ndarray, "layers gh gw"],
    names: Sequence[str],
    losses: Float64[np.ndarray, " steps"],
    steps: Sequence[PromptStep],
) -> UInt8[np.ndarray, "h3 w3 3"]:
    """Three rows: steps of the optimisation; layers in the target; point, match and losses.

    Each map is drawn from its own least to its own greatest value.

    Args:
        source: picture with the point.
        xy: the point in pixels.
        target: the other picture.
        found: the match in pixels.
        layers: attention of each layer to all of the target, on any grid.
        names: of the layers.
        losses: of the optimisation, before each step.
        steps: some of these.
    """
    columns = max(len(steps), len(layers), 4)
    figure = Figure(figsize=(_CELL * columns, _CELL * 3), dpi=_DPI)
    canvas = FigureCanvasAgg(figure)
    grid = figure.subplots(3, columns, squeeze=False)
    figure.subplots_adjust(left=0.02, right=0.98, top=0.93, bottom=0.05, wspace=0.15, hspace=0.3)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, step in zip(grid[0], steps, strict=False):
        _overlay(axes, step.crop, step.attention, f"step {step.number + 1}")
    for axes, layer, name in zip(grid[1], layers, names, strict=False):
        _overlay(axes, target, layer, _short(name))
    last = grid[2]
    last[0].imshow(source)
    last[0].set_title("source", size=FONT)
    last[0].plot(*(xy - 0.5), **_MARK)
    _overlay(last[1], target, layers.mean(axis=0), "mean of the layers")
    last[1].plot(*(found - 0.5), **_MARK)
    last[2].imshow(target)
    last[2].set_title("match", size=FONT)
    last[2].plot(*(found - 0.5), **_MARK)
    _curve(last[3], losses)
    pixels, (width, height) = canvas.print_to_buffer()  # type: ignore[no-untyped-call]
    rgba = np.frombuffer(pixels, dtype=np.uint8).reshape(height, width, 4)
    return rgba[..., :3].copy()


def _overlay(
    axes: Axes, rgb: UInt8[np.ndarray, "h w 3"], attention: Float[np.ndarray, "gh gw"], title: str
) -> None:
    height, width = rgb.shape[:2]
    box = (-0.5, width - 0.5, height - 0.5, -0.5)
    axes.imshow(rgb)
    axes.imshow(attention, extent=box, cmap="inferno", alpha=0.65, interpolation="bilinear")
    axes.set_title(f"{title}\n{attention.min():.2g} to {attention.max():.2g}", size=FONT)


def _curve(axes: Axes, losses: Float64[np.ndarray, " steps"]) -> None:
    axes.set_axis_on()
    axes.plot(np.arange(1, len(losses) + 1), losses)
    axes.set_title("loss by step", size=FONT)
    axes.tick_params(labelsize=FONT - 2)


def _short(name: str) -> str:
    """`up_blocks.1.attentions.0` of a layer's name."""
    return name.split(".transformer_blocks")[0]
