"""Which files make up a model, in a folder or in a hub repository."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from propagate.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Collection

_DEPTH = 2


def scan(folder: Path) -> list[str]:
    """Files of `folder` and its sub-folders, relative to it, with forward slashes."""
    levels = [folder.glob("/".join("*" * depth)) for depth in range(1, _DEPTH + 1)]
    return sorted(
        path.relative_to(folder).as_posix() for level in levels for path in level if path.is_file()
    )


def weight_files(
    sub: str, stem: str, present: Collection[str], name: str
) -> tuple[tuple[str, ...], str | None]:
    """The weights of one network: plain before fp16, one file before shards, never pickles.

    Args:
        sub: the network's sub-folder, or "" for the folder itself.
        stem: name of the weight file up to its first dot.
        present: paths below the model's folder.
        name: what the error calls the model.

    Returns:
        The files, with the index of shards, and the variant: None or "fp16".

    Raises:
        ModelError: there are none, or as `.bin` only.
    """
    prefix = f"{sub}/" if sub else ""
    for variant, dot in ((None, ""), ("fp16", ".fp16")):
        single = f"{prefix}{stem}{dot}.safetensors"
        if single in present:
            return (single,), variant
        index = f"{prefix}{stem}.safetensors.index{dot}.json"
        shards = sorted(p for p in present if _is_shard(p, f"{prefix}{stem}{dot}"))
        if index in present and shards:
            return (index, *shards), variant
    inside = (path for path in sorted(present) if path.startswith(prefix))
    pickled = next((path for path in inside if path.endswith((".bin", ".pt", ".ckpt"))), None)
    part = f"the weights of its {sub}" if sub else "its weights"
    if pickled is not None:
        raise ModelError(
            f"{name} has {part} as {pickled} only, and pickled weights are refused because "
            "loading them can run any code; save the model again with "
            "`safe_serialization=True`, or take a repository that has .safetensors files."
        )
    raise ModelError(f"{name} is not a complete model: it has no {prefix}{stem}.safetensors.")


def _is_shard(path: str, start: str) -> bool:
    return path.startswith(f"{start}-0") and path.endswith(".safetensors")
