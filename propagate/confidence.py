"""How far to trust each object's labels in a frame, and what state the object is in.

    measure_masks(field, references=[...]) -> {object id: ObjectConfidence(confidence, state)}

`field` are the frame's soft labels as they are decoded: after two passes, both in one, which is
uncertain where they disagree. `references` are those that the user gave for the nearest annotated
frames. Nothing else is looked at, so a run that goes on gives the same numbers as one without a
break.

The confidence is an estimate of J, the overlap with the truth: a logistic function of a few numbers
per object, fitted by `benchmarks/confidence.py` on DAVIS-2016 train with the embedded default. With
other features or another vote it still orders frames, but is no longer an estimate of J.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from propagate.errors import InputError
from propagate.types import LabelField, State

# An object with less than this share of the cells it has in the reference is hidden.
_HIDDEN = 0.01
# An estimate of J below this says that the pixels are probably wrong.
LOST = 0.5
# Voters of an object that is there are at least this much alike; more says nothing about J.
ALIKE = 0.6


# Of the logistic function.
_BIAS = -2.672
_CERTAINTY = 5.54
_UNLIKE = 49.31


@dataclass(frozen=True)
class ObjectConfidence:
    """What is known about an object in a frame.

    Args:
        confidence: estimate of J, 0 to 1; for an occluded object how surely it is not there.
        state: given, visible, occluded or lost.
    """

    confidence: float
    state: State

    def __post_init__(self) -> None:
        if not 0 <= self.confidence <= 1:
            raise InputError(f"A confidence is {self.confidence}; it must be from 0 to 1.")


class Signals(NamedTuple):
    """What the confidence of an object follows from.

    Attributes:
        certainty: mean score of the object where it has any, by its own weight; 1 where the votes
            all agree.
        similarity: mean likeness of the voters on the object, a cosine.
        peak: its highest score.
        size: cells in which it has the highest score.
    """

    certainty: float
    similarity: float
    peak: float
    size: int


def measure_masks(
    field: LabelField, *, references: Sequence[LabelField]
) -> dict[int, ObjectConfidence]:
    """Confidence and state of every object of a frame.

    Args:
        field: soft labels of the frame; with the likeness of their voters, or else they are taken
            for given, and certain.
        references: soft labels of the nearest annotated frames, which say how large objects are.

    Returns:
        By object id, background left out.
    """
    signals = mask_signals(field)
    largest: dict[int, int] = {}
    for reference in references:
        for label, size in _sizes(reference).items():
            largest[label] = max(size, largest.get(label, 0))
    given = field.similarity is None
    return {
        label: _judge(item, largest.get(label, 0), given=given) for label, item in signals.items()
    }


def mask_signals(field: LabelField) -> dict[int, Signals]:
    """The signals of every object in one field; a field without likeness has 1 everywhere."""
    scores = field.scores.float()
    total = scores.sum((1, 2)).clamp_min(1e-6)
    certainty = scores.square().sum((1, 2)) / total
    alike = total / total
    if field.similarity is not None:
        alike = (scores * field.similarity).sum((1, 2)) / total
    rows = zip(certainty.tolist(), alike.tolist(), scores.amax((1, 2)).tolist(), strict=True)
    sizes = _sizes(field)
    return {
        label: Signals(*row, sizes[label])
        for label, row in zip(field.ids, rows, strict=True)
        if label != 0
    }


def estimate(signals: Signals) -> float:
    """The estimate of J from an object's signals."""
    unlike = min(signals.similarity - ALIKE, 0)
    value = _BIAS + _CERTAINTY * signals.certainty + _UNLIKE * unlike
    return 1 / (1 + math.exp(-value))


def _judge(signals: Signals, reference_size: int, *, given: bool) -> ObjectConfidence:
    if given:
        return ObjectConfidence(1.0, "visible" if signals.peak > 0 else "occluded")
    if signals.size == 0 or signals.size < _HIDDEN * reference_size:
        return ObjectConfidence(min(max(1 - signals.peak, 0.0), 1.0), "occluded")
    confidence = estimate(signals)
    return ObjectConfidence(confidence, "lost" if confidence < LOST else "visible")


def _sizes(field: LabelField) -> dict[int, int]:
    """Cells in which each label has the highest score, if any label has one."""
    highest, best = field.scores.max(0)  # argmax takes ten times as long
    counts = best[highest > 0].bincount(minlength=len(field.ids))
    return dict(zip(field.ids, counts.tolist(), strict=True))
