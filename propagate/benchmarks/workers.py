"""Units of an evaluation one after another, or several at once in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

import torch

from propagate.allocator import keep_freed_memory
from propagate.benchmarks.base import Benchmark, E, UnitScore
from propagate.benchmarks.units import do_unit
from propagate.config import Preset
from propagate.errors import OutputError

_LOOK_EVERY = 0.5  # seconds


@dataclass(frozen=True)
class Work(Generic[E]):
    """What all units have in common; can be pickled.

    Args:
        benchmark: the data set.
        settings: model and settings.
        folder: gets a folder of predictions per unit.
        missing: units that have no predictions yet.
    """

    benchmark: Benchmark[E]
    settings: Preset
    folder: Path
    missing: frozenset[str]


def do_units(work: Work[E], engine: E | None, *, jobs: int) -> Iterator[UnitScore | None]:
    """Predict what is missing and score all, in the order of the units.

    Args:
        work: what to do.
        engine: what predicts; not read where nothing is missing, or `jobs` is more than 1.
        jobs: how many units at once, 1 or more. With more than 1 each process loads the model
            itself, takes its share of the CPU's threads, and its own GPU where there are several.

    Raises:
        PropagateError: the first unit that fails; units at work then are given up.
    """
    if jobs > 1:
        yield from _in_processes(work, jobs)
        return
    for unit in work.benchmark.units:
        predicts = engine if unit in work.missing else None
        yield do_unit(work.benchmark, unit, work.settings, predicts, work.folder / unit)


def _in_processes(work: Work[E], jobs: int) -> Iterator[UnitScore | None]:
    # A forked process can't use CUDA.
    context = multiprocessing.get_context("spawn")
    stop, number = context.Event(), context.Value("i", 0)
    executor = ProcessPoolExecutor(
        jobs, context, initializer=_begin, initargs=(work, jobs, stop, number)
    )
    with ExitStack() as stack:
        stack.callback(executor.shutdown, cancel_futures=True)
        try:
            with _interrupt_held_back():
                scores = executor.map(_do, work.benchmark.units)
            yield from scores
        except BrokenProcessPool as error:
            raise OutputError(
                "A process ended in the middle of its work, probably for want of memory; take "
                f"fewer --jobs than {jobs}. What is predicted is kept."
            ) from error
        except BaseException:
            stop.set()
            raise


@contextmanager
def _interrupt_held_back() -> Iterator[None]:
    """Ctrl-C waits until the end of this, and in processes that start meanwhile for `_begin`.

    A process that still imports its modules would print where that was.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Worker(Generic[E]):
    """The one of this process; its model is loaded when it is needed."""

    current: _Worker[Any]

    def __init__(self, work: Work[E]) -> None:
        self._work = work
        self._engine: E | None = None

    def do(self, unit: str) -> UnitScore | None:
        """Predict and score a unit."""
        work, needed = self._work, unit in self._work.missing
        if needed and self._engine is None:
            self._engine = work.benchmark.load(work.settings)
        engine = self._engine if needed else None
        return do_unit(work.benchmark, unit, work.settings, engine, work.folder / unit)


def _begin(work: Work[E], jobs: int, stop: Any, number: Any) -> None:
    keep_freed_memory()
    # Ctrl-C reaches all processes of a terminal; the first one tells the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with_parent, args=(stop,), daemon=True).start()
    with number.get_lock():
        mine = number.value
        number.value += 1
    _take_gpu(mine)
    torch.set_num_threads(max((os.cpu_count() or 1) // jobs, 1))
    _Worker.current = _Worker(work)


def _do(unit: str) -> UnitScore | None:
    return _Worker.current.do(unit)


def _take_gpu(number: int) -> None:
    """Show one of several GPUs to this process; before CUDA is first used."""
    count = torch.cuda.device_count()
    if count > 1:
        shown = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = shown.split(",") if shown else [str(i) for i in range(count)]
        os.environ["CUDA_VISIBLE_DEVICES"] = names[number % len(names)]


def _end_with_parent(stop: Any) -> None:
    """End this process in the middle of its work, when the parent says so or is gone."""
    parent = multiprocessing.parent_process()
    while not stop.wait(_LOOK_EVERY):
        if parent is not None and not parent.is_alive():
            break
    os._exit(1)
