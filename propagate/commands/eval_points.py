"""`propagate eval jhmdb`, `badja` and `tapvid`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from propagate.commands.eval_common import evaluate_on, names_option, output_options, root_option
from propagate.commands.video_options import keypoint_knobs, propagation_options, resolve_preset


@click.command()
@root_option("Rename_Images, joint_positions and splits")
@click.option("--split", type=int, default=1, show_default=True, help="Which of the three splits.")
@names_option("clip")
@output_options
@propagation_options
@keypoint_knobs
def jhmdb(
    root: Path,
    split: int,
    names: tuple[str, ...],
    **values: Any,
) -> None:
    """JHMDB: PCK of 15 joints carried through the test clips, by CRW's protocol.

    Without --preset it is crw: frames stretched to 320x320, the first frame standing in for the
    latest ones at the start, points drawn on whole cells, mean of the 3 best cells.
    """
    settings = resolve_preset(values, otherwise="crw")
    from propagate.benchmarks.jhmdb import JhmdbBenchmark

    benchmark = JhmdbBenchmark(root, split=split, names=names)
    evaluate_on(benchmark, settings, values)


@click.command()
@root_option("joint_annotations")
@click.option(
    "--davis",
    type=click.Path(path_type=Path),
    help="Folder with JPEGImages and Annotations.  [default: DAVIS in the root]",
)
@click.option(
    "--resolution",
    type=click.Choice(["480p", "Full-Resolution"]),
    default="480p",
    show_default=True,
    help="Which pictures and masks of DAVIS.",
)
@names_option("clip")
@output_options
@propagation_options
@keypoint_knobs
def badja(
    root: Path,
    davis: Path | None,
    resolution: Any,
    names: tuple[str, ...],
    **values: Any,
) -> None:
    """BADJA: PCK of joints of animals, in units of the square root of the mask's area.

    Without --preset it is keypoints.
    """
    settings = resolve_preset(values, otherwise="keypoints")
    from propagate.benchmarks.badja import BadjaBenchmark

    benchmark = BadjaBenchmark(root, davis=davis, resolution=resolution, names=names)
    evaluate_on(benchmark, settings, values)


@click.command()
@root_option("tapvid_davis.pkl")
@click.option(
    "--query",
    type=click.Choice(["first", "strided"]),
    default="first",
    show_default=True,
    help="Query points where they are first seen, or in every fifth frame.",
)
@click.option("--native", is_flag=True, help="Give videos at their own size instead of 256x256.")
@names_option("video")
@output_options
@propagation_options
@keypoint_knobs
def tapvid(
    root: Path,
    query: Any,
    native: bool,
    names: tuple[str, ...],
    **values: Any,
) -> None:
    """TAP-Vid DAVIS: Average Jaccard, position and occlusion accuracy of point tracks.

    The published pickle is read without running anything in it. Without --preset it is keypoints.
    """
    settings = resolve_preset(values, otherwise="keypoints")
    from propagate.benchmarks.tapvid import TapvidBenchmark
    from propagate.metrics.tracks import TAPVID_SIDE

    side = None if native else TAPVID_SIDE
    benchmark = TapvidBenchmark(root, mode=query, side=side, names=names)
    evaluate_on(benchmark, settings, values)
