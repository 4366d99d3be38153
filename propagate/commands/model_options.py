"""Options that choose a preset and a model, and how they override the preset."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import click

from propagate.commands.common import Command, given_values, parse_size, with_options
from propagate.config import (
    PRESETS,
    RIVAL_OPTIONS,
    Facet,
    LatentMode,
    ModelOptions,
    Precision,
    Resizing,
    Task,
    preset,
)
from propagate.errors import InputError
from propagate.features.card import COMMON_OPTIONS
from propagate.features.families.stored import is_stored

_MODEL_FIELDS = (
    "t",
    "up_ft_index",
    "layer",
    "facet",
    "ensemble_size",
    "prompt",
    "latent",
    "prune",
    "short_side",
    "input_size",
    "resizing",
    "pca",
    "whitening",
    "seed",
    "device",
    "dtype",
    "compile",
    "batch_size",
    "memory",
    "offline",
)
# DIFT's own names are kept for its knobs.
MODEL_OPTIONS = (
    click.option(
        "--preset",
        "preset_name",
        type=click.Choice(list(PRESETS)),
        help="Named settings; the options below override single ones.  "
        "[default: keypoints where they are carried, else default]",
    ),
    click.option(
        "--model",
        help="Model name, folder, hub id, or several as NAME:WEIGHT+NAME.  [default: the preset's]",
    ),
    click.option("--t", type=int, help="Diffusion step whose noise is added, 0-999."),
    click.option("--up-ft-index", type=int, help="UNet up block to take features from."),
    click.option("--layer", help="Layer to take features from; several as A+B are fused."),
    click.option(
        "--facet",
        type=click.Choice(get_args(Facet)),
        help="What to take of a transformer block.",
    ),
    click.option("--ensemble-size", type=int, help="Noise draws to average."),
    click.option("--prompt", help="Text condition of a diffusion model."),
    click.option(
        "--latent",
        type=click.Choice(get_args(LatentMode)),
        help="Draw latents from the VAE's posterior, or take its mean.",
    ),
    click.option(
        "--prune", type=float, help="Leave out maps with less than this share of an aggregation."
    ),
    click.option("--short-side", type=int, help="Resize frames to this short side, in pixels."),
    click.option("--input-size", metavar="WxH", help="Resize frames to this very size, in pixels."),
    click.option(
        "--resizing",
        type=click.Choice(get_args(Resizing)),
        help="How: bilinear without, or bicubic with antialiasing.  [default: the model's]",
    ),
    click.option("--pca", type=int, help="Principal components to keep."),
    click.option("--whitening", type=float, help="How much weak components are lifted, 0-1."),
    click.option("--seed", type=int, help="Seed of the noise.  [default: 0]"),
    click.option("--device", help="auto, cpu, cuda, cuda:N or mps.  [default: auto]"),
    click.option(
        "--dtype", type=click.Choice(get_args(Precision)), help="Precision of the network."
    ),
    click.option("--compile", is_flag=True, default=None, help="Compile the network's blocks."),
    click.option("--batch-size", type=int, help="Most network inputs computed at once."),
    click.option("--memory", type=float, help="GB that activations may take; sets the batch."),
    click.option("--offline", is_flag=True, default=None, help="Never ask a model hub."),
)
_STORE_OPTIONS = (
    click.option(
        "--store-dtype",
        type=click.Choice(["fp16", "bf16", "fp32"]),
        default="fp16",
        show_default=True,
        help="Floating-point type of the stored features.",
    ),
    click.option(
        "--raw", is_flag=True, help="Store maps as they come, not with norm 1 in each cell."
    ),
)


def model_options(command: Command) -> Command:
    """Add the preset and model options to a command."""
    return with_options(command, MODEL_OPTIONS)


def store_options(command: Command) -> Command:
    """Add the options that say how feature maps are stored."""
    return with_options(command, _STORE_OPTIONS)


def resolve_model(
    values: dict[str, Any], *, otherwise: str = "default", task: Task = "propagation"
) -> tuple[str, ModelOptions]:
    """Take the model options out of `values` and apply those given to the preset named there.

    Args:
        values: by the names of options.
        otherwise: the preset where none is named.
        task: what the model is for. Presets are of propagation: of step, layer and size another
            task takes the model's own defaults.

    Raises:
        InputError: a value is not allowed.
    """
    base = preset(values.pop("preset_name") or otherwise)
    model = values.pop("model") or base.model
    given = given_values(values, {name: name for name in _MODEL_FIELDS})
    if "input_size" in given:
        given["input_size"] = parse_size(given["input_size"], "--input-size")
    options = base.options
    if is_stored(model):
        options = ModelOptions()
    elif model != base.model:
        # A step or layer that a preset names is one of its own model.
        shared = {name: getattr(options, name) for name in COMMON_OPTIONS}
        options = ModelOptions(**shared)
    elif task != "propagation":
        options = ModelOptions()
    for rivals in RIVAL_OPTIONS:
        if any(name in given for name in rivals):
            nothing: dict[str, Any] = dict.fromkeys(rivals)
            options = replace(options, **nothing)
    options = replace(options, **given)
    if given.get("whitening") and options.pca is None:
        raise InputError("--whitening lifts principal components, and there are none; add --pca.")
    return model, options
