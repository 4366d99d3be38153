"""CSV with a row per point: frame,name,x,y,visible[,confidence][,individual]; this program's own.

Pixels: from the outer corner of the top-left pixel (centre at .5), so nothing is converted. Frames
count from 0. A row without x and y is a point without a place.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import IO

import numpy as np

from propagate.errors import LabelError
from propagate.labels.keypoint_formats.base import (
    AnnotatedFrame,
    KeypointFile,
    KeypointFormat,
    make_keypoints,
)
from propagate.types import Keypoints, PointName

_REQUIRED = ("frame", "name", "x", "y")
_FARTHEST = 1e18
_TRUE, _FALSE = ("1", "true", "yes"), ("0", "false", "no")


class TableWriter:
    """Writes frames to an open text file, row by row.

    Numbers are the shortest ones that give the same float32 back.

    Args:
        file: opened with newline="".
        individuals: whether there is a column for them.
    """

    def __init__(self, file: IO[str], *, individuals: bool) -> None:
        self._individuals = individuals
        self._rows = csv.writer(file, lineterminator="\n")

    def header(self) -> None:
        """Write the names of the columns."""
        last = ["individual"] if self._individuals else []
        self._rows.writerow(["frame", "name", "x", "y", "visible", "confidence", *last])

    def frame(self, index: int, points: Keypoints) -> None:
        """Write the points of a frame."""
        for number, name in enumerate(points.names):
            x, y = (_shortest(value) for value in points.xy[number])
            sure = "" if points.confidence is None else _shortest(points.confidence[number])
            row = [index, name.part, x, y, int(points.visible[number]), sure]
            self._rows.writerow([*row, name.individual] if self._individuals else row)


def iterate(path: Path) -> Iterator[tuple[int, Keypoints]]:
    """Frame after frame of a file, holding one at a time.

    Raises:
        LabelError: naming the line, for a row that can't be read.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            _check_header(path, reader.fieldnames or ())
            rows = (_Row(path, reader.line_num, row) for row in reader)
            for index, group in groupby(rows, key=lambda row: row.frame):
                yield index, _frame(path, index, group)
    except (csv.Error, UnicodeDecodeError) as error:
        raise LabelError(
            f"The keypoint file {path} is not a CSV table ({error}); save it as UTF-8 CSV."
        ) from error


class _Row:
    """One line of the table, checked."""

    def __init__(self, path: Path, line: int, row: dict[str | None, str | None]) -> None:
        self._where = f"line {line} of the keypoint file {path}"
        self._row = {key: (value or "").strip() for key, value in row.items() if key is not None}
        self.frame = int(self._number("frame", whole=True))
        self.name = PointName(self._row["name"], self._row.get("individual", ""))
        if not self.name.part:
            raise LabelError(f"{self._where[0].upper()}{self._where[1:]} has no name; give one.")
        blank = not self._row["x"] and not self._row["y"]
        self.xy = (np.nan, np.nan) if blank else (self._number("x"), self._number("y"))
        self.visible = self._flag()
        has_confidence = bool(self._row.get("confidence"))
        self.confidence = self._number("confidence") if has_confidence else np.nan

    def _number(self, column: str, *, whole: bool = False) -> float:
        text = self._row[column]
        try:
            value = int(text) if whole else float(text)
        except ValueError:
            value = np.nan
        if (
            abs(value) > _FARTHEST
            or (np.isnan(value) and (whole or text.lower() != "nan"))
            or (whole and value < 0)
        ):
            kind = "a whole number from 0" if whole else "a number"
            raise LabelError(f"{column} is {text!r} in {self._where}; it must be {kind}.")
        return value

    def _flag(self) -> bool:
        text = self._row.get("visible", "").lower()
        if text not in (*_TRUE, *_FALSE, ""):
            raise LabelError(f"visible is {text!r} in {self._where}; it must be 1 or 0.")
        return text not in _FALSE


def _check_header(path: Path, columns: Sequence[str]) -> None:
    missing = [name for name in _REQUIRED if name not in columns]
    if missing:
        raise LabelError(
            f"The keypoint file {path} has no column {missing[0]!r}; its first line must be "
            "frame,name,x,y,visible and may go on with confidence and individual."
        )


def _frame(path: Path, index: int, group: Iterable[_Row]) -> Keypoints:
    rows = list(group)
    names = [row.name for row in rows]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise LabelError(
            f"{twice} occurs twice in frame {index} of the keypoint file {path}; "
            "keep one row, or tell individuals apart in a column of that name."
        )
    confidence = np.array([row.confidence for row in rows])
    return make_keypoints(
        names,
        np.array([row.xy for row in rows]),
        np.array([row.visible for row in rows]),
        None if np.isnan(confidence).all() else confidence,
    )


def _shortest(value: np.floating) -> str:
    return "" if np.isnan(value) else np.format_float_positional(value, trim="-")


def _read(path: Path) -> KeypointFile:
    # A table may go point by point instead of frame by frame.
    merged: dict[int, list[Keypoints]] = {}
    for index, points in iterate(path):
        merged.setdefault(index, []).append(points)
    return KeypointFile(
        tuple(
            AnnotatedFrame(_joined(path, index, parts), index=index)
            for index, parts in sorted(merged.items())
        )
    )


def _joined(path: Path, index: int, parts: list[Keypoints]) -> Keypoints:
    names = [name for part in parts for name in part.names]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise LabelError(f"{twice} occurs twice in frame {index} of the keypoint file {path}.")
    known = [part.confidence for part in parts if part.confidence is not None]
    return make_keypoints(
        names,
        np.concatenate([part.xy for part in parts]),
        np.concatenate([part.visible for part in parts]),
        np.concatenate(known) if len(known) == len(parts) else None,
    )


def _write(path: Path, content: KeypointFile) -> None:
    individuals = any(name.individual for frame in content.frames for name in frame.keypoints.names)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = TableWriter(file, individuals=individuals)
        table.header()
        for position, frame in enumerate(content.frames):
            table.frame(position if frame.index is None else frame.index, frame.keypoints)


def _matches(path: Path) -> bool:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        first = file.readline(4096)
    # DeepLabCut's tables, which are told by their first word, have one row per frame.
    return not first.lower().startswith("scorer")


FORMAT = KeypointFormat("csv", (".csv",), _matches, _read, _write)
