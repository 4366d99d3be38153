"""Rates and times of pictures: which are plausible, and what is missing from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from statistics import median

DEFAULT_FPS = 24.0
"""Frames per second of a clip that does not know its own."""


def plausible_rate(rate: float | Fraction | None) -> float:
    """`rate` if it lies in (0, 1000], else 24."""
    value = float(rate) if rate is not None else math.nan
    return value if 0 < value <= 1000 else DEFAULT_FPS


def gaps(starts: Sequence[float], ends: Sequence[float]) -> list[str]:
    """Holes of 3 pictures or more in an otherwise regular clip, one sentence each.

    A picture that lasts long by its container leaves no hole, and a clip of variable rate has none
    that could be told from its rhythm.

    Args:
        starts: when each picture is shown, in seconds, in order.
        ends: when it is shown no more; not after its start where the container does not say.
    """
    steps = [later - earlier for earlier, later in pairwise(starts)]
    if len(steps) < 2 or (usual := median(steps)) <= 0:
        return []
    if sum(0.5 * usual <= step <= 1.5 * usual for step in steps) < 0.9 * len(steps):
        return []
    shown_until = [max(end, start + usual) for start, end in zip(starts, ends, strict=True)]
    return [
        f"No picture between {end:.3f} s and {start:.3f} s: "
        f"about {round((start - end) / usual)} are missing."
        for end, start in zip(shown_until, starts[1:], strict=False)
        if start - end > 2.5 * usual
    ]


def missing_end(starts: Sequence[float], ends: Sequence[float], declared_end: float) -> list[str]:
    """A sentence if the pictures end 3 or more before the container says, else none."""
    if len(starts) < 2:
        return []
    usual = (starts[-1] - starts[0]) / (len(starts) - 1)
    end = max(*ends, starts[-1] + usual)
    if usual <= 0 or declared_end - end < 2.5 * usual:
        return []
    return [
        f"The container announces pictures up to {declared_end:.3f} s, but they end at "
        f"{end:.3f} s: about {round((declared_end - end) / usual)} are missing."
    ]
