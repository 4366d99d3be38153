"""Pictures of an evaluation: a bar per unit, a curve, and the worst cases."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from propagate.benchmarks.base import Benchmark, Curve, Row, mean
from propagate.benchmarks.folder import EvalFolder
from propagate.output.atomic import atomic_path
from propagate.output.contact_sheet import contact_sheet

if TYPE_CHECKING:
    from propagate.benchmarks.runner import EvalReport

_WORST = 6
_MOST_BARS = 80
_DPI = 120
_COLOUR, _MEAN_COLOUR = "#3b6ea5", "#c44e52"
_OTHER_COLOURS = ("#8c8c8c", "#dd8452", "#55a868")


def write_plots(benchmark: Benchmark[Any], report: EvalReport, folder: EvalFolder) -> None:
    """Draw what the data set has, into the folder."""
    metric, scores = benchmark.metrics[0], report.scores
    whole = report.summary[metric]
    draw_bars(report.listed, whole, metric=metric, title=report.name, folder=folder)
    found = benchmark.curve(scores)
    if found is not None:
        _save(curve(found, title=report.name), folder.curve)
    worst = sorted(scores, key=lambda score: _low_first(score.mean(metric)))[:_WORST]
    found_pictures = (benchmark.picture(score, folder.of(score.unit)) for score in worst)
    tiles = [picture for picture in found_pictures if picture is not None]
    if tiles:
        with atomic_path(folder.worst) as path:
            Image.fromarray(contact_sheet(tiles, columns=3, tile_width=520)).save(path)


def draw_bars(
    rows: Sequence[Row], whole: float, *, metric: str, title: str, folder: EvalFolder
) -> None:
    """Draw a bar per unit, or per item of a single unit, into the folder."""
    units = _by_unit(rows, metric)
    if len(units) == 1:
        units = [(row.item or row.unit, row.scores[metric]) for row in rows]
    _save(bars(units, whole, metric=metric, title=title), folder.bars)


def bars(units: Sequence[tuple[str, float]], whole: float, *, metric: str, title: str) -> Figure:
    """A bar per unit, the best on top, and a line at the data set's number.

    Args:
        units: names and scores; of many only the worst are shown.
        whole: the data set's number.
        metric: what the scores are.
        title: of the picture.
    """
    ordered = sorted(units, key=lambda unit: _low_first(unit[1]))
    shown = ordered[:_MOST_BARS]
    figure = Figure(figsize=(7.5, 1.3 + 0.24 * len(shown)), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    values = [0.0 if np.isnan(value) else value for _, value in shown]
    drawn = axes.barh(range(len(shown)), values, color=_COLOUR, height=0.75)
    axes.bar_label(drawn, [f"{value:.1f}" for _, value in shown], padding=3, fontsize=8)
    axes.set_yticks(range(len(shown)), [name for name, _ in shown], fontsize=8)
    axes.axvline(whole, color=_MEAN_COLOUR, linewidth=1.2, label=f"all: {whole:.1f}")
    axes.set_xlim(0, max(100.0, *values) * 1.06)
    axes.set_ylim(-0.6, len(shown) - 0.4)
    axes.set_xlabel(metric)
    left_out = f" (the worst {len(shown)} of {len(units)})" if len(shown) < len(units) else ""
    axes.set_title(title + left_out, fontsize=10)
    axes.legend(loc="lower right", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def curve(drawn: Curve, *, title: str) -> Figure:
    """A metric over its threshold, a line for each method."""
    figure = Figure(figsize=(5.5, 4), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    marker = "o" if len(drawn.at) < 12 else ""
    for (name, values), colour in zip(
        drawn.lines.items(), itertools.cycle((_COLOUR, *_OTHER_COLOURS)), strict=False
    ):
        axes.plot(drawn.at, values, color=colour, marker=marker, label=name)
    axes.set_xlabel(drawn.threshold)
    axes.set_ylabel(drawn.metric)
    axes.set_ylim(0, 100)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    if len(drawn.lines) > 1:
        axes.legend(fontsize=8)
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _by_unit(rows: Sequence[Row], metric: str) -> list[tuple[str, float]]:
    """Mean of each unit's rows."""
    units: dict[str, list[float]] = {}
    for row in rows:
        units.setdefault(row.unit, []).append(row.scores[metric])
    return [(unit, mean(values)) for unit, values in units.items()]


def _low_first(value: float) -> float:
    """A unit without a score comes first."""
    return -np.inf if np.isnan(value) else value


def _save(figure: Figure, target: Path) -> None:
    FigureCanvasAgg(figure)
    with atomic_path(target) as path:
        figure.savefig(path)
