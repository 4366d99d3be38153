"""`propagate convert`: masks from one format to another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from propagate.commands.clip_options import parse_void
from propagate.commands.common import parse_size, progress_bar, quiet_decoders
from propagate.labels.format_registry import format_names

_HELP = """Convert the masks in SRC to another format, DST.

SRC is a run folder, or masks of any format here, of this or another tool:

\b
png          indexed PNG per frame (DAVIS, SAM 2, Cutie)
youtube-vos  Annotations/CLIP/FRAME.png and meta.json
youtube-vis  JSON, a track per object
coco         COCO instances JSON with track_id
mots         16-bit PNG per frame, class * 1000 + instance
mots-txt     text, a line per mask
cvat         CVAT for video 1.1 XML, polygon tracks
labelme      LabelMe JSON per frame
yolo         YOLO segmentation, text per frame
binary       black and white PNG per object and frame
soft         fp16 scores, safetensors per frame
rgba         transparent PNG per object and frame

What DST has no room for is told on stderr. Frames are counted from 0.
"""


@click.command(help=_HELP)
@click.argument("source", type=click.Path(path_type=Path), metavar="SRC")
@click.argument("target", type=click.Path(path_type=Path), metavar="DST")
@click.option(
    "--from",
    "from_format",
    type=click.Choice(format_names()),
    help="Format of SRC.  [default: found out]",
)
@click.option(
    "--to",
    "to_format",
    type=click.Choice(format_names()),
    help="Format of DST.  [default: by its ending, where that is enough]",
)
@click.option("--clip", help="The video or images, for rgba, or where SRC has no frame size.")
@click.option("--video", metavar="NAME", help="Which clip of SRC, where it has several.")
@click.option("--size", metavar="WxH", help="Size of the frames, where SRC does not say it.")
@click.option(
    "--void",
    default="auto",
    show_default=True,
    help="Id of unknown pixels in SRC's PNGs: a number, none, or auto (255 beside other ids).",
)
@click.option(
    "--tolerance",
    type=float,
    default=0.0,
    show_default=True,
    help="Pixels that the border of a polygon may be moved by to save points.",
)
@click.option(
    "--src-count-from",
    "source_from",
    type=click.IntRange(0, 1),
    default=0,
    show_default=True,
    help="Number of the first frame in a MOTS source.",
)
@click.option(
    "--dst-count-from",
    "target_from",
    type=click.IntRange(0, 1),
    default=0,
    show_default=True,
    help="Number of the first frame in a MOTS target.",
)
@click.option("--overwrite", is_flag=True, help="Replace DST.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def convert(size: str | None, void: str, as_json: bool, **values: Any) -> None:
    """See `_HELP`, which click shows."""
    from propagate.convert import ConvertRequest, convert_masks
    from propagate.types import Size

    frame_size = None if size is None else Size(*parse_size(size, "--size"))
    request = ConvertRequest(size=frame_size, void=parse_void(void), **values)
    if request.clip is not None:
        quiet_decoders()
    report = convert_masks(
        request, progress=progress_bar, say=lambda note: click.echo(f"Note: {note}", err=True)
    )
    if as_json:
        facts = {
            "output": str(report.path),
            "from": report.source_format,
            "to": report.target_format,
            "frames": report.frames,
            "objects": report.objects,
            "lost": report.lost,
            "notes": report.notes,
        }
        click.echo(json.dumps(facts))
        return
    click.echo(
        f"{report.frames} frames, {len(report.objects)} objects, {report.source_format} to "
        f"{report.target_format}: {report.path}"
    )
