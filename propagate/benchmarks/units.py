"""One unit of an evaluation: predicted into a folder of its own that appears whole, then scored."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

from propagate.benchmarks.base import Benchmark, E, UnitScore
from propagate.config import Preset
from propagate.errors import OutputError
from propagate.output.atomic import atomic_folder, make_folder

_FACTS = "predicted.json"


@dataclass(frozen=True)
class Predicted:
    """How the predictions of a unit came about.

    Args:
        frames: how many; images of pairs count too.
        seconds: wall-clock time.
    """

    frames: int
    seconds: float


def predicted_in(folder: Path) -> Predicted | None:
    """How the predictions in a folder came about; None where there are none.

    Raises:
        OutputError: the note of it is damaged.
    """
    path = folder / _FACTS
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Predicted(int(content["frames"]), float(content["seconds"]))
    except (ValueError, KeyError, TypeError) as error:
        raise OutputError(
            f"{path} can't be read ({error}); remove {folder} to predict it again."
        ) from error


def do_unit(
    benchmark: Benchmark[E], unit: str, settings: Preset, engine: E | None, folder: Path
) -> UnitScore | None:
    """Predict and score a unit.

    Args:
        benchmark: that has it.
        unit: its name.
        settings: model and settings.
        engine: what predicts; None where the predictions are there already.
        folder: of its predictions.

    Returns:
        Its scores, where there is a truth.

    Raises:
        PropagateError: the data or the settings can't be used.
    """
    if engine is not None:
        start = time.perf_counter()
        make_folder(folder.parent)
        with atomic_folder(folder) as target:
            frames = benchmark.predict(unit, settings, engine, target)
            facts = Predicted(frames, round(time.perf_counter() - start, 3))
            (target / _FACTS).write_text(json.dumps(vars(facts)) + "\n", encoding="utf-8")
    return benchmark.score(unit, folder) if benchmark.scored else None
