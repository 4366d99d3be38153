"""DeepLabCut's tables (CSV), single and multi-animal, annotations and predictions.

Pixels: 0 at the centre of the first pixel (annotators click on images drawn that way); 0.5 is
added. A point with a likelihood below 0.6, DeepLabCut's own `pcutoff`, counts as not visible.
Images are told by the number their names end with.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np

from propagate.errors import LabelError
from propagate.labels.keypoint_formats.base import (
    PIXEL_CENTRE,
    AnnotatedFrame,
    KeypointFile,
    KeypointFormat,
    make_keypoints,
    number_at_end,
    stem,
)
from propagate.types import PointName

P_CUTOFF = 0.6
_LEVELS = ("scorer", "individuals", "bodyparts", "coords")


class _Header:
    """The first rows of a table: what each column holds."""

    def __init__(self, path: Path, rows: list[list[str]]) -> None:
        self.levels = {
            row[0].strip().lower(): row for row in rows if row and row[0].strip().lower() in _LEVELS
        }
        if not {"scorer", "bodyparts", "coords"} <= self.levels.keys():
            raise LabelError(
                f"The keypoint file {path} has no rows 'bodyparts' and 'coords' below 'scorer'; "
                "export it from DeepLabCut again."
            )
        coords = [text.strip().lower() for text in self.levels["coords"]]
        if "x" not in coords:
            raise LabelError(f"The keypoint file {path} has no column of x; export it again.")
        self.first = coords.index("x")
        self.columns: dict[PointName, dict[str, int]] = {}
        individuals = self.levels.get("individuals")
        for column in range(self.first, len(coords)):
            part = self.levels["bodyparts"][column].strip()
            name = PointName(part, individuals[column].strip() if individuals else "")
            self.columns.setdefault(name, {})[coords[column]] = column


def _read(path: Path) -> KeypointFile:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if row]
        header = _Header(path, rows[: len(_LEVELS)])
        body = rows[len(header.levels) :]
        frames = tuple(_frame(path, header, row) for row in body)
    except (csv.Error, UnicodeDecodeError, IndexError, KeyError) as error:
        raise LabelError(
            f"The keypoint file {path} is not a table of DeepLabCut ({error}); export it again."
        ) from error
    return KeypointFile(frames)


def _frame(path: Path, header: _Header, row: list[str]) -> AnnotatedFrame:
    # Row labels are a number, a path, or a path in three columns.
    label = next((text for text in reversed(row[: header.first]) if text), "")
    numbered = re.fullmatch(r"(\d{1,18})(\.0)?", label.strip(), re.ASCII)
    name = None if numbered else stem(label)
    index = int(numbered[1]) if numbered else number_at_end(name)
    values = {
        column: np.array([_number(path, row, at.get(column)) for at in header.columns.values()])
        for column in ("x", "y", "likelihood")
    }
    places = np.stack([values["x"], values["y"]], axis=1) + PIXEL_CENTRE
    likelihood = values["likelihood"]
    if np.isnan(likelihood).all():
        return AnnotatedFrame(
            make_keypoints(list(header.columns), places, np.isfinite(places[:, 0])), index, name
        )
    points = make_keypoints(list(header.columns), places, likelihood >= P_CUTOFF, likelihood)
    return AnnotatedFrame(points, index, name)


def _number(path: Path, row: list[str], column: int | None) -> float:
    text = "" if column is None else row[column].strip()
    try:
        return float(text) if text else np.nan
    except ValueError:
        raise LabelError(
            f"{text!r} in the keypoint file {path} is not a number; export it again."
        ) from None


def _write(path: Path, content: KeypointFile) -> None:
    names = list(dict.fromkeys(name for f in content.frames for name in f.keypoints.names))
    header = [["scorer"], ["individuals"], ["bodyparts"], ["coords"]]
    for name in names:
        for coordinate in ("x", "y", "likelihood"):
            for row, text in zip(
                header, ("propagate", name.individual, name.part, coordinate), strict=True
            ):
                row.append(text)
    if not any(name.individual for name in names):
        del header[1]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows(header)
        for position, frame in enumerate(content.frames):
            writer.writerow(
                [position if frame.index is None else frame.index, *_cells(frame, names)]
            )


def _cells(frame: AnnotatedFrame, names: list[PointName]) -> list[str]:
    points = frame.keypoints
    cells: list[str] = []
    for name in names:
        at = points.names.index(name) if name in points.names else None
        if at is None or np.isnan(points.xy[at, 0]):
            cells += ["", "", ""]
            continue
        sure = float(points.visible[at]) if points.confidence is None else points.confidence[at]
        cells += [str(float(value) - PIXEL_CENTRE) for value in points.xy[at]] + [str(float(sure))]
    return cells


def _matches(path: Path) -> bool:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return file.readline(4096).lower().startswith("scorer")


FORMAT = KeypointFormat("deeplabcut", (".csv",), _matches, _read, _write)
