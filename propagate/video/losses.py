"""The account that a video reader keeps of one pass: what came, and what did not."""

from __future__ import annotations

from array import array

from propagate.types import ClipLosses
from propagate.video.timing import gaps, missing_end

_LISTED = 5
"""How many places a message names before it says "and so many more"."""

_SAME = 1e-6
"""Times that differ by less, in seconds, are the same."""


class LossLog:
    """Filled while a pass runs; `losses` is right at any moment of it.

    Args:
        declared_end: when the video ends by its container, in seconds, or None.
    """

    def __init__(self, declared_end: float | None = None) -> None:
        self._declared_end = declared_end
        self._starts = array("d")
        self._ends = array("d")
        self._damaged: list[str] = []
        self._broken: list[str] = []
        self._notes: list[str] = []
        self._earliest: float | None = None
        self._finished = False

    def announced(self, time: float) -> None:
        """The container holds a picture for `time` seconds; of use before the first delivery."""
        if not self._starts:
            self._earliest = time if self._earliest is None else min(time, self._earliest)

    def delivered(self, start: float, end: float, *, damaged: bool = False) -> None:
        """The next picture, shown from `start` to `end` seconds, was delivered."""
        if damaged:
            self._damaged.append(f"{len(self._starts)} ({start:.3f} s)")
        self._starts.append(start)
        self._ends.append(end)

    def broken(self, time: float | None) -> None:
        """A packet for `time` seconds is incomplete, or the decoder refused it."""
        self._broken.append("an unknown time" if time is None else f"{time:.3f} s")

    def note(self, sentence: str) -> None:
        """Add a loss that has a sentence of its own."""
        self._notes.append(sentence)

    def finish(self) -> None:
        """The pass has reached the end of the clip."""
        self._finished = True

    @property
    def losses(self) -> ClipLosses:
        """One sentence per kind of loss."""
        messages = list(self._notes)
        if self._starts and self._earliest is not None and self._earliest < self._starts[0] - _SAME:
            messages.append(
                f"Nothing decodes between {self._earliest:.3f} s and the first whole picture at "
                f"{self._starts[0]:.3f} s."
            )
        if self._broken:
            messages.append(
                f"The file has {_count(len(self._broken), 'broken packet')}, near "
                f"{_listed(self._broken)}: pictures there are missing or wrong."
            )
        if self._damaged:
            messages.append(
                f"{_count(len(self._damaged), 'picture')} decoded with damage: "
                f"{_listed(self._damaged)}."
            )
        if self._finished:
            messages += gaps(self._starts, self._ends)
        if self._finished and self._declared_end is not None:
            messages += missing_end(self._starts, self._ends, self._declared_end)
        return ClipLosses(tuple(messages))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _listed(places: list[str]) -> str:
    more = len(places) - _LISTED
    return ", ".join(places[:_LISTED]) + (f" and {more} more" if more > 0 else "")
