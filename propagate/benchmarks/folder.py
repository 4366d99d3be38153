"""The folder of one evaluation: predictions that survive a kill, scores, table, plots, record."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from propagate.benchmarks.base import Row
from propagate.errors import OutputError
from propagate.output.atomic import atomic_folder, atomic_path, make_folder, remove_leftovers
from propagate.output.record_folder import RecordFolder


@dataclass(frozen=True)
class Predicted:
    """How the predictions of a unit came about.

    Args:
        frames: how many.
        seconds: wall-clock time.
    """

    frames: int
    seconds: float


class EvalFolder(RecordFolder):
    """Paths, predictions and record (`summary.json`) of an evaluation; see `RecordFolder`."""

    job = "evaluation"

    def __init__(self, path: Path, config: Mapping[str, Any], *, overwrite: bool) -> None:
        super().__init__(path, config, mode="overwrite" if overwrite else "resume")
        self._predicted: dict[str, Predicted] = {}
        if self._started and self._index.exists():
            self._predicted = self._read_index()

    @property
    def record_path(self) -> Path:
        """Settings, versions and scores as JSON."""
        return self.path / "summary.json"

    @property
    def predictions(self) -> Path:
        """A folder of predictions per unit."""
        return self.path / "predictions"

    @property
    def table(self) -> Path:
        """A row of scores per unit or item."""
        return self.path / "scores.csv"

    @property
    def markdown(self) -> Path:
        """The table with the published rows."""
        return self.path / "table.md"

    @property
    def bars(self) -> Path:
        """The first metric of every unit."""
        return self.path / "bars.png"

    @property
    def curve(self) -> Path:
        """A metric over its threshold."""
        return self.path / "curve.png"

    @property
    def worst(self) -> Path:
        """The worst units as pictures."""
        return self.path / "worst.png"

    @property
    def submission(self) -> Path:
        """Predictions as an evaluation server takes them."""
        return self.path / "submission.zip"

    def prepare(self) -> None:
        """Make the folder, without what an earlier evaluation left if it is to be replaced.

        Raises:
            OutputError: the folder can't be made.
        """
        make_folder(self.path)
        remove_leftovers(self.path)
        for path in (self.table, self.markdown, self.bars, self.curve, self.worst, self.submission):
            path.unlink(missing_ok=True)
        if self._replaces:
            # First, so that a kill in between leaves no predictions of other settings.
            self._index.unlink(missing_ok=True)
            shutil.rmtree(self.predictions, ignore_errors=True)
        make_folder(self.predictions)

    def predicted(self, unit: str) -> Predicted | None:
        """How the predictions of a unit came about, where they are complete."""
        return self._predicted.get(unit) if self.of(unit).is_dir() else None

    def needs(self, units: Sequence[str]) -> bool:
        """Whether any unit has no complete predictions."""
        return any(self.predicted(unit) is None for unit in units)

    def of(self, unit: str) -> Path:
        """The folder of a unit's predictions."""
        return self.predictions / unit

    @contextmanager
    def writing(self, unit: str) -> Iterator[Path]:
        """An empty folder, which becomes the unit's when the block succeeds."""
        make_folder(self.of(unit).parent)
        with atomic_folder(self.of(unit)) as folder:
            yield folder

    def add(self, unit: str, predicted: Predicted) -> None:
        """Note that the predictions of a unit are complete."""
        self._predicted[unit] = predicted
        content = {name: vars(item) for name, item in self._predicted.items()}
        with atomic_path(self._index) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    def write_table(self, rows: Sequence[Row]) -> None:
        """Write the rows as CSV, every metric a column."""
        metrics = list(dict.fromkeys(name for row in rows for name in row.scores))
        with (
            atomic_path(self.table) as temporary,
            temporary.open("w", encoding="utf-8", newline="") as file,
        ):
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["unit", "item", *metrics])
            for row in rows:
                writer.writerow([row.unit, row.item, *(row.scores.get(m, "") for m in metrics)])

    @property
    def _index(self) -> Path:
        return self.path / "predicted.json"

    def _read_index(self) -> dict[str, Predicted]:
        try:
            content = json.loads(self._index.read_text(encoding="utf-8"))
            return {
                str(name): Predicted(int(item["frames"]), float(item["seconds"]))
                for name, item in content.items()
            }
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise OutputError(
                f"{self._index} can't be read ({error}); start over with --overwrite."
            ) from error
