"""Which frame of a clip the sources resemble most."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic

from propagate.errors import InputError
from propagate.matching.matchers import Match
from propagate.types import Frame, L
from propagate.video.base import FrameReader

_CANDIDATES = 8


@dataclass(frozen=True)
class Candidate(Generic[L]):
    """A frame of the target, and the labels it got."""

    frame: Frame
    match: Match[L]


def candidate_frames(reader: FrameReader, wanted: int | None = None) -> Iterator[Frame]:
    """The frame that is wanted, or some from the first to the last.

    Raises:
        InputError: the clip has no frame `wanted`.
    """
    chosen = {wanted} if wanted is not None else _spread(reader)
    found = 0
    for frame in reader:
        found += 1
        if frame.index in chosen:
            yield frame
        if frame.index >= max(chosen):
            return
    if wanted is not None:
        raise InputError(
            f"--frame is {wanted}, and {reader.source} has {found} frames, counted from 0."
        )


def _spread(reader: FrameReader) -> set[int]:
    count = reader.estimated_length or sum(1 for _ in reader)
    return {round(i * (count - 1) / (_CANDIDATES - 1)) for i in range(_CANDIDATES)}


def scores(best: Candidate[L], tried: Sequence[Candidate[L]]) -> dict[str, Any]:
    """What a record says of the chosen frame and the others, JSON values only."""
    return {
        "frame": best.frame.index,
        "confidence": round(best.match.confidence, 4),
        "labels": {
            name: {
                "confidence": round(trust.confidence, 4),
                "similarity": round(trust.similarity, 4),
                "cycle": round(trust.cycle, 4),
                "found": name not in best.match.lost,
            }
            for name, trust in best.match.trust.items()
        },
        "candidates": [
            {"frame": item.frame.index, "confidence": round(item.match.confidence, 4)}
            for item in tried
        ],
    }
