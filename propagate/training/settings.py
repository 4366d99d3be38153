"""How an aggregation is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from propagate.errors import InputError
from propagate.features.hyper.loss import CellRule


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """The published settings, for a pair a step.

    Args:
        steps: of the optimiser, a pair each and process.
        lr: learning rate of AdamW; there is no weight decay.
        width: channels of the aggregated map.
        groups: of the group norms.
        cells: "exact" trains on the cell that a point lies in, "published" on the rounded one.
        seed: of the first weights and of the pairs.
        save_every: steps between checkpoints, each with a validation.

    Raises:
        InputError: a value is out of range.
    """

    steps: int = 5000
    lr: float = 1e-3
    width: int = 384
    groups: int = 32
    cells: CellRule = "exact"
    seed: int = 0
    save_every: int = 500

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("width", 1), ("groups", 1), ("save_every", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}; it must be {least} or more.")
        if self.seed < 0:
            raise InputError(f"seed is {self.seed}; it must be 0 or more.")
        if not self.lr > 0:
            raise InputError(f"lr is {self.lr}; it must be greater than 0.")
        if self.cells not in get_args(CellRule):
            allowed = ", ".join(get_args(CellRule))
            raise InputError(f"cells is {self.cells!r}; it must be one of {allowed}.")
