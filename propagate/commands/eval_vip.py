"""`propagate eval vip`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from propagate.commands.eval_common import evaluate_on, names_option, output_options, root_option
from propagate.commands.video_options import propagation_options, resolve_preset


@click.command()
@root_option("Images, Annotations/Category_ids and lists (VIP_Fine)")
@click.option("--split", default="val", show_default=True, help="Which list of videos.")
@names_option("video")
@output_options
@propagation_options
def vip(
    root: Path,
    split: str,
    names: tuple[str, ...],
    **values: Any,
) -> None:
    """VIP: mean IoU of 20 categories of body parts and clothes.

    One confusion matrix over all frames of all videos. Published numbers are for frames stretched
    to 560x560 (--input-size 560x560).
    """
    settings = resolve_preset(values)
    from propagate.benchmarks.vip import VipBenchmark

    benchmark = VipBenchmark(root, split=split, names=names)
    evaluate_on(benchmark, settings, values)
