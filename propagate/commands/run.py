"""`propagate run`: label a clip."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from propagate.commands.clip_options import (
    cache_option,
    clip_options,
    reference_files,
    reference_option,
    run_request,
)
from propagate.commands.common import output_mode, progress_bar, quiet_decoders
from propagate.commands.video_options import keypoint_options, propagation_options, resolve_preset


@click.command()
@click.argument("clip")
@click.argument("labels", type=click.Path(path_type=Path), required=False)
@reference_option
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder to write."
)
@click.option("--frames", help="Range of frames as start:stop:step; LABELS belong to the first.")
@clip_options
@click.option("--overwrite", is_flag=True, help="Replace an earlier run in the output folder.")
@click.option("--resume", is_flag=True, help="Continue an interrupted run.")
@cache_option
@click.option("--no-overlay", is_flag=True, help="Write no overlay video and contact sheet.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@keypoint_options
@propagation_options
def run(
    clip: str,
    labels: Path | None,
    references: tuple[str, ...],
    output: Path,
    overwrite: bool,
    resume: bool,
    as_json: bool,
    **values: Any,
) -> None:
    """Carry labels of some frames of CLIP, masks or keypoints, to all the others.

    CLIP is a video file, a folder of images, a quoted glob, or a multi-page image. LABELS is the
    mask or keypoint file of its first frame; --ref gives those of any other. A mask is an indexed
    or grey PNG (or another lossless image) of the clip's size: 0 is background, every other value
    an object. Keypoints are a CSV of frame,name,x,y,visible, COCO JSON, or a file of DeepLabCut
    (.csv), SLEAP (.slp), TAP-Vid (.npz), JHMDB (.mat) or BADJA (.json).

    Writes masks/NAME.png per frame or keypoints.csv, overlay.mp4, contact_sheet.png and run.json.
    """
    from propagate.labels.reference_files import are_keypoints
    from propagate.run import run_clip

    files = reference_files(labels, references)
    kind = "keypoints" if are_keypoints(files) else "default"
    settings = resolve_preset(values, otherwise=kind)
    request = run_request(
        settings,
        values,
        clip=clip,
        references=files,
        output=output,
        frames=values["frames"],
        mode=output_mode(overwrite=overwrite, resume=resume),
        overlay=not values["no_overlay"],
        cache=values["cache"],
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
            "elapsed": round(report.elapsed, 3),
        }
        click.echo(json.dumps(facts))
        return
    rate = f" ({report.frames / report.elapsed:.1f} frames/s)" if report.frames else ""
    click.echo(
        f"{report.frames} frames labelled in {report.elapsed:.1f} s{rate}: {report.folder.path}"
    )
