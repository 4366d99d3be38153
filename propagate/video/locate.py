"""Where a clip lies on disk: checked paths, near names for typing errors, an identity."""

from __future__ import annotations

import difflib
from pathlib import Path

from propagate.errors import ClipError


def existing_path(path: Path) -> Path:
    """`path`, absolute.

    Raises:
        ClipError: nothing is there; the message suggests near names.
    """
    if path.exists():
        return path.absolute()
    folder = path.parent
    if not folder.is_dir():
        raise ClipError(f"There is no clip {path}: the folder {folder} does not exist.")
    names = sorted(entry.name for entry in folder.iterdir())
    near = difflib.get_close_matches(path.name, names, n=3, cutoff=0.6)
    hint = f"; did you mean {' or '.join(near)}?" if near else "; check the path."
    raise ClipError(f"There is no file or folder {path.name} in {folder.absolute()}{hint}")


def existing_file(path: Path) -> Path:
    """`path`, absolute.

    Raises:
        ClipError: it is missing, a folder, or empty.
    """
    path = existing_path(path)
    if path.is_dir():
        raise ClipError(f"{path} is a folder; give a file, or read it as images.")
    if path.stat().st_size == 0:
        raise ClipError(f"{path} is empty (0 bytes); copy or download it again.")
    return path


def file_identity(path: Path) -> str:
    """Absolute path, size and modification time: changes when the file does."""
    stat = path.stat()
    return f"{path.absolute()} ({stat.st_size} bytes, mtime {stat.st_mtime_ns} ns)"
