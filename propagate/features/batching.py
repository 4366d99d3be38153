"""How many inputs go through a network at once: within a memory budget, less when that fails."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

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
# Outputs as large as the largest that are alive at once: inputs, results, skip connections.
_LAYERS_ALIVE = 6


def notify_by_log(message: str) -> None:
    """Hand a note for the user to the log, at level WARNING."""
    _log.warning(message)


class Batches:
    """Runs a function over a batch in chunks that fit into memory.

    When a chunk does not fit, the chunks are halved for good, which is said once.

    Args:
        device: where the function computes.
        growth: bytes that one number of an input makes the computation take.
        size: the most inputs at once; None follows from the budget.
        budget: gigabytes that may be taken; None is a share of a GPU's memory.
        what: what the inputs are, for the note.
        shrink: the option that makes one of them smaller, for the error.
        notify: receives the note.
    """

    def __init__(
        self,
        device: torch.device,
        growth: float,
        *,
        size: int | None = None,
        budget: float | None = None,
        what: str = "inputs",
        shrink: str = "--short-side",
        notify: Notify = notify_by_log,
    ) -> None:
        self._device = device
        self._growth = growth
        self._budget = budget
        self._what = what
        self._shrink = shrink
        self._notify = notify
        self._said = False
        self._most = size

    def size(self, numbers: int) -> int:
        """How many inputs of so many numbers each go through at once."""
        if self._most is not None:
            return self._most
        if self._budget is not None:
            available = self._budget * 1e9
        elif self._device.type == "cuda":
            available = torch.cuda.get_device_properties(self._device).total_memory * _GPU_SHARE
        else:
            return 1
        return max(min(int(available / (self._growth * numbers)), _MOST), 1)

    def run(self, function: Callable[[Tensor], T], items: Tensor) -> Iterator[T]:
        """Results of `function` for consecutive chunks of `items` along the first axis.

        Raises:
            ModelError: not even one input fits.
        """
        done = 0
        while done < len(items):
            size = self.size(items[0].numel())
            chunk = items[done : done + size]
            result = _attempt(function, chunk)
            if result is None:
                self._halve(len(chunk))
                continue
            done += len(chunk)
            yield result

    def _halve(self, size: int) -> None:
        if size == 1:
            raise ModelError(
                f"There is not enough memory for one of the {self._what} at a time; choose a "
                f"smaller {self._shrink}, a lower precision with --dtype, or another --device."
            )
        self._most = size // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if not self._said:
            self._said = True
            self._notify(
                f"Out of memory: {self._what} now go through the network {self._most} at a time; "
                f"--batch-size {self._most} does so from the start."
            )


@contextmanager
def fitting_weights(name: str, device: torch.device) -> Iterator[None]:
    """For moving a model to its device.

    Raises:
        ModelError: there is not enough memory for its weights.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        raise ModelError(
            f"The weights of {name} do not fit into the memory of {device}; choose a smaller "
            "model, --dtype bf16 or fp16, or another --device."
        ) from error


def activation_growth(network: nn.Module, run: Callable[[], object], numbers: int) -> float:
    """An estimate of the bytes of activations for each number of the input.

    A few times the largest output of a single layer, as seen in one pass over a small input.

    Args:
        network: what is called.
        run: calls it, on one input of `numbers` numbers.
        numbers: as said.
    """
    largest = 0

    def note(_module: nn.Module, _inputs: Any, output: Any) -> None:
        nonlocal largest
        if isinstance(output, torch.Tensor):
            largest = max(largest, output.nbytes)

    leaves = [module for module in network.modules() if not any(True for _ in module.children())]
    handles = [module.register_forward_hook(note) for module in leaves]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return max(_LAYERS_ALIVE * largest / numbers, 1)


def _attempt(function: Callable[[Tensor], T], chunk: Tensor) -> T | None:
    """The result, or None when memory ran out; the failed pass's tensors are gone by then."""
    try:
        return function(chunk)
    except (MemoryError, RuntimeError) as error:
        if _out_of_memory(error):
            return None
        raise


def _out_of_memory(error: BaseException) -> bool:
    known = isinstance(error, (MemoryError, torch.OutOfMemoryError))
    return known or any(words in str(error) for words in ("can't allocate memory", "out of memory"))
