"""The context window on disk, so that an interrupted run goes on as if nothing had happened.

Only soft labels are saved, exactly as they were; features are computed again when needed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from propagate.errors import OutputError
from propagate.output.atomic import atomic_path
from propagate.types import LabelField


@dataclass(frozen=True)
class SavedLabels:
    """The labels of one context frame.

    Args:
        index: index of the frame in its clip.
        labels: its soft labels.
        pinned: whether a user gave them.
    """

    index: int
    labels: LabelField
    pinned: bool


@dataclass(frozen=True)
class Progressed:
    """How far an interrupted run came.

    Args:
        done: index of the last frame that has its labels, -1 for none.
        context: the frames that vote for the next one, oldest first within references and results.
    """

    done: int = -1
    context: Sequence[SavedLabels] = ()


def save_checkpoint(path: Path, progressed: Progressed) -> None:
    """Write how far a run came, atomically."""
    entries = progressed.context
    tensors = {
        f"{i:04d}": entry.labels.scores.cpu().contiguous() for i, entry in enumerate(entries)
    }
    facts = [
        {"index": entry.index, "ids": list(entry.labels.ids), "pinned": entry.pinned}
        for entry in entries
    ]
    with atomic_path(path) as temporary:
        metadata = {"context": json.dumps({"done": progressed.done, "frames": facts})}
        save_file(tensors, temporary, metadata=metadata)


def load_checkpoint(path: Path) -> Progressed:
    """Read what `save_checkpoint` wrote.

    Raises:
        OutputError: when the file is damaged or something else.
    """
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})["context"])
            context = [
                SavedLabels(
                    index=int(fact["index"]),
                    labels=LabelField(file.get_tensor(f"{i:04d}"), tuple(map(int, fact["ids"]))),
                    pinned=bool(fact["pinned"]),
                )
                for i, fact in enumerate(facts["frames"])
            ]
            return Progressed(int(facts["done"]), context)
    except (SafetensorError, KeyError, ValueError, TypeError, OSError) as error:
        raise OutputError(
            f"{path} is not a checkpoint of this program ({error}); start over with --overwrite."
        ) from error
