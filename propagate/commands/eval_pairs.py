"""`propagate eval` on data sets of image pairs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from propagate.commands.common import Command, with_options
from propagate.commands.eval_common import evaluate_on, output_options
from propagate.commands.model_options import model_options, resolve_model
from propagate.commands.prompt_options import (
    prompt_options,
    prompt_settings,
    resolve_matching_model,
)
from propagate.config import Preset

if TYPE_CHECKING:
    from propagate.benchmarks.pairs import KeypointPair

# Published numbers stand beside ours where all of the pairs are scored.
_PUBLISHED = {
    ("SPair-71k test", 12234): "spair-test",
    ("PF-Pascal test", 299): "pf-pascal-test",
    ("PF-Willow", 900): "pf-willow",
}


def _root(folder: str) -> Callable[[Command], Command]:
    return click.option(
        "--root", type=click.Path(path_type=Path), required=True, help=f"The folder {folder}."
    )


def _pck_options(normaliser: str, alphas: tuple[float, ...]) -> Callable[[Command], Command]:
    """Which pairs, how they are matched, and how they are scored."""
    options = (
        click.option("--category", "categories", multiple=True, help="Only this; may be repeated."),
        click.option("--limit", type=int, help="Only so many pairs."),
        click.option(
            "--normaliser",
            type=click.Choice(["target-box", "source-box", "target-keypoints", "image"]),
            default=normaliser,
            show_default=True,
            help="Longer side of what distances are divided by.",
        ),
        click.option("--strict", is_flag=True, help="A point on the threshold is wrong (<)."),
        click.option(
            "--alpha", "alphas", type=float, multiple=True, default=alphas, show_default=True
        ),
        click.option(
            "--place",
            type=click.Choice(["pixel", "soft-argmax"]),
            default="pixel",
            show_default=True,
            help="The best pixel, as published, or the centre of the best cells.",
        ),
        click.option("--centred", is_flag=True, help="Take the image's mean off its features."),
        click.option(
            "--method",
            type=click.Choice(["semantic", "prompt"]),
            default="semantic",
            show_default=True,
            help="By features, or by optimised prompts (slow).",
        ),
        prompt_options,
        click.option("--flip", is_flag=True, help="Try the source mirrored too, keep the better."),
    )

    def add(command: Command) -> Command:
        return with_options(command, options)

    return add


@click.command()
@_root("SPair-71k")
@click.option("--split", type=click.Choice(["trn", "val", "test"]), default="test")
@_pck_options("target-box", (0.05, 0.1, 0.15))
@output_options
@model_options
def spair(root: Path, split: str, **values: Any) -> None:
    """SPair-71k: PCK by the box, per image and per point, beside the copy floor.

    DIFT's protocol: the target's box, `<=`, best pixel of the upsampled features; models that read
    text get "a photo of a {category}" unless --prompt says something else, {category} included.
    """
    from propagate.benchmarks.spair import find_pairs

    _evaluate(f"SPair-71k {split}", find_pairs(root, split), {"split": split}, values)


@click.command(name="pf-pascal")
@_root("PF-dataset-PASCAL")
@click.option("--split", type=click.Choice(["val", "test"]), default="test")
@_pck_options("image", (0.05, 0.1, 0.15))
@output_options
@model_options
def pf_pascal(root: Path, split: str, **values: Any) -> None:
    """PF-Pascal: PCK by the image or by the box around the points."""
    from propagate.benchmarks.pf_pascal import find_pairs

    _evaluate(f"PF-Pascal {split}", find_pairs(root, split), {"split": split}, values)


@click.command(name="pf-willow")
@_root("PF-dataset")
@_pck_options("target-keypoints", (0.05, 0.1, 0.15))
@output_options
@model_options
def pf_willow(root: Path, **values: Any) -> None:
    """PF-Willow: PCK by the box around the points."""
    from propagate.benchmarks.pf_willow import find_pairs

    _evaluate("PF-Willow", find_pairs(root), {}, values)


@click.command()
@_root("CUB_200_2011")
@click.option(
    "--pairs",
    type=click.Path(path_type=Path),
    help="Text file with two image numbers a line.  [default: neighbouring test images]",
)
@_pck_options("image", (0.05, 0.1, 0.15))
@output_options
@model_options
def cub(root: Path, pairs: Path | None, **values: Any) -> None:
    """CUB-200-2011: PCK of the parts that both birds show."""
    from propagate.benchmarks.cub import find_pairs

    choice = {"pairs": None if pairs is None else str(pairs.absolute())}
    _evaluate("CUB-200-2011", find_pairs(root, pairs), choice, values)


@click.command()
@_root("hpatches-sequences-release")
@click.option("--scene", "scenes", multiple=True, help="Only this scene; may be repeated.")
@click.option("--every-scene", is_flag=True, help="The 8 scenes that d2-net leaves out, too.")
@click.option(
    "--keypoints",
    type=click.Choice(["sift", "orb", "gftt", "superpoint"]),
    default="sift",
    show_default=True,
    help="What finds the keypoints. SuperPoint's weights are downloaded, for research only.",
)
@click.option(
    "--keypoint-weights",
    metavar="MODEL",
    default="superpoint",
    show_default=True,
    help="Folder or hub repository of SuperPoint's weights.",
)
@click.option("--count", type=int, default=1000, show_default=True, help="Most keypoints.")
@click.option(
    "--keypoint-files",
    type=click.Path(path_type=Path),
    help="Folder of SCENE-IMAGE.kp files, x and y a line, instead.",
)
@click.option("--metric", type=click.Choice(["cosine", "l2"]), default="cosine", show_default=True)
@click.option(
    "--sampling",
    type=click.Choice(["exact", "published"]),
    default="exact",
    show_default=True,
    help="Read features at the keypoint, or up to half a pixel off as published.",
)
@click.option("--ratio", type=float, help="Lowe's ratio test, 0-1.")
@click.option(
    "--estimator",
    type=click.Choice(["lmeds", "ransac", "magsac"]),
    default="lmeds",
    show_default=True,
)
@click.option("--threshold", type=float, default=3.0, show_default=True, help="Pixels of RANSAC.")
@output_options
@model_options
def hpatches(root: Path, scenes: tuple[str, ...], every_scene: bool, **values: Any) -> None:
    """HPatches: corner errors of homographies, beside SIFT's.

    DIFT's protocol: SuperPoint (--keypoints superpoint, or --keypoint-files), --sampling published,
    and cosine with LMedS for DIFT_sd, L2 with RANSAC for DIFT_adm.
    """
    from propagate.benchmarks.hpatches import HpatchesBenchmark
    from propagate.benchmarks.hpatches_scenes import KeypointSource, find_scenes
    from propagate.matching.geometric import GeometricSettings

    model, options = resolve_model(values, task="geometric")
    names = ("metric", "sampling", "ratio", "estimator", "threshold")
    benchmark = HpatchesBenchmark(
        find_scenes(root, scenes, every=every_scene),
        keypoints=KeypointSource(
            detector=values["keypoints"],
            count=values["count"],
            folder=values["keypoint_files"],
            weights=values["keypoint_weights"],
            device=options.device,
            offline=options.offline,
        ),
        matching=GeometricSettings(**{name: values[name] for name in names}),
    )
    evaluate_on(benchmark, Preset(summary="", model=model, options=options), values)


def _evaluate(
    title: str,
    pairs: list[KeypointPair],
    choice: dict[str, Any],
    values: dict[str, Any],
) -> None:
    """Evaluate a data set of keypoint pairs by its options."""
    from propagate.benchmarks.pair_benchmark import PairBenchmark
    from propagate.benchmarks.pairs import PckProtocol, chosen_pairs
    from propagate.matching.semantic import SemanticSettings

    by_prompts = values["method"] == "prompt"
    model, options = resolve_matching_model(values)
    features = SemanticSettings(place=values["place"], centred=values["centred"])
    categories, limit = values["categories"], values["limit"]
    chosen = chosen_pairs(pairs, categories, limit)
    benchmark = PairBenchmark(
        title,
        chosen,
        protocol=PckProtocol(
            normaliser=values["normaliser"], strict=values["strict"], alphas=tuple(values["alphas"])
        ),
        matching=prompt_settings(values) if by_prompts else features,
        flip=values["flip"],
        choice={**choice, "categories": list(categories), "limit": limit},
        published=_PUBLISHED.get((title, len(chosen))),
    )
    evaluate_on(benchmark, Preset(summary="", model=model, options=options), values)
