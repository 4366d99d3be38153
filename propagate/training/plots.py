"""Pictures of a training: the loss, the mixture of layers and steps, what a denoiser does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from propagate.output.atomic import atomic_path
from propagate.training.folder import Progress

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8

_DPI = 120
_COLOUR, _FAINT, _SECOND = "#3b6ea5", "#b9cde3", "#c44e52"
_SMOOTH = 50  # windows that a whole curve is smoothed by


def draw_losses(
    progress: Progress, target: Path, validated: Sequence[str], *, scale: float = 1
) -> None:
    """The loss of every step and its mean, and the validations on an axis of their own.

    Args:
        progress: losses and validations.
        target: PNG file.
        validated: what the first numbers of a validation are.
        scale: their factor, 100 for percent.
    """
    figure = Figure(figsize=(6.5, 4), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    steps = np.arange(1, progress.step + 1)
    axes.plot(steps, progress.losses, color=_FAINT, linewidth=0.6)
    window = max(progress.step // _SMOOTH, 1)
    mean = np.convolve(progress.losses, np.ones(window) / window, mode="valid")
    axes.plot(steps[window - 1 :], mean, color=_COLOUR, label=f"loss, mean of {window} steps")
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.spines[["top"]].set_visible(False)
    lines, names = axes.get_legend_handles_labels()
    if progress.validations:
        beside = axes.twinx()
        at, *columns = np.array(progress.validations).T
        for name, values, style in zip(validated, columns, ("o-", "s--"), strict=False):
            lines += beside.plot(at, scale * values, style, color=_SECOND, markersize=3)
            names.append(name)
        beside.set_ylabel("validation", color=_SECOND)
        beside.spines[["top"]].set_visible(False)
    axes.legend(lines, names, fontsize=8, loc="upper center")
    _save(figure, target)


def draw_mixing(
    mixing: Float[np.ndarray, "steps layers"],
    layers: Sequence[str],
    steps: Sequence[str],
    target: Path,
) -> None:
    """The share of each layer (rows) at each step (columns), as in the paper.

    Args:
        mixing: shares, which add up to 1.
        layers: names.
        steps: names.
        target: PNG file.
    """
    size = (3.2 + 0.55 * len(steps), 1.4 + 0.32 * len(layers))
    figure = Figure(figsize=size, dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    shown = axes.imshow(100 * mixing.T, cmap="viridis", vmin=0, aspect="auto")
    axes.set_yticks(range(len(layers)), layers, fontsize=8)
    axes.set_xticks(range(len(steps)), steps, fontsize=8)
    axes.set_ylabel("layer")
    if len(steps) > 1:
        axes.set_xlabel("step of the inversion (the largest is the clean image)")
    middle = 50 * mixing.max()
    for (step, layer), share in np.ndenumerate(mixing):
        colour = "black" if 100 * share > middle else "white"
        axes.text(
            step, layer, f"{100 * share:.1f}", ha="center", va="center", fontsize=7, color=colour
        )
    figure.colorbar(shown, ax=axes, label="share, %")
    _save(figure, target)


def draw_denoised(
    rows: Sequence[tuple[str, UInt8[np.ndarray, "n side side 3"]]], target: Path
) -> None:
    """Crops side by side, a row each for the originals, those with noise, and those without.

    Args:
        rows: what each row shows, and its crops.
        target: PNG file.
    """
    width = 0.6 + 0.72 * len(rows[0][1])
    figure = Figure(figsize=(width, 0.72 * len(rows)), dpi=_DPI, layout="constrained")
    all_axes = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    for axes, (name, crops) in zip(all_axes, rows, strict=True):
        axes.imshow(np.concatenate(crops, axis=1), interpolation="nearest")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    _save(figure, target)


def _save(figure: Figure, target: Path) -> None:
    FigureCanvasAgg(figure)
    with atomic_path(target) as path:
        figure.savefig(path)
