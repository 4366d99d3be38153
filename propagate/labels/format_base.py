"""What a mask format is: one file of `propagate.labels.formats` each, which has a `FORMAT`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from propagate.errors import InputError
from propagate.labels.clip_labels import ClipLabels, FrameLabels
from propagate.labels.mask_checks import Void
from propagate.types import Size

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import UInt8

Trait = Literal[
    "pixels",
    "holes",
    "identities",
    "ids",
    "names",
    "categories",
    "confidence",
    "occlusion",
    "states",
    "absent objects",
    "void",
    "soft",
    "frame names",
    "frame numbers",
    "empty frames",
    "size",
]
"""What a format may have room for.

`pixels`: every pixel with the default options; `identities`: which masks are the same object in
different frames; `ids`: the very numbers; `states`: see `FrameLabels`; `absent objects`: confidence
and occlusion of an object that has no pixel in a frame; `void`: pixels that are unknown; `frame
numbers`: gaps between frames whose names are no numbers;
`empty frames`: that a frame was labelled and has no object.
"""


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """What a user says about a source.

    Args:
        video: which of several clips in one file.
        size: of the frames, for formats without it.
        void: id that stands for unknown pixels, see `load_reference_mask`; for mask images.
        count_from: number of the first frame, for formats that number frames.
    """

    video: str | None = None
    size: Size | None = None
    void: Void = "auto"
    count_from: int = 0

    def __post_init__(self) -> None:
        _check_count_from(self.count_from)


@dataclass(frozen=True, kw_only=True)
class WriteOptions:
    """What a user says about a target.

    Args:
        tolerance: how far the border of a polygon may be moved to save points, in pixels.
        count_from: number of the first frame, for formats that number frames.
    """

    tolerance: float = 0.0
    count_from: int = 0

    def __post_init__(self) -> None:
        _check_count_from(self.count_from)
        if not 0 <= self.tolerance < float("inf"):
            raise InputError(
                f"tolerance is {self.tolerance}; it must be 0 or more pixels, for example 1."
            )


class LabelWriter(ABC):
    """Writes one clip, a frame at a time.

    Args:
        path: the file or the existing empty folder to write.
        clip: whose labels are to come.
        options: see there.
    """

    def __init__(self, path: Path, clip: ClipLabels, options: WriteOptions) -> None:
        self.path = path
        self.clip = clip
        self.options = options

    @abstractmethod
    def add(self, frame: FrameLabels, rgb: UInt8[np.ndarray, "h w 3"] | None) -> None:
        """Write the next frame, or remember its encoding; `rgb` is the picture where needed.

        Raises:
            LabelError: the format can't hold it.
        """

    def finish(self) -> None:
        """Write what can be written at the end only."""
        return

    @property
    def notes(self) -> list[str]:
        """Sentences for the user about what was changed, beyond what `MaskFormat.loses` tells."""
        return []


@dataclass(frozen=True, kw_only=True)
class MaskFormat:
    """A way to store the masks of a clip.

    Args:
        name: what the user types.
        summary: one line: whose it is and what files it has.
        loses: what it has no room for.
        suffixes: of the files it consists of.
        folder: whether it is a folder, not one file.
        detect: whether an existing file or folder is in this format, by a look at some of it.
        read: opens the labels of a path.
            Raises LabelError, naming the file and the place in it, where it is malformed.
        write: makes the writer.
        needs_frames: whether the writer needs the pictures.
    """

    name: str
    summary: str
    loses: frozenset[Trait]
    suffixes: tuple[str, ...]
    folder: bool
    detect: Callable[[Path], bool]
    read: Callable[[Path, ReadOptions], ClipLabels]
    write: Callable[[Path, ClipLabels, WriteOptions], LabelWriter]
    needs_frames: bool = False

    @property
    def keeps(self) -> frozenset[Trait]:
        """What it has room for."""
        return frozenset(get_args(Trait)) - self.loses


def _check_count_from(value: int) -> None:
    if value not in (0, 1):
        raise InputError(f"count_from is {value}; frames are counted from 0 or from 1.")
