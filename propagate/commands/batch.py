"""`propagate batch`: label many clips."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from propagate.commands.clip_options import clip_options, run_request
from propagate.commands.common import EXIT_SOME_FAILED, output_mode, progress_bar, quiet_decoders
from propagate.commands.video_options import propagation_options, resolve_preset

if TYPE_CHECKING:
    from propagate.batch import BatchOutcome


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder to write; each clip gets one below it.",
)
@click.option(
    "--masks",
    type=click.Path(path_type=Path),
    help="Folder of masks: NAME.png, or NAME/ with its first image.  [default: beside the clips]",
)
@click.option("--shard", default="1/1", show_default=True, help="Only part i of n, as i/n.")
@click.option("--overwrite", is_flag=True, help="Replace earlier runs in the output folder.")
@click.option("--resume", is_flag=True, help="Continue: complete clips are passed over.")
@click.option("--no-overlay", is_flag=True, help="Write no overlay videos and contact sheets.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcomes as JSON.")
@clip_options
@propagation_options
def batch(
    source: Path,
    output: Path,
    masks: Path | None,
    shard: str,
    overwrite: bool,
    resume: bool,
    as_json: bool,
    **values: Any,
) -> int:
    """Label every clip of SOURCE, each into OUTPUT/NAME as `propagate run` does.

    SOURCE is a folder of videos and image folders, or a CSV file with the columns clip and mask,
    and if wanted name and frames; its paths are relative to it. The model is loaded once. A clip
    that fails does not stop the others: it is named in the table at the end, and the exit code
    is 3.

    Also writes batch.json (batch-I-of-N.json for a shard).
    """
    mode = output_mode(overwrite=overwrite, resume=resume)
    from propagate.batch import find_items, run_batch, select_shard, write_outcomes
    from propagate.labels.keypoint_files import is_keypoint_file

    items = select_shard(find_items(source, masks), shard)
    points = all(is_keypoint_file(item.mask) for item in items)
    settings = resolve_preset(values, otherwise="keypoints" if items and points else "default")
    base = run_request(
        settings,
        values,
        clip="",
        references=(),
        output=output,
        mode=mode,
        overlay=not values["no_overlay"],
    )
    quiet_decoders()
    outcomes = run_batch(
        items,
        output,
        base,
        report=_show_progress,
        progress=progress_bar,
        say=lambda note: click.echo(f"Note: {note}", err=True),
    )
    part, _, count = shard.partition("/")
    name = "batch.json" if count == "1" else f"batch-{part}-of-{count}.json"
    write_outcomes(output / name, outcomes)
    if as_json:
        click.echo(json.dumps([vars(outcome) for outcome in outcomes]))
    else:
        _print_table(outcomes)
    return EXIT_SOME_FAILED if any(outcome.error for outcome in outcomes) else 0


def _show_progress(outcome: BatchOutcome) -> None:
    click.echo(f"{outcome.name}: {outcome.error or outcome.status}", err=True)


def _print_table(outcomes: list[BatchOutcome]) -> None:
    width = max([4, *(len(outcome.name) for outcome in outcomes)]) + 2
    click.echo(f"{'clip':{width}}{'status':9}{'frames':>7}{'seconds':>9}  error")
    for outcome in outcomes:
        click.echo(
            f"{outcome.name:{width}}{outcome.status:9}{outcome.frames:>7}{outcome.seconds:>9.1f}"
            f"  {outcome.error}".rstrip()
        )
