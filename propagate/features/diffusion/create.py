"""From a loaded diffusion model and a user's options to an extractor."""

from __future__ import annotations

import torch

from propagate.config import ModelOptions
from propagate.features.device import resolve_device, resolve_dtype
from propagate.features.diffusion.extractor import DiffusionExtractor, DiffusionSettings
from propagate.features.diffusion.model import DiffusionModel, default_layer
from propagate.features.noise import NoiseSource, SeededNoise
from propagate.features.sizing import input_size

# DIFT floors both sides to a multiple of 32, whatever the network needs.
_MULTIPLE = 32


def network_dtype(options: ModelOptions) -> torch.dtype:
    """What networks compute in.

    Raises:
        InputError: there is no such device or type.
    """
    return resolve_dtype(options.dtype, resolve_device(options.device))


def create(
    model: DiffusionModel, options: ModelOptions, *, noise: NoiseSource | None = None
) -> DiffusionExtractor:
    """The extractor that complete options ask for; noise by their seed if None is given.

    Raises:
        InputError: a step, layer or device that is not there.
    """
    given = options.given("ensemble_size", "latent", "batch_size", "memory", "compile")
    settings = DiffusionSettings(
        t=options.t or 0,
        layers=_layers(model, options),
        input_size=input_size(options, multiple=size_multiple(model)),
        **given,
    )
    return DiffusionExtractor(
        model,
        settings,
        device=resolve_device(options.device),
        dtype=network_dtype(options),
        noise=noise or SeededNoise(options.seed),
    )


def size_multiple(model: DiffusionModel) -> int:
    """What both sides of an image are floored to a multiple of."""
    unit = model.encoder.factor * model.denoiser.multiple
    return _MULTIPLE if _MULTIPLE % unit == 0 else unit


def _layers(model: DiffusionModel, options: ModelOptions) -> tuple[str, ...]:
    if options.layer is not None:
        return tuple(_named(model, layer) for layer in options.layer.split("+"))
    if options.up_ft_index is not None:
        return (model.up_block(options.up_ft_index),)
    return (default_layer(model.denoiser.network),)


def _named(model: DiffusionModel, layer: str) -> str:
    """The name of a layer; a number counts what the network is made of, as for other models."""
    if not layer.isdecimal():
        return layer
    if hasattr(model.denoiser.network, "transformer_blocks"):
        return f"transformer_blocks.{layer}"
    return model.up_block(int(layer))
