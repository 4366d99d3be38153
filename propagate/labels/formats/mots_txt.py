"""MOTS text: a line `frame id class height width rle` per mask; see `mots_ids`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from propagate.errors import LabelError
from propagate.labels.clip_labels import ClipLabels, FrameLabels, FrameRef, number_name
from propagate.labels.composer import Composer
from propagate.labels.format_base import LabelWriter, MaskFormat, ReadOptions, WriteOptions
from propagate.labels.mots_ids import IGNORE, PER_CLASS, MotsIds, mots_object
from propagate.labels.rle import decode_rle, encode_rle
from propagate.types import Masks, Size

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import UInt8

_FIELDS = 6


@dataclass(frozen=True)
class _Line:
    frame: int
    number: int
    size: Size
    rle: str
    place: str


def _detect(path: Path) -> bool:
    if path.suffix.lower() != ".txt" or not path.is_file():
        return False
    with path.open(encoding="utf-8", errors="replace") as file:
        words = file.readline().split()
    return len(words) == _FIELDS and all(word.isdigit() for word in words[:5])


def _parse(path: Path, count_from: int) -> list[_Line]:
    lines = []
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LabelError(f"{path} can't be read ({error}).") from error
    for row, line in enumerate(text.splitlines(), start=1):
        words, place = line.split(), f"{path}: line {row}"
        if not words:
            continue
        if len(words) != _FIELDS or not all(w.isascii() and w.isdigit() for w in words[:5]):
            raise LabelError(
                f"{place} is not `frame id class height width rle`, five numbers and a text."
            )
        frame, number, _, height, width = map(int, words[:5])
        if frame < count_from:
            raise LabelError(f"{place} has frame {frame}; leave out --src-count-from {count_from}.")
        if number < 1 or not (0 < height <= 1 << 16 and 0 < width <= 1 << 16):
            raise LabelError(f"{place} has an id or size out of range.")
        lines.append(_Line(frame - count_from, number, Size(height, width), words[5], place))
    if not lines:
        raise LabelError(f"{path} holds no masks, so it is unknown what size its frames have.")
    return lines


def _read(path: Path, options: ReadOptions) -> ClipLabels:
    lines = _parse(path, options.count_from)
    size = lines[0].size
    by_frame: dict[int, list[_Line]] = defaultdict(list)
    for line in lines:
        if line.size != size:
            raise LabelError(f"{line.place} is {line.size}, the first one {size}; all must agree.")
        by_frame[line.frame].append(line)
    frames = tuple(FrameRef(index, number_name(index)) for index in sorted(by_frame))

    def stream() -> Iterator[FrameLabels]:
        for frame in frames:
            composer = Composer(size)
            for line in by_frame[frame.index]:
                try:
                    mask = decode_rle(line.rle, size)
                except LabelError as error:
                    raise LabelError(f"{line.place}: {error}.") from error
                # What is to be ignored hides no object.
                composer.add(line.number, mask, layer=-1 if line.number == IGNORE else 0)
            masks, overlap = composer.compose()
            void = IGNORE if (masks.ids == IGNORE).any() else None
            labels = Masks(masks.ids, void=void)
            yield FrameLabels(frame.index, frame.name, labels, overlap=overlap)

    first = frames[0].index
    note = f"The first frame is {first}; if these count from 1, say --src-count-from 1."
    notes = (note,) if first == 1 and options.count_from == 0 else ()
    name = path.absolute().stem
    return ClipLabels(name, size, frames, stream, describe=mots_object, notes=notes)


class _Writer(LabelWriter):
    def __init__(self, path: Path, clip: ClipLabels, options: WriteOptions) -> None:
        super().__init__(path, clip, options)
        self._ids = MotsIds(clip.object)
        self._lines: list[str] = []

    def add(self, frame: FrameLabels, rgb: UInt8[np.ndarray, "h w 3"] | None) -> None:
        del rgb
        for object_id in frame.masks.object_ids:
            number = self._ids.number(object_id)
            self._line(frame, number, frame.masks.ids == object_id)
        if frame.masks.void is not None:
            void = frame.masks.ids == frame.masks.void
            if void.any():
                self._line(frame, IGNORE, void)

    def _line(self, frame: FrameLabels, number: int, mask: np.ndarray) -> None:
        height, width = self.clip.size
        index = frame.index + self.options.count_from
        kind = number // PER_CLASS
        self._lines.append(f"{index} {number} {kind} {height} {width} {encode_rle(mask)}\n")

    def finish(self) -> None:
        self.path.write_text("".join(self._lines), encoding="utf-8")

    @property
    def notes(self) -> list[str]:
        return self._ids.notes


FORMAT = MaskFormat(
    name="mots-txt",
    summary="MOTS: one text file, `frame id class height width rle` per mask",
    loses=frozenset(
        {
            "states",
            "ids",
            "names",
            "confidence",
            "occlusion",
            "absent objects",
            "soft",
            "frame names",
            "empty frames",
        }
    ),
    suffixes=(".txt",),
    folder=False,
    detect=_detect,
    read=_read,
    write=_Writer,
)
