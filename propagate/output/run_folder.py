"""The folder of one run: labels, references, cache, overlay video, contact sheet and run.json."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from propagate.errors import OutputError
from propagate.labels.track_table import TRACK_TABLE
from propagate.output.atomic import make_folder, remove_leftovers
from propagate.output.record_folder import RecordFolder, read_record
from propagate.output.workspace import Workspace

RECORD = "run.json"
REVIEW = "review.html"

_COPY = re.compile(r"\d{6,}\.\w+", re.ASCII)


class RunFolder(RecordFolder):
    """Paths and the record (`run.json`) of one run; see `RecordFolder`."""

    def prepare(self) -> None:
        """Make the folder, without what an earlier run left there if it is to be replaced.

        Raises:
            OutputError: the folder can't be made.
        """
        if self._replaces:
            self._remove_ours()
        make_folder(self.path)
        remove_leftovers(self.path)
        remove_leftovers(self.masks)

    @property
    def moved(self) -> bool:
        """Whether the clip of the run that is continued now lies elsewhere."""
        earlier = self.started.get("config", self._config)
        return bool(earlier["clip"] != self._config["clip"])

    @property
    def masks(self) -> Path:
        """One PNG per frame."""
        return self.path / "masks"

    @property
    def keypoints(self) -> Path:
        """A row per point and frame."""
        return self.path / "keypoints.csv"

    @property
    def tracks(self) -> Path:
        """Confidence and state of every object in every frame, beside masks."""
        return self.path / TRACK_TABLE

    @property
    def overlay(self) -> Path:
        """The labels drawn over the clip."""
        return self.path / "overlay.mp4"

    @property
    def contact_sheet(self) -> Path:
        """A few frames of the overlay in one picture."""
        return self.path / "contact_sheet.png"

    @property
    def record_path(self) -> Path:
        """The resolved configuration and what came of it."""
        return self.path / RECORD

    @property
    def checkpoint(self) -> Path:
        """The context window of an unfinished run."""
        return self.path / "checkpoint.safetensors"

    @property
    def references(self) -> Path:
        """Copies of the files that the user's labels came from."""
        return self.path / "references"

    @property
    def cache(self) -> Path:
        """Features and passes; can be removed at any time, and then is computed again."""
        return self.path / "cache"

    @property
    def review(self) -> Path:
        """The page that `propagate review` makes."""
        return self.path / REVIEW

    def stored_references(self) -> list[Path]:
        """The copies that are there."""
        return [path for path in self.references.glob("*") if _COPY.fullmatch(path.name)]

    def reference_path(self, frame: int, source: Path) -> Path:
        """Where the copy of a frame's reference goes."""
        return self.references / f"{frame:06d}{source.suffix.lower()}"

    def mask_path(self, name: str) -> Path:
        """Where the mask of the frame called `name` goes, always inside the folder."""
        return self.masks / f"{Path(name).name}.png"

    def _remove_ours(self) -> None:
        for item in (
            self.checkpoint,
            self.overlay,
            self.contact_sheet,
            self.keypoints,
            self.tracks,
            self.review,
        ):
            item.unlink(missing_ok=True)
        for files in (self.masks.glob("*.png"), self.stored_references()):
            for item in files:
                item.unlink()
        for folder in (self.masks, self.references):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        Workspace(folder=self.cache).remove()
        # Last, since without it the folder would be a stranger's.
        self.record_path.unlink(missing_ok=True)


def read_run(path: Path) -> dict[str, Any]:
    """The record of the run in a folder.

    Raises:
        OutputError: there is none, or it is damaged.
    """
    if not (path / RECORD).is_file():
        raise OutputError(
            f"{path} holds no run of this program: there is no {path / RECORD}; give the folder "
            "that `propagate run` wrote."
        )
    return read_record(path / RECORD, "run")
