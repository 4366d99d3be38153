"""`propagate eval` on data sets of image pairs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from propagate.commands.options import model_options, progress_bar, resolve_model

if TYPE_CHECKING:
    from propagate.benchmarks.pairs import KeypointPair

Command = TypeVar("Command", bound=Callable[..., Any])


def _common(command: Command) -> Command:
    """Options of every data set of pairs, below its own ones."""
    options = (
        click.option(
            "-o",
            "--output",
            type=click.Path(path_type=Path),
            required=True,
            help="Folder to write; an evaluation that was cut short there goes on.",
        ),
        click.option("--overwrite", is_flag=True, help="Replace an earlier evaluation there."),
        click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON."),
        model_options,
    )
    for option in reversed(options):
        command = option(command)
    return command


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
    )

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


@click.command()
@_root("SPair-71k")
@click.option("--split", type=click.Choice(["trn", "val", "test"]), default="test")
@_pck_options("target-box", (0.05, 0.1, 0.15))
@_common
def spair(root: Path, split: str, **values: Any) -> None:
    """SPair-71k: PCK by the box, per image and per point, beside the copy floor.

    DIFT's protocol: the target's box, `<=`, best pixel of the upsampled features.
    """
    from propagate.benchmarks.spair import find_pairs

    _score("spair", root, lambda: find_pairs(root, split), {"split": split}, values)


@click.command(name="pf-pascal")
@_root("PF-dataset-PASCAL")
@click.option("--split", type=click.Choice(["val", "test"]), default="test")
@_pck_options("image", (0.05, 0.1, 0.15))
@_common
def pf_pascal(root: Path, split: str, **values: Any) -> None:
    """PF-Pascal: PCK by the image or by the box around the points."""
    from propagate.benchmarks.pf_pascal import find_pairs

    _score("pf-pascal", root, lambda: find_pairs(root, split), {"split": split}, values)


@click.command(name="pf-willow")
@_root("PF-dataset")
@_pck_options("target-keypoints", (0.05, 0.1, 0.15))
@_common
def pf_willow(root: Path, **values: Any) -> None:
    """PF-Willow: PCK by the box around the points."""
    from propagate.benchmarks.pf_willow import find_pairs

    _score("pf-willow", root, lambda: find_pairs(root), {}, values)


@click.command()
@_root("CUB_200_2011")
@click.option(
    "--pairs",
    type=click.Path(path_type=Path),
    help="Text file with two image numbers a line.  [default: neighbouring test images]",
)
@_pck_options("image", (0.05, 0.1, 0.15))
@_common
def cub(root: Path, pairs: Path | None, **values: Any) -> None:
    """CUB-200-2011: PCK of the parts that both birds show."""
    from propagate.benchmarks.cub import find_pairs

    chosen = {"pairs": None if pairs is None else str(pairs.absolute())}
    _score("cub", root, lambda: find_pairs(root, pairs), chosen, values)


@click.command()
@_root("hpatches-sequences-release")
@click.option("--scene", "scenes", multiple=True, help="Only this scene; may be repeated.")
@click.option("--every-scene", is_flag=True, help="The 8 scenes that d2-net leaves out, too.")
@click.option(
    "--keypoints",
    type=click.Choice(["sift", "orb", "gftt"]),
    default="sift",
    show_default=True,
    help="What finds the keypoints.",
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
@_common
def hpatches(
    root: Path, scenes: tuple[str, ...], every_scene: bool, as_json: bool, **values: Any
) -> None:
    """HPatches: corner errors of homographies, beside SIFT's.

    DIFT's protocol: SuperPoint keypoints (--keypoint-files), --sampling published, and cosine with
    LMedS for DIFT_sd, L2 with RANSAC for DIFT_adm.
    """
    from propagate.benchmarks.hpatches import KeypointSource, evaluate_scenes, find_scenes
    from propagate.benchmarks.pairs import EvalFolder
    from propagate.features.registry import create_extractor
    from propagate.matching.geometric import GeometricSettings

    model, options = resolve_model(values)
    found = find_scenes(root, scenes, every=every_scene)
    names = ("metric", "sampling", "ratio", "estimator", "threshold")
    settings = GeometricSettings(**{name: values[name] for name in names})
    files = values["keypoint_files"]
    source = KeypointSource(detector=values["keypoints"], count=values["count"], folder=files)
    config = {
        "benchmark": "hpatches",
        "root": str(root.absolute()),
        "scenes": [scene.name for scene in found],
        "keypoints": asdict(source) | {"folder": None if files is None else str(files.absolute())},
        "settings": asdict(settings),
        "model": model,
        "options": asdict(options),
    }
    folder = EvalFolder(values["output"], config, overwrite=values["overwrite"])
    extractor = create_extractor(model, options, task="geometric")
    record = evaluate_scenes(
        found, extractor, folder, keypoints=source, settings=settings, progress=progress_bar
    )
    if as_json:
        click.echo(json.dumps(record))
        return
    click.echo(f"{record['model']}\n{record['protocol']['text']}; {settings}")
    click.echo(f"{'':14}{'':10}{'pairs':>6}{'@1':>7}{'@3':>7}{'@5':>7}   AUC @1/3/5")
    for way, kinds in record["scores"].items():
        for kind, score in kinds.items():
            shares = "".join(f"{100 * value:7.1f}" for value in score["accuracy"].values())
            areas = " ".join(f"{100 * value:.1f}" for value in score["auc"].values())
            click.echo(f"{kind:14}{way:10}{score['pairs']:6}{shares}   {areas}")


def _score(
    benchmark: str,
    root: Path,
    find: Callable[[], list[KeypointPair]],
    chosen: dict[str, Any],
    values: dict[str, Any],
) -> None:
    """Evaluate a data set of keypoint pairs by its options, and print its table."""
    from propagate.benchmarks.pairs import EvalFolder, PckProtocol, chosen_pairs, evaluate_pairs
    from propagate.features.registry import create_extractor
    from propagate.matching.semantic import SemanticSettings

    model, options = resolve_model(values)
    protocol = PckProtocol(
        normaliser=values["normaliser"], strict=values["strict"], alphas=tuple(values["alphas"])
    )
    settings = SemanticSettings(place=values["place"], centred=values["centred"])
    pairs = chosen_pairs(find(), values["categories"], values["limit"])
    config = {
        "benchmark": benchmark,
        "root": str(root.absolute()),
        **chosen,
        "categories": list(values["categories"]),
        "limit": values["limit"],
        "settings": asdict(settings),
        "model": model,
        "options": asdict(options),
    }
    folder = EvalFolder(values["output"], config, overwrite=values["overwrite"])
    extractor = create_extractor(model, options, task="semantic")
    record = evaluate_pairs(
        pairs, extractor, folder, settings=settings, protocol=protocol, progress=progress_bar
    )
    if values["as_json"]:
        click.echo(json.dumps(record))
        return
    click.echo(f"{record['model']}\n{record['protocol']['text']}; {settings}")
    _print_table(record["scores"])


def _print_table(scores: dict[str, Any]) -> None:
    """Per image / per point, in per cent."""
    columns = [scores[name] for name in scores if name.startswith("pck")]
    floor = [scores[name]["overall"] for name in scores if name.startswith("copy")]
    heads = "".join(f"{name:>15}" for name in scores if name.startswith("pck"))
    click.echo(f"{'per image / per point':22}{'pairs':>6}{'points':>8}{heads}")
    for name in columns[0]["categories"]:
        _print_row(name, [column["categories"][name] for column in columns])
    _print_row("mean of categories", [column["category_mean"] for column in columns])
    _print_row("all", [column["overall"] for column in columns])
    _print_row("same place copied", floor)


def _print_row(name: str, parts: list[dict[str, Any]]) -> None:
    cells = "".join(
        f"{100 * part['per_image']:7.1f} /{100 * part['per_point']:6.1f}" for part in parts
    )
    click.echo(f"{name:22}{parts[0]['pairs']:6}{parts[0]['points']:8}{cells}")
