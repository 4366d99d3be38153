"""Which frames are flagged, and why: rules on numbers alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from propagate.errors import InputError
from propagate.labels.clip_labels import FrameLabels
from propagate.output.review.flags import (
    Flag,
    FlagRules,
    choose_frames,
    find_flags,
    find_intervals,
    frame_severities,
    rank_frames,
)
from propagate.output.review.looks import Look, looks_of_masks, looks_of_points
from propagate.types import Keypoints, Masks, PointName


def still(count: int = 12, **fields: object) -> list[Look]:
    """An object that stays as it is."""
    known: dict[str, object] = {"area": 400, "x": 50.0, "y": 50.0, "pieces": 1} | fields
    return [Look("visible", **known) for _ in range(count)]  # type: ignore[arg-type]


def said(looks: Sequence[Look], **rules: float) -> list[tuple[int, str]]:
    return [(flag.position, flag.reason) for flag in find_flags([looks], FlagRules(**rules))]


def test_an_object_that_moves_grows_and_shrinks_steadily_is_not_flagged() -> None:
    looks = [
        Look("visible", area=round(400 * 1.08**i), x=9.0 * i, y=40.0, pieces=2) for i in range(20)
    ]
    assert said(looks) == []
    assert said(looks[::-1]) == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"area": 120}, "area fell by 70%"),
        ({"area": 1000}, "area grew to 2.5 times"),
        ({"x": 70.0}, "jumped by 100% of its size"),
        ({"pieces": 3}, "broke into 3 pieces"),
        ({"confidence": 0.31}, "confidence 0.31"),
    ],
)
def test_one_odd_frame_is_the_one_that_is_flagged(change: dict[str, float], reason: str) -> None:
    looks = still()
    looks[7] = still(1, **change)[0]
    flagged = said(looks)
    assert (7, reason) in flagged
    # The way back from a jump is one as well; nothing else is flagged.
    assert {position for position, _ in flagged} <= {7, 8}


def test_a_given_frame_is_never_flagged() -> None:
    looks = still()
    looks[7] = Look("given", area=90, x=5.0, y=5.0, pieces=4, confidence=0.1)
    assert 7 not in {position for position, _ in said(looks)}


def test_lost_frames_are_flagged_and_hidden_ones_are_not() -> None:
    looks = still()
    looks[3:6] = [Look("lost", confidence=0.02)] * 3
    looks[8:10] = [Look("occluded", confidence=0.9)] * 2
    assert said(looks) == [(3, "lost"), (4, "lost"), (5, "lost")]


def test_doubt_about_a_hidden_object_counts_less() -> None:
    looks = still()
    looks[4] = still(1, confidence=0.2)[0]
    looks[9] = Look("occluded", confidence=0.2)
    seen, hidden = find_flags([looks], FlagRules())
    assert (seen.position, hidden.position) == (4, 9)
    assert hidden.reason == "confidence 0.20, occluded"
    assert hidden.severity < seen.severity


def test_an_object_vanishes_once() -> None:
    looks = still()
    looks[5:9] = [Look("absent")] * 4
    assert said(looks) == [(5, "vanished")]


def test_an_object_that_appears_late_is_not_flagged() -> None:
    assert said([Look("absent")] * 5 + still(5)) == []


def test_a_point_that_was_never_seen_is_not_flagged() -> None:
    assert said([Look("absent", confidence=0.0)] * 6) == []
    assert said([Look("given", x=1.0, y=1.0), *[Look("absent", confidence=0.0)] * 2]) != []


def test_points_jump_in_parts_of_the_picture() -> None:
    looks = [Look("visible", x=10.0 + i, y=10.0) for i in range(12)]
    looks[6] = Look("visible", x=110.0, y=10.0)
    flags = find_flags([looks], FlagRules(), diagonal=500.0)
    assert (flags[0].position, flags[0].reason) == (6, "jumped by 19% of the picture's diagonal")
    assert find_flags([looks], FlagRules(), diagonal=5000.0) == []


def test_threshold_is_checked_and_used() -> None:
    looks = still(3, confidence=0.6)
    assert said(looks) == []
    assert len(said(looks, confidence=0.7)) == 3
    with pytest.raises(InputError, match="confidence is 3"):
        FlagRules(confidence=3)


def flag(position: int, severity: float, track: int = 0, reason: str = "r") -> Flag:
    return Flag(position, track, "confidence", severity, reason)


def test_intervals_join_neighbours_and_come_worst_first() -> None:
    flags = [flag(2, 0.5), flag(3, 0.6), flag(6, 0.55), flag(10, 0.9), flag(3, 0.4, track=1)]
    worst, other = find_intervals(flags, tracks=4)
    assert (worst.first, worst.last, worst.worst) == (10, 10, 10)
    assert (other.first, other.last, other.worst) == (2, 6, 3)
    assert [(item.track, item.severity) for item in other.flags] == [(0, 0.6), (1, 0.4)]


def test_of_equally_bad_frames_the_first_is_the_one_to_look_at() -> None:
    (interval,) = find_intervals([flag(4, 0.90), flag(5, 0.91), flag(6, 0.5)], tracks=1)
    assert interval.worst == 4


def test_the_more_objects_are_odd_the_worse_a_frame_is() -> None:
    flags = [flag(1, 0.8), flag(2, 0.8), flag(2, 0.6, track=1), flag(3, 0.8), flag(3, 0.5)]
    one, two, twice = frame_severities(flags, tracks=2).values()
    assert one == twice == pytest.approx(0.7 * 0.8 + 0.3 * 0.4)
    assert two == pytest.approx(0.7 * 0.8 + 0.3 * 0.7)
    assert frame_severities([flag(0, 0.6)], tracks=1) == {0: pytest.approx(0.6)}


@st.composite
def flag_lists(draw: st.DrawFn) -> list[Flag]:
    entries = st.tuples(st.integers(0, 60), st.integers(0, 3), st.floats(0, 1))
    return [Flag(p, t, "area", s, "x") for p, t, s in draw(st.lists(entries, max_size=40))]


@given(flag_lists())
def test_intervals_cover_every_flagged_frame_once(flags: list[Flag]) -> None:
    intervals = find_intervals(flags, tracks=4)
    for position in {item.position for item in flags}:
        assert sum(i.first <= position <= i.last for i in intervals) == 1
    ordered = sorted(intervals, key=lambda item: item.first)
    for before, after in pairwise(ordered):
        assert after.first - before.last > 3
    assert [i.severity for i in intervals] == sorted((i.severity for i in intervals), reverse=True)
    severities = frame_severities(flags, tracks=4)
    for interval in intervals:
        assert severities[interval.worst] == interval.severity
    ranked = rank_frames(flags, tracks=4)
    assert sorted(ranked) == sorted(severities)
    assert ranked[: len(intervals)] == [interval.worst for interval in intervals]


@given(st.integers(1, 80), st.lists(st.integers(0, 79), unique=True), st.integers(1, 90))
def test_chosen_frames(count: int, ranked: list[int], most: int) -> None:
    ranked = [position for position in ranked if position < count]
    chosen = choose_frames(count, ranked, most)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == min(count, most)
    assert set(ranked[:most]) <= set(chosen)
    assert set(chosen) <= set(range(count))


def test_other_frames_are_spread_evenly() -> None:
    assert choose_frames(101, [], 5) == [0, 25, 50, 75, 100]
    assert choose_frames(101, [50], 1) == [50]


def test_masks_are_measured_in_pixels() -> None:
    ids = np.zeros((20, 30), dtype=np.uint8)
    ids[4:8, 10:20] = 3
    ids[12:14, 10:12] = 3
    ids[19, 29] = 3  # a speck
    ids[0, 0] = 255
    labels = FrameLabels(0, "a", Masks(ids, void=255), {3: 0.7}, states={5: "lost"})
    looks = looks_of_masks(labels, given=False)
    assert set(looks) == {3, 5}
    rows, columns = np.nonzero(ids == 3)
    assert looks[3] == Look(
        "visible",
        area=45,
        x=columns.mean() + 0.5,
        y=rows.mean() + 0.5,
        pieces=2,
        confidence=0.7,
    )
    assert looks[5].condition == "lost"
    assert not looks[5].placed


def test_states_of_masks_go_before_what_the_record_says() -> None:
    ids = np.array([[1, 2]], dtype=np.uint8)
    labels = FrameLabels(0, "a", Masks(ids), states={1: "visible"})
    looks = looks_of_masks(labels, given=True)
    assert [looks[i].condition for i in (1, 2)] == ["visible", "given"]


def test_points_are_hidden_or_nowhere() -> None:
    names = tuple(PointName(name) for name in "abc")
    xy = np.array([[1, 2], [3, 4], [math.nan, math.nan]], dtype=np.float32)
    points = Keypoints(names, xy, np.array([True, False, False]))
    conditions = [look.condition for look in looks_of_points(points, given=True)]
    assert conditions == ["given", "occluded", "absent"]
