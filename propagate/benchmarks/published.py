"""Numbers that others published, from `published.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
        scores: metric -> per cent.
    """

    method: str
    settings: str
    source: str
    scores: Mapping[str, float]

    @property
    def record(self) -> dict[str, Any]:
        """The row as JSON values."""
        return {**vars(self), "scores": dict(self.scores)}


@cache
def all_published() -> Mapping[str, tuple[PublishedRow, ...]]:
    """Every data set's rows, in the order of the file."""
    text = (files("propagate.benchmarks") / "published.yaml").read_text(encoding="utf-8")
    return {
        table["data_set"]: tuple(PublishedRow(**row) for row in table["rows"])
        for table in yaml.safe_load(text)
    }


def published_rows(data_set: str | None) -> tuple[PublishedRow, ...]:
    """The rows of a data set; none where it is None or has none."""
    return all_published().get(data_set, ()) if data_set else ()
