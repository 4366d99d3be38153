"""How many inputs go through a network at once: within a memory budget, less when that fails."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import torch

from propagate.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
Notify = Callable[[str], None]

_log = logging.getLogger("propagate")

# A share of what the device has in all, not of what is free, so that a run and its continuation
# use the same batches. A CPU gains nothing from more than one input at a time.
_GPU_SHARE = 0.4
_MOST = 64


def notify_by_log(message: str) -> None:
    """Hand a note for the user to the log, at level WARNING."""
    _log.warning(message)


class Batches:
    """Runs a function over a batch in chunks that fit into memory.

    When a chunk does not fit, the chunks are halved for good, which is said once.

    Args:
        device: where the function computes.
        item_bytes: what one input takes while it is computed.
        size: the most inputs at once; None follows from the budget.
        budget: gigabytes that may be taken; None is a share of a GPU's memory.
        what: what the inputs are, for the note.
        notify: receives the note.
    """

    def __init__(
        self,
        device: torch.device,
        item_bytes: int,
        *,
        size: int | None = None,
        budget: float | None = None,
        what: str = "inputs",
        notify: Notify = notify_by_log,
    ) -> None:
        self._what = what
        self._notify = notify
        self._said = False
        self.size = size or _fitting(device, item_bytes, budget)

    def run(self, function: Callable[[Tensor], T], items: Tensor) -> list[T]:
        """Results of `function` for consecutive chunks of `items` along the first axis.

        Raises:
            ModelError: not even one input fits.
        """
        results: list[T] = []
        done = 0
        while done < len(items):
            try:
                results.append(function(items[done : done + self.size]))
            except (MemoryError, RuntimeError) as error:
                if not _out_of_memory(error):
                    raise
            else:
                done += self.size
                continue
            self._halve()  # outside of the handler, which keeps the failed pass's tensors
        return results

    def _halve(self) -> None:
        if self.size == 1:
            raise ModelError(
                f"There is not enough memory for one of the {self._what} at a time; choose a "
                "smaller --short-side, a lower precision with --dtype, or another --device."
            )
        self.size //= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if not self._said:
            self._said = True
            self._notify(
                f"Out of memory: {self._what} now go through the network {self.size} at a time; "
                f"--batch-size {self.size} does so from the start."
            )


def concatenated(maps: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Chunks of several maps, joined along the batch: one tensor per map."""
    return [torch.cat(parts) if len(parts) > 1 else parts[0] for parts in zip(*maps, strict=True)]


def _fitting(device: torch.device, item_bytes: int, budget: float | None) -> int:
    if budget is not None:
        available = budget * 1e9
    elif device.type == "cuda":
        available = torch.cuda.get_device_properties(device).total_memory * _GPU_SHARE
    else:
        return 1
    return max(min(int(available / max(item_bytes, 1)), _MOST), 1)


def _out_of_memory(error: BaseException) -> bool:
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error)
    return "can't allocate memory" in text or "out of memory" in text
