"""Everything a review page says, as JSON values; the page's scripts only show it."""

from __future__ import annotations

import hashlib
import shlex
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from propagate.output.labelled_clip import LabelledClip, MaskedClip
from propagate.output.review.flags import Flag, Interval
from propagate.output.review.looks import Look
from propagate.output.review.timeline import Timeline, Track
from propagate.types import PointName, Size

_LISTED = 3  # reasons that the list gives for an interval

_MASK_STATES = {"o": "occluded", "l": "lost", "a": "no pixel"}
_POINT_STATES = {"o": "hidden", "l": "lost", "a": "no place"}


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What was found in a clip.

    Args:
        timeline: its numbers.
        flags: everything odd.
        intervals: the same in rows of frames, worst first.
        shown: positions of the frames whose pictures are embedded, ascending.
        shown_size: of these, in pixels.
        threshold: confidence below which frames are flagged.
    """

    timeline: Timeline
    flags: Sequence[Flag]
    intervals: Sequence[Interval]
    shown: Sequence[int]
    shown_size: Size
    threshold: float


def page_facts(clip: LabelledClip, found: Findings, *, labels: Path) -> dict[str, Any]:
    """What the page's scripts read as `clip`.

    Args:
        clip: pictures and labels.
        found: in it.
        labels: as the user named them, for the command that corrects a frame.
    """
    timeline = found.timeline
    masks = isinstance(clip, MaskedClip)
    confident = any(track.confidence is not None for track in timeline.tracks)
    record = clip.record
    # Of its folder, for the files of a run all have the same name.
    title = record.path.resolve().name if record else clip.path.stem
    return {
        "kind": "masks" if masks else "keypoints",
        "title": title,
        "facts": _headline(found),
        "identity": _identity(labels, timeline),
        "frames": [frame.index for frame in timeline.frames],
        "names": [frame.name for frame in timeline.frames],
        "fps": clip.reader.fps,
        "shown": list(found.shown),
        "shownSize": [found.shown_size.width, found.shown_size.height],
        "objects": [_object(track, confident) for track in timeline.tracks],
        "bones": _bones(clip, timeline),
        "curve": "Confidence" if confident else "Area" if masks else "",
        "confident": confident,
        "threshold": found.threshold,
        "stateNames": _MASK_STATES if masks else _POINT_STATES,
        "given": list(timeline.given),
        "reasons": _reasons(found),
        "intervals": [_interval(interval, timeline) for interval in found.intervals],
        "nothing": _nothing(timeline, confident=confident),
        "command": _command(clip, labels),
        "fix": f"--ref FRAME=fix.{'png' if masks else 'csv'}",
        "summary": _summary(clip, found),
        "settings": _settings(clip),
    }


def _identity(labels: Path, timeline: Timeline) -> str:
    """Tells the marks of one page from those of others, also after it is made anew."""
    text = f"{labels.resolve()} {timeline.size} {len(timeline.frames)}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _object(track: Track, confident: bool) -> dict[str, Any]:
    most = max((look.area for look in track.looks), default=0)
    return {
        "id": track.id,
        "name": track.name,
        "color": list(track.color),
        "curve": [_height(look, confident, most) for look in track.looks],
        "states": "".join(look.condition[0] for look in track.looks),
    }


def _height(look: Look, confident: bool, most: int) -> float | None:
    """Of the curve, 0 to 1: the confidence, else the area as a share of the largest."""
    value = look.confidence if confident else look.area / most if most else None
    return None if value is None else round(value, 3)


def _bones(clip: LabelledClip, timeline: Timeline) -> list[tuple[int, int]]:
    """Positions of points that the skeleton joins."""
    if isinstance(clip, MaskedClip):
        return []
    places = {name: position for position, name in enumerate(timeline.points)}
    individuals = dict.fromkeys(name.individual for name in timeline.points)
    pairs = [
        (places.get(PointName(first, individual)), places.get(PointName(second, individual)))
        for individual in individuals
        for first, second in clip.edges
    ]
    return [(a, b) for a, b in pairs if a is not None and b is not None]


def _reasons(found: Findings) -> list[tuple[int, list[str]]]:
    by_position = defaultdict(list)
    for flag in found.flags:
        by_position[flag.position].append(_in_words(flag, found.timeline))
    return sorted(by_position.items())


def _in_words(flag: Flag, timeline: Timeline) -> str:
    return f"{timeline.tracks[flag.track].name}: {flag.reason}"


def _interval(interval: Interval, timeline: Timeline) -> dict[str, Any]:
    words = [_in_words(flag, timeline) for flag in interval.flags]
    return {
        "first": interval.first,
        "last": interval.last,
        "worst": interval.worst,
        "severity": round(interval.severity, 3),
        "reasons": words[:_LISTED],
        "more": max(0, len(words) - _LISTED),
    }


def _nothing(timeline: Timeline, *, confident: bool) -> str:
    if not confident:
        return (
            "Nothing looks odd: no object jumps, vanishes, breaks up or changes its size at once."
        )
    value, name, index = min(
        (look.confidence, track.name, frame.index)
        for track in timeline.tracks
        for look, frame in zip(track.looks, timeline.frames, strict=True)
        if look.confidence is not None
    )
    return f"Nothing is flagged. The lowest confidence is {value:.2f}, of {name} in frame {index}."


def _command(clip: LabelledClip, labels: Path) -> str:
    if clip.record is None:
        return ""
    run = labels if labels.resolve() == clip.record.path.resolve() else clip.record.path
    return f"propagate correct {shlex.quote(str(run))}"


def _headline(found: Findings) -> str:
    timeline = found.timeline
    count, shown = len(timeline.frames), len(found.shown)
    one = "" if count == 1 else "s"
    frames = f"{count} frame{one}" if shown == count else f"{shown} of {count} frames in this page"
    return f"{frames} · {timeline.what} · {timeline.size}"


def _summary(clip: LabelledClip, found: Findings) -> list[tuple[str, str]]:
    timeline, record = found.timeline, clip.record
    known = [track.confidence for track in timeline.tracks if track.confidence is not None]
    first, last = timeline.frames[0].index, timeline.frames[-1].index
    given = [str(timeline.frames[position].index) for position in timeline.given]
    rows = [
        ("Clip", Path(record.clip).name if record else Path(clip.reader.source).name),
        ("Frames", f"{len(timeline.frames)}, from {first} to {last}"),
        ("Pictures here", f"{len(found.shown)}, {found.shown_size}"),
        ("Objects", timeline.what),
        ("Given frames", ", ".join(given) or "unknown"),
        ("Mean confidence", f"{fmean(known):.2f}" if known else "unknown"),
        ("Flagged below", f"{found.threshold:.2f}" if known else ""),
        ("Model", record.model if record else ""),
        ("Finished", "no: frames are missing" if record and not record.finished else ""),
    ]
    return [(what, value) for what, value in rows if value]


def _settings(clip: LabelledClip) -> list[tuple[str, str]]:
    """Settings by the last part of their names, where that is enough."""
    settings = clip.record.settings if clip.record else {}
    short = Counter(name.rpartition(".")[2] for name in settings)
    last = {name: name.rpartition(".")[2] for name in settings}
    return [
        (last[name] if short[last[name]] == 1 else name, value) for name, value in settings.items()
    ]
