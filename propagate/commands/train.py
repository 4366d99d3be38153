"""`propagate train`: the few parts of the program that learn."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from propagate.commands.common import output_mode, progress_bar
from propagate.commands.model_options import model_options, resolve_model

if TYPE_CHECKING:
    from propagate.training.folder import TrainReport

_output = click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder for weights, checkpoint, losses and pictures; then a model for --model.",
)


@click.group()
def train() -> None:
    """Train what can be trained; backbones stay as they are."""


@train.command()
@click.option(
    "--pairs",
    type=click.Path(exists=True, path_type=Path),
    help="Folder SPair-71k, or a CSV file with source,target,x1,y1,x2,y2 a line.",
)
@click.option(
    "--images",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of images, whose random warps are the pairs.",
)
@click.option("--split", default="trn", show_default=True, help="Split of SPair-71k.")
@_output
@click.option(
    "--inversion",
    is_flag=True,
    help="Maps of 11 of the 50 steps of a diffusion model's DDIM inversion, as published.",
)
@click.option("--steps", type=int, default=5000, show_default=True, help="Steps, a pair each.")
@click.option("--lr", type=float, default=1e-3, show_default=True, help="Learning rate.")
@click.option("--width", type=int, default=384, show_default=True, help="Channels of the result.")
@click.option("--groups", type=int, default=32, show_default=True, help="Groups of its norms.")
@click.option(
    "--cells",
    type=click.Choice(["exact", "published"]),
    default="exact",
    show_default=True,
    help="The cell that a point lies in, or up to half a cell off as published.",
)
@click.option(
    "--save-every", type=int, default=500, show_default=True, help="Steps between checkpoints."
)
@click.option(
    "--warp-side", type=int, default=240, show_default=True, help="Short side of warped images."
)
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint.")
@click.option("--overwrite", is_flag=True, help="Replace the training in the output folder.")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
@model_options
def aggregation(output: Path, as_json: bool, **values: Any) -> None:
    """Train Diffusion Hyperfeatures' aggregation of the layers of MODEL.

    MODEL is frozen; name several layers (--layer A+B+C), or take --inversion. On several GPUs:
    `accelerate launch -m propagate train aggregation ...`.
    """
    from propagate.features.hyper.recipe import Inversion
    from propagate.training.aggregation import TrainRequest, train_aggregation
    from propagate.training.settings import TrainSettings
    from propagate.training.warps import WarpSettings

    mode = output_mode(overwrite=values.pop("overwrite"), resume=values.pop("resume"))
    model, options = resolve_model(values, task="semantic")
    names = ("steps", "lr", "width", "groups", "cells", "save_every")
    settings = TrainSettings(**{name: values[name] for name in names}, seed=options.seed)
    request = TrainRequest(
        output=output,
        pairs=values["pairs"],
        images=values["images"],
        split=values["split"],
        mode=mode,
        model=model,
        options=options,
        inversion=Inversion() if values["inversion"] else None,
        settings=settings,
        warps=WarpSettings(side=values["warp_side"]),
    )
    report = train_aggregation(request, bar=progress_bar)
    _show(report, _aggregation_lines, as_json=as_json)


def _aggregation_lines(record: dict[str, Any]) -> Iterator[str]:
    yield record["model"]
    yield f"loss {record['loss']:.4f}, the mean of the last 100 steps"
    for name, words in (("untrained", "layers fused untrained"), ("validation", "aggregated")):
        if record.get(name):
            shares = zip(record["alphas"], record[name], strict=True)
            shown = "  ".join(f"@{alpha:g} {100 * share:.1f}" for alpha, share in shares)
            yield f"validation PCK, {words:23}{shown}"


@train.command()
@click.option(
    "--images",
    type=click.Path(exists=True, path_type=Path),
    required=True,
    help="Folder, or uncompressed tar file, of images.",
)
@_output
@click.option(
    "--channels", default="64,128,192", show_default=True, help="Width of each level, finest first."
)
@click.option(
    "--unshuffle", type=int, default=4, show_default=True, help="Side of the pixels in a cell."
)
@click.option("--depth", type=int, default=1, show_default=True, help="Residual blocks a level.")
@click.option("--side", type=int, default=96, show_default=True, help="Side of a crop, in pixels.")
@click.option("--steps", type=int, default=4000, show_default=True, help="Steps of the optimiser.")
@click.option("--batch", type=int, default=16, show_default=True, help="Crops a step.")
@click.option("--lr", type=float, default=1.5e-3, show_default=True, help="Peak learning rate.")
@click.option(
    "--save-every", type=int, default=250, show_default=True, help="Steps between checkpoints."
)
@click.option(
    "--teacher",
    help="Model whose features a layer also learns to predict, such as efficientnet-lite0.",
)
@click.option(
    "--align", type=float, default=3.0, show_default=True, help="Weight of that second task."
)
@click.option(
    "--align-layer",
    default="up_blocks.1.resnets.1",
    show_default=True,
    help="The layer that learns it.",
)
@click.option(
    "--clean",
    type=float,
    default=0.75,
    show_default=True,
    help="Share of crops without noise, for the second task alone.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of weights, crops and noise.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:N, mps or auto.")
@click.option(
    "--dtype",
    type=click.Choice(["auto", "fp32", "bf16"]),
    default="auto",
    show_default=True,
    help="What the network computes in; auto is bf16 where the device has it.",
)
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint.")
@click.option("--overwrite", is_flag=True, help="Replace the training in the output folder.")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
def pocket(output: Path, images: Path, as_json: bool, **values: Any) -> None:
    """Train a small diffusion model on the pixels of images, from nothing.

    No labels, no text. On several GPUs: `accelerate launch -m propagate train pocket ...`.
    """
    from propagate.training.pocket import PocketRequest, train_pocket
    from propagate.training.pocket_settings import PocketSettings

    mode = output_mode(overwrite=values.pop("overwrite"), resume=values.pop("resume"))
    place = {name: values.pop(name) for name in ("device", "dtype")}
    values["channels"] = _widths(values["channels"])
    settings = PocketSettings(**values)
    request = PocketRequest(output=output, images=images, mode=mode, settings=settings, **place)
    report = train_pocket(request, bar=progress_bar)
    _show(report, _pocket_lines, as_json=as_json)


def _pocket_lines(record: dict[str, Any]) -> Iterator[str]:
    followed = record["misalignment"]
    told = "" if followed is None else f"; 1 - cosine with the teacher {followed:.4f}"
    yield f"{record['parameters'] / 1e6:.1f} M parameters, {record['images']} images"
    yield (
        f"loss {record['loss']:.4f}, the mean of the last 100 steps; of denoising other images "
        f"{record['validation']:.4f}{told}"
    )


def _show(
    report: TrainReport, lines: Callable[[dict[str, Any]], Iterable[str]], *, as_json: bool
) -> None:
    """Print what came of a training; of several processes the first one does."""
    if not report.first:
        return
    if as_json:
        click.echo(json.dumps(report.record))
        return
    for line in lines(report.record):
        click.echo(line)
    click.echo(f"Written to {report.folder}, which is a model: --model {report.folder}")


def _widths(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is not a list of whole numbers such as 64,128,192.", param_hint="--channels"
        ) from None
