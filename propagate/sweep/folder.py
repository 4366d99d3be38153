"""The folder of one sweep: results that survive a kill, the table, and the record."""

from __future__ import annotations

import csv
import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from propagate.errors import OutputError
from propagate.output.atomic import atomic_path, remove_leftovers

Mode = Literal["new", "overwrite", "resume"]
Key = frozenset[tuple[str, str]]
"""The knobs of a combination and their values as text, in any order."""

_PACKAGES = ("dift-propagate", "torch", "diffusers", "transformers", "opencv-python", "numpy")


class SweepFolder:
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

    def __init__(self, path: Path, config: Mapping[str, Any], *, mode: Mode) -> None:
        self.path = path
        self._config = json.loads(json.dumps(config))
        self._results: dict[tuple[Key, str], dict[str, Any]] = {}
        self._kept = b""
        if path.exists() and not path.is_dir():
            raise OutputError(f"{path} is a file; name a folder for the output.")
        if mode == "resume" and self.record.exists():
            self._check_same()
            self._load()
        elif path.exists() and any(path.iterdir()):
            self._check_replaceable(mode)

    @property
    def record(self) -> Path:
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
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"The output folder {self.path} can't be made ({error.strerror}); choose another."
            ) from error
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

    def write_record(self, status: Literal["running", "complete"], **facts: Any) -> dict[str, Any]:
        """Write status, configuration, versions and `facts`, and return them."""
        record = {"status": status, **self._config, "versions": _versions(), **facts}
        with atomic_path(self.record) as temporary:
            temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        return record

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

    def _check_same(self) -> None:
        try:
            record = json.loads(self.record.read_text(encoding="utf-8"))
            earlier = dict(_flat({name: record[name] for name in self._config}))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise OutputError(
                f"{self.record} is not the record of a sweep ({error!r}); start over with "
                "--overwrite."
            ) from error
        now = dict(_flat(self._config))
        changed = [
            f"{name} was {earlier.get(name)!r} and is now {now.get(name)!r}"
            for name in sorted({*earlier, *now})
            if earlier.get(name) != now.get(name)
        ]
        if changed:
            more = f"; and {len(changed) - 3} more" if len(changed) > 3 else ""
            raise OutputError(
                f"The sweep in {self.path} can't be resumed with other fixed settings or data "
                f"({'; '.join(changed[:3])}{more}); use the same ones, or start over with "
                "--overwrite."
            )

    def _check_replaceable(self, mode: Mode) -> None:
        if not self.record.exists():
            raise OutputError(
                f"{self.path} is not empty and holds no sweep of this program, so nothing in it is "
                "touched; choose another folder."
            )
        if mode != "overwrite":
            raise OutputError(
                f"{self.path} already holds a sweep; continue it with --resume, replace it with "
                "--overwrite, or choose another folder."
            )


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings as dotted names."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: _version(name) for name in _PACKAGES}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
