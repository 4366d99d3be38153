"""`propagate review`: a page to look through labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from propagate.commands.clip_options import label_source, source_options
from propagate.commands.common import progress_bar, quiet_decoders

_NAMED = 5  # flagged rows of frames that are printed


@click.command()
@click.argument("labels", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="HTML file to write.  [default: review.html in the run folder, else beside LABELS]",
)
@click.option(
    "--below",
    type=float,
    help="Flag confidences below this, 0-1.  [default: 0.5; 0.4 for keypoints]",
)
@click.option(
    "--max-frames",
    type=int,
    default=300,
    show_default=True,
    help="Most pictures in the page: those of flagged frames first, the others evenly spread.",
)
@click.option(
    "--width", type=int, default=640, show_default=True, help="Of the pictures, in pixels."
)
@source_options
@click.option("--overwrite", is_flag=True, help="Replace what is there.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def review(labels: Path, output: Path | None, as_json: bool, **values: Any) -> None:
    """Make a page to look through LABELS in a browser, flagged frames first.

    LABELS is a run folder, masks of this or another tool in any format that `convert` reads, or a
    keypoint file. A run knows its clip; for others name it with --clip. Frames are flagged for low
    confidence where LABELS have any, and for jumps, vanishing, pieces and sudden changes of area.

    The page is one file. It works without a server, and asks for nothing from anywhere.
    """
    from propagate.review import ReviewRequest, default_page, review_labels

    request = ReviewRequest(
        source=label_source(labels, values),
        output=output or default_page(labels),
        **{name: values[name] for name in ("below", "max_frames", "width", "overwrite")},
    )
    quiet_decoders()
    report = review_labels(request, progress=progress_bar)
    for note in report.notes:
        click.echo(f"Note: {note}", err=True)
    if as_json:
        facts = {
            "output": str(report.path),
            "frames": report.frames,
            "shown": report.shown,
            "flagged": report.flagged,
            "intervals": [
                {"first": first, "last": last, "worst": worst}
                for first, last, worst in report.intervals
            ],
            "bytes": report.size,
            "notes": report.notes,
        }
        click.echo(json.dumps(facts))
        return
    click.echo(
        f"{report.shown} of {report.frames} frames, {report.flagged} flagged, "
        f"{report.size / 1e6:.1f} MB: {report.path}"
    )
    for first, last, worst in report.intervals[:_NAMED]:
        click.echo(f"  look at {worst}" + (f" (of {first} to {last})" if first != last else ""))
    if len(report.intervals) > _NAMED:
        click.echo(f"  and {len(report.intervals) - _NAMED} more")
