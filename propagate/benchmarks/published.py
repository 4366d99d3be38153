"""Numbers that others published, from `published.yaml`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

import yaml


@dataclass(frozen=True)
class PublishedRow:
    """A method's numbers on a data set.

    Args:
        method: what it is called.
        settings: what decides the numbers beside the features.
        source: where they were read.
        scores: metric -> per cent, of the whole data set; may be empty where there are groups.
        groups: category or kind of the data set -> metric -> per cent; empty where none is printed.
    """

    method: str
    settings: str
    source: str
    scores: Mapping[str, float] = field(default_factory=dict)
    groups: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def record(self) -> dict[str, Any]:
        """The row as JSON values."""
        groups = {name: dict(scores) for name, scores in self.groups.items()}
        return {**vars(self), "scores": dict(self.scores), "groups": groups}


@cache
def all_published() -> Mapping[str, tuple[PublishedRow, ...]]:
    """Every data set's rows, in the order of the file."""
    text = (files("propagate.benchmarks") / "published.yaml").read_text(encoding="utf-8")
    return {
        table["data_set"]: tuple(_row(row, table.get("groups", ())) for row in table["rows"])
        for table in yaml.safe_load(text)
    }


def published_rows(data_set: str | None) -> tuple[PublishedRow, ...]:
    """The rows of a data set; none where it is None or has none."""
    return all_published().get(data_set, ()) if data_set else ()


def _row(fields: dict[str, Any], names: Sequence[str]) -> PublishedRow:
    """A row whose `by_group` has, for each metric, a value or null for each of the names."""
    by_group = fields.pop("by_group", {})
    groups: dict[str, dict[str, float]] = {}
    for metric, values in by_group.items():
        for name, value in zip(names, values, strict=True):
            if value is not None:
                groups.setdefault(name, {})[metric] = value
    return PublishedRow(**fields, groups=groups)
