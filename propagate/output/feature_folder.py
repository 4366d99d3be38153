"""The folder of one extraction: features.json, and the maps of each clip."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

from propagate.errors import OutputError
from propagate.features.stored import (
    FORMAT,
    MAPS,
    RECORD,
    MapName,
    StoredClip,
    list_maps,
    pack_map,
)
from propagate.output.atomic import atomic_path, make_folder, remove_leftovers
from propagate.output.record_folder import Mode, RecordFolder
from propagate.types import FeatureMap, Frame


def write_map(
    folder: Path, frame: Frame, features: FeatureMap, name: MapName, *, advice: str
) -> int:
    """Write the map of a frame, whole or not at all; returns its bytes.

    Args:
        folder: of the clip's maps.
        frame: the picture.
        features: its map, as it is to be stored.
        name: of the file.
        advice: what to do when there is no room, for the message.

    Raises:
        OutputError: it can't be written.
    """
    path = folder / name.file
    content = pack_map(features, frame, name)
    with atomic_path(path) as temporary:
        try:
            temporary.write_bytes(content)
        except OSError as error:
            raise OutputError(
                f"{path} can't be written ({error.strerror}); make room for it and {advice}."
            ) from error
    return len(content)


class FeatureFolder(RecordFolder):
    """The folder of one extraction: `features.json`, and below `maps` a folder for each clip.

    Arguments and errors are those of `RecordFolder`.
    """

    job = "extraction"

    def __init__(self, path: Path, config: Mapping[str, Any], *, mode: Mode) -> None:
        super().__init__(path, config, mode=mode)
        try:
            clips = [StoredClip(**clip) for clip in self._started.get("clips", [])]
        except (TypeError, ValueError) as error:
            raise OutputError(
                f"{self.record_path} is damaged ({error}); start over with --overwrite."
            ) from error
        self._clips = {clip.path: clip for clip in clips}

    @property
    def record_path(self) -> Path:
        """The resolved configuration, and the clips."""
        return self.path / RECORD

    @property
    def clips(self) -> tuple[StoredClip, ...]:
        """All clips, in the order they came."""
        return tuple(self._clips.values())

    def maps_of(self, path: str) -> Path:
        """The folder with the maps of the clip at `path`."""
        return self.path / MAPS / self._clips[path].folder

    def claim(self, path: str, source: str) -> None:
        """Take a clip in, or find it among those that are here.

        Raises:
            OutputError: it is here, and has changed since.
        """
        clip = self._clips.get(path)
        if clip is None:
            taken = {other.folder.casefold() for other in self.clips}
            clip = StoredClip(folder=_free_name(path, taken), path=path, source=source)
        if clip.source != source:
            raise OutputError(
                f"The {self.job} in {self.path} can't be resumed: its clip was {clip.source} and "
                f"is now {source}; start over with --overwrite."
            )
        self._clips[path] = replace(clip, complete=False)

    def finish(self, path: str, notes: Sequence[str]) -> None:
        """Note that all maps of a clip are stored."""
        count = len(list_maps(self.maps_of(path)))
        self._clips[path] = replace(self._clips[path], complete=True, maps=count, notes=notes)

    def prepare(self) -> None:
        """Make the folders, without what an earlier extraction left there if it is replaced.

        Raises:
            OutputError: a folder can't be made.
        """
        if self._replaces:
            self._remove_ours()
        for folder in (self.path, *(self.maps_of(path) for path in self._clips)):
            make_folder(folder)
            remove_leftovers(folder)

    def save(self, extractor: str) -> None:
        """Write `features.json`; complete when all clips are."""
        complete = all(clip.complete for clip in self.clips)
        status: Literal["running", "complete"] = "complete" if complete else "running"
        clips = [asdict(clip) for clip in self.clips]
        self.write_record(status, format=FORMAT, extractor=extractor, clips=clips)

    def _remove_ours(self) -> None:
        maps = self.path / MAPS
        for folder in sorted(maps.iterdir()) if maps.is_dir() else ():
            if folder.is_symlink() or not folder.is_dir():
                continue
            for name in list_maps(folder):
                (folder / name.file).unlink()
            remove_leftovers(folder)
            if not any(folder.iterdir()):
                folder.rmdir()
        # Last, since without it the folder would be a stranger's.
        self.record_path.unlink(missing_ok=True)


def _free_name(path: str, taken: set[str]) -> str:
    """A folder name made of a clip's own, that no other clip has on any file system."""
    stem = re.sub(r"\W+", "_", Path(path).stem).strip("_")[:60] or "clip"
    names = (stem if number == 1 else f"{stem}-{number}" for number in range(1, len(taken) + 2))
    return next(name for name in names if name.casefold() not in taken)
