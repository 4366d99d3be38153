"""Features that `propagate extract` stored: a folder of maps in place of a model."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from propagate.config import ModelOptions
from propagate.features.card import COMMON_OPTIONS, Family, Layout, ModelCard
from propagate.features.expression import parse

if TYPE_CHECKING:
    from propagate.features.hub import ResolvedModel
    from propagate.features.stored import StoredExtractor

_RECORD = "features.json"


def is_stored(model: str) -> bool:
    """Whether every model of an expression is a folder of stored features."""
    return all((Path(part.model).expanduser() / _RECORD).is_file() for part in parse(model))


def _load(card: ModelCard, files: ResolvedModel, options: ModelOptions) -> StoredExtractor:
    from propagate.features.device import resolve_device
    from propagate.features.stored import StoredExtractor

    del card
    return StoredExtractor(files.folder, device=resolve_device(options.device))


def _matches(present: Collection[str]) -> bool:
    return _RECORD in present


def _select(present: Collection[str], name: str) -> Layout:
    del present, name
    return Layout((_RECORD,))


FAMILY = Family(
    name="stored",
    cards=(),
    options=frozenset(),
    # What is stored already can't be asked for in another way.
    common=COMMON_OPTIONS - {"short_side", "input_size", "resizing", "seed"},
    matches=_matches,
    select=_select,
    load=_load,
)
