"""`propagate run`: label a clip."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from propagate.commands.options import (
    parse_void,
    progress_bar,
    propagation_options,
    quiet_decoders,
    resolve_preset,
)


@click.command()
@click.argument("clip")
@click.argument("mask", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder to write."
)
@click.option("--frames", help="Range of frames as start:stop:step; MASK belongs to the first.")
@click.option(
    "--reader",
    type=click.Choice(["auto", "decord", "pyav", "images", "multipage"]),
    default="auto",
    show_default=True,
    help="What opens the clip.",
)
@click.option(
    "--void",
    default="auto",
    show_default=True,
    help="Mask id of unknown pixels: a number, none, or auto (255 beside other ids).",
)
@click.option("--binarize", is_flag=True, help="Take everything bright in MASK for one object.")
@click.option("--trust-ids", is_flag=True, help="Accept ids in MASK that look like antialiasing.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier run in the output folder.")
@click.option("--resume", is_flag=True, help="Continue an interrupted run.")
@click.option("--no-overlay", is_flag=True, help="Write no overlay video and contact sheet.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@propagation_options
def run(
    clip: str, mask: Path, output: Path, overwrite: bool, resume: bool, as_json: bool, **values: Any
) -> None:
    """Carry MASK, the mask of the first frame, through CLIP.

    CLIP is a video file, a folder of images, a quoted glob, or a multi-page image. MASK is an
    indexed or grey PNG (or another lossless image) of the clip's size: 0 is background, every
    other value an object.

    Writes masks/NAME.png per frame, overlay.mp4, contact_sheet.png and run.json.
    """
    from propagate.run import RunRequest, run_clip

    if overwrite and resume:
        raise click.UsageError("--overwrite and --resume exclude each other; give one.")
    settings = resolve_preset(values)
    request = RunRequest(
        clip=clip,
        mask=mask,
        output=output,
        frames=values["frames"],
        reader=values["reader"],
        void=parse_void(values["void"]),
        binarize=values["binarize"],
        trust_ids=values["trust_ids"],
        model=settings.model,
        options=settings.options,
        video=settings.video,
        mode="overwrite" if overwrite else "resume" if resume else "new",
        overlay=not values["no_overlay"],
    )
    quiet_decoders()
    report = run_clip(
        request, progress=progress_bar, say=lambda note: click.echo(f"Note: {note}", err=True)
    )
    if as_json:
        facts = {
            "output": str(report.folder.path),
            "frames": report.frames,
            "notes": report.notes,
            "seconds": report.seconds,
        }
        click.echo(json.dumps(facts))
        return
    total = sum(report.seconds.values())
    rate = f" ({report.frames / total:.1f} frames/s)" if total else ""
    click.echo(f"{report.frames} frames labelled in {total:.1f} s{rate}: {report.folder.path}")
