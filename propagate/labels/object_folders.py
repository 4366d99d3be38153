"""A folder per object with a picture per frame: how the folders are named, and their files."""

from __future__ import annotations

import re
from pathlib import Path

from propagate.errors import LabelError
from propagate.labels.clip_labels import ClipObject, FrameRef, frame_refs
from propagate.labels.mask_folders import image_mode, natural_order, sorted_files, sub_folders

_NAMED = re.compile(r"(\d+)(?:-(.*))?", re.ASCII)


def first_mode(path: Path) -> str:
    """Pixel mode of the first picture in the first folder; empty where there is none."""
    if not path.is_dir() or sorted_files(path, ".png", ".txt", ".json"):
        return ""
    for folder in sub_folders(path):
        files = sorted_files(folder, ".png")
        if files:
            return image_mode(files[0])
    return ""


def folder_name(known: ClipObject) -> str:
    """`ID` or `ID-NAME`, with what is no letter, digit, dot or line replaced."""
    label = known.category or known.name
    safe = re.sub(r"[^\w.]+", "_", label)
    return f"{known.id}-{safe}" if safe else str(known.id)


class ObjectFolders:
    """The files of a clip by object.

    Folders are `ID` or `ID-NAME`; where any has another name, all are numbered in their order.

    Args:
        path: the folder of folders.

    Raises:
        LabelError: there is no picture, or two folders have one id.
    """

    def __init__(self, path: Path) -> None:
        folders = [f for f in sub_folders(path) if sorted_files(f, ".png")] if path.is_dir() else []
        if not folders:
            raise LabelError(
                f"{path} holds no folder with .png files; give one with a folder per object."
            )
        self.files: dict[int, dict[str, Path]] = {}
        objects = []
        matches = [_NAMED.fullmatch(folder.name) for folder in folders]
        for position, (folder, match) in enumerate(zip(folders, matches, strict=True), start=1):
            if all(matches) and match:
                object_id, label = int(match[1]), match[2] or ""
            else:
                object_id, label = position, folder.name
            if object_id in self.files:
                raise LabelError(f"{path} has two folders of object {object_id}; rename one.")
            objects.append(ClipObject(object_id, category=label))
            self.files[object_id] = {file.stem: file for file in sorted_files(folder, ".png")}
        self.objects = tuple(objects)
        self.first = next(file for files in self.files.values() for file in files.values())
        self.frames = self._frames(path)

    def _frames(self, path: Path) -> tuple[FrameRef, ...]:
        """All frames that any object has a picture of."""
        stems = {stem for files in self.files.values() for stem in files}
        files = natural_order([path / f"{stem}.png" for stem in stems])
        return frame_refs([file.stem for file in files])
