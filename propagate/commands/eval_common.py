"""What the commands of `propagate eval` share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from propagate.commands.options import progress_bar

if TYPE_CHECKING:
    from propagate.benchmarks.base import Benchmark, UnitScore
    from propagate.benchmarks.runner import EvalReport
    from propagate.benchmarks.table import TextTable
    from propagate.config import Preset

Command = TypeVar("Command", bound=Callable[..., Any])


def root_option(layout: str) -> Callable[[Command], Command]:
    """Add `--root`; `layout` says what the folder holds."""
    return click.option(
        "--root",
        type=click.Path(path_type=Path),
        required=True,
        help=f"Folder of the data set, with {layout}.",
    )


def names_option(what: str) -> Callable[[Command], Command]:
    """Add the option that names single units, as `names`."""
    return click.option(
        f"--{what}", "names", multiple=True, help=f"Only this {what}; may be repeated."
    )


def output_options(command: Command) -> Command:
    """Add `--output`, `--overwrite` and `--json`."""
    command = click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")(
        command
    )
    command = click.option(
        "--overwrite",
        is_flag=True,
        help="Replace the evaluation in the output folder instead of going on with it.",
    )(command)
    return click.option(
        "-o",
        "--output",
        type=click.Path(path_type=Path),
        help="Folder for predictions, scores.csv, summary.json, table.md and pictures.",
    )(command)


def evaluate_on(
    benchmark: Benchmark,
    settings: Preset,
    *,
    output: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Run a data set and print what comes of it, row by row."""
    from propagate.benchmarks.runner import EvalRequest, run_benchmark
    from propagate.benchmarks.table import TextTable

    table = TextTable(benchmark.units, benchmark.metrics)

    def begin(model: str) -> None:
        click.echo(f"{benchmark.name}\n{benchmark.protocol}\n{model}\n{settings.video}")
        if benchmark.scored:
            click.echo(table.head(benchmark.unit_kind))

    def report(score: UnitScore) -> None:
        for row in score.rows:
            click.echo(table.row(row.unit, row.item, row.scores))

    def silent(_: Any) -> None:
        """With --json nothing but the record goes to stdout."""

    found = run_benchmark(
        EvalRequest(benchmark=benchmark, settings=settings, output=output, overwrite=overwrite),
        begin=silent if as_json else begin,
        report=silent if as_json else report,
        progress=progress_bar,
    )
    click.echo(json.dumps(found.record, indent=2) if as_json else _closing(found, table, output))


def _closing(report: EvalReport, table: TextTable, output: Path | None) -> str:
    lines = [f"{report.seconds_per_frame:.3f} seconds per frame"]
    if report.scores:
        lines = [table.row("all", "", report.summary), *table.published(report.published), *lines]
    if output is not None:
        submission = "" if report.scores else ", to be scored by the server: submission.zip"
        lines.append(f"Written to {output}{submission}")
    return "\n".join(lines)
