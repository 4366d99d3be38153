"""What came of a sweep: rows, the table, the record and the picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from propagate.output.heatmap import Axis, write_heatmap
from propagate.sweep.folder import Key, SweepFolder
from propagate.sweep.knobs import Combination, Knob
from propagate.sweep.target import SweepTarget

if TYPE_CHECKING:
    from jaxtyping import Float64


@dataclass(frozen=True, kw_only=True)
class SweepRow:
    """What came of one combination.

    Args:
        combination: the values.
        scores: metric -> mean over all items of all units, in per cent; empty if it failed.
        units: unit -> the same of that unit.
        model: identity of the extractor.
        seconds_per_frame: what a run of its own would take: shared features count in full.
        error: why it failed.
    """

    combination: Combination
    scores: Mapping[str, float]
    units: Mapping[str, Mapping[str, float]]
    model: str | None = None
    seconds_per_frame: float | None = None
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class SweepReport:
    """What came of a sweep.

    Args:
        folder: where it is.
        rows: a row per combination, in order.
        best: the row with the highest score, the first of equals; None if all failed.
        record: the content of sweep.json.
    """

    folder: SweepFolder
    rows: tuple[SweepRow, ...]
    best: SweepRow | None
    record: Mapping[str, Any]


def make_report(
    folder: SweepFolder,
    target: SweepTarget,
    knobs: Sequence[Knob],
    combinations: Sequence[Combination],
    errors: Mapping[Key, str],
    *,
    title: str,
) -> SweepReport:
    """Put the folder's results together and write sweep.csv, sweep.json and heatmap.png.

    Args:
        folder: of the sweep, with a result or an error for each combination.
        target: the data set.
        knobs: what was varied.
        combinations: of all values of the knobs, in order.
        errors: why combinations failed.
        title: of the picture.
    """
    rows = tuple(_row(folder, target, item, errors) for item in combinations)
    main = target.metrics[0]
    scored = [row for row in rows if row.scores]
    best = max(scored, key=lambda row: row.scores[main], default=None)
    folder.write_table([_csv_row(row, target) for row in rows])
    if best is not None:
        scores: Float64[np.ndarray, "*values"] = np.reshape(
            [row.scores.get(main, np.nan) for row in rows], [len(knob.values) for knob in knobs]
        )
        axes = [Axis(knob.name, knob.labels, knob.unit) for knob in knobs]
        write_heatmap(folder.picture, scores, axes, title=title, quantity=f"mean {main} (%)")
    record = folder.write_record(
        "complete",
        knobs={knob.name: knob.values for knob in knobs},
        best=None if best is None else best.combination.values,
        combinations=[_json_row(row) for row in rows],
    )
    return SweepReport(folder=folder, rows=rows, best=best, record=record)


def _row(
    folder: SweepFolder, target: SweepTarget, combination: Combination, errors: Mapping[Key, str]
) -> SweepRow:
    found = {unit: folder.find(combination.key, unit) for unit in target.units}
    lines = {unit: line for unit, line in found.items() if line is not None}
    units = {unit: _means(line["items"], target.metrics) for unit, line in lines.items()}
    model = next((line["model"] for line in lines.values()), None)
    if len(lines) < len(found):
        return SweepRow(
            combination=combination,
            scores={},
            units=units,
            model=model,
            error=errors[combination.key],
        )
    items = [item for line in lines.values() for item in line["items"]]
    seconds, frames = (sum(line[name] for line in lines.values()) for name in ("seconds", "frames"))
    return SweepRow(
        combination=combination,
        scores=_means(items, target.metrics),
        units=units,
        model=model,
        seconds_per_frame=seconds / frames,
    )


def _means(items: Sequence[Mapping[str, float]], metrics: Sequence[str]) -> dict[str, float]:
    return {name: sum(item[name] for item in items) / len(items) for name in metrics}


def _csv_row(row: SweepRow, target: SweepTarget) -> dict[str, object]:
    seconds = row.seconds_per_frame
    return {
        **row.combination.labels,
        **{name: _rounded(row.scores.get(name), 3) for name in target.metrics},
        "seconds_per_frame": _rounded(seconds, 4),
        target.unit_kind: len(row.units),
        "error": row.error or "",
    }


def _rounded(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _json_row(row: SweepRow) -> dict[str, Any]:
    return {
        "knobs": row.combination.values,
        "model": row.model,
        "scores": row.scores,
        "seconds_per_frame": row.seconds_per_frame,
        "units": row.units,
        "error": row.error,
    }
