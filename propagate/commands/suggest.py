"""`propagate suggest`: which frames to annotate next."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from propagate.commands.clip_options import label_source, source_options
from propagate.commands.common import progress_bar, quiet_decoders


@click.command()
@click.argument("labels", type=click.Path(path_type=Path))
@click.option("-k", "--count", type=int, default=5, show_default=True, help="How many frames.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Folder for those frames as pictures, each with its labels so far, to edit and give back.",
)
@source_options
@click.option("--overwrite", is_flag=True, help="Replace what is in the output folder.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def suggest(
    labels: Path, count: int, output: Path | None, overwrite: bool, as_json: bool, **values: Any
) -> None:
    """Say which frames of LABELS to annotate next, the most useful first.

    LABELS is a run folder, or masks or keypoints of any tool with --clip. Frames count that are
    probably wrong, that have many such around them, and that are far from annotated ones.

    Edit what -o writes, and give it back: propagate correct RUN --ref FRAME=FILE.
    """
    from propagate.suggest import SuggestRequest, suggest_frames

    request = SuggestRequest(
        source=label_source(labels, values), count=count, output=output, overwrite=overwrite
    )
    quiet_decoders()
    found = suggest_frames(request, progress=progress_bar)
    if as_json:
        click.echo(json.dumps([asdict(item) for item in found]))
        return
    if not found:
        click.echo("There is nothing to gain: every frame is annotated, or certain.")
    for item in found:
        click.echo(f"{item.frame:6}  {item.gain:4.0%} of the expected error  {item.why}")
