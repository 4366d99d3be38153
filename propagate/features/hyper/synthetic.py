"""Generated images with their aggregated maps, and how the generator of a model is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch

from propagate.config import ModelOptions
from propagate.errors import InputError, ModelError
from propagate.features.device import resolve_device, resolve_dtype
from propagate.features.diffusion.kinds import kind_of
from propagate.features.diffusion.loading import load_pipeline
from propagate.features.diffusion.parts import read_config
from propagate.features.diffusion.text import encode_sd, encode_sd_prompts
from propagate.features.diffusion.vae import load_vae_decoder, vae_factor
from propagate.features.families.hyper import recipe_of
from propagate.features.frames import finite_map
from propagate.features.hyper.create import load_fitting, locate_pipeline
from propagate.features.hyper.extractor import aggregated_identity, kept_places
from propagate.features.hyper.generation import GenerationSettings, Generator, Texts, Through
from propagate.features.hyper.network import Accumulator, AggregationNetwork
from propagate.features.hyper.recipe import Inversion, Recipe, checksum
from propagate.features.noise import SeededNoise
from propagate.features.quiet import quiet_libraries
from propagate.features.registry import locate
from propagate.types import FeatureMap, Frame, Size

if TYPE_CHECKING:
    from propagate.features.hub import ResolvedModel

OPTIONS = ("prune", "seed", "device", "dtype", "compile", "batch_size", "memory", "offline")
"""The `ModelOptions` that a generation takes."""


@dataclass(frozen=True, kw_only=True)
class TextToImage:
    """What images are to be made.

    Args:
        prompts: one or more texts.
        negative: what the images are led away from.
        guidance: scale of classifier-free guidance; 1 is none.
        steps: of DDIM; None is the number that the aggregation was made for.
        size: of the images, in pixels; None is the pipeline's own.
        options: those of the model that are named in `OPTIONS`.

    Raises:
        InputError: no prompt, or an option that a generation does not take.
    """

    prompts: tuple[str, ...]
    negative: str = ""
    guidance: float = 7.5
    steps: int | None = None
    size: Size | None = None
    options: ModelOptions = field(default_factory=ModelOptions)

    def __post_init__(self) -> None:
        if not self.prompts:
            raise InputError("There is no prompt to make an image of; give one or more.")
        names = (name for name in ModelOptions.__dataclass_fields__ if name not in OPTIONS)
        foreign = [name for name in names if self.options.is_set(name)]
        if foreign:
            raise InputError(
                f"{', '.join(foreign)} set, which a generation does not read; of the model options "
                f"it takes {', '.join(OPTIONS)}."
            )


class HyperGenerator:
    """Images of text, each with the aggregation of the maps of its own generation.

    Args:
        network: frozen, in eval mode, on the device of the generator.
        generator: makes the images.
        weights: tells the network's weights from any others.
        prune: maps whose share of the mixture is less than this are left out.

    Raises:
        InputError: `prune` leaves nothing.
        ModelError: the network was made for another number of layers.
    """

    def __init__(
        self, network: AggregationNetwork, generator: Generator, *, weights: str, prune: float = 0.0
    ) -> None:
        layers = len(network.channels)
        if layers != len(generator.layers):
            raise ModelError(
                f"The aggregation was made for {layers} layers, and the model has "
                f"{len(generator.layers)}; take the model and layers that it was trained on."
            )
        self._network, self._generator = network, generator
        self._wanted = kept_places(network, prune)
        self.identity = aggregated_identity(weights, prune, generator.identity)

    def run(
        self, prompt: int, numbers: Sequence[int], *, source: str, through: Through = iter
    ) -> Iterator[tuple[Frame, FeatureMap]]:
        """Images of a prompt with their maps [width, gh, gw], float32, as batches are ready.

        Args:
            prompt: its position among the prompts.
            numbers: of the images; the noise of an image follows from the seed and its number.
            source: of the frames.
            through: goes through the steps of each batch.

        Raises:
            ModelError: no memory is left, or the maps are not finite, or not those that the
                network was made for.
        """
        count = len(self._wanted)
        parts = self._generator.run(
            prompt,
            numbers,
            lambda: Accumulator(self._network, count),
            self._wanted,
            through=through,
        )
        made = chain.from_iterable(zip(images, maps, strict=True) for images, maps in parts)
        for number, (rgb, data) in zip(numbers, made, strict=True):
            frame = Frame(source, number, rgb, 0.0, f"{number:05d}")
            yield frame, finite_map(data, frame, frame.size, torch.float32)


def create_hyper_generator(model: str, asked: TextToImage) -> HyperGenerator:
    """Load an aggregation of a diffusion model's steps with its pipeline, to make images.

    Args:
        model: a name, folder or repository of `propagate.features.registry`.
        asked: the images.

    Raises:
        InputError: the model aggregates no steps of Stable Diffusion 1 or 2, or an option is wrong.
        ModelError: weights are missing or wrong.
    """
    options = asked.options
    found = locate(model, offline=options.offline)
    if found.family.name != "hyper":
        raise InputError(
            f"{model} is no aggregation of a diffusion model's steps; take hyperfeatures, or a "
            "folder with aggregation.json."
        )
    recipe, weights = recipe_of(found.card, found.files)
    steps = _steps(model, recipe, asked)
    base = found.files.base or locate_pipeline(
        recipe.model, offline=options.offline, what="generate with"
    )
    network = load_fitting(recipe, weights)
    generator = _generator(base, recipe, asked, steps)
    network.to(resolve_device(options.device))
    return HyperGenerator(network, generator, weights=checksum(weights), prune=options.prune or 0.0)


def _steps(model: str, recipe: Recipe, asked: TextToImage) -> Inversion:
    if recipe.inversion is None or recipe.inversion.steps == 1:
        raise InputError(
            f"{model} aggregates the layers of a single pass over an image, and an image is "
            "generated in many; take hyperfeatures, or a recipe with an inversion of several steps."
        )
    return recipe.inversion.over(recipe.inversion.steps if asked.steps is None else asked.steps)


def _generator(
    base: ResolvedModel, recipe: Recipe, asked: TextToImage, steps: Inversion
) -> Generator:
    config, kind = kind_of(base)[1:]
    if kind.encode is not encode_sd:
        raise InputError(
            f"{base.name} has no UNet with cross-attention to one text; images are generated by "
            "Stable Diffusion 1 or 2."
        )
    options = asked.options
    layer = recipe.model_options().layer
    settings = GenerationSettings(
        size=asked.size or _own_size(base, config),
        steps=steps,
        guidance=asked.guidance,
        layers=tuple(layer.split("+")) if layer else (),
        **options.given("batch_size", "memory", "compile"),
    )
    device = resolve_device(options.device)
    dtype = resolve_dtype(options.dtype, device)
    with quiet_libraries(), torch.inference_mode():
        states = encode_sd_prompts(base, [*asked.prompts, asked.negative])
    model = load_pipeline(base, prompt=None, dtype=dtype)
    with quiet_libraries():
        decoder = load_vae_decoder(base, dtype)
    return Generator(
        model,
        decoder,
        Texts(asked.prompts, asked.negative, states),
        settings,
        device=device,
        dtype=dtype,
        noise=SeededNoise(options.seed),
    )


def _own_size(base: ResolvedModel, config: dict[str, Any]) -> Size:
    side = config.get("sample_size")
    if not isinstance(side, int) or side < 1:
        raise InputError(
            f"{base.name} doesn't say how large its images are; name a size with --size, such as "
            "512x512."
        )
    pixels = side * vae_factor(read_config(base, "vae/config.json"))
    return Size(pixels, pixels)
