"""What every clip reader offers to the rest of the program."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from propagate.types import ClipLosses, Frame


@runtime_checkable
class FrameReader(Protocol):
    """A clip that can be streamed, any number of times, holding a few frames at most.

    A frame's index is the ordinal of the decoded picture, whatever the container claims.
    """

    @property
    def source(self) -> str:
        """Identity of the clip: its absolute path, and what else tells it from another."""
        ...

    @property
    def fps(self) -> float:
        """Nominal frames per second, for writing a video of results."""
        ...

    @property
    def estimated_length(self) -> int | None:
        """A guess of the number of frames for a progress bar, or None. Never relied upon."""
        ...

    @property
    def losses(self) -> ClipLosses:
        """What the latest pass could not decode, as far as it has read."""
        ...

    def __iter__(self) -> Iterator[Frame]:
        """A fresh pass over the clip from its first picture."""
        ...
