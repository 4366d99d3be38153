"""`propagate match`: the places of one image in another."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from propagate.commands.common import output_mode, progress_bar, quiet_decoders
from propagate.commands.model_options import model_options
from propagate.commands.prompt_options import (
    prompt_options,
    prompt_settings,
    resolve_matching_model,
)
from propagate.errors import InputError

if TYPE_CHECKING:
    from propagate.match.report import MatchReport


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--points", type=click.Path(path_type=Path), help="Keypoint file of SOURCE.")
@click.option("--grid", type=int, help="Match a grid, with so many points on the longer side.")
@click.option(
    "--keypoints",
    type=click.Choice(["sift", "orb", "gftt", "superpoint"]),
    help="Match what a detector finds. SuperPoint's weights are downloaded, for research only.",
)
@click.option("--count", type=int, default=1000, show_default=True, help="Most points of it.")
@click.option(
    "--keypoint-weights",
    metavar="MODEL",
    default="superpoint",
    show_default=True,
    help="Folder or hub repository of SuperPoint's weights.",
)
@click.option(
    "--heatmap", metavar="X,Y", help="Draw what resembles this point of SOURCE; needs -o."
)
@click.option(
    "--method",
    type=click.Choice(["semantic", "geometric", "prompt"]),
    default="semantic",
    show_default=True,
    help="Parts of two things of one kind, points of one scene, or parts by optimised prompts.",
)
@click.option(
    "--place",
    type=click.Choice(["soft-argmax", "pixel"]),
    default="soft-argmax",
    show_default=True,
    help="Semantic: centre of the best cells, or the best pixel.",
)
@click.option("--raw", is_flag=True, help="Semantic: don't take the image's mean off its features.")
@click.option(
    "--mutual",
    type=float,
    default=0.0,
    help="Semantic: drop what does not lead back to within this share of SOURCE's longer side.",
)
@click.option("--top", type=int, default=1, help="Semantic: places to give for a point.")
@click.option("--flip", is_flag=True, help="Semantic: try SOURCE mirrored too, keep the better.")
@click.option(
    "--target-points", type=click.Path(path_type=Path), help="Geometric: keypoint file of TARGET."
)
@click.option("--ratio", type=float, help="Geometric: Lowe's ratio test, 0-1.")
@click.option("--metric", type=click.Choice(["cosine", "l2"]), default="cosine", show_default=True)
@click.option(
    "--transform",
    type=click.Choice(["homography", "fundamental"]),
    default="homography",
    show_default=True,
    help="Geometric: what to fit.",
)
@click.option(
    "--estimator",
    type=click.Choice(["magsac", "lmeds", "ransac"]),
    default="magsac",
    show_default=True,
    help="Geometric: how.",
)
@click.option(
    "--threshold", type=float, default=3.0, show_default=True, help="Pixels that an inlier is off."
)
@prompt_options
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder to write.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier match there.")
@click.option("--json", "as_json", is_flag=True, help="Print the matches as JSON.")
@model_options
def match(source: Path, target: Path, overwrite: bool, as_json: bool, **values: Any) -> None:
    """Find points of SOURCE in TARGET, both images.

    Prints the matches as CSV, or writes them to a folder with a picture (-o). Places are pixels
    from the outer corner of the top-left pixel.
    """
    from propagate.match.job import match_images
    from propagate.match.request import MatchRequest
    from propagate.matching.geometric import GeometricSettings
    from propagate.matching.semantic import SemanticSettings

    model, options = resolve_matching_model(values)
    request = MatchRequest(
        source=source,
        target=target,
        heatmap=_point(values["heatmap"]),
        mode=output_mode(overwrite=overwrite, resume=False),
        model=model,
        options=options,
        semantic=SemanticSettings(
            place=values["place"],
            centred=not values["raw"],
            mutual=values["mutual"],
            top=values["top"],
        ),
        geometric=GeometricSettings(
            metric=values["metric"],
            ratio=values["ratio"],
            model=values["transform"],
            estimator=values["estimator"],
            threshold=values["threshold"],
        ),
        prompt=prompt_settings(values),
        **{
            name: values[name]
            for name in (
                "points",
                "target_points",
                "grid",
                "keypoints",
                "count",
                "keypoint_weights",
                "method",
                "output",
                "flip",
            )
        },
    )
    quiet_decoders()
    report = match_images(
        request,
        say=lambda note: click.echo(f"Note: {note}", err=True),
        progress=partial(progress_bar, unit="step"),
    )
    if as_json:
        click.echo(json.dumps(report.facts()))
    else:
        _print(report)


def _point(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(
            f"--heatmap is {text!r}; write X,Y in pixels, for example 120,80."
        ) from None
    return x, y


def _print(report: MatchReport) -> None:
    from propagate.output.match_folder import write_matches

    inliers = None if report.transform is None else report.transform.inliers
    if report.folder is None:
        write_matches(sys.stdout, report.matches, report.names, inliers)
        return
    if not report.names:
        click.echo(f"Heat map: {report.folder.heatmap}")
        return
    agree = "" if inliers is None else f", {int(inliers.sum())} inliers"
    mirrored = ", source mirrored" if report.flipped else ""
    click.echo(
        f"{len(report.matches)} matches of {len(report.names)} points{agree}{mirrored}: "
        f"{report.folder.path}"
    )
