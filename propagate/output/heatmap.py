"""Scores over some settings as a heat map with the numbers written in it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from propagate.errors import InputError
from propagate.output.atomic import atomic_path
from propagate.output.text_size import FONT, LINE, text_height, text_width, wrapped

if TYPE_CHECKING:
    from jaxtyping import Float64
    from matplotlib.axes import Axes

DPI = 150
_MOST_PIXELS = 12000  # of a side; a larger picture is drawn at fewer dots per inch
_TITLE_FONT = 11.0
_MAP = colormaps["viridis"]  # perceptually even, and the same to colour-blind eyes
_ABSENT = "#dddddd"
# Inches.
_CELL_WIDTH, _CELL_HEIGHT = 0.72, 0.5
_LABEL_WIDTH = 1.7
_PAD = 0.14
_BAR = 1.0
_BAR_THICKNESS = 0.14
_LEAST_WIDTH = 4.5
_WIDE = 9.0  # a row of cells that would be wider has its labels turned
_TURN = 40  # degrees
_CENTRED: dict[str, Any] = {"ha": "center", "va": "top"}


@dataclass(frozen=True)
class Axis:
    """One setting that scores were taken over.

    Args:
        name: of the setting.
        labels: its values.
        unit: of the values, if they have one.
    """

    name: str
    labels: tuple[str, ...]
    unit: str = ""

    @property
    def title(self) -> str:
        """Name and unit."""
        return f"{self.name} ({self.unit})" if self.unit else self.name

    def at(self, index: int) -> str:
        """`name = value`."""
        return f"{self.name} = {self.labels[index]}"


def write_heatmap(
    path: Path,
    scores: Float64[np.ndarray, "*values"],
    axes: Sequence[Axis],
    *,
    title: str,
    quantity: str,
) -> None:
    """Draw `heatmap_figure` into a PNG file.

    Raises:
        InputError: as `heatmap_figure`.
        OutputError: the file can't be written.
    """
    figure = heatmap_figure(scores, axes, title=title, quantity=quantity)
    dpi = min(DPI, _MOST_PIXELS / max(figure.get_size_inches()))
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=dpi)


def heatmap_figure(
    scores: Float64[np.ndarray, "*values"], axes: Sequence[Axis], *, title: str, quantity: str
) -> Figure:
    """A figure with a cell per score, all on one colour scale, the best cell framed.

    Args:
        scores: one per combination, with an axis per setting; NaN where there is none.
        axes: the settings: the first is drawn along x, the second along y from top to bottom, and
            each combination of the others has a panel of its own.
        title: above everything; the best score and its settings are written below it.
        quantity: what the scores are, with their unit.

    Raises:
        InputError: there is no finite score, or `scores` and `axes` disagree.
    """
    shape = tuple(len(axis.labels) for axis in axes)
    if scores.shape != shape or not np.isfinite(scores).any():
        raise InputError(
            f"A heat map of {scores.shape} scores over {shape} settings can't be drawn; it needs a "
            "score for each combination of settings, and one at least that is a number."
        )
    flat = list(axes) if len(axes) > 1 else [*axes, Axis("", ("",))]
    return _Drawing(scores.reshape([len(axis.labels) for axis in flat]), flat).draw(title, quantity)


class _Drawing:
    """Sizes in inches and the parts of one figure; every scores array has two axes or more."""

    def __init__(self, scores: Float64[np.ndarray, "*values"], axes: Sequence[Axis]) -> None:
        self.scores = scores
        self.x, self.y, *self.others = axes
        where = np.unravel_index(int(np.nanargmax(scores)), scores.shape)
        self.best = tuple(map(int, where))
        low, high = float(np.nanmin(scores)), float(np.nanmax(scores))
        margin = 0.5 if low == high else 0.0
        self.scale = Normalize(low - margin, high + margin)
        labels = [wrapped(label, _LABEL_WIDTH) for label in self.x.labels]
        widest = max(map(text_width, labels))
        self.turned = widest + _PAD > _CELL_WIDTH and len(labels) * (widest + _PAD) > _WIDE
        self.x_labels = list(self.x.labels) if self.turned else labels
        self.y_labels = [wrapped(label, 2 * _LABEL_WIDTH) for label in self.y.labels]
        named = (text_width(self.x.title) + _PAD) / len(labels)
        self.cell_width = max(_CELL_WIDTH, named, 0.0 if self.turned else widest + _PAD)
        named = (text_width(self.y.title) + _PAD) / len(self.y_labels)
        self.cell_height = max(_CELL_HEIGHT, named, max(map(text_height, self.y_labels)) + _PAD)
        self.panels = list(product(*(range(len(axis.labels)) for axis in self.others)))
        self.columns = self._columns()
        self.rows = math.ceil(len(self.panels) / self.columns)
        self.left = max(map(text_width, self.y_labels)) + LINE + 2 * _PAD
        least = (_LEAST_WIDTH - self.left - _BAR) / self.columns - _PAD
        self.cell_width = max(self.cell_width, least / len(labels))

    def _columns(self) -> int:
        """Panels side by side: the last setting's values, or what makes the figure squarish."""
        if len(self.others) == 2:
            return len(self.others[1].labels)
        width = len(self.x_labels) * self.cell_width
        height = len(self.y_labels) * self.cell_height + 0.6
        ideal = math.sqrt(len(self.panels) * height / width * 1.6)
        return max(1, min(len(self.panels), round(ideal)))

    def draw(self, title: str, quantity: str) -> Figure:
        """The whole figure."""
        width, height = self._size()
        heading = wrapped(title, width - 0.4, _TITLE_FONT * 1.15)  # bold is wider
        best = wrapped(self._describe_best(), width - 0.4)
        above = 0.12 + text_height(heading, _TITLE_FONT) + 0.06 + text_height(best) + 0.1
        total = height + above
        figure = Figure(figsize=(width, total), dpi=DPI)
        FigureCanvasAgg(figure)
        figure.set_layout_engine(
            "constrained", rect=(0, 0, 1, height / total), w_pad=0.1, h_pad=0.08
        )
        figure.text(0.5, 1 - 0.12 / total, heading, size=_TITLE_FONT, weight="bold", **_CENTRED)
        below = height + text_height(best) + 0.1
        figure.text(0.5, below / total, best, size=FONT, **_CENTRED)
        grid = figure.subplots(self.rows, self.columns, squeeze=False)
        for number, axes in enumerate(grid.flat):
            if number < len(self.panels):
                self._panel(axes, number)
            else:
                axes.remove()
        shown = list(grid.flat)[: len(self.panels)]
        self._colour_bar(figure, shown, quantity)
        return figure

    def _size(self) -> tuple[float, float]:
        """Width and height without the title, with room for labels, names and the colour bar."""
        turned = math.radians(_TURN if self.turned else 0)
        longest = max(map(text_width, self.x_labels))
        below = longest * math.sin(turned) + max(map(text_height, self.x_labels)) + LINE + 2 * _PAD
        panel_width = len(self.x_labels) * self.cell_width + _PAD
        panel_title = max(text_height(self._panel_title(n)) for n in range(len(self.panels)))
        panel_height = len(self.y_labels) * self.cell_height + panel_title + _PAD
        width = self.columns * panel_width + self.left + _BAR
        return width, self.rows * panel_height + below + 0.6 * _BAR

    def _colour_bar(self, figure: Figure, shown: list[Axes], quantity: str) -> None:
        """One for all panels: on the right, or below a figure that is too low for that."""
        width = self.columns * len(self.x_labels) * self.cell_width
        height = self.rows * len(self.y_labels) * self.cell_height
        below = height < 1.2
        length, across = (width, height) if below else (height, width)
        bar = figure.colorbar(
            ScalarMappable(self.scale, _MAP),
            ax=shown,
            location="bottom" if below else "right",
            # Room for more than its thickness, so that it is as long as the cells.
            aspect=(1.4 if below else 1.0) * length / _BAR_THICKNESS,
            fraction=(1.0 if below else 2.0) * _BAR_THICKNESS / across,
            pad=0.12 / across,
        )
        bar.set_label(quantity, size=FONT + 1)
        bar.ax.tick_params(labelsize=FONT)
        bar.locator = MaxNLocator(min(7, int(length / (0.7 if below else 0.35))))
        bar.update_ticks()

    def _panel(self, axes: Axes, number: int) -> None:
        """Cells of one combination of the settings beyond the second."""
        where = self.panels[number]
        values = self.scores.reshape(*self.scores.shape[:2], -1)[..., number].T
        axes.imshow(values, cmap=_MAP, norm=self.scale, aspect="auto", interpolation="nearest")
        axes.set_facecolor(_ABSENT)
        axes.set_title(self._panel_title(number), size=FONT)
        axes.tick_params(length=0, labelsize=FONT)
        last = number + self.columns >= len(self.panels)
        axes.set_xticks(range(len(self.x_labels)), self.x_labels if last else [])
        for label in axes.get_xticklabels() if self.turned else []:
            label.set(rotation=_TURN, ha="right", rotation_mode="anchor")
        first = number % self.columns == 0
        axes.set_yticks(range(len(self.y_labels)), self.y_labels if first else [])
        axes.set_xlabel(self.x.title if last else "", size=FONT + 1)
        axes.set_ylabel(self.y.title if first else "", size=FONT + 1)
        for (row, column), value in np.ndenumerate(values):
            self._write(axes, column, row, value, best=(column, row, *where) == self.best)

    def _write(self, axes: Axes, x: int, y: int, value: float, *, best: bool) -> None:
        """The number of one cell, and a frame that shows on any colour around the best one."""
        text = f"{value:.1f}" if np.isfinite(value) else "failed"
        weight = "bold" if best else "normal"
        colour = _ink(_MAP(self.scale(value))) if np.isfinite(value) else "black"
        axes.text(x, y, text, ha="center", va="center", size=FONT, color=colour, weight=weight)
        if best:
            frame = Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, edgecolor="white", lw=1.5)
            around = [withStroke(linewidth=4.5, foreground="black")]
            frame.set(gid="best", clip_on=False, zorder=5, path_effects=around)
            axes.add_patch(frame)

    def _panel_title(self, number: int) -> str:
        where = zip(self.others, self.panels[number], strict=True)
        text = ", ".join(axis.at(index) for axis, index in where)
        return wrapped(text, len(self.x_labels) * self.cell_width)

    def _describe_best(self) -> str:
        where = zip((self.x, self.y, *self.others), self.best, strict=True)
        text = ", ".join(axis.at(index) for axis, index in where if axis.name)
        return f"best: {self.scores[self.best]:.1f} at {text}"


def _ink(colour: tuple[float, float, float, float]) -> str:
    """Black or white, whichever stands out more (relative luminance as WCAG 2 defines it)."""
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    luminance = float(np.dot(linear, (0.2126, 0.7152, 0.0722)))
    return "white" if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.05 else "black"
