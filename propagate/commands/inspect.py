"""`propagate inspect`: whether inputs fit, and what a run would take."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from propagate.commands.clip_options import (
    clip_options,
    reference_files,
    reference_option,
    run_request,
)
from propagate.commands.common import quiet_decoders
from propagate.commands.video_options import keypoint_options, propagation_options, resolve_preset

if TYPE_CHECKING:
    from collections.abc import Sequence

    from propagate.inspection import ClipFacts, Estimate, KeypointFacts, MaskFacts


@click.command()
@click.argument("clip")
@click.argument("labels", type=click.Path(path_type=Path), required=False)
@reference_option
@click.option("--frames", help="Range of frames as start:stop:step; LABELS belong to the first.")
@click.option("--whole", is_flag=True, help="Decode the whole clip: count frames, find damage.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@clip_options
@keypoint_options
@propagation_options
def inspect(
    clip: str,
    labels: Path | None,
    references: tuple[str, ...],
    frames: str | None,
    whole: bool,
    as_json: bool,
    **values: Any,
) -> None:
    """Check CLIP, and LABELS against its frames; estimate time and memory of a run.

    All options of `propagate run` count. One frame is extracted and propagated with a full context
    to measure them. Nothing is written.
    """
    from propagate.inspection import estimate_run, inspect_clip, inspect_labels
    from propagate.labels.reference_files import are_keypoints
    from propagate.video import open_clip

    files = reference_files(labels, references)
    points = bool(files) and are_keypoints(files)
    settings = resolve_preset(values, otherwise="keypoints" if points else "default")

    quiet_decoders()
    reader = open_clip(clip, reader=values["reader"], frames=frames)
    facts: dict[str, Any] = {"clip": inspect_clip(reader, whole=whole)}
    if files:
        request = run_request(
            settings, values, clip=clip, references=files, output=Path(), frames=frames
        )
        found, loaded = inspect_labels(request, reader)
        facts |= {"references": found, "notes": loaded.notes}
        facts["run"] = estimate_run(request, loaded.references)
    if as_json:
        click.echo(json.dumps({name: _plain(part) for name, part in facts.items()}))
        return
    _print_clip(facts["clip"])
    if files:
        _print_labels(found, loaded.notes)
        _print_run(facts["run"], facts["clip"])


def _plain(part: Any) -> Any:
    if isinstance(part, (list, tuple)):
        return [_plain(item) for item in part]
    return part if isinstance(part, str) else asdict(part)


def _print_clip(clip: ClipFacts) -> None:
    number = "an unknown number of" if clip.frames is None else str(clip.frames)
    how = "counted" if clip.counted else "by the file itself"
    click.echo(f"clip    {clip.source}")
    click.echo(f"        {number} frames ({how}), {clip.size}, {clip.fps:g} frames/s")
    if clip.even is False:
        click.echo("        Frames don't come at a constant rate.")
    for loss in clip.losses:
        click.echo(f"        {loss}")


def _print_labels(found: list[MaskFacts | KeypointFacts], notes: Sequence[str]) -> None:
    for facts in found:
        click.echo(f"labels  frame {facts.frame}: {facts.summary}")
    for note in notes:
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
