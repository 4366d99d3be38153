"""A zip of predicted masks, as the evaluation server of DAVIS takes it."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

from propagate.output.atomic import atomic_path


def write_submission(predictions: Path, units: Sequence[str], target: Path) -> None:
    """Pack `<unit>/<frame>.png` of all units, with nothing above it.

    Args:
        predictions: holds a folder per unit.
        units: their names.
        target: zip file to write.
    """
    with (
        atomic_path(target) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive,
    ):
        for unit in units:
            for path in sorted((predictions / unit).glob("*.png")):
                archive.write(path, f"{unit}/{path.name}")
