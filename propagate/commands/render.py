"""`propagate render`: labels drawn over their clip."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from propagate.commands.clip_options import label_source, source_options
from propagate.commands.common import progress_bar, quiet_decoders

_VIDEO = (".mp4", ".mov", ".mkv")
_PICTURES = (".png", ".jpg", ".jpeg", ".webp")


@click.command()
@click.argument("labels", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="File or folder to write.",
)
@click.option(
    "--what",
    type=click.Choice(["overlay", "side-by-side", "sheet", "stills"]),
    help="Video with labels, or with the bare frame to the left; contact sheet; a PNG per frame.  "
    "[default: overlay for a video file, sheet for an image file, stills for a folder]",
)
@click.option("--frames", metavar="LIST", help="Frames and ranges to show, as 10,20,100:200:5.")
@click.option(
    "--opacity", type=float, default=0.5, show_default=True, help="Of masks, from 0 to 1."
)
@click.option("--contours/--no-contours", default=True, show_default=True, help="Outline masks.")
@click.option("--names/--no-names", default=True, show_default=True, help="Name keypoints.")
@click.option("--fps", type=float, help="Frames per second of a video.  [default: the clip's]")
@click.option("--tiles", type=int, default=9, show_default=True, help="Pictures on a sheet.")
@click.option("--columns", type=int, default=3, show_default=True, help="Columns of a sheet.")
@source_options
@click.option("--overwrite", is_flag=True, help="Replace what is there.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def render(labels: Path, output: Path, as_json: bool, **values: Any) -> None:
    """Draw LABELS over their clip, as video, contact sheet or single pictures.

    LABELS is a run folder, masks of this or another tool in any format that `convert` reads, or a
    keypoint file. A run knows its clip; for others name it with --clip.
    """
    from propagate.output.drawing import DrawStyle
    from propagate.render import RenderRequest, render_labels
    from propagate.video import FrameChoice

    frames = values["frames"]
    what: Any = values["what"] or _by_ending(output)
    request = RenderRequest(
        source=label_source(labels, values),
        output=output,
        kind="video" if what in ("overlay", "side-by-side") else what,
        style=DrawStyle(
            opacity=values["opacity"],
            contour=values["contours"],
            names=values["names"],
            beside=what == "side-by-side",
        ),
        frames=None if frames is None else FrameChoice.parse(frames),
        **{name: values[name] for name in ("fps", "tiles", "columns", "overwrite")},
    )
    quiet_decoders()
    report = render_labels(request, progress=progress_bar)
    for note in report.notes:
        click.echo(f"Note: {note}", err=True)
    if as_json:
        facts = {"output": str(report.path), "frames": report.frames, "notes": report.notes}
        click.echo(json.dumps(facts))
        return
    click.echo(f"{report.frames} frames drawn: {report.path}")


def _by_ending(output: Path) -> str:
    suffix = output.suffix.lower()
    return "overlay" if suffix in _VIDEO else "sheet" if suffix in _PICTURES else "stills"
