"""A CSV table of a run: rows by frame, that come in any order and end up in the clip's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import IO

from propagate.errors import OutputError
from propagate.output.atomic import atomic_path


class FrameTable:
    """Rows whose first column is the frame's number; safe on disk frame by frame.

    Args:
        path: of the table.
        header: its first line, with the line break.
    """

    def __init__(self, path: Path, header: str) -> None:
        self._path = path
        self._header = header
        self._file: IO[str] | None = None
        self._earlier: dict[int, str] = {}
        self._latest = -1
        self._ordered = True

    def begin(self, *, keep: Callable[[int], bool], after: int = -1) -> None:
        """Open the table with the rows of the frames to keep; the others will come again.

        Args:
            keep: whether a frame, by number, keeps its rows.
            after: frame that must be there, if not negative.

        Raises:
            OutputError: what is there is no such table, lacks that frame, or can't be written.
        """
        self._earlier, self._latest, self._ordered = {}, -1, True
        kept = set()
        with atomic_path(self._path) as path, path.open("w", newline="", encoding="utf-8") as file:
            file.write(self._header)
            for index, rows in self._read() if self._path.exists() else ():
                if keep(index):
                    file.write(rows)
                    self._latest = index
                    kept.add(index)
                else:
                    self._earlier[index] = rows
        if after >= 0 and after not in kept:
            raise OutputError(
                f"{self._path} has nothing of frame {after}, after which the run was to go on; "
                "start over with --overwrite."
            )
        try:
            self._file = self._path.open("a", newline="", encoding="utf-8")
        except OSError as error:
            raise OutputError(f"Cannot write {self._path}: {error.strerror or error}.") from error

    def write(self, index: int, rows: str) -> bool:
        """Append all rows of a frame; whether it had other ones before."""
        if self._file is None:
            raise OutputError(f"{self._path} is not open; call begin() before write().")
        self._ordered &= index > self._latest
        self._latest = index
        self._file.write(rows)
        # A killed process loses what Python still holds, not what the system was given.
        self._file.flush()
        return self._earlier.get(index, rows) != rows

    def close(self) -> None:
        """Close the table, and put its rows in order."""
        if self._file is None:
            return
        self._file.close()
        self._file = None
        if not self._ordered:
            found = dict(self._read())
            with (
                atomic_path(self._path) as path,
                path.open("w", newline="", encoding="utf-8") as file,
            ):
                file.write(self._header)
                file.writelines(found[index] for index in sorted(found))

    def count(self) -> int:
        """Frames that have rows."""
        return sum(1 for _ in self._read())

    def _read(self) -> Iterator[tuple[int, str]]:
        """Rows of each frame; what a killed process left of a last line is passed over."""
        try:
            with self._path.open(newline="", encoding="utf-8") as file:
                if file.readline() != self._header:
                    raise ValueError("another header")
                lines = (line for line in file if line.endswith("\n"))
                for index, rows in groupby(lines, key=lambda line: int(line.split(",", 1)[0])):
                    yield index, "".join(rows)
        except (OSError, ValueError) as error:
            raise OutputError(
                f"{self._path} is no table of this run ({error}); start over with --overwrite."
            ) from error
