"""Where the labels of a run go, frame by frame, and how they come back as pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from propagate.confidence import ObjectConfidence
from propagate.types import Frame

if TYPE_CHECKING:
    from jaxtyping import UInt8

L_contra = TypeVar("L_contra", contravariant=True)


class LabelStore(Protocol[L_contra]):
    """The labels of one run on disk."""

    def begin(self, *, keep: Callable[[int], bool], after: int) -> None:
        """Get ready to write.

        Args:
            keep: whether a frame, by number, keeps the labels it has.
            after: the frame that an interrupted run goes on behind, or -1.

        Raises:
            OutputError: what is there doesn't go as far as that.
        """
        ...

    def write(
        self, frame: Frame, labels: L_contra, confidence: Mapping[int, ObjectConfidence]
    ) -> bool:
        """Keep the labels of a frame; they are safe when this returns.

        Args:
            frame: the picture.
            labels: of it.
            confidence: of each object, where the labels don't hold it themselves.

        Returns:
            Whether the frame had other labels before.
        """
        ...

    def close(self) -> None:
        """Nothing more will be written."""
        ...

    def count(self) -> int:
        """How many frames have labels so far."""
        ...

    def drawn(self, frames: Iterable[Frame]) -> Iterator[tuple[Frame, UInt8[np.ndarray, "h w 3"]]]:
        """Those of the clip's frames that have labels, with the labels drawn over them."""
        ...
