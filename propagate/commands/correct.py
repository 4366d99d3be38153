"""`propagate correct`: better labels for a run that is finished."""

from __future__ import annotations

import json
from pathlib import Path

import click

from propagate.commands.clip_options import cache_option, reference_files, reference_option
from propagate.commands.common import progress_bar, quiet_decoders


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@reference_option
@click.option("--remove", type=int, multiple=True, help="Drop the labels given for this frame.")
@click.option(
    "--everywhere", is_flag=True, help="Propagate all frames again, not only those around."
)
@click.option("--clip", help="Where the clip is now, if it was moved.")
@click.option(
    "--no-overlay", is_flag=True, help="Leave overlay video and contact sheet as they are."
)
@cache_option
@click.option("--offline", is_flag=True, help="Never ask a model hub.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def correct(
    run: Path,
    references: tuple[str, ...],
    remove: tuple[int, ...],
    everywhere: bool,
    clip: str | None,
    no_overlay: bool,
    cache: float,
    offline: bool,
    as_json: bool,
) -> None:
    """Add, replace or remove labelled frames of RUN, and propagate again what depends on them.

    Those are the frames between the labelled ones before and after. Features come from the run's
    cache, where they are still there. Says which frames have other labels now. An interrupted
    correction goes on when the command is given without --ref.
    """
    from propagate.correct import CorrectRequest, correct_run

    request = CorrectRequest(
        run=run,
        references=reference_files(None, references),
        remove=remove,
        clip=clip,
        everywhere=everywhere,
        overlay=not no_overlay,
        cache=cache,
        offline=offline,
    )
    quiet_decoders()
    report = correct_run(
        request, progress=progress_bar, say=lambda note: click.echo(f"Note: {note}", err=True)
    )
    if as_json:
        facts = {
            "output": str(report.folder.path),
            "frames": report.frames,
            "changed": report.changed,
            "notes": report.notes,
            "seconds": report.seconds,
        }
        click.echo(json.dumps(facts))
        return
    changed = f": {_intervals(report.changed)}" if report.changed else ""
    click.echo(f"{report.frames} frames propagated again, {len(report.changed)} changed{changed}")


def _intervals(numbers: tuple[int, ...]) -> str:
    """Numbers as "3-7, 9"."""
    groups: list[list[int]] = []
    for number in numbers:
        if groups and number == groups[-1][-1] + 1:
            groups[-1].append(number)
        else:
            groups.append([number])
    return ", ".join(
        str(group[0]) if len(group) == 1 else f"{group[0]}-{group[-1]}" for group in groups
    )
