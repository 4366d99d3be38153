"""How long work tells how far it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")
Progress = Callable[[str, int | None, Iterable[T]], Iterable[T]]
"""Wraps what a long stage goes through: (title, expected number, items) -> items."""


def no_progress(title: str, total: int | None, items: Iterable[T]) -> Iterable[T]:
    """Show nothing."""
    del title, total
    return items
