"""`propagate eval`: score the program, or anybody's results, on data sets."""

from __future__ import annotations

import click

from propagate.commands.lazy import LazyGroup

_COMMANDS = {
    "davis2016": ("propagate.commands.eval_davis", "davis2016"),
    "davis2017": ("propagate.commands.eval_davis", "davis2017"),
    "jhmdb": ("propagate.commands.eval_points", "jhmdb"),
    "badja": ("propagate.commands.eval_points", "badja"),
    "tapvid": ("propagate.commands.eval_points", "tapvid"),
    "vip": ("propagate.commands.eval_vip", "vip"),
    "spair": ("propagate.commands.eval_pairs", "spair"),
    "pf-pascal": ("propagate.commands.eval_pairs", "pf_pascal"),
    "pf-willow": ("propagate.commands.eval_pairs", "pf_willow"),
    "cub": ("propagate.commands.eval_pairs", "cub"),
    "hpatches": ("propagate.commands.eval_pairs", "hpatches"),
    "metrics": ("propagate.commands.eval_metrics", "metrics"),
}


@click.group(name="eval", cls=LazyGroup, table=_COMMANDS)
def evaluate() -> None:
    """Score the program, or anybody's results, on a data set in its own layout.

    Predictions are kept in the output folder: what is there is not predicted again, and an
    interrupted evaluation goes on where it was. Protocol and settings stand with the scores.
    """
