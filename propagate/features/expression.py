"""Models written as one expression: `sd21[t=101]:2+dinov2-b[layer=9]`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from propagate.errors import InputError

_PART = re.compile(r"(?P<model>[^\[\]]+?)(?:\[(?P<options>[^\[\]]*)\])?(?::(?P<weight>[\d.eE-]+))?")
_INTEGERS = ("t", "up_ft_index", "ensemble_size", "short_side", "seed")
_NUMBERS = ("prune",)
_TEXTS = ("layer", "facet", "prompt", "latent", "resizing")
_KNOWN = (*_INTEGERS, *_NUMBERS, *_TEXTS)


@dataclass(frozen=True)
class Part:
    """One model of an expression.

    Args:
        model: its name, folder or repository.
        weight: its share in the fused cosine, before normalisation.
        options: its own options, by name.
    """

    model: str
    weight: float = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)


def parse(expression: str) -> list[Part]:
    """The models that are fused, joined by "+" outside brackets.

    Raises:
        InputError: a part is malformed, names an unknown option, or has a weight that is not
            greater than 0.
    """
    # A folder may have any of these characters in its name.
    if Path(expression).expanduser().exists():
        return [Part(expression)]
    return [_part(text.strip(), expression) for text in re.split(r"\+(?![^\[]*\])", expression)]


def _part(text: str, expression: str) -> Part:
    match = _PART.fullmatch(text)
    if match is None:
        raise InputError(
            f"{text!r} in model {expression!r} can't be read; write models as `name`, "
            "`name:weight` or `name[option=value,...]:weight`, joined by +."
        )
    weight = _weight(match["weight"], text)
    options = dict(_option(item, text) for item in (match["options"] or "").split(",") if item)
    return Part(match["model"], weight, options)


def _weight(text: str | None, part: str) -> float:
    try:
        weight = 1.0 if text is None else float(text)
    except ValueError:
        weight = 0.0
    if not 0 < weight < float("inf"):
        raise InputError(f"{part!r} has weight {text}; it must be a number greater than 0.")
    return weight


def _option(item: str, part: str) -> tuple[str, Any]:
    name, equals, value = (piece.strip() for piece in item.partition("="))
    name = name.replace("-", "_")
    if not equals or name not in _KNOWN:
        raise InputError(
            f"{item!r} in {part!r} is no option of a model; use "
            f"{', '.join(_KNOWN)}, each as name=value."
        )
    return name, option_value(name, value)


def option_value(name: str, text: str) -> Any:
    """The value of a model option from its text.

    Raises:
        InputError: it must be a number and is not.
    """
    if name in _TEXTS:
        return text
    kind, words = (float, "a number") if name in _NUMBERS else (int, "a whole number")
    try:
        return kind(text)
    except ValueError:
        raise InputError(f"{name} is {text!r}; it must be {words}.") from None
