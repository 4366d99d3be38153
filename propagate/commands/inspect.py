"""`propagate inspect`: whether inputs fit, and what a run would take."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from propagate.commands.options import (
    clip_options,
    keypoint_options,
    propagation_options,
    quiet_decoders,
    resolve_preset,
    run_request,
)

if TYPE_CHECKING:
    from propagate.inspection import ClipFacts, Estimate, KeypointFacts, MaskFacts


@click.command()
@click.argument("clip")
@click.argument("labels", type=click.Path(path_type=Path), required=False)
@click.option("--frames", help="Range of frames as start:stop:step; LABELS belong to the first.")
@click.option("--whole", is_flag=True, help="Decode the whole clip: count frames, find damage.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@clip_options
@keypoint_options
@propagation_options
def inspect(
    clip: str, labels: Path | None, frames: str | None, whole: bool, as_json: bool, **values: Any
) -> None:
    """Check CLIP, and LABELS against its first frame; estimate time and memory of a run.

    All options of `propagate run` count. One frame is extracted and propagated with a full context
    to measure them. Nothing is written.
    """
    from propagate.inspection import estimate_run, inspect_clip, inspect_labels
    from propagate.labels.keypoint_files import is_keypoint_file
    from propagate.pipeline import first_frame
    from propagate.video import open_clip

    points = labels is not None and is_keypoint_file(labels)
    settings = resolve_preset(values, otherwise="keypoints" if points else "default")

    quiet_decoders()
    reader = open_clip(clip, reader=values["reader"], frames=frames)
    facts: dict[str, Any] = {"clip": inspect_clip(reader, whole=whole)}
    if labels is not None:
        request = run_request(
            settings,
            values,
            clip=clip,
            mask=labels,
            output=Path(),
            frames=frames,
        )
        found, reference = inspect_labels(request, first_frame(reader))
        facts["keypoints" if points else "mask"] = found
        facts["run"] = estimate_run(request, reference)
    if as_json:
        click.echo(json.dumps({name: asdict(part) for name, part in facts.items()}))
        return
    _print_clip(facts["clip"])
    if labels is not None:
        _print_labels(found)
        _print_run(facts["run"], facts["clip"])


def _print_clip(clip: ClipFacts) -> None:
    number = "an unknown number of" if clip.frames is None else str(clip.frames)
    how = "counted" if clip.counted else "by the file itself"
    click.echo(f"clip    {clip.source}")
    click.echo(f"        {number} frames ({how}), {clip.size}, {clip.fps:g} frames/s")
    if clip.even is False:
        click.echo("        Frames don't come at a constant rate.")
    for loss in clip.losses:
        click.echo(f"        {loss}")


def _print_labels(facts: MaskFacts | KeypointFacts) -> None:
    click.echo(f"labels  {facts.summary}")
    for note in facts.notes:
        click.echo(f"        {note}")


def _print_run(run: Estimate, clip: ClipFacts) -> None:
    click.echo(f"model   {run.model}")
    click.echo(f"        {run.channels} channels on a grid of {run.grid}")
    stages = ", ".join(f"{name} {seconds:.3f}" for name, seconds in run.seconds.items())
    click.echo(f"time    {run.seconds_per_frame:.2f} s a frame ({stages})")
    if clip.frames is not None:
        click.echo(f"        {run.seconds_per_frame * clip.frames:.0f} s for all frames")
    gpu = f", {run.gpu_memory / 1e6:.0f} MB on the GPU" if run.gpu_memory else ""
    click.echo(f"memory  {run.memory / 1e6:.0f} MB{gpu}, however long the clip")
