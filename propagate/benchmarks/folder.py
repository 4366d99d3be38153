"""The folder of one evaluation: predictions that survive a kill, scores, table, plots, record."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from propagate.benchmarks.base import Row
from propagate.benchmarks.units import Predicted, predicted_in
from propagate.output.atomic import atomic_path, make_folder, remove_leftovers
from propagate.output.record_folder import RecordFolder


class EvalFolder(RecordFolder):
    """Paths, predictions and record (`summary.json`) of an evaluation; see `RecordFolder`."""

    job = "evaluation"

    def __init__(self, path: Path, config: Mapping[str, Any], *, overwrite: bool) -> None:
        super().__init__(path, config, mode="overwrite" if overwrite else "resume")

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
        shutil.rmtree(self._replaced, ignore_errors=True)
        if self._replaces and self.predictions.exists():
            # At once, so that a kill in between leaves no predictions of other settings.
            self.predictions.rename(self._replaced)
            shutil.rmtree(self._replaced, ignore_errors=True)
        make_folder(self.predictions)

    def predicted(self, unit: str) -> Predicted | None:
        """How the predictions of a unit came about, where they are complete."""
        return None if self._replaces else predicted_in(self.of(unit))

    def of(self, unit: str) -> Path:
        """The folder of a unit's predictions."""
        return self.predictions / unit

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
    def _replaced(self) -> Path:
        return self.path / ".replaced"
