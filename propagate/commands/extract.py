"""`propagate extract`: store feature maps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from propagate.commands.common import progress_bar, quiet_decoders
from propagate.commands.model_options import model_options, resolve_model, store_options


@click.command()
@click.argument("clips", nargs=-1, required=True, metavar="CLIP...")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder to write."
)
@click.option("--frames", help="Range of frames of every clip as start:stop:step.")
@click.option(
    "--reader",
    type=click.Choice(["auto", "decord", "pyav", "images", "multipage"]),
    default="auto",
    show_default=True,
    help="What opens the clips.",
)
@click.option(
    "--task",
    type=click.Choice(["propagation", "semantic", "geometric"]),
    default="propagation",
    show_default=True,
    help="Whose default model options to take.",
)
@store_options
@click.option("--overwrite", is_flag=True, help="Replace earlier features in the output folder.")
@click.option(
    "--resume", is_flag=True, help="Continue, or add clips and frames to the output folder."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@model_options
def extract(
    clips: tuple[str, ...],
    output: Path,
    overwrite: bool,
    resume: bool,
    as_json: bool,
    **values: Any,
) -> None:
    """Store the feature maps of every frame of each CLIP.

    CLIP is a video file, a folder of images, a quoted glob, or an image. The output folder can be
    named with --model in place of a model.

    Writes features.json and maps/CLIP/INDEX-FINGERPRINT.safetensors per frame.
    """
    from propagate.extract import ExtractRequest, extract_features

    if overwrite and resume:
        raise click.UsageError("--overwrite and --resume exclude each other; give one.")
    model, options = resolve_model(values, task=values["task"])
    request = ExtractRequest(
        clips=clips,
        output=output,
        model=model,
        options=options,
        mode="overwrite" if overwrite else "resume" if resume else "new",
        **values,
    )
    quiet_decoders()
    report = extract_features(
        request, progress=progress_bar, say=lambda note: click.echo(f"Note: {note}", err=True)
    )
    stored = sum(clip.maps for clip in report.clips)
    if as_json:
        facts = {
            "output": str(report.path),
            "clips": len(report.clips),
            "maps": stored,
            "new_maps": report.computed,
            "new_bytes": report.nbytes,
            "notes": report.notes,
            "seconds": report.seconds,
            "elapsed": round(report.elapsed, 3),
        }
        click.echo(json.dumps(facts))
        return
    click.echo(
        f"{report.computed} maps ({report.nbytes / 1e6:.1f} MB) stored in {report.elapsed:.1f} s, "
        f"{stored} in all: {report.path}"
    )
