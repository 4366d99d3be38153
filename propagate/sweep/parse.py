"""Knobs from the text of a command line: `t=0:201:50`, `layer=up_blocks.1,up_blocks.2`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from decimal import Decimal, InvalidOperation
from math import ceil
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from propagate.errors import InputError
from propagate.sweep.knobs import KNOBS, Knob

# Names of the command line that are not those of the settings.
_ALIASES = {"size_mask_neighborhood": "radius"}
_RANGE = re.compile(r"(-?[\d.]+):(-?[\d.]+)(?::([\d.]+))?", re.ASCII)
_MOST_VALUES = 1000
_NUMBERS: dict[Any, tuple[str, str]] = {
    int: (r"-?\d+", "a whole number, or a range start:stop:step"),
    float: (r"-?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", "a number, or a range start:stop:step"),
}


def parse_knobs(texts: Sequence[str]) -> tuple[Knob, ...]:
    """Read `NAME=V1,V2,...`, once per knob.

    Args:
        texts: values are split at commas outside of brackets and double quotes. A number may be a
            range start:stop:step, without stop, as in Python. "none" is the model's own default
            where there is one.

    Raises:
        InputError: a text of another form, an unknown name, a value of the wrong type, or a knob
            given twice.
    """
    knobs = tuple(map(_parse, texts))
    names = [knob.name for knob in knobs]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"Knob {name} is given twice; write all its values into one --over.")
    return knobs


def _parse(text: str) -> Knob:
    name, equals, rest = text.partition("=")
    name = name.strip().replace("-", "_")
    name = _ALIASES.get(name, name)
    if not equals:
        raise InputError(f"--over {text} can't be read; write --over NAME=V1,V2,...")
    if name not in KNOBS:
        return Knob(name, ())  # which says what there is
    values = (value for item in _split(rest) for value in _values(name, item))
    return Knob(name, tuple(values))


def _split(text: str) -> Iterator[str]:
    """Pieces between the commas that are outside of brackets and double quotes."""
    piece, depth, quoted = "", 0, False
    for character in text:
        quoted ^= character == '"'
        depth += 0 if quoted else (character == "[") - (character == "]")
        if character == "," and depth <= 0 and not quoted:
            yield piece.strip()
            piece = ""
        else:
            piece += character
    yield piece.strip()


def _values(name: str, text: str) -> list[Any]:
    inner = [item for item in get_args(KNOBS[name]) if item is not NoneType]
    optional = NoneType in get_args(KNOBS[name])
    kind = inner[0] if optional else KNOBS[name]
    match = _RANGE.fullmatch(text)
    if match is not None and kind in (int, float):
        return [_value(name, kind, number) for number in _range(name, *match.groups())]
    if match is not None and name == "layer":  # blocks of a network are numbered
        return [str(_value(name, int, number)) for number in _range(name, *match.groups())]
    if optional and text == "none" and name != "prompt":
        return [None]
    return [_value(name, kind, text)]


def _range(name: str, start: str, stop: str, step: str | None) -> list[str]:
    """The numbers as text, added up in decimal, where 0.1 is exact."""
    shown = ":".join(part for part in (start, stop, step) if part is not None)
    try:
        first, end, by = Decimal(start), Decimal(stop), Decimal(step or 1)
    except InvalidOperation:
        raise InputError(f"{name} is {shown!r}; a range is written start:stop:step.") from None
    count = ceil((end - first) / by) if by > 0 else 0
    if not 0 < count <= _MOST_VALUES:
        raise InputError(
            f"{name} is {shown!r}; a range start:stop:step needs a step greater than 0 and a stop "
            f"greater than start (stop itself is not taken), with {_MOST_VALUES} values at most."
        )
    return [str(first + index * by) for index in range(count)]


def _value(name: str, kind: Any, text: str) -> Any:
    if get_origin(kind) is Literal:
        allowed = ", ".join(get_args(kind))
        return _checked(name, text, text in get_args(kind), f"one of {allowed}")
    if kind is bool:
        return _checked(name, text, text in ("true", "false"), "true or false") == "true"
    if kind is str:
        bare = text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text
        return _checked(name, bare, bare or name == "prompt", "a text that is not empty")
    if get_origin(kind) is tuple:
        match = re.fullmatch(r"(\d+)x(\d+)", text, re.ASCII)
        _checked(name, text, match, "WIDTHxHEIGHT in pixels")
        width, height = text.split("x")
        return int(height), int(width)
    pattern, what = _NUMBERS[kind]
    return kind(_checked(name, text, re.fullmatch(pattern, text, re.ASCII), what))


def _checked(name: str, text: str, fits: object, allowed: str) -> str:
    if not fits:
        raise InputError(f"{name} is {text!r}; it must be {allowed}.")
    return text
