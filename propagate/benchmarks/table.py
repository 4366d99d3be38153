"""Scores as text for a terminal, and as Markdown beside published rows."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from propagate.benchmarks.base import Row

if TYPE_CHECKING:
    from propagate.benchmarks.published import PublishedRow
    from propagate.benchmarks.runner import EvalReport

_ITEM = 8
_LONGEST = 44
_MOST_PUBLISHED = 12  # rows of others in a terminal; `table.md` has all


class TextTable:
    """Rows of fixed width, which can be written one by one before the last is known.

    Args:
        units: names that the first column must hold.
        metrics: of the other columns.
        items: whether there is a column for the items of units.
    """

    def __init__(self, units: Sequence[str], metrics: Sequence[str], *, items: bool = True) -> None:
        self._width = min(max(map(len, ("published", *units))), _LONGEST) + 1
        self._metrics = metrics
        self._items = items

    def head(self, unit_kind: str) -> str:
        """Names of the columns."""
        return self._line(
            unit_kind, "item", [name.rjust(self._column(name)) for name in self._metrics]
        )

    def row(self, unit: str, item: str, scores: Mapping[str, float]) -> str:
        """The scores of a unit or an item."""
        cells = [number(scores.get(name)).rjust(self._column(name)) for name in self._metrics]
        return self._line(unit, item, cells)

    def published(self, rows: Sequence[PublishedRow]) -> list[str]:
        """The first rows of others that have any of the metrics, and how many more there are."""
        fitting = [row for row in rows if any(name in row.scores for name in self._metrics)]
        lines = [
            f"{self.row('published', '', row.scores)}  {row.method} ({row.settings})"
            for row in fitting[:_MOST_PUBLISHED]
        ]
        more = len(fitting) - len(lines)
        return [*lines, f"{more} more published rows are in table.md (-o)"] if more else lines

    def _line(self, unit: str, item: str, cells: Sequence[str]) -> str:
        second = f"{item:>{_ITEM}}" if self._items else ""
        return f"{_shortened(unit):{self._width}}{second}{''.join(cells)}"

    @staticmethod
    def _column(name: str) -> int:
        return max(len(name), 5) + 2


def number(value: float | None) -> str:
    """One decimal, or a dash where there is none."""
    return "-" if value is None or math.isnan(value) else f"{value:.1f}"


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; bars in cells are escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )


def comparison(report: EvalReport, metrics: Sequence[str]) -> str:
    """Our numbers above those of others, as Markdown."""
    ours = ["this program", report.model, *_cells(report.summary, metrics), ""]
    theirs = [
        [row.method, row.settings, *_cells(row.scores, metrics), row.source]
        for row in report.published
        if any(name in row.scores for name in metrics)
    ]
    return markdown_table(["method", "settings", *metrics, "source"], [ours, *theirs])


def markdown_report(report: EvalReport, metrics: Sequence[str], unit_kind: str) -> str:
    """Protocol, settings, the comparison and every row."""
    config = {name: report.record["config"].get(name) for name in ("data", "options", "video")}
    parts = [
        f"# {report.name}",
        report.protocol,
        comparison(report, metrics),
        *_group_tables(report, metrics),
        row_table(report.listed, metrics, unit_kind),
        f"Settings: `{json.dumps(config, sort_keys=True)}`",
    ]
    return "\n\n".join(parts) + "\n"


def _group_tables(report: EvalReport, metrics: Sequence[str]) -> list[str]:
    """For each metric that others have by category: our categories beside theirs."""
    ours = {row.unit: row.scores for row in report.listed}
    tables = []
    for metric in metrics:
        theirs = [
            [row.method, *(number(row.groups.get(name, {}).get(metric)) for name in ours)]
            for row in report.published
            if any(metric in row.groups.get(name, {}) for name in ours)
        ]
        if theirs:
            first = ["this program", *(number(scores.get(metric)) for scores in ours.values())]
            tables.append(f"{metric}\n\n" + markdown_table(["method", *ours], [first, *theirs]))
    return tables


def row_table(rows: Sequence[Row], metrics: Sequence[str], unit_kind: str) -> str:
    """Every row as Markdown."""
    cells = [[row.unit, row.item, *_cells(row.scores, metrics)] for row in rows]
    if any(row.item for row in rows):
        return markdown_table([unit_kind, "item", *metrics], cells)
    return markdown_table([unit_kind, *metrics], [[line[0], *line[2:]] for line in cells])


def _cells(scores: Mapping[str, float], metrics: Sequence[str]) -> list[str]:
    return [number(scores.get(name)) for name in metrics]


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"...{text[3 - _LONGEST :]}"
