"""Predict, save, then score: what every data set goes through."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from propagate.benchmarks.base import Benchmark, UnitScore
from propagate.benchmarks.folder import EvalFolder, Predicted
from propagate.benchmarks.plots import write_plots
from propagate.benchmarks.published import PublishedRow, published_rows
from propagate.benchmarks.submission import write_submission
from propagate.benchmarks.table import markdown_report
from propagate.config import Preset
from propagate.features.base import FeatureExtractor
from propagate.features.registry import create_extractor
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
    """

    benchmark: Benchmark
    settings: Preset
    output: Path | None = None
    overwrite: bool = False

    @property
    def config(self) -> dict[str, Any]:
        """What decides the predictions; an evaluation that is continued must agree in it."""
        settings = asdict(self.settings)
        del settings["summary"]
        # A model that is already here gives the same numbers with or without a hub.
        del settings["options"]["offline"]
        return {
            "benchmark": type(self.benchmark).__name__,
            "data": dict(self.benchmark.options),
            **settings,
        }


@dataclass(frozen=True, kw_only=True)
class EvalReport:
    """What came of an evaluation.

    Args:
        name: data set and split.
        protocol: how scores were taken.
        model: identity of the features.
        scores: of every unit; empty where there is no truth.
        summary: the data set's numbers.
        published: rows of others to put beside them.
        seconds_per_frame: mean over all frames.
        record: the content of summary.json.
    """

    name: str
    protocol: str
    model: str
    scores: tuple[UnitScore, ...]
    summary: dict[str, float]
    published: tuple[PublishedRow, ...]
    seconds_per_frame: float
    record: dict[str, Any]


def run_benchmark(
    request: EvalRequest,
    *,
    extractor: FeatureExtractor | None = None,
    begin: Callable[[str], None] = lambda _: None,
    report: Callable[[UnitScore], None] = lambda _: None,
    progress: Progress[Any] = no_progress,
) -> EvalReport:
    """Predict the units that have no predictions yet, score all, and write what came of it.

    Args:
        request: what to do.
        extractor: what the model of the settings stands for, where that is loaded already.
        begin: receives the identity of the features before any unit is done.
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
        return _run(request, folder, extractor, begin, report, progress)


def _run(
    request: EvalRequest,
    folder: EvalFolder,
    extractor: FeatureExtractor | None,
    begin: Callable[[str], None],
    report: Callable[[UnitScore], None],
    progress: Progress[Any],
) -> EvalReport:
    benchmark, settings = request.benchmark, request.settings
    if folder.needs(benchmark.units) and extractor is None:
        extractor = create_extractor(settings.model, settings.options, task=benchmark.task)
    identity = extractor.identity if extractor else str(folder.started["model"])
    folder.check_same("model", identity)
    folder.prepare()
    facts = {"model": identity, "name": benchmark.name, "protocol": benchmark.protocol}
    folder.write_record("running", **facts)
    begin(identity)
    scores = []
    for unit in progress(benchmark.name, len(benchmark.units), benchmark.units):
        if folder.predicted(unit) is None and extractor is not None:
            _predict(benchmark, unit, settings, extractor, folder)
        if benchmark.scored:
            scores.append(benchmark.score(unit, folder.of(unit)))
            report(scores[-1])
    return _finish(benchmark, folder, scores, facts)


def _predict(
    benchmark: Benchmark,
    unit: str,
    settings: Preset,
    extractor: FeatureExtractor,
    folder: EvalFolder,
) -> None:
    start = time.perf_counter()
    with folder.writing(unit) as target:
        frames = benchmark.predict(unit, settings, extractor, target)
    folder.add(unit, Predicted(frames, round(time.perf_counter() - start, 3)))


def _finish(
    benchmark: Benchmark, folder: EvalFolder, scores: Sequence[UnitScore], facts: dict[str, Any]
) -> EvalReport:
    done = [item for item in map(folder.predicted, benchmark.units) if item is not None]
    frames = sum(item.frames for item in done)
    pace = sum(item.seconds for item in done) / frames if frames else math.nan
    summary = benchmark.summarise(scores) if scores else {}
    published = published_rows(benchmark.published)
    record = folder.write_record(
        "complete",
        **facts,
        metrics=benchmark.metrics,
        scores=_plain(summary),
        seconds_per_frame=round(pace, 4) if frames else None,
        rows=[
            {"unit": row.unit, "item": row.item, **_plain(row.scores)}
            for score in scores
            for row in score.rows
        ],
        published=[row.record for row in published],
    )
    made = EvalReport(
        name=benchmark.name,
        protocol=benchmark.protocol,
        model=facts["model"],
        scores=tuple(scores),
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
        write_plots(benchmark, scores, folder)
    else:
        write_submission(folder.predictions, benchmark.units, folder.submission)
    return made


def _plain(values: Any) -> dict[str, float | None]:
    """NaN, which JSON has not, as null."""
    return {name: None if math.isnan(value) else value for name, value in values.items()}
