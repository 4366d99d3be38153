"""The input size of DINO's video protocol."""

from __future__ import annotations

from dataclasses import dataclass

from propagate.geometry import InputSize
from propagate.types import Size


@dataclass(frozen=True, kw_only=True)
class LongSideSize(InputSize):
    """Only the long side gives way: DINO has frames of 854x480 as 832x480.

    The long side is floored to a multiple of `long_multiple`; the short side to `multiple`, the
    patch, for the grid must cover the image. Source: `read_frame` in DINO's
    `eval_video_segmentation.py`, which takes the width of a square image for its long side.

    Args:
        long_multiple: what the long side is floored to a multiple of; a multiple of `multiple`.
    """

    long_multiple: int = 64

    def of(self, native: Size) -> Size:
        """Network input size for an image of size `native`."""
        short, long = InputSize.of(self, native), self._floored_long(native)
        if self.exact is not None:
            return self.exact
        if native.height > native.width:
            return Size(long, short.width)
        return Size(short.height, long)

    def _floored_long(self, native: Size) -> int:
        short = min(native) if self.short_side is None else self.short_side
        long = int(short * max(native) / min(native))
        return max(long // self.long_multiple, 1) * self.long_multiple

    def __str__(self) -> str:
        """As `InputSize`, with the long side's multiple."""
        return f"{InputSize.__str__(self)}/long{self.long_multiple}"
