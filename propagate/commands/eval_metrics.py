"""`propagate eval metrics`: anybody's masks against true ones."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command()
@click.option(
    "--pred",
    type=click.Path(path_type=Path),
    required=True,
    help="Results: a folder of PNGs per clip, or the PNGs of one.",
)
@click.option(
    "--gt",
    "truth",
    type=click.Path(path_type=Path),
    required=True,
    help="True masks in the same layout, such as Annotations/480p of DAVIS.",
)
@click.option("--one-object", is_flag=True, help="All that is not background is one object.")
@click.option("--json", "as_json", is_flag=True, help="Print the scores as JSON.")
def metrics(pred: Path, truth: Path, one_object: bool, as_json: bool) -> None:
    """J and F of a folder of masks that any program made, by the official protocol of DAVIS.

    Every clip in --pred is scored. As officially, first and last frame are left out, void (255) is
    background, and objects are the ids of the first true mask; DAVIS-2016 takes --one-object.
    """
    from propagate.benchmarks.base import Row, mean
    from propagate.benchmarks.mask_folders import score_folders
    from propagate.benchmarks.mask_scores import PROTOCOL
    from propagate.benchmarks.table import TextTable

    objects = score_folders(pred, truth, one_object=one_object)
    rows = [Row(one.sequence, str(one.object_id), one.metrics) for one in objects]
    names = tuple(rows[0].scores)
    summary = {name: mean([row.scores[name] for row in rows]) for name in names}
    if as_json:
        listed = [{"clip": row.unit, "object": int(row.item), **row.scores} for row in rows]
        click.echo(json.dumps({"protocol": PROTOCOL, "mean": summary, "objects": listed}, indent=2))
        return
    table = TextTable([row.unit for row in rows], names)
    lines = [table.row(row.unit, row.item, row.scores) for row in rows]
    click.echo("\n".join([PROTOCOL, table.head("clip"), *lines, table.row("all", "", summary)]))
