"""From a recipe and a user's options to an extractor, or to the maps alone for training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from propagate.config import ModelOptions
from propagate.errors import InputError, ModelError
from propagate.features.base import LayeredExtractor
from propagate.features.device import resolve_device, resolve_dtype
from propagate.features.hyper.extractor import HyperExtractor
from propagate.features.hyper.network import AggregationNetwork
from propagate.features.hyper.recipe import Inversion, Recipe, checksum, load_network
from propagate.features.hyper.sources import LayeredSource, MapSource

if TYPE_CHECKING:
    from propagate.features.hub import ResolvedModel
    from propagate.features.hyper.inversion import InversionSource


def create_hyper(
    recipe: Recipe,
    weights: Path,
    options: ModelOptions,
    *,
    base: ResolvedModel | None = None,
) -> HyperExtractor:
    """The extractor of an aggregation.

    Args:
        recipe: what it was made for.
        weights: of its network.
        options: complete options.
        base: the frozen pipeline, where it is known already.

    Raises:
        InputError: an option that does not fit the model.
        ModelError: files are missing or damaged, or the model is not the recipe's.
    """
    network = load_fitting(recipe, weights)
    source = create_source(recipe, replace(options, prune=None), base=base)
    network.to(resolve_device(options.device))
    return HyperExtractor(network, source, weights=checksum(weights), prune=options.prune or 0.0)


def load_fitting(recipe: Recipe, weights: Path) -> AggregationNetwork:
    """The network of a recipe.

    Raises:
        ModelError: the weights are damaged, or not the recipe's.
    """
    network = load_network(weights, groups=recipe.groups)
    expected = len(recipe.inversion.saves) if recipe.inversion else 1
    if network.steps != expected:
        raise ModelError(
            f"{weights} mixes {network.steps} steps of {len(network.channels)} layers, and its "
            f"recipe names {expected} steps."
        )
    return network


def create_source(
    recipe: Recipe,
    options: ModelOptions,
    *,
    base: ResolvedModel | None = None,
) -> MapSource:
    """The maps that a recipe asks for; arguments and errors as for `create_hyper`."""
    complete = options.over(recipe.model_options())
    if recipe.inversion is not None:
        return _inversion(recipe.model, recipe.inversion, complete, base)
    from propagate.features.registry import create_extractor

    extractor = create_extractor(recipe.model, complete)
    if not isinstance(extractor, LayeredExtractor):
        raise InputError(
            f"{recipe.model} does not give its layers one by one, so they can't be aggregated; "
            "take a single model with several layers, such as efficientnet-lite0 with "
            "--layer 4+10."
        )
    return LayeredSource(extractor)


def _inversion(
    name: str, inversion: Inversion, options: ModelOptions, base: ResolvedModel | None
) -> InversionSource:
    from propagate.features.diffusion.create import size_multiple
    from propagate.features.diffusion.loading import load_pipeline
    from propagate.features.hyper.inversion import InversionSettings, InversionSource
    from propagate.features.noise import SeededNoise
    from propagate.features.sizing import input_size

    base = base or locate_pipeline(name, offline=options.offline, what="invert")
    device = resolve_device(options.device)
    dtype = resolve_dtype(options.dtype, device)
    model = load_pipeline(base, prompt=options.prompt or "", dtype=dtype)
    layers = tuple(options.layer.split("+")) if options.layer else ()
    settings = InversionSettings(
        inversion=inversion,
        layers=layers,
        input_size=input_size(options, multiple=size_multiple(model)),
        **options.given("latent", "batch_size", "memory", "compile"),
    )
    return InversionSource(
        model, settings, device=device, dtype=dtype, noise=SeededNoise(options.seed)
    )


def locate_pipeline(name: str, *, offline: bool, what: str) -> ResolvedModel:
    """The files of a frozen pipeline.

    Args:
        name: for the registry.
        offline: never ask a hub.
        what: is to be done with it, for the message.

    Raises:
        InputError: it is no pipeline of diffusers.
        ModelError: there is no such model.
    """
    from propagate.features.registry import locate

    found = locate(name, offline=offline)
    if found.family.name != "diffusers":
        raise InputError(
            f"{name} is no diffusers pipeline, so there is nothing to {what}; take a Stable "
            "Diffusion."
        )
    return found.files
