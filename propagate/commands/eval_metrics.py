"""`propagate eval metrics`: anybody's masks or keypoints against true ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from propagate.benchmarks.base import Row


@click.command()
@click.option(
    "--pred",
    type=click.Path(path_type=Path),
    required=True,
    help="Results: a folder of PNGs per clip, the PNGs of one, or a keypoint file.",
)
@click.option(
    "--gt",
    "truth",
    type=click.Path(path_type=Path),
    required=True,
    help="The truth in the same layout, such as Annotations/480p of DAVIS.",
)
@click.option("--one-object", is_flag=True, help="All that is not background is one object.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Folder for scores.csv, summary.json and bars.png.",
)
@click.option("--overwrite", is_flag=True, help="Replace the scores in the output folder.")
@click.option("--json", "as_json", is_flag=True, help="Print the scores as JSON.")
def metrics(pred: Path, truth: Path, output: Path | None, as_json: bool, **values: Any) -> None:
    """Score a folder of masks or a file of keypoints that any program made.

    Masks: J and F of every clip in --pred, by the official protocol of DAVIS: first and last frame
    left out, void (255) is background, objects are the ids of the first true mask; DAVIS-2016 takes
    --one-object. Keypoints: PCK in sides of the box around the true points, all annotated frames
    but the first.
    """
    from propagate.benchmarks.base import mean
    from propagate.benchmarks.table import TextTable

    protocol, rows = _scored(pred, truth, one_object=values["one_object"])
    names = tuple(rows[0].scores)
    summary = {name: mean([row.scores[name] for row in rows]) for name in names}
    listed = [{"unit": row.unit, "item": row.item, **row.scores} for row in rows]
    record = {"protocol": protocol, "scores": summary, "rows": listed}
    if output is not None:
        config = {"pred": str(pred.absolute()), "gt": str(truth.absolute())}
        _write(
            output,
            {**config, "one_object": values["one_object"]},
            values["overwrite"],
            rows,
            record,
        )
    if as_json:
        click.echo(json.dumps(record, indent=2))
        return
    table = TextTable([row.unit for row in rows], names)
    lines = [table.row(row.unit, row.item, row.scores) for row in rows]
    click.echo("\n".join([protocol, table.head("clip"), *lines, table.row("all", "", summary)]))


def _scored(pred: Path, truth: Path, *, one_object: bool) -> tuple[str, list[Row]]:
    """The protocol, and a row per object or point."""
    from propagate.benchmarks.base import Row

    if pred.is_file():
        from propagate.benchmarks.keypoint_results import PROTOCOL, score_keypoints

        return PROTOCOL, score_keypoints(pred, truth)
    from propagate.benchmarks.mask_folders import score_folders
    from propagate.benchmarks.mask_scores import PROTOCOL as MASKS

    objects = score_folders(pred, truth, one_object=one_object)
    return MASKS, [Row(one.sequence, str(one.object_id), one.metrics) for one in objects]


def _write(
    output: Path,
    config: dict[str, Any],
    overwrite: bool,
    rows: list[Row],
    record: dict[str, Any],
) -> None:
    from propagate.benchmarks.folder import EvalFolder
    from propagate.benchmarks.plots import draw_bars

    folder = EvalFolder(output, config, overwrite=overwrite)
    folder.prepare()
    folder.write_table(rows)
    metric = next(iter(record["scores"]))
    draw_bars(rows, record["scores"][metric], metric=metric, title=config["pred"], folder=folder)
    folder.write_record("complete", **record)
