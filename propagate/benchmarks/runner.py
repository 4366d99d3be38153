"""Predict, save, then score: what every data set goes through."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from propagate.benchmarks.base import Benchmark, E, Row, UnitScore
from propagate.benchmarks.folder import EvalFolder
from propagate.benchmarks.plots import write_plots
from propagate.benchmarks.published import PublishedRow, published_rows
from propagate.benchmarks.submission import write_submission
from propagate.benchmarks.table import markdown_report
from propagate.benchmarks.units import predicted_in
from propagate.benchmarks.workers import Work, do_units
from propagate.config import Preset
from propagate.errors import InputError
from propagate.output.atomic import atomic_path
from propagate.progress import Progress, no_progress


@dataclass(frozen=True, kw_only=True)
class EvalRequest:
    """What to score.

    Args:
        benchmark: the data set.
        settings: model and settings.
        output: folder to write, or None to keep nothing.
        overwrite: whether to replace an evaluation that is there, instead of going on with it.
        jobs: how many units are done at once, each process with a model of its own.

    Raises:
        InputError: `jobs` is below 1.
    """

    benchmark: Benchmark[Any]
    settings: Preset
    output: Path | None = None
    overwrite: bool = False
    jobs: int = 1

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise InputError(f"--jobs is {self.jobs}; it must be 1 or more.")

    @property
    def config(self) -> dict[str, Any]:
        """What decides the predictions; an evaluation that is continued must agree in it."""
        return {
            "benchmark": type(self.benchmark).__name__,
            "data": dict(self.benchmark.options),
            **self.benchmark.decisive(self.settings),
        }


@dataclass(frozen=True, kw_only=True)
class EvalReport:
    """What came of an evaluation.

    Args:
        name: data set and split.
        protocol: how scores were taken.
        model: identity of the features.
        scores: of every unit; empty where there is no truth.
        listed: rows of the table.
        summary: the data set's numbers.
        published: rows of others to put beside them.
        seconds_per_frame: mean over all frames.
        record: the content of summary.json.
    """

    name: str
    protocol: str
    model: str
    scores: tuple[UnitScore, ...]
    listed: tuple[Row, ...]
    summary: dict[str, float]
    published: tuple[PublishedRow, ...]
    seconds_per_frame: float
    record: dict[str, Any]


def run_benchmark(
    request: EvalRequest,
    *,
    engine: Any = None,
    begin: Callable[[str], None] = lambda _: None,
    report: Callable[[UnitScore], None] = lambda _: None,
    progress: Progress[Any] = no_progress,
) -> EvalReport:
    """Predict the units that have no predictions yet, score all, and write what came of it.

    Args:
        request: what to do.
        engine: what `Benchmark.load` gives for the settings, where that is loaded already.
        begin: receives the identity of what predicts before any unit is done.
        report: receives the scores of each unit as it is done.
        progress: wraps the units.

    Raises:
        PropagateError: the data, the settings or the output folder can't be used.
    """
    with ExitStack() as stack:
        path = request.output
        if path is None:
            path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="propagate-eval-")))
        folder = EvalFolder(path, request.config, overwrite=request.overwrite)
        return _run(request, folder, engine, begin, report, progress)


def _run(
    request: EvalRequest,
    folder: EvalFolder,
    engine: E | None,
    begin: Callable[[str], None],
    report: Callable[[UnitScore], None],
    progress: Progress[Any],
) -> EvalReport:
    benchmark, settings = request.benchmark, request.settings
    missing = frozenset(unit for unit in benchmark.units if folder.predicted(unit) is None)
    if missing and engine is None:
        engine = benchmark.load(settings)
    identity = engine.identity if engine else str(folder.started["model"])
    folder.check_same("model", identity)
    folder.prepare()
    facts = {"model": identity, "name": benchmark.name, "protocol": benchmark.protocol}
    folder.write_record("running", **facts)
    begin(identity)
    scores = []
    work = Work(benchmark, settings, folder.predictions, missing)
    jobs = min(request.jobs, len(benchmark.units))
    if jobs > 1:
        # Every process has a model of its own; this one only told its identity.
        engine = None
    done = do_units(work, engine, jobs=jobs)
    for score in progress(benchmark.name, len(benchmark.units), done):
        if score is not None:
            scores.append(score)
            report(score)
    return _finish(benchmark, folder, scores, facts)


def _finish(
    benchmark: Benchmark[Any],
    folder: EvalFolder,
    scores: Sequence[UnitScore],
    facts: dict[str, Any],
) -> EvalReport:
    done = [item for item in map(predicted_in, map(folder.of, benchmark.units)) if item is not None]
    frames = sum(item.frames for item in done)
    pace = sum(item.seconds for item in done) / frames if frames else math.nan
    summary = benchmark.summarise(scores) if scores else {}
    listed = tuple(benchmark.listed(scores)) if scores else ()
    published = published_rows(benchmark.published)
    record = folder.write_record(
        "complete",
        **facts,
        metrics=benchmark.metrics,
        scores=_plain(summary),
        seconds_per_frame=round(pace, 4) if frames else None,
        rows=[{"unit": row.unit, "item": row.item, **_plain(row.scores)} for row in listed],
        published=[row.record for row in published],
    )
    made = EvalReport(
        name=benchmark.name,
        protocol=benchmark.protocol,
        model=facts["model"],
        scores=tuple(scores),
        listed=listed,
        summary=summary,
        published=published,
        seconds_per_frame=pace,
        record=record,
    )
    if scores:
        folder.write_table([row for score in scores for row in score.rows])
        with atomic_path(folder.markdown) as temporary:
            text = markdown_report(made, benchmark.metrics, benchmark.unit_kind)
            temporary.write_text(text, encoding="utf-8")
        write_plots(benchmark, made, folder)
    else:
        write_submission(folder.predictions, benchmark.units, folder.submission)
    return made


def _plain(values: Any) -> dict[str, float | None]:
    """NaN, which JSON has not, as null."""
    return {name: None if math.isnan(value) else value for name, value in values.items()}
