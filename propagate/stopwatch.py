"""Seconds by stage, for the record of a run.

Stages that go on side by side add up to more than what has passed.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import TypeVar

T = TypeVar("T")


class Stopwatch:
    """Adds up wall-clock seconds under names; threads may share it."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._seconds: dict[str, float] = {}
        self._lock = Lock()

    @property
    def elapsed(self) -> float:
        """Seconds since this was made."""
        return time.perf_counter() - self._start

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds so far by stage, rounded to milliseconds."""
        return {name: round(value, 3) for name, value in self._seconds.items()}

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add the time spent in the `with` block to `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                spent = time.perf_counter() - start
                self._seconds[name] = self._seconds.get(name, 0.0) + spent

    def iterate(self, name: str, items: Iterable[T]) -> Iterator[T]:
        """Pass `items` on, adding the time spent waiting for each to `name`."""
        iterator = iter(items)
        while True:
            with self.measure(name):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item
