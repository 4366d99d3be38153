"""Files that appear whole or not at all."""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from propagate.errors import OutputError

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.\w+")


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process left of files it was writing with `atomic_path`."""
    for path in folder.glob(".*"):
        if _TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Make an output folder and those above it, where they are not there yet.

    Raises:
        OutputError: it can't be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"The output folder {path} can't be made ({error.strerror}); choose another."
        ) from error


@contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `target`, and put it in place when the block succeeds.

    It lies in the folder of `target`, since renaming is atomic within a file system only, and keeps
    the suffix, since image and video writers go by it. On an error the temporary file is removed
    and `target` is as it was.

    Raises:
        OutputError: the folder does not exist, or `target` cannot be replaced.
    """
    target = Path(target)
    if not target.parent.is_dir():
        raise OutputError(f"Cannot write {target}: there is no folder {target.parent}; create it.")
    # Not from `tempfile`, whose files only their owner may read.
    temporary = target.with_name(f".{target.stem[:40]}.{uuid4().hex[:8]}{target.suffix}")
    try:
        yield temporary
        try:
            temporary.replace(target)
        except OSError as error:
            raise OutputError(f"Cannot write {target}: {error.strerror or error}.") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(target: str | Path) -> Iterator[Path]:
    """Give a temporary folder beside `target`, and put it in place when the block succeeds.

    What was at `target` is removed then, and not before. On an error it is as it was.

    Raises:
        OutputError: the folder above does not exist, or `target` cannot be replaced.
    """
    target = Path(target).absolute()
    if not target.parent.is_dir():
        raise OutputError(f"Cannot write {target}: there is no folder {target.parent}; create it.")
    temporary, old = (
        target.with_name(f".{target.name[:40]}.{uuid4().hex[:8]}.{kind}") for kind in ("new", "old")
    )
    try:
        temporary.mkdir()
        yield temporary
        if target.exists():
            target.rename(old)
        try:
            temporary.rename(target)
        except OSError:
            if old.exists():
                old.rename(target)
            raise
    except OSError as error:
        raise OutputError(f"Cannot write {target}: {error.strerror or error}.") from error
    finally:
        for folder in (temporary, old):
            shutil.rmtree(folder, ignore_errors=True)


def check_replaceable(
    target: Path, *, source: Path, folder: bool, suffixes: Collection[str], overwrite: bool
) -> None:
    """Check that a file or folder may be written at `target`.

    Args:
        target: where. A folder that is there may be replaced only if every file in it has one of
            `suffixes`, so that nothing is lost that is not a result.
        source: what it is made from, which must not be or lie there.
        folder: whether a folder is to be written.
        suffixes: in lower case.
        overwrite: whether the user allows to replace.

    Raises:
        OutputError: it may not.
    """
    if target.resolve() in (source.resolve(), *source.resolve().parents):
        raise OutputError(f"{target} is or holds the source, {source}; choose another place.")
    if not target.exists():
        return
    if target.is_dir() != folder:
        kinds = ("folder", "file") if target.is_dir() else ("file", "folder")
        raise OutputError(f"{target} is a {kinds[0]}, not a {kinds[1]}; choose another name.")
    if folder and not any(target.iterdir()):
        return
    if not overwrite:
        raise OutputError(f"{target} exists; replace it with --overwrite, or choose another name.")
    for item in target.rglob("*") if folder else ():
        if item.is_symlink() or (item.is_file() and item.suffix.lower() not in suffixes):
            raise OutputError(
                f"{target} holds {item.relative_to(target)}, which is no such result, so nothing "
                "in it is touched; choose another folder."
            )
