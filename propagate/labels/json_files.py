"""JSON label files: reading with errors that name the place."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from propagate.errors import InputError, LabelError

T = TypeVar("T")

_WORDS: Mapping[type, str] = {
    dict: "an object",
    list: "a list",
    str: "a text",
    int: "a whole number",
    float: "a number",
}


class Node:
    """A value of a JSON file that knows where it stands.

    Args:
        value: as `json` gives it.
        path: the file.
        place: for messages, as `annotations[3].bbox`.
    """

    def __init__(self, value: Any, path: Path, place: str = "") -> None:
        self.value = value
        self.path = path
        self.place = place

    def __getitem__(self, key: str) -> Node:
        """A member that must be there.

        Raises:
            LabelError: this is no object, or has no such member.
        """
        if key not in self.as_(dict):
            raise self.error(f"has no {key!r}")
        return self.get(key)

    def get(self, key: str) -> Node:
        """A member; of value None if it is absent."""
        return Node(self.as_(dict).get(key), self.path, f"{self.place}.{key}".lstrip("."))

    def items(self) -> list[Node]:
        """The entries of a list.

        Raises:
            LabelError: this is none.
        """
        entries = self.as_(list)
        return [Node(value, self.path, f"{self.place}[{i}]") for i, value in enumerate(entries)]

    def members(self) -> list[tuple[str, Node]]:
        """The members of an object by name.

        Raises:
            LabelError: this is none.
        """
        return [(key, self.get(key)) for key in self.as_(dict)]

    def as_(self, kind: type[T]) -> T:
        """The value, which must be of a kind; a whole number is a number too.

        Raises:
            LabelError: it is of another one.
        """
        value = float(self.value) if kind is float and type(self.value) is int else self.value
        if type(value) is not kind:
            raise self.error(f"is {_shown(self.value)}, not {_WORDS[kind]}")
        return value

    def text(self) -> str:
        """The value where it is a text, else an empty one."""
        return self.value if isinstance(self.value, str) else ""

    def size(self, value: int) -> int:
        """Check that a width or height is one.

        Raises:
            LabelError: it is not.
        """
        if not 1 <= value <= 1 << 16:
            raise self.error(f"has a width or height of {value}; it must be 1 to 65536 pixels")
        return value

    def error(self, what: str) -> LabelError:
        """A message about this place."""
        return LabelError(f"{self.path}: {self.place or 'the file'} {what}.")


def read_json(path: Path) -> Node:
    """Read a JSON file.

    Raises:
        LabelError: it can't be read or is no JSON; the line is named.
    """
    try:
        return Node(json.loads(path.read_bytes()), path)
    except json.JSONDecodeError as error:
        raise LabelError(f"{path} is not valid JSON: line {error.lineno}: {error.msg}.") from error
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise LabelError(f"{path} can't be read ({error}).") from error


def has_keys(path: Path, *keys: str) -> bool:
    """Whether a .json file mentions all of these keys; quick, for telling formats apart."""
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    data = path.read_bytes()
    return all(f'"{key}"'.encode() in data for key in keys)


def choose_video(names: Sequence[str], wanted: str | None, path: Path) -> int:
    """Position of the clip to read in a file that may have several.

    Raises:
        LabelError: there is none.
        InputError: it is unclear which, or `wanted` is not among them.
    """
    if not names:
        raise LabelError(f"{path} holds no video.")
    if wanted is None and len(names) == 1:
        return 0
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    if wanted is None:
        raise InputError(f"{path} holds {len(names)} videos ({shown}); name one with --video.")
    if wanted not in names:
        raise InputError(f"{path} holds no video {wanted!r}; it has {shown}.")
    return names.index(wanted)


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
