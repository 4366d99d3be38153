"""The folder of one sweep: results that survive a kill, the table, and the record."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from propagate.errors import OutputError
from propagate.output.atomic import atomic_path, make_folder, remove_leftovers
from propagate.output.record_folder import Mode, RecordFolder

Key = frozenset[tuple[str, str]]
"""The knobs of a combination and their values as text, in any order."""


class SweepFolder(RecordFolder):
    """Paths, results and record of a sweep.

    Args:
        path: the folder; made when missing.
        config: what all combinations have in common, and the data. A resumed sweep must agree in
            all of it; the values that are swept may be others.
        mode: "new" refuses a folder that has anything in it, "overwrite" replaces an earlier sweep
            (and nothing else), "resume" keeps its results.

    Making the object only checks; `prepare` is the first to write.

    Raises:
        OutputError: as said under `mode`, when `config` differs from that of the sweep to resume,
            or when its files are damaged.
    """

    job = "sweep"

    def __init__(self, path: Path, config: Mapping[str, Any], *, mode: Mode) -> None:
        super().__init__(path, config, mode=mode)
        self._results: dict[tuple[Key, str], dict[str, Any]] = {}
        self._kept = b""
        if self._started:
            self._load()

    @property
    def record_path(self) -> Path:
        """Settings, versions and scores as JSON."""
        return self.path / "sweep.json"

    @property
    def table(self) -> Path:
        """A row per combination."""
        return self.path / "sweep.csv"

    @property
    def picture(self) -> Path:
        """The heat map."""
        return self.path / "heatmap.png"

    @property
    def results(self) -> Path:
        """A line of JSON per combination and unit, in the order they were done."""
        return self.path / "results.jsonl"

    def prepare(self) -> None:
        """Make the folder, holding the results to keep and nothing else of an earlier sweep.

        Raises:
            OutputError: the folder can't be made.
        """
        make_folder(self.path)
        remove_leftovers(self.path)
        for outcome in (self.table, self.picture):
            outcome.unlink(missing_ok=True)
        if not self._kept:
            # Before the record, so that a kill in between leaves no results of other settings.
            self.results.unlink(missing_ok=True)
        self.write_record("running")
        with atomic_path(self.results) as temporary:
            temporary.write_bytes(self._kept)

    def find(self, key: Key, unit: str) -> dict[str, Any] | None:
        """The scores of a combination on a unit, if they are there."""
        return self._results.get((key, unit))

    def add(self, labels: Mapping[str, str], unit: str | None, **facts: Any) -> None:
        """Append a result, or an error; when this returns it is on the disk.

        Args:
            labels: the combination.
            unit: what was scored, or None for an error that holds for all.
            facts: the result, or `error`.
        """
        line = {"combination": dict(labels), "unit": unit, **facts}
        with self.results.open("ab") as file:
            file.write(json.dumps(line).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._take(line)

    def write_table(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Write the rows, whose keys are the columns, as CSV."""
        with (
            atomic_path(self.table) as temporary,
            temporary.open("w", encoding="utf-8", newline="") as file,
        ):
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

    def _load(self) -> None:
        """Read the results that are whole; the last line may have been cut off by a kill."""
        data = self.results.read_bytes() if self.results.exists() else b""
        lines = data.split(b"\n")[:-1]
        for number, line in enumerate(lines, start=1):
            try:
                self._take(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError):
                if number == len(lines):
                    break
                raise OutputError(
                    f"Line {number} of {self.results} is damaged; remove that line, or start over "
                    "with --overwrite."
                ) from None
            self._kept += line + b"\n"

    def _take(self, line: dict[str, Any]) -> None:
        place = (frozenset(line["combination"].items()), line["unit"])
        if "error" not in line:
            self._results[place] = line
