"""`propagate inspect`: whether inputs fit, and what a run would take."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from propagate.commands.options import (
    clip_options,
    parse_void,
    propagation_options,
    quiet_decoders,
    resolve_preset,
)

if TYPE_CHECKING:
    from propagate.inspection import ClipFacts, Estimate, MaskFacts


@click.command()
@click.argument("clip")
@click.argument("mask", type=click.Path(path_type=Path), required=False)
@click.option("--frames", help="Range of frames as start:stop:step; MASK belongs to the first.")
@click.option("--whole", is_flag=True, help="Decode the whole clip: count frames, find damage.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@clip_options
@propagation_options
def inspect(
    clip: str, mask: Path | None, frames: str | None, whole: bool, as_json: bool, **values: Any
) -> None:
    """Check CLIP, and MASK against its first frame; estimate time and memory of a run.

    All options of `propagate run` count. One frame is extracted and propagated with a full context
    to measure them. Nothing is written.
    """
    settings = resolve_preset(values)
    from propagate.inspection import estimate_run, inspect_clip, inspect_mask
    from propagate.pipeline import first_frame
    from propagate.run import RunRequest
    from propagate.video import open_clip

    quiet_decoders()
    reader = open_clip(clip, reader=values["reader"], frames=frames)
    facts: dict[str, Any] = {"clip": inspect_clip(reader, whole=whole)}
    if mask is not None:
        request = RunRequest(
            clip=clip,
            mask=mask,
            output=Path(),
            frames=frames,
            reader=values["reader"],
            void=parse_void(values["void"]),
            binarize=values["binarize"],
            trust_ids=values["trust_ids"],
            model=settings.model,
            options=settings.options,
            video=settings.video,
        )
        facts["mask"], reference = inspect_mask(request, first_frame(reader))
        facts["run"] = estimate_run(request, reference.masks)
    if as_json:
        click.echo(json.dumps({name: asdict(part) for name, part in facts.items()}))
        return
    _print_clip(facts["clip"])
    if mask is not None:
        _print_mask(facts["mask"])
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


def _print_mask(mask: MaskFacts) -> None:
    objects = ", ".join(f"{i}: {pixels} pixels" for i, pixels in mask.objects.items())
    void = "" if mask.void is None else f"; {mask.void} is unknown"
    click.echo(f"mask    {len(mask.objects)} objects ({objects}){void}")
    for note in mask.notes:
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
