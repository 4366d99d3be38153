"""Feature extractors by name."""

from __future__ import annotations

from collections.abc import Callable

from propagate.config import EMBEDDED_MODEL, ModelOptions
from propagate.errors import InputError
from propagate.features.base import FeatureExtractor
from propagate.geometry import InputSize


def create_extractor(model: str, options: ModelOptions) -> FeatureExtractor:
    """Load the extractor called `model`.

    Args:
        model: a name of `BUILT_IN`; else an alias, local folder or hub id of a
            Stable-Diffusion-layout pipeline.
        options: what the user set; None means the model's own default.

    Raises:
        InputError: when an option is set that the model does not have.
        ModelError: when weights are missing or wrong.
    """
    return BUILT_IN.get(model, _stable_diffusion)(model, options)


def _efficientnet(model: str, options: ModelOptions) -> FeatureExtractor:
    from propagate.features.device import resolve_device, resolve_dtype
    from propagate.features.efficientnet import EfficientNetExtractor, EfficientNetSettings

    foreign = options.given("t", "up_ft_index", "ensemble_size", "prompt")
    if foreign:
        raise InputError(
            f"{', '.join(foreign)} set for {model}, which is no diffusion model; leave it out, or "
            "choose a diffusion model with --model."
        )
    settings = EfficientNetSettings()
    if options.short_side is not None:
        size = InputSize(short_side=options.short_side, multiple=settings.input_size.multiple)
        settings = EfficientNetSettings(input_size=size)
    device = resolve_device(options.device)
    dtype = resolve_dtype(options.dtype, device)
    return EfficientNetExtractor(settings, device=device, dtype=dtype)


def _stable_diffusion(model: str, options: ModelOptions) -> FeatureExtractor:
    from propagate.features.stable_diffusion import (
        StableDiffusionExtractor,
        StableDiffusionSettings,
    )

    given = options.given("t", "up_ft_index", "ensemble_size", "prompt", "seed", "device", "dtype")
    if options.short_side is not None:
        given["input_size"] = InputSize(short_side=options.short_side)
    return StableDiffusionExtractor(
        StableDiffusionSettings(model=model, offline=options.offline, **given)
    )


BUILT_IN: dict[str, Callable[[str, ModelOptions], FeatureExtractor]] = {
    EMBEDDED_MODEL: _efficientnet,
}
