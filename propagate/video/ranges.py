"""A selection of the frames of a clip, written as a Python slice."""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from propagate.errors import ClipError, InputError
from propagate.types import ClipLosses, Frame

if TYPE_CHECKING:
    from propagate.video.base import FrameReader

_SLICE = re.compile(r"\s*(\d*)\s*:\s*(\d*)\s*(?::\s*(\d*)\s*)?", re.ASCII)


@dataclass(frozen=True)
class FrameRange:
    """Frame numbers start, start + step, ... below stop, counted from 0.

    Args:
        start: first frame, 0 or more.
        stop: first frame that is not taken, or None for the end of the clip.
        step: 1 or more.
    """

    start: int = 0
    stop: int | None = None
    step: int = 1

    def __post_init__(self) -> None:
        if self.start < 0 or (self.stop is not None and self.stop < 0):
            raise InputError(
                f"The frame range {self} counts from the end, which a stream has not reached; "
                "use numbers from 0 up."
            )
        if self.step < 1:
            raise InputError(f"The step of the frame range {self} must be 1 or more.")
        if self.stop is not None and self.stop <= self.start:
            raise InputError(
                f"The frame range {self} is empty; stop must be greater than start, as the frame "
                "at stop is not taken."
            )

    @classmethod
    def parse(cls, text: str) -> FrameRange:
        """Read "start:stop:step" with the meaning of a Python slice; every part may be left out.

        Raises:
            InputError: another form, a negative number, or a step of 0.
        """
        match = _SLICE.fullmatch(text)
        if match is None:
            raise InputError(
                f"The frame range {text!r} is not start:stop or start:stop:step with whole numbers "
                "from 0 up; for example 10:50 takes frames 10 to 49, and ::2 every other one."
            )
        start, stop, step = (int(part) if part else None for part in match.groups())
        return cls(start or 0, stop, 1 if step is None else step)

    @property
    def last(self) -> int | None:
        """The last frame number if the clip is long enough, or None without a stop."""
        return None if self.stop is None else range(self.start, self.stop, self.step)[-1]

    def __contains__(self, index: int) -> bool:
        return (
            index >= self.start
            and (self.stop is None or index < self.stop)
            and (index - self.start) % self.step == 0
        )

    def __str__(self) -> str:
        stop = "" if self.stop is None else self.stop
        return f"{self.start}:{stop}" + ("" if self.step == 1 else f":{self.step}")


@dataclass(frozen=True)
class FrameChoice:
    """Single frames and ranges, as people list them: "10,20,100:200:5".

    Args:
        ranges: one or more; a frame is chosen if any of them has it.
    """

    ranges: tuple[FrameRange, ...]

    @classmethod
    def parse(cls, text: str) -> FrameChoice:
        """Read numbers and ranges between commas.

        Raises:
            InputError: another form.
        """
        parts = [part.strip() for part in text.split(",")]
        return cls(
            tuple(
                FrameRange(int(part), int(part) + 1)
                if part.isascii() and part.isdigit()
                else FrameRange.parse(part)
                for part in parts
            )
        )

    @property
    def last(self) -> int | None:
        """The last frame number if the clip is long enough, or None where a range has no stop."""
        ends = [item.last for item in self.ranges]
        known = [end for end in ends if end is not None]
        return max(known) if len(known) == len(ends) else None

    def __contains__(self, index: int) -> bool:
        return any(index in item for item in self.ranges)

    def __str__(self) -> str:
        return ",".join(
            str(item.start) if item.stop == item.start + 1 else str(item) for item in self.ranges
        )


class RangeReader:
    """The frames of `reader` that are in `frames`; each keeps its index in the whole clip.

    Reading ends with the last frame selected: the rest of the clip is not decoded.

    Args:
        reader: the whole clip.
        frames: which frames of it to give.
    """

    def __init__(self, reader: FrameReader, frames: FrameRange) -> None:
        self._reader = reader
        self._frames = frames

    @property
    def source(self) -> str:
        """Identity of the whole clip."""
        return self._reader.source

    @property
    def fps(self) -> float:
        """Rate at which the selected frames last as long as they do in the clip."""
        return self._reader.fps / self._frames.step

    @property
    def estimated_length(self) -> int | None:
        """A guess of the number of selected frames, or None."""
        whole, frames = self._reader.estimated_length, self._frames
        if whole is None:
            return None
        stop = whole if frames.stop is None else min(frames.stop, whole)
        return len(range(frames.start, stop, frames.step))

    @property
    def losses(self) -> ClipLosses:
        """What the latest pass could not decode, as far as it has read."""
        return self._reader.losses

    def __iter__(self) -> Generator[Frame, None, None]:
        """A fresh pass.

        Raises:
            ClipError: the clip has no frame in the range.
        """
        found = taken = 0
        for frame in self._reader:
            found = frame.index + 1
            if frame.index in self._frames:
                yield frame
                taken += 1
            if frame.index == self._frames.last:
                break
        if not taken:
            raise ClipError(
                f"The frame range {self._frames} selects none of the {found} frames found in "
                f"{self.source}."
            )
