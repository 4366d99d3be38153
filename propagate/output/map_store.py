"""Feature maps of one clip on disk, so that no frame goes through the network twice."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from propagate.errors import ModelError
from propagate.features.stored import MapName, list_maps, pack_map, read_map
from propagate.output.atomic import atomic_path, make_folder, remove_leftovers
from propagate.types import FeatureMap, Frame

_IDENTITY = "identity.json"


class MapStore:
    """A folder with a file per map, unit-norm, in the type that similarities are computed in.

    What it gives back has the same bits as what was put in. Maps that another extractor made, or
    of another clip, are removed when the store is opened.

    Args:
        folder: made when missing; holds nothing else.
        identity: of the extractor.
        source: of the clip.
        device: where maps go.
    """

    def __init__(
        self, folder: Path, *, identity: str, source: str, device: torch.device | str = "cpu"
    ) -> None:
        self._folder = folder
        self._device = torch.device(device)
        make_folder(folder)
        remove_leftovers(folder)
        self._names = {name.frame: name for name in list_maps(folder)}
        content = json.dumps({"extractor": identity, "clip": source}, indent=2) + "\n"
        record = folder / _IDENTITY
        if not record.is_file() or record.read_text(encoding="utf-8") != content:
            for name in self._names.values():
                (folder / name.file).unlink(missing_ok=True)
            self._names = {}
            with atomic_path(record) as path:
                path.write_text(content, encoding="utf-8")
        self._nbytes = sum((folder / name.file).stat().st_size for name in self._names.values())

    def __contains__(self, index: object) -> bool:
        return index in self._names

    @property
    def indices(self) -> list[int]:
        """Frames that have a map, ascending."""
        return sorted(self._names)

    @property
    def nbytes(self) -> int:
        """Space the maps take, in bytes."""
        return self._nbytes

    def save(self, frame: Frame, features: FeatureMap) -> None:
        """Keep the map of a frame, unless that was done."""
        if frame.index in self:
            return
        name = MapName.of(frame)
        content = pack_map(features, frame, name)
        with atomic_path(self._folder / name.file) as path:
            path.write_bytes(content)
        self._names[frame.index] = name
        self._nbytes += len(content)

    def load(self, index: int) -> FeatureMap:
        """The map of a frame that has one.

        Raises:
            ModelError: the file is damaged.
        """
        if index not in self._names:
            raise ModelError(f"{self._folder} has no features of frame {index}; run it again.")
        name = self._names[index]
        item = read_map(self._folder / name.file, name)
        data = item.data.to(self._device)
        return FeatureMap(data, item.image_size, item.input_size, unit=item.unit)
