"""Diffusion Hyperfeatures, and aggregations trained here: a folder with `aggregation.json`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from propagate.config import ModelOptions, Task
from propagate.errors import ModelError
from propagate.features.card import Family, Layout, ModelCard, Repository

if TYPE_CHECKING:
    from propagate.features.hub import ResolvedModel
    from propagate.features.hyper.extractor import HyperExtractor
    from propagate.features.hyper.recipe import Recipe

_RECIPE = "aggregation.json"
_SUFFIXES = (".safetensors", ".pt", ".pth")
# Published weights by the name of the card.
_PUBLISHED = {
    "hyperfeatures": "weights/aggregation_network.pt",
    "hyperfeatures-one-step": "weights/aggregation_network_one-step.pt",
}


def _matches(present: Collection[str]) -> bool:
    return _RECIPE in present


def _select(present: Collection[str], name: str) -> Layout:
    if _RECIPE in present:
        weights = [path for path in present if path.endswith(_SUFFIXES) and "/" not in path]
        return Layout((_RECIPE, *sorted(weights)))
    found = [path for path in _PUBLISHED.values() if path in present]
    if not found:
        raise ModelError(
            f"{name} holds no aggregation network; expected is {_RECIPE} with its weights, or "
            f"{_PUBLISHED['hyperfeatures']} as published."
        )
    return Layout(tuple(found))


def recipe_of(card: ModelCard, files: ResolvedModel) -> tuple[Recipe, Path]:
    """The recipe of an aggregation, and the file with its weights.

    Raises:
        ModelError: the recipe is damaged, or there are no weights.
    """
    from propagate.features.hyper.recipe import Inversion, Recipe, read_recipe

    if card.name in _PUBLISHED:
        single = card.name == "hyperfeatures-one-step"
        inversion = Inversion(steps=1, saves=(0,)) if single else Inversion()
        recipe = Recipe(model=card.base or "", inversion=inversion)
        weights = files.folder / _PUBLISHED[card.name]
    else:
        recipe = read_recipe(files.folder / _RECIPE)
        weights = files.folder / recipe.weights
    if not weights.is_file():
        raise ModelError(f"{files.name} has no {weights.name}, the weights of its aggregation.")
    return recipe, weights


def _load(card: ModelCard, files: ResolvedModel, options: ModelOptions) -> HyperExtractor:
    from propagate.features.hyper.create import create_hyper

    recipe, weights = recipe_of(card, files)
    return create_hyper(recipe, weights, options, base=files.base)


_KNOBS: Mapping[Task, ModelOptions] = {
    "propagation": ModelOptions(short_side=512),
    "semantic": ModelOptions(input_size=(512, 512)),
    "geometric": ModelOptions(input_size=(512, 512)),
}


def _card(name: str, summary: str) -> ModelCard:
    return ModelCard(
        name=name,
        summary=summary,
        licence="unstated; the base model's licence for the rest",
        repositories=(Repository("g-luo/diffusion-hyperfeatures"),),
        base="dift-sd15",
        # Of the tensors, with the optimiser's that are published beside them.
        size_mb=160,
        stride=8,
        knobs=_KNOBS,
    )


FAMILY = Family(
    name="hyper",
    cards=(
        _card(
            "hyperfeatures",
            "Diffusion Hyperfeatures: Stable Diffusion 1.5, 12 layers at 11 of 50 inversion steps",
        ),
        _card(
            "hyperfeatures-one-step",
            "Diffusion Hyperfeatures: Stable Diffusion 1.5, 12 layers in one pass without noise",
        ),
    ),
    options=frozenset({"prompt", "latent", "prune"}),
    matches=_matches,
    select=_select,
    load=_load,
)
