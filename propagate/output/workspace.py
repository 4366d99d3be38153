"""Where a run keeps features and the soft labels of its passes."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from propagate.errors import InputError
from propagate.features.stored import list_maps


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """A folder of its own, that may be removed at any time when no run uses it.

    Args:
        folder: made when needed.
        keep: bytes of features that may stay when a run is complete.
    """

    folder: Path
    keep: int = 0

    def __post_init__(self) -> None:
        if self.keep < 0:
            raise InputError(f"The cache may take {self.keep} bytes; it must be 0 or more.")

    @property
    def maps(self) -> Path:
        """Folder of features."""
        return self.folder / "maps"

    @property
    def forward(self) -> Path:
        """Folder of the forward pass."""
        return self.folder / "forward"

    @property
    def backward(self) -> Path:
        """Folder of the backward pass."""
        return self.folder / "backward"

    def take_maps(self, other: Workspace) -> None:
        """Copy the features that another workspace has; a `MapStore` looks whether they fit."""
        if other.maps.is_dir():
            shutil.copytree(other.maps, self.maps, dirs_exist_ok=True)

    def forget_passes(self) -> None:
        """Remove what the passes left."""
        for folder in (self.forward, self.backward):
            shutil.rmtree(folder, ignore_errors=True)

    def remove(self) -> None:
        """Remove all of it, and the folder if nothing else is in it."""
        self.forget_passes()
        shutil.rmtree(self.maps, ignore_errors=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def tidy(self) -> None:
        """Remove what a complete run needs no more, and features beyond `keep`, the last first."""
        self.forget_passes()
        if self.keep == 0:
            self.remove()
            return
        total = 0
        for name in list_maps(self.maps):
            path = self.maps / name.file
            total += path.stat().st_size
            if total > self.keep:
                path.unlink(missing_ok=True)
