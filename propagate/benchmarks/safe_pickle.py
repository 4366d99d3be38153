"""Reading pickles of plain arrays without running what else a pickle can hold."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from propagate.errors import InputError

_KINDS = "biufSU"
_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
_NUMERIC = ("numpy.core.numeric", "numpy._core.numeric")


def load_arrays(path: Path) -> Any:
    """The content of a pickle that holds nothing but arrays, dicts, lists, strings and numbers.

    Args:
        path: of the file.

    Raises:
        InputError: it holds anything else, which is not run, or is damaged.
    """
    try:
        with path.open("rb") as file:
            return _Plain(file).load()
    except InputError as error:
        raise InputError(f"{path} {error}") from error
    except Exception as error:  # a damaged pickle raises whatever its opcodes stumbled on
        raise InputError(f"{path} is damaged ({error}); fetch it again.") from error


class _Plain(pickle.Unpickler):
    """Knows the few names that NumPy writes for arrays of numbers and texts."""

    def find_class(self, module: str, name: str) -> Any:
        found = _allowed().get((module, name))
        if found is None:
            raise InputError(
                f"asks for {module}.{name}, which plain arrays don't need and which could run "
                "code, so it is not read; fetch the file from where it was published."
            )
        return found

    def persistent_load(self, pid: Any) -> Any:
        del pid
        raise InputError("refers to something outside itself, so it is not read.")


def _allowed() -> Mapping[tuple[str, str], Callable[..., Any] | type]:
    known: dict[tuple[str, str], Callable[..., Any] | type] = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): _dtype,
        ("_codecs", "encode"): _latin,
        ("__builtin__", "bytes"): _no_bytes,
        ("builtins", "bytes"): _no_bytes,
    }
    known |= {(module, "_reconstruct"): _reconstruct for module in _MULTIARRAY}
    known |= {(module, "_frombuffer"): _from_buffer for module in _NUMERIC}
    return known


def _dtype(text: object, *_: object) -> np.dtype[Any]:
    """A type of numbers or texts; objects could be anything, records could hold objects."""
    found = np.dtype(text) if isinstance(text, str) else None
    if found is None or found.kind not in _KINDS:
        raise InputError(f"has an array of type {text}, which is no plain one, so it is not read.")
    return found


def _reconstruct(kind: object, shape: object, code: object) -> Any:
    if kind is not np.ndarray or shape != (0,) or code not in (b"b", "b"):
        raise InputError("has an array that NumPy did not write, so it is not read.")
    return np.ndarray((0,), np.int8)


def _from_buffer(
    buffer: bytes, dtype: np.dtype[Any], shape: tuple[int, ...], order: str
) -> np.ndarray:
    if not isinstance(dtype, np.dtype) or dtype.kind not in _KINDS or order not in ("C", "F"):
        raise InputError("has an array that NumPy did not write, so it is not read.")
    return np.frombuffer(buffer, dtype).reshape(shape, order="F" if order == "F" else "C")


def _no_bytes() -> bytes:
    """What pickles of old protocols write for no bytes at all."""
    return b""


def _latin(text: object, encoding: object = "latin1") -> bytes:
    """What pickles of old protocols write for bytes."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise InputError("has a text in an odd encoding, so it is not read.")
    return text.encode("latin1")
