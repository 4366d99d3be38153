"""What commands share that is about no clip and no model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, TypeVar

import click

from propagate.errors import InputError

Command = TypeVar("Command", bound=Callable[..., Any])
T = TypeVar("T")
EXIT_SOME_FAILED = 3


def with_options(command: Command, options: Sequence[Callable[[Command], Command]]) -> Command:
    """Add options to a command, which shows them in this order."""
    for option in reversed(options):
        command = option(command)
    return command


def given_values(values: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """Take options out of `values`: those that were given, by the names of their fields."""
    taken = {field: values.pop(option, None) for option, field in names.items()}
    return {field: value for field, value in taken.items() if value is not None}


def parse_size(text: str, option: str) -> tuple[int, int]:
    """Height and width from "WIDTHxHEIGHT".

    Raises:
        InputError: it is none; `option` is named.
    """
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text, re.ASCII)
    if match is None:
        raise InputError(
            f"{option} is {text!r}; write width and height in pixels, for example 854x480."
        )
    return int(match[2]), int(match[1])


def output_mode(*, overwrite: bool, resume: bool) -> Literal["new", "overwrite", "resume"]:
    """What to do with an output folder that is there.

    Raises:
        UsageError: both are given.
    """
    if overwrite and resume:
        raise click.UsageError("--overwrite and --resume exclude each other; give one.")
    return "overwrite" if overwrite else "resume" if resume else "new"


def quiet_decoders() -> None:
    """Keep FFmpeg from writing to stderr; what could not be decoded is reported by the readers."""
    import av.logging

    av.logging.set_level(av.logging.PANIC)
    try:
        import decord
    except (ImportError, OSError):
        return
    decord.logging.set_level(decord.logging.QUIET)


def progress_bar(
    title: str, total: int | None, items: Iterable[T], *, unit: str = "frame"
) -> Iterable[T]:
    """A bar with rate and time left on stderr; nothing when stderr is not a terminal."""
    from tqdm import tqdm

    bar: Iterable[T] = tqdm(items, desc=title, total=total, unit=unit, disable=None)
    return bar
