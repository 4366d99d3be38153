"""Mask formats by name, and which of them a file or folder is in."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from propagate.errors import InputError, LabelError
from propagate.labels import formats

if TYPE_CHECKING:
    from propagate.labels.format_base import MaskFormat


@cache
def format_names() -> tuple[str, ...]:
    """Names of all formats, without importing any."""
    modules = pkgutil.iter_modules(formats.__path__)
    return tuple(sorted(module.name.replace("_", "-") for module in modules))


def get_format(name: str) -> MaskFormat:
    """The format called `name`.

    Raises:
        InputError: there is none.
    """
    if name not in format_names():
        raise InputError(
            f"There is no mask format {name!r}; choose one of {', '.join(format_names())}."
        )
    module = import_module(f"{formats.__name__}.{name.replace('-', '_')}")
    found: MaskFormat = module.FORMAT
    return found


def detect_format(path: Path) -> MaskFormat:
    """The format of an existing file or folder.

    Raises:
        LabelError: nothing is there, or it fits no format or several.
    """
    if not path.exists():
        raise LabelError(f"There is nothing at {path}; give the file or folder that has the masks.")
    found = [entry for entry in map(get_format, format_names()) if entry.detect(path)]
    if len(found) == 1:
        return found[0]
    if found:
        names = " or ".join(entry.name for entry in found)
        raise LabelError(f"{path} may be {names}; say which with --from.")
    kind = path.is_dir()
    candidates = [name for name in format_names() if get_format(name).folder == kind]
    raise LabelError(
        f"{path} looks like no mask {'folder' if kind else 'file'} that is known; if it is one of "
        f"{', '.join(candidates)}, say which with --from."
    )
