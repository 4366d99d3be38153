"""`tracks.csv`: confidence and occlusion beside masks that are images, which can't hold them."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import NamedTuple

from propagate.errors import LabelError
from propagate.labels.clip_labels import ClipObject, FrameLabels, parse_state
from propagate.types import State

TRACK_TABLE = "tracks.csv"


class TrackRow(NamedTuple):
    """A line of the table, in the order of its columns."""

    frame: int
    name: str
    object: int
    confidence: float | None
    occluded: bool
    object_name: str = ""
    category: str = ""
    state: State | None = None


_COLUMNS = TrackRow._fields
TRACK_HEADER = ",".join(_COLUMNS) + "\n"


def track_lines(rows: Iterable[TrackRow]) -> str:
    """Lines of the table, with a line break after each."""
    text = StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    for row in rows:
        writer.writerow({**row._asdict(), "occluded": int(row.occluded)}.values())
    return text.getvalue()


@dataclass
class TrackTable:
    """What is known of objects beside their pixels.

    Args:
        confidence: by name of the frame and object.
        occluded: objects by name of the frame.
        states: by name of the frame and object; see `FrameLabels`.
        objects: those with a name or a category, by id.
    """

    confidence: Mapping[str, dict[int, float]] = field(default_factory=lambda: defaultdict(dict))
    occluded: Mapping[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    states: Mapping[str, dict[int, State]] = field(default_factory=lambda: defaultdict(dict))
    objects: dict[int, ClipObject] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> TrackTable:
        """Read `tracks.csv`; an empty table where there is no such file.

        Raises:
            LabelError: it is malformed; the line is named.
        """
        table = cls()
        if not path.is_file():
            return table
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            try:
                for row in reader:
                    table._take(row)
            except (KeyError, ValueError, TypeError, csv.Error) as error:
                raise LabelError(
                    f"{path}: line {reader.line_num} is malformed ({error}); expected are the "
                    f"columns {', '.join(_COLUMNS)}."
                ) from error
        return table

    def _take(self, row: Mapping[str, str]) -> None:
        name, object_id = row["name"], int(row["object"])
        if row["confidence"]:
            self.confidence[name][object_id] = float(row["confidence"])
        if row["occluded"] == "1":
            self.occluded[name].add(object_id)
        if row.get("state"):
            self.states[name][object_id] = parse_state(row["state"])
        if row.get("object_name") or row.get("category"):
            self.objects[object_id] = ClipObject(object_id, row["object_name"], row["category"])


class TrackTableWriter:
    """Collects the rows of `tracks.csv`, which is written if there is anything to say."""

    def __init__(self) -> None:
        self._rows: list[TrackRow] = []
        self._needed = False

    def add(self, frame: FrameLabels, describe: Callable[[int], ClipObject]) -> None:
        """Remember a frame; `describe` tells what is known of an object."""
        said = {*frame.masks.object_ids, *frame.confidence, *frame.occluded, *frame.states}
        for object_id in sorted(said):
            known = describe(object_id)
            row = TrackRow(
                frame.index,
                frame.name,
                object_id,
                frame.confidence.get(object_id),
                object_id in frame.occluded,
                known.name,
                known.category,
                frame.states.get(object_id),
            )
            self._needed |= row.confidence is not None or row.occluded or row.state is not None
            self._needed |= known != ClipObject(object_id)
            self._rows.append(row)

    def write(self, folder: Path) -> None:
        """Write the file if any mask has more than its pixels."""
        if not self._needed:
            return
        with (folder / TRACK_TABLE).open("w", encoding="utf-8", newline="") as file:
            file.write(TRACK_HEADER)
            file.write(track_lines(self._rows))
