"""Rows of measurements as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from propagate.benchmarks.table import markdown_table

Row = dict[str, Any]


def table(rows: Sequence[Row]) -> str:
    """Markdown with every column that any row has."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return markdown_table(names, [[_text(name, row.get(name)) for name in names] for row in rows])


def _text(name: str, value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, float):
        return str(value)
    if name.startswith(("share", "equal")):
        return f"{100 * value:.{2 if name.startswith('equal') else 0}f} %"
    if name.startswith("max"):
        return f"{value:.0e}"
    return f"{value:.0f}" if name.endswith("peak MiB") else f"{value:.3f}"
