"""Settings as frozen, checked value objects, and the named presets made of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from propagate.errors import InputError

WindowShape = Literal["square", "circle"]
MaskEncoding = Literal["area", "nearest"]
MaskDecoding = Literal["bilinear", "dift"]


@dataclass(frozen=True, kw_only=True)
class PropagationSettings:
    """How labels are voted from the context frames to the next one.

    Args:
        n_last_frames: how many of the latest frames are in the context beside the references.
        radius: half side (square) or radius (circle) of the search window in grid cells; 0 means
            no limit.
        window: shape of the search window.
        limit_references: whether the window also limits the pinned reference frames.
        topk: how many of the most similar cells, over all context frames together, vote.
            Cells that tie with the k-th all vote.
        temperature: a cell votes with weight exp(cosine / temperature).
    """

    n_last_frames: int = 7
    radius: int = 12
    window: WindowShape = "square"
    limit_references: bool = True
    topk: int = 5
    temperature: float = 0.1

    def __post_init__(self) -> None:
        for name, least in (("n_last_frames", 0), ("radius", 0), ("topk", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}; it must be {least} or more.")
        if not self.temperature > 0:
            raise InputError(f"temperature is {self.temperature}; it must be greater than 0.")
        if self.window not in ("square", "circle"):
            raise InputError(f"window is {self.window!r}; it must be 'square' or 'circle'.")
