"""`propagate eval`: score the program on data sets."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from propagate.commands.eval_pairs import COMMANDS
from propagate.commands.options import davis_options, propagation_options, resolve_preset
from propagate.errors import OutputError

if TYPE_CHECKING:
    from propagate.benchmarks.davis import ObjectScore


@click.group(name="eval")
def evaluate() -> None:
    """Score the program on a data set in its own layout."""


@evaluate.command()
@davis_options(split="val")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Write masks and scores.json here."
)
@click.option("--overwrite", is_flag=True, help="Replace earlier scores in the output folder.")
@click.option("--json", "as_json", is_flag=True, help="Print the scores as JSON.")
@propagation_options
def davis(
    root: Path,
    year: str,
    split: str,
    names: tuple[str, ...],
    output: Path | None,
    overwrite: bool,
    as_json: bool,
    **values: Any,
) -> None:
    """DAVIS, semi-supervised: J and F per sequence, beside the copy-the-first-mask floor.

    Official protocol: first and last frame left out, boundary tolerance 0.008 of the diagonal,
    means over objects.
    """
    settings = resolve_preset(values)
    from propagate.benchmarks.davis import evaluate as evaluate_davis
    from propagate.benchmarks.davis import find_sequences
    from propagate.features.registry import create_extractor
    from propagate.output.atomic import atomic_path

    sequences = find_sequences(root, year=year, split=split, names=names)
    if output is not None and (output / "scores.json").exists() and not overwrite:
        raise OutputError(
            f"{output} already holds scores; replace them with --overwrite, or choose another "
            "folder."
        )
    extractor = create_extractor(settings.model, settings.options)
    if output is not None:
        for sequence in sequences:
            (output / sequence.name).mkdir(parents=True, exist_ok=True)
    if not as_json:
        click.echo(f"{extractor.identity}\n{settings.video}\n{_HEADER}")
    scores = evaluate_davis(
        sequences,
        extractor,
        settings,
        output=output,
        report=(lambda _: None) if as_json else _print_scores,
    )
    summary = _summary(scores)
    record = {
        "model": extractor.identity,
        "settings": asdict(settings.video),
        "mean": summary,
        "objects": [asdict(score) for score in scores],
    }
    text = json.dumps(record, indent=2)
    if output is not None:
        with atomic_path(output / "scores.json") as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
    click.echo(text if as_json else _row("mean", "", summary))


_HEADER = f"{'sequence':18}{'object':>7}{'J&F':>7}{'J':>7}{'F':>7}{'copy':>7}{'s/frame':>9}"


def _print_scores(scores: list[ObjectScore]) -> None:
    for score in scores:
        click.echo(_row(score.sequence, str(score.object_id), _summary([score])))


def _summary(scores: list[ObjectScore]) -> dict[str, float]:
    """Means over objects, in per cent, and seconds."""
    columns = {
        "jf": [100 * score.jf for score in scores],
        "j": [100 * score.jaccard[0] for score in scores],
        "f": [100 * score.boundary[0] for score in scores],
        "copy_jf": [100 * score.floor for score in scores],
        "seconds_per_frame": [score.seconds_per_frame for score in scores],
    }
    return {name: sum(values) / len(values) for name, values in columns.items()}


def _row(name: str, object_id: str, summary: dict[str, float]) -> str:
    numbers = "".join(f"{summary[key]:7.1f}" for key in ("jf", "j", "f", "copy_jf"))
    return f"{name:18}{object_id:>7}{numbers}{summary['seconds_per_frame']:9.3f}"


for _command in COMMANDS:
    evaluate.add_command(_command)
