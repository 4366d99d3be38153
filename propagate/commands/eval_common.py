"""What the commands of `propagate eval` share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from propagate.commands.common import Command, progress_bar, with_options

if TYPE_CHECKING:
    from propagate.benchmarks.base import Benchmark, UnitScore
    from propagate.benchmarks.runner import EvalReport
    from propagate.benchmarks.table import TextTable
    from propagate.config import Preset


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
    """Add `--output`, `--overwrite`, `--jobs` and `--json`."""
    options = (
        click.option(
            "-o",
            "--output",
            type=click.Path(path_type=Path),
            help="Folder for predictions, scores.csv, summary.json, table.md and pictures.",
        ),
        click.option(
            "--overwrite",
            is_flag=True,
            help="Replace the evaluation in the output folder instead of going on with it.",
        ),
        click.option(
            "--jobs",
            type=int,
            default=1,
            show_default=True,
            help="Clips or pairs at once, in processes with a model each (and a GPU each, where "
            "there are several).",
        ),
        click.option("--json", "as_json", is_flag=True, help="Print the record as JSON."),
    )
    return with_options(command, options)


def evaluate_on(benchmark: Benchmark[Any], settings: Preset, values: dict[str, Any]) -> None:
    """Run a data set and print what comes of it, row by row.

    Args:
        benchmark: the data set.
        settings: model and settings.
        values: of `output_options`, by their names; others are left alone.
    """
    from propagate.benchmarks.runner import EvalRequest, run_benchmark
    from propagate.benchmarks.table import TextTable

    output, as_json = values["output"], values["as_json"]
    names = benchmark.units if benchmark.streams else ()
    table = TextTable(names, benchmark.metrics, items=benchmark.streams)

    def begin(model: str) -> None:
        head = table.head(benchmark.unit_kind) if benchmark.scored else ""
        lines = (benchmark.name, benchmark.protocol, model, benchmark.described(settings), head)
        click.echo("\n".join(filter(None, lines)))

    def report(score: UnitScore) -> None:
        for row in score.rows if benchmark.streams else ():
            click.echo(table.row(row.unit, row.item, row.scores))

    def silent(_: Any) -> None:
        """With --json nothing but the record goes to stdout."""

    request = EvalRequest(
        benchmark=benchmark,
        settings=settings,
        output=output,
        overwrite=values["overwrite"],
        jobs=values["jobs"],
    )
    found = run_benchmark(
        request,
        begin=silent if as_json else begin,
        report=silent if as_json else report,
        progress=progress_bar,
    )
    if as_json:
        click.echo(json.dumps(found.record, indent=2))
        return
    rows = () if benchmark.streams else found.listed
    lines = [table.row(row.unit, row.item, row.scores) for row in rows]
    click.echo("\n".join([*lines, _closing(found, table, benchmark, output)]))


def _closing(
    report: EvalReport, table: TextTable, benchmark: Benchmark[Any], output: Path | None
) -> str:
    lines = [f"{report.seconds_per_frame:.3f} seconds per {benchmark.picture_kind}"]
    if report.scores:
        lines = [table.row("all", "", report.summary), *table.published(report.published), *lines]
    if output is not None:
        submission = "" if report.scores else ", to be scored by the server: submission.zip"
        lines.append(f"Written to {output}{submission}")
    return "\n".join(lines)
