"""`propagate sweep`: ablations on data sets."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from propagate.commands.clip_options import davis_options
from propagate.commands.common import EXIT_SOME_FAILED
from propagate.commands.video_options import propagation_options, resolve_preset
from propagate.sweep.knobs import Knob, decided_by
from propagate.sweep.parse import parse_knobs

if TYPE_CHECKING:
    from propagate.sweep.report import SweepReport, SweepRow

# Knobs whose option has another name.
_OPTIONS = {"radius": "size_mask_neighborhood"}


@click.group()
def sweep() -> None:
    """Score every combination of some settings on a data set."""


@sweep.command()
@davis_options(split="train")
@click.option(
    "--over",
    multiple=True,
    required=True,
    metavar="NAME=V1,V2,...",
    help="Vary this setting; may be repeated. Numbers may be ranges start:stop:step.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder to write."
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier sweep in the output folder.")
@click.option("--resume", is_flag=True, help="Continue an interrupted sweep, or add values to it.")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
@propagation_options
def davis(
    root: Path,
    year: str,
    split: str,
    names: tuple[str, ...],
    over: tuple[str, ...],
    output: Path,
    overwrite: bool,
    resume: bool,
    as_json: bool,
    **values: Any,
) -> int:
    """DAVIS, semi-supervised: J&F, J and F of every combination of the --over settings.

    Any setting that decides numbers can be varied: model, those of the model (t, layer, ...) and
    those of the propagation (topk, radius, ...). The other options hold for all combinations.
    Features are computed once per frame and model, however many propagation settings are tried.

    Writes sweep.csv, sweep.json, heatmap.png (the first --over on the x axis, the second on the y
    axis, more as panels) and results.jsonl, from which an interrupted sweep is resumed. Exit code 3
    says that some combinations failed.
    """
    if overwrite and resume:
        raise click.UsageError("--overwrite and --resume exclude each other; give one.")
    knobs = parse_knobs(over)
    _check_fixed(knobs, values)
    settings = resolve_preset(values)
    from propagate.sweep.engine import SweepRequest, run_sweep
    from propagate.sweep.target import DavisTarget

    request = SweepRequest(
        target=DavisTarget(root, year=year, split=split, names=names),
        fixed=settings,
        knobs=knobs,
        output=output,
        mode="overwrite" if overwrite else "resume" if resume else "new",
    )
    with _progress() as (step, say):
        report = run_sweep(request, step=step, say=say)
    click.echo(json.dumps(report.record, indent=2) if as_json else _table(report))
    return EXIT_SOME_FAILED if any(row.error for row in report.rows) else 0


def _check_fixed(knobs: Sequence[Knob], values: dict[str, Any]) -> None:
    """Refuse options that would have no effect, as a knob decides what they say."""
    for knob in knobs:
        for name in sorted(decided_by([knob])):
            option = _OPTIONS.get(name, name)
            if values.get(option) is not None:
                raise click.UsageError(
                    f"--{option.replace('_', '-')} and --over {knob.name}=... exclude each other; "
                    "give one."
                )


@contextmanager
def _progress() -> Iterator[tuple[Callable[[int, int, str], None], Callable[[str], None]]]:
    """A bar on stderr when that is a terminal; failures are written there in any case."""
    from tqdm import tqdm

    with tqdm(unit="score", disable=None, dynamic_ncols=True) as bar:

        def step(done: int, total: int, what: str) -> None:
            bar.total = total
            bar.set_description(what, refresh=False)
            bar.update(done - bar.n)
            bar.refresh()

        def say(message: str) -> None:
            with tqdm.external_write_mode():
                click.echo(f"Note: {message}", err=True)

        yield step, say


def _table(report: SweepReport) -> str:
    """Knobs and scores, the best combination marked, and where everything is."""
    metrics = list(report.best.scores) if report.best else []
    head = [*report.rows[0].combination.labels, *metrics, "s/frame", ""]
    cells = [head, *(_cells(row, report, metrics) for row in report.rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head) - 1)]
    lines = ["  ".join([*map(str.rjust, line, widths), line[-1]]).rstrip() for line in cells]
    return "\n".join([*lines, f"Written to {report.folder.path}"])


def _cells(row: SweepRow, report: SweepReport, metrics: list[str]) -> list[str]:
    knobs = list(row.combination.labels.values())
    if row.error is not None:
        return [*knobs, *("-" for _ in metrics), "-", "failed"]
    scores = [f"{row.scores[name]:.1f}" for name in metrics]
    mark = "best" if row is report.best else ""
    return [*knobs, *scores, f"{row.seconds_per_frame:.3f}", mark]
