"""SuperPoint: keypoints for matching, and its descriptors as features."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from propagate.config import ModelOptions
from propagate.errors import ModelError
from propagate.features.card import Family, Layout, ModelCard, Repository
from propagate.features.layout import weight_files

if TYPE_CHECKING:
    from propagate.features.hub import ResolvedModel
    from propagate.features.superpoint import SuperPointExtractor

_CONFIG = "config.json"


def _load(card: ModelCard, files: ResolvedModel, options: ModelOptions) -> SuperPointExtractor:
    del card
    from propagate.features.superpoint import SuperPointExtractor

    return SuperPointExtractor(files, options)


def _matches(present: Collection[str]) -> bool:
    del present
    return False  # the files of a folder are called like those of any model of transformers


def _select(present: Collection[str], name: str) -> Layout:
    if _CONFIG not in present:
        raise ModelError(f"{name} is not a complete model: it has no {_CONFIG}.")
    weights, variant = weight_files("", "model", present, name)
    return Layout((_CONFIG, *weights), {"": variant})


FAMILY = Family(
    name="superpoint",
    cards=(
        ModelCard(
            name="superpoint",
            summary="SuperPoint: keypoints for `propagate match`, and its descriptors as features",
            licence="Magic Leap, research only",
            # The commit is not known.
            repositories=(Repository("magic-leap-community/superpoint"),),
            size_mb=5,
            stride=8,
            knobs={
                "propagation": ModelOptions(short_side=480),
                "geometric": ModelOptions(short_side=480),
            },
        ),
    ),
    options=frozenset(),
    matches=_matches,
    select=_select,
    load=_load,
)
