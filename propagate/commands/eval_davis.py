"""`propagate eval davis2016` and `davis2017`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from propagate.commands.common import Command
from propagate.commands.eval_common import evaluate_on, names_option, output_options, root_option
from propagate.commands.video_options import propagation_options, resolve_preset


def _data_options(command: Command) -> Command:
    for option in (
        names_option("sequence"),
        click.option(
            "--split", default="val", show_default=True, help="Name of the ImageSets list."
        ),
        root_option("ImageSets, JPEGImages and Annotations"),
    ):
        command = option(command)
    return command


@click.command()
@_data_options
@output_options
@propagation_options
def davis2016(**values: Any) -> None:
    """DAVIS-2016, one object: J and F per sequence, beside the copy-the-first-mask floor.

    Official protocol: first and last frame left out, boundary tolerance 0.008 of the diagonal.
    """
    _evaluate("2016", **values)


@click.command()
@_data_options
@output_options
@propagation_options
def davis2017(**values: Any) -> None:
    """DAVIS-2017, semi-supervised: J and F per object, beside the copy-the-first-mask floor.

    Official protocol: first and last frame left out, boundary tolerance 0.008 of the diagonal,
    means over objects. A split with the first masks alone (--split test-dev) is not scored: its
    predictions are packed into submission.zip, which the evaluation server takes.
    """
    _evaluate("2017", **values)


def _evaluate(
    year: str,
    *,
    root: Path,
    split: str,
    names: tuple[str, ...],
    **values: Any,
) -> None:
    settings = resolve_preset(values)
    from propagate.benchmarks.davis import DavisBenchmark

    benchmark = DavisBenchmark(root, year=year, split=split, names=names)
    if not benchmark.scored and values["output"] is None:
        raise click.UsageError(
            f"{benchmark.name} has the first masks alone, so all that comes of it is "
            "submission.zip; name a folder for it with --output."
        )
    evaluate_on(benchmark, settings, values)
