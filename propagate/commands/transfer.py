"""`propagate transfer`: labels from images of other instances."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from propagate.commands.clip_options import cache_option, clip_options, reading_options
from propagate.commands.common import progress_bar, quiet_decoders
from propagate.commands.video_options import keypoint_options, propagation_options, resolve_preset
from propagate.config import ModelOptions

if TYPE_CHECKING:
    from propagate.transfer.job import TransferReport

# Options that hold for both models; the others say where the propagation takes its features.
_OF_BOTH = ("seed", "device", "dtype", "compile", "batch_size", "memory", "offline")


@click.command()
@click.option(
    "--from",
    "sources",
    multiple=True,
    required=True,
    metavar="IMAGE=LABELS",
    help="An image and its mask or keypoint file; may be repeated.",
)
@click.option("--to", "target", required=True, metavar="CLIP", help="Clip or image to label.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder to write."
)
@click.option(
    "--frame", type=int, help="Frame of CLIP to match, from 0.  [default: the best of eight]"
)
@click.option("--no-run", is_flag=True, help="Stop after the match; don't go through the clip.")
@click.option(
    "--min-confidence",
    "least_confidence",
    type=float,
    help="Least confidence of a match, 0-1; 0 takes any.  [default: 0.22 for masks, "
    "0.27 for points]",
)
@click.option(
    "--match-model",
    help="Model that matches, with its options in brackets.  [default: --model, as it is best for "
    "matching]",
)
@clip_options
@cache_option
@click.option("--overwrite", is_flag=True, help="Replace an earlier transfer, and its run.")
@click.option("--no-overlay", is_flag=True, help="Write no overlay video and contact sheet.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@keypoint_options
@propagation_options
def transfer(
    sources: tuple[str, ...],
    no_run: bool,
    overwrite: bool,
    no_overlay: bool,
    least_confidence: float | None,
    as_json: bool,
    **values: Any,
) -> None:
    """Carry the mask or keypoints of images of other instances to CLIP, and through it.

    Each IMAGE shows something of the kind that CLIP shows; LABELS are as for `propagate run`. The
    frame of CLIP that resembles the images most gets their labels. With --no-run, or where CLIP is
    one image, that is all: look at match.png, correct the labels and pass them to `propagate run`.

    Writes transfer/ with mask.png or keypoints.csv, match.png and transfer.json, and what
    `propagate run` writes.
    """
    from propagate.labels.keypoint_files import is_keypoint_file
    from propagate.transfer.job import transfer_clip
    from propagate.transfer.request import TransferRequest

    pairs = tuple(_pair(text) for text in sources)
    points = all(is_keypoint_file(labels) for _, labels in pairs)
    settings = resolve_preset(values, otherwise="keypoints" if points else "default")
    shared = {name: getattr(settings.options, name) for name in _OF_BOTH}
    request = TransferRequest(
        sources=pairs,
        target=values["target"],
        output=values["output"],
        frame=values["frame"],
        run=not no_run,
        least_confidence=least_confidence,
        reader=values["reader"],
        reading=reading_options(values),
        model=settings.model,
        options=settings.options,
        match_model=values["match_model"],
        match_options=ModelOptions(**shared),
        video=settings.video,
        mode="overwrite" if overwrite else "new",
        overlay=not no_overlay,
        cache=values["cache"],
    )
    quiet_decoders()
    report = transfer_clip(
        request, progress=progress_bar, say=lambda note: click.echo(f"Note: {note}", err=True)
    )
    if as_json:
        click.echo(json.dumps(_facts(report)))
    else:
        _print(report)


def _pair(text: str) -> tuple[Path, Path]:
    """Image and labels; a path may have an equals sign in it."""
    cuts = [
        (Path(text[:i]), Path(text[i + 1 :]))
        for i, letter in enumerate(text)
        if letter == "=" and text[:i] and text[i + 1 :]
    ]
    if not cuts:
        raise click.UsageError(f"--from is {text!r}; write it as IMAGE=LABELS.")
    return next((cut for cut in cuts if all(path.exists() for path in cut)), cuts[0])


def _facts(report: TransferReport) -> dict[str, Any]:
    run = report.run
    return {
        "output": str(report.folder.path),
        "labels": str(report.labels),
        "frame": report.frame,
        "confidence": report.match.confidence,
        "trust": {name: trust.confidence for name, trust in report.match.trust.items()},
        "lost": report.match.lost,
        "frames": 0 if run is None else run.frames,
        "notes": report.notes,
        "seconds": report.seconds | ({} if run is None else run.seconds),
    }


def _print(report: TransferReport) -> None:
    match = report.match
    found = len(match.trust) - len(match.lost)
    click.echo(
        f"{found} of {len(match.trust)} labels found in frame {report.frame}, confidence "
        f"{match.confidence:.2f}: {report.labels}"
    )
    if report.run is not None:
        click.echo(f"{report.run.frames} frames labelled: {report.run.folder.path}")
