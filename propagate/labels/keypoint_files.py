"""Keypoint files of every format: which one a file has, reading and writing it."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path

from propagate.errors import LabelError, OutputError
from propagate.labels import keypoint_formats
from propagate.labels.keypoint_formats.base import KeypointFile, KeypointFormat, read_json


@cache
def all_formats() -> Mapping[str, KeypointFormat]:
    """Every format there is, by name."""
    modules = [
        import_module(f"{keypoint_formats.__name__}.{module.name}")
        for module in pkgutil.iter_modules(keypoint_formats.__path__)
    ]
    found = [item for m in modules for item in vars(m).values() if isinstance(item, KeypointFormat)]
    return {item.name: item for item in found}


def is_keypoint_file(path: str | Path) -> bool:
    """Whether a file's ending is one of keypoint files; masks are images."""
    suffix = Path(path).suffix.lower()
    return any(suffix in item.suffixes for item in all_formats().values())


def holds_keypoints(path: Path) -> bool:
    """Whether an existing file holds keypoints; JSON files may as well hold masks."""
    if not path.is_file() or not is_keypoint_file(path):
        return False
    if path.suffix.lower() != ".json":
        return True
    content = read_json(path)
    if not isinstance(content, dict):
        return isinstance(content, list)
    annotations = content.get("annotations")
    return isinstance(annotations, list) and any(
        isinstance(item, dict) and item.get("keypoints") for item in annotations
    )


def read_keypoints(path: str | Path) -> KeypointFile:
    """Read a keypoint file, whose format is told by its ending and its content.

    Returns:
        Places in pixels from the outer corner of the top-left pixel, whatever the file counts in.

    Raises:
        LabelError: no such file, an unknown format, or damage.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise LabelError(f"The keypoint file {path} {what}; give the path of one file.")
    for item in all_formats().values():
        if path.suffix.lower() in item.suffixes and item.matches(path):
            content = item.read(path)
            if not content.frames:
                raise LabelError(f"The keypoint file {path} holds no point; mark some and save it.")
            return content
    raise LabelError(
        f"The keypoint file {path} is of no kind that can be read; take a CSV of "
        "frame,name,x,y,visible, COCO keypoints, a .kp file of x and y a line, or a file of "
        "DeepLabCut, SLEAP, TAP-Vid, JHMDB or BADJA."
    )


def write_keypoints(path: str | Path, content: KeypointFile, *, format_name: str = "csv") -> None:
    """Write a keypoint file.

    Args:
        path: ends as files of the format do.
        content: what to write.
        format_name: csv, coco, deeplabcut or tapvid.

    Raises:
        LabelError: a format that can't be written, or another ending.
        OutputError: the file cannot be written.
    """
    path = Path(path)
    writers = {name: item for name, item in all_formats().items() if item.write is not None}
    item = writers.get(format_name)
    if item is None or item.write is None:
        raise LabelError(
            f"Keypoints can't be written as {format_name!r}; choose from {', '.join(writers)}."
        )
    if path.suffix.lower() not in item.suffixes:
        raise LabelError(
            f"A file of {format_name} ends in {item.suffixes[0]}, so {path.name} can't be one."
        )
    try:
        item.write(path, content)
    except OSError as error:
        raise OutputError(
            f"Cannot write the keypoints {path}: {error.strerror or error}."
        ) from error
