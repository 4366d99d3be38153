"""Soft labels of one pass over a clip on disk: its result, and its state if it is cut short."""

from __future__ import annotations

import json
import re
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from propagate.errors import OutputError
from propagate.output.atomic import atomic_path, make_folder, remove_leftovers
from propagate.types import LabelField

_NAME = re.compile(r"(\d{6,})\.safetensors", re.ASCII)


class FieldStore:
    """A folder with a file per frame; what it gives back has the same bits as what was put in.

    Args:
        folder: made when missing; holds nothing else.
        device: where fields go.
    """

    def __init__(self, folder: Path, *, device: torch.device | str = "cpu") -> None:
        self._folder = folder
        self._device = torch.device(device)
        make_folder(folder)
        remove_leftovers(folder)
        found = (_NAME.fullmatch(path.name) for path in folder.iterdir())
        self._indices = {int(match[1]) for match in found if match}

    def __contains__(self, index: object) -> bool:
        return index in self._indices

    def save(self, index: int, field: LabelField) -> None:
        """Keep the soft labels of a frame."""
        tensors = {"scores": field.scores.cpu().contiguous()}
        if field.similarity is not None:
            tensors["similarity"] = field.similarity.cpu().contiguous()
        with atomic_path(self._path(index)) as path:
            save_file(tensors, path, metadata={"ids": json.dumps(field.ids)})
        self._indices.add(index)

    def load(self, index: int) -> LabelField:
        """The soft labels of a frame that has some.

        Raises:
            OutputError: the file is damaged.
        """
        path = self._path(index)
        try:
            with safe_open(path, framework="pt", device=str(self._device)) as file:
                ids = tuple(int(i) for i in json.loads((file.metadata() or {})["ids"]))
                names = set(file.keys())
                similarity = file.get_tensor("similarity") if "similarity" in names else None
                return LabelField(file.get_tensor("scores"), ids, similarity)
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            raise OutputError(
                f"{path} is damaged ({error}); delete it and continue with --resume."
            ) from error

    def clear(self) -> None:
        """Remove all fields."""
        for index in self._indices:
            self._path(index).unlink(missing_ok=True)
        self._indices = set()

    def _path(self, index: int) -> Path:
        return self._folder / f"{index:06d}.safetensors"
