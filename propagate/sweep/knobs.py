"""Knobs: what a sweep varies, and how their values change settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, get_type_hints

from propagate.config import (
    RIVAL_OPTIONS,
    ModelOptions,
    Preset,
    PropagationSettings,
    VideoSettings,
)
from propagate.errors import InputError

# They change how fast the numbers come, not the numbers.
_NOT_SWEPT = ("device", "compile", "batch_size", "memory", "offline")
_UNITS = {
    "t": "diffusion step",
    "ensemble_size": "noise draws",
    "short_side": "pixels",
    "input_size": "pixels",
    "pca": "components",
    "n_last_frames": "frames",
    "radius": "cells",
    "topk": "neighbours",
    "patch": "labels",
}


def _knobs(owner: type) -> dict[str, Any]:
    return {name: hint for name, hint in get_type_hints(owner).items() if name not in _NOT_SWEPT}


_OF_MODEL = {"model": str, **_knobs(ModelOptions)}
_OF_PROPAGATION = _knobs(PropagationSettings)
# Those of propagation have names of their own; those of keypoints have no data set to score yet.
_OF_VIDEO = {
    name: hint
    for name, hint in _knobs(VideoSettings).items()
    if name not in ("propagation", "keypoints")
}
KNOBS = {**_OF_MODEL, **_OF_PROPAGATION, **_OF_VIDEO}
"""Everything that can be swept: name -> type."""


@dataclass(frozen=True)
class Knob:
    """One setting that is varied.

    Args:
        name: a field of `ModelOptions`, `PropagationSettings` or `VideoSettings` that decides
            numbers, or "model".
        values: what it is set to, in the order of the table and of the picture's axis; None is
            the model's own default.

    Raises:
        InputError: no such knob, no values, or one twice.
    """

    name: str
    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if self.name not in KNOBS:
            raise InputError(
                f"There is no knob {self.name!r} to sweep; choose from {', '.join(KNOBS)}."
            )
        if not self.values:
            raise InputError(f"Knob {self.name} has no values; write --over {self.name}=V1,V2,...")
        for label in self.labels:
            if self.labels.count(label) > 1:
                raise InputError(f"Knob {self.name} has the value {label} twice; leave one out.")

    @property
    def of_model(self) -> bool:
        """Whether features depend on it, so that each value needs a model of its own."""
        return self.name in _OF_MODEL

    @property
    def labels(self) -> tuple[str, ...]:
        """The values as text that differs wherever they differ."""
        return tuple(map(_label, self.values))

    @property
    def unit(self) -> str:
        """Of the values, for an axis; empty for a plain number or a name."""
        return _UNITS.get(self.name, "")


@dataclass(frozen=True)
class Combination:
    """One value of every knob.

    Args:
        labels: knob -> value as text, in the order of the knobs.
        values: knob -> value.
        settings: everything, with these values put in.
    """

    labels: Mapping[str, str]
    values: Mapping[str, Any]
    settings: Preset

    @property
    def key(self) -> frozenset[tuple[str, str]]:
        """Tells it from the other combinations of a sweep, whatever the order of its knobs."""
        return frozenset(self.labels.items())

    def describe(self, names: Sequence[str] | None = None) -> str:
        """`t=51, layer=4`: all knobs, or those named."""
        return ", ".join(f"{name}={self.labels[name]}" for name in names or self.labels)


def combinations(fixed: Preset, knobs: Sequence[Knob]) -> list[Combination]:
    """All combinations of values, the last knob's changing fastest.

    Raises:
        InputError: a value is out of range, or two knobs replace each other.
    """
    names = [knob.name for knob in knobs]
    for rivals in RIVAL_OPTIONS:
        if set(rivals) <= set(names):
            raise InputError(f"{' and '.join(rivals)} replace each other; sweep one of them.")
    found = []
    for chosen in product(*(zip(knob.labels, knob.values, strict=True) for knob in knobs)):
        labels = dict(zip(names, (label for label, _ in chosen), strict=True))
        values = dict(zip(names, (value for _, value in chosen), strict=True))
        found.append(Combination(labels, values, _apply(fixed, values)))
    return found


def decided_by(knobs: Sequence[Knob]) -> set[str]:
    """Names of the settings that some knobs decide: their own, and those that they replace."""
    names = {knob.name for knob in knobs}
    return names.union(*(rivals for rivals in RIVAL_OPTIONS if names & set(rivals)))


def _apply(fixed: Preset, values: Mapping[str, Any]) -> Preset:
    options, propagation, video = (
        {name: value for name, value in values.items() if name in known and name != "model"}
        for known in (_OF_MODEL, _OF_PROPAGATION, _OF_VIDEO)
    )
    for rivals in RIVAL_OPTIONS:
        if options.keys() & set(rivals):
            options = {**dict.fromkeys(rivals), **options}
    knobs = replace(fixed.video.propagation, **propagation)
    return replace(
        fixed,
        model=values.get("model", fixed.model),
        options=replace(fixed.options, **options),
        video=replace(fixed.video, propagation=knobs, **video),
    )


def _label(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "x".join(map(str, reversed(value)))  # (height, width), width first
    if isinstance(value, str):
        return value or '""'
    return repr(value)
