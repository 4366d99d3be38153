"""Which frames deserve a look, and why: rules on what was measured of each object, nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Literal

from propagate.errors import InputError
from propagate.output.review.looks import Look

FlagKind = Literal["confidence", "lost", "vanished", "area", "jump", "pieces"]

_PAST = 5  # frames that a frame is compared with
_BRIDGED = 2  # frames without a flag that don't end an interval
_SHARED = 0.3  # how much the other objects count in how bad a frame is
_EQUAL = 0.02  # a difference between severities that says nothing


@dataclass(frozen=True, kw_only=True)
class FlagRules:
    """From where on something is odd.

    On the true masks of 16 DAVIS train sequences (988 frames) areas flag 1.9 % of the frames, jumps
    0.3 %, and pieces, a weak sign, 1.6 %.

    Args:
        confidence: below it, 0 to 1.
        fall: share of its area that an object has lost against its recent frames.
        growth: its area as a multiple of that.
        jump: how far its centre is from where its motion led, in units of the root of its area.
        point_jump: the same of a keypoint, in diagonals of the picture.

    Raises:
        InputError: `confidence` is out of range.
    """

    confidence: float = 0.5
    fall: float = 0.45
    growth: float = 1.75
    jump: float = 0.4
    point_jump: float = 0.08

    def __post_init__(self) -> None:
        if not 0 <= self.confidence <= 1:
            raise InputError(f"confidence is {self.confidence}; it must be from 0 to 1.")


@dataclass(frozen=True)
class Flag:
    """Something odd about one object in one frame.

    Args:
        position: of the frame among the labelled ones.
        track: position of the object among all.
        kind: which rule found it.
        severity: 0 to 1.
        reason: in words, without the object.
    """

    position: int
    track: int
    kind: FlagKind
    severity: float
    reason: str


@dataclass(frozen=True)
class Interval:
    """Flagged frames in a row.

    Args:
        first: position of the first frame.
        last: of the last.
        worst: of the one to look at.
        severity: of that one.
        flags: one of each kind and object: those of the worst frame first, then the worst others.
    """

    first: int
    last: int
    worst: int
    severity: float
    flags: tuple[Flag, ...]


def find_flags(
    tracks: Sequence[Sequence[Look]], rules: FlagRules, *, diagonal: float | None = None
) -> list[Flag]:
    """All flags of a clip, frame by frame.

    Args:
        tracks: the looks of each object, one per labelled frame.
        rules: from where on something is odd.
        diagonal: of the picture in pixels where the objects are keypoints, else None.
    """
    flags = [
        flag
        for track, looks in enumerate(tracks)
        if any(look.condition in ("given", "visible") for look in looks)
        for position in range(len(looks))
        for flag in _flags_of(looks, position, track, rules, diagonal)
    ]
    return sorted(flags, key=lambda flag: (flag.position, -flag.severity))


def find_intervals(flags: Sequence[Flag], *, tracks: int) -> list[Interval]:
    """Flagged frames grouped into rows of frames, the worst first.

    Args:
        flags: of the clip.
        tracks: how many objects it has.
    """
    intervals = []
    ordered = sorted(flags, key=lambda flag: flag.position)
    positions = sorted({flag.position for flag in ordered})
    ends = [a for a, b in pairwise(positions) if b - a > _BRIDGED + 1] + positions[-1:]
    start = 0
    for end in ends:
        inside = [flag for flag in ordered[start:] if flag.position <= end]
        start += len(inside)
        intervals.append(_interval(inside, tracks))
    return sorted(intervals, key=lambda interval: (-interval.severity, interval.first))


def rank_frames(flags: Sequence[Flag], *, tracks: int) -> list[int]:
    """Positions of all flagged frames, most urgent first: each interval's worst, then the rest."""
    badness = frame_severities(flags, tracks=tracks)
    worst = [interval.worst for interval in find_intervals(flags, tracks=tracks)]
    rest = sorted(set(badness) - set(worst), key=lambda position: (-badness[position], position))
    return worst + rest


def frame_severities(flags: Sequence[Flag], *, tracks: int) -> dict[int, float]:
    """How bad each flagged frame is, by position: its worst object, and the mean of all objects."""
    by_track: dict[int, dict[int, float]] = {}
    for flag in flags:
        worst = by_track.setdefault(flag.position, {})
        worst[flag.track] = max(worst.get(flag.track, 0.0), flag.severity)
    return {
        position: (1 - _SHARED) * max(worst.values()) + _SHARED * sum(worst.values()) / tracks
        for position, worst in by_track.items()
    }


def choose_frames(count: int, ranked: Sequence[int], most: int) -> list[int]:
    """Positions of the frames to show where there is not room for all.

    Args:
        count: how many frames there are.
        ranked: those to take first, most urgent first.
        most: room for this many; 1 or more.

    Returns:
        At most `most` positions in order: ranked ones first, others evenly spread.
    """
    taken = list(dict.fromkeys(ranked))[:most]
    others = sorted(set(range(count)) - set(taken))
    room = min(most - len(taken), len(others))
    if room == 1:
        taken.append(others[0])
    elif room > 1:
        step = (len(others) - 1) / (room - 1)
        taken += [others[round(number * step)] for number in range(room)]
    return sorted(taken)


def _interval(flags: Sequence[Flag], tracks: int) -> Interval:
    badness = frame_severities(flags, tracks=tracks)
    # The first of equally bad ones: what comes after may follow from it.
    limit = max(badness.values()) - _EQUAL
    worst = min(position for position, severity in badness.items() if severity >= limit)
    by_reason: dict[tuple[int, FlagKind], Flag] = {}
    # Those of the worst frame first, so that the words are true where one looks.
    for flag in sorted(flags, key=lambda flag: (flag.position != worst, -flag.severity)):
        by_reason.setdefault((flag.track, flag.kind), flag)
    return Interval(
        first=flags[0].position,
        last=flags[-1].position,
        worst=worst,
        severity=badness[worst],
        flags=tuple(by_reason.values()),
    )


def _flags_of(
    looks: Sequence[Look], position: int, track: int, rules: FlagRules, diagonal: float | None
) -> Iterator[Flag]:
    look = looks[position]
    if look.condition == "given":
        return
    past = [other for other in looks[max(position - _PAST, 0) : position] if other.placed]
    found: list[tuple[FlagKind, float, str]] = []
    if look.condition == "lost":
        found.append(("lost", 0.95, "lost"))
    elif look.confidence is not None and look.confidence < rules.confidence:
        hidden = ("occluded" if diagonal is None else "hidden") * (look.condition == "occluded")
        found.append(_low(look.confidence, hidden))
    if look.condition == "absent" and position and looks[position - 1].placed:
        found.append(("vanished", 0.9, "vanished"))
    if look.placed and past:
        if diagonal is None:
            found += _changes(look, past, rules)
        else:
            found += _leap(look, past, diagonal, rules.point_jump, "of the picture's diagonal")
    yield from (Flag(position, track, *flag) for flag in found)


def _low(confidence: float, hidden: str) -> tuple[FlagKind, float, str]:
    # To be unsure of what is hidden is as it should be.
    severity = (1 - confidence) * (0.6 if hidden else 1)
    return (
        "confidence",
        severity,
        f"confidence {confidence:.2f}" + (f", {hidden}" if hidden else ""),
    )


def _changes(
    look: Look, past: Sequence[Look], rules: FlagRules
) -> Iterator[tuple[FlagKind, float, str]]:
    """What an object's mask alone gives away, against its latest frames."""
    usual = median(other.area for other in past)
    ratio = look.area / usual
    if ratio <= 1 - rules.fall:
        yield "area", 1 - ratio, f"area fell by {1 - ratio:.0%}"
    elif ratio >= rules.growth:
        yield "area", 1 - 1 / ratio, f"area grew to {ratio:.1f} times"
    yield from _leap(look, past, math.sqrt(usual), rules.jump, "of its size")
    if look.pieces > max(other.pieces for other in past):
        yield "pieces", 0.25, f"broke into {look.pieces} pieces"


def _leap(
    look: Look, past: Sequence[Look], unit: float, limit: float, of_what: str
) -> Iterator[tuple[FlagKind, float, str]]:
    """A jump away from where the motion so far led, which two frames have to tell."""
    steps = list(pairwise(past))
    if not steps:
        return
    x = past[-1].x + median(b.x - a.x for a, b in steps)
    y = past[-1].y + median(b.y - a.y for a, b in steps)
    jump = math.hypot(look.x - x, look.y - y) / unit
    if jump > limit:
        yield "jump", min(1.0, jump / (jump + 2 * limit)), f"jumped by {jump:.0%} {of_what}"
