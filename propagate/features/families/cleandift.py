"""CleanDIFT: Stable Diffusion tuned to give its noisy features for clean images, in one pass."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from propagate.config import ModelOptions, Task
from propagate.errors import ModelError
from propagate.features.card import Family, Layout, ModelCard, Repository
from propagate.features.families import diffusers

if TYPE_CHECKING:
    from propagate.features.diffusion.extractor import DiffusionExtractor
    from propagate.features.hub import ResolvedModel

_FILES = {"cleandift-sd21": "cleandift_sd21_unet", "cleandift-sd15": "cleandift_sd15_unet"}
# The scalar step that was trained with the network starts at 261 and is not among the published
# UNet's tensors; the authors' own evaluation feeds 261.
_T = 261


def _matches(present: Collection[str]) -> bool:
    del present  # only by name: a folder does not say what it was tuned from
    return False


def _select(present: Collection[str], name: str) -> Layout:
    found = [f"{stem}.safetensors" for stem in _FILES.values() if f"{stem}.safetensors" in present]
    if not found:
        raise ModelError(
            f"{name} holds no UNet of CleanDIFT; expected is "
            f"{' or '.join(f'{stem}.safetensors' for stem in _FILES.values())}."
        )
    return Layout(tuple(found))


def _select_base(present: Collection[str], name: str) -> Layout:
    """All of the pipeline but the weights of the UNet, which are replaced."""
    return diffusers.select(present, name, without=("unet",))


def _load(card: ModelCard, files: ResolvedModel, options: ModelOptions) -> DiffusionExtractor:
    from propagate.features.diffusion.cleandift import load_cleandift
    from propagate.features.diffusion.create import create, network_dtype

    stem = _FILES[card.name]
    model = load_cleandift(
        files, f"{stem}.safetensors", prompt=options.prompt or "", dtype=network_dtype(options)
    )
    return create(model, options)


def _knobs(side: int) -> Mapping[Task, ModelOptions]:
    clean = ModelOptions(t=_T, ensemble_size=1, latent="mean")
    return {
        "propagation": replace(clean, up_ft_index=2, short_side=480),
        "semantic": replace(clean, up_ft_index=1, input_size=(side, side)),
        "geometric": replace(clean, up_ft_index=2, input_size=(768, 768)),
    }


def _card(name: str, base: str, side: int, aliases: tuple[str, ...] = ()) -> ModelCard:
    return ModelCard(
        name=name,
        aliases=aliases,
        summary=f"CleanDIFT on {base}: clean latents, one pass, no noise",
        licence="MIT (UNet); the base model's licence for the rest",
        repositories=(Repository("CompVis/cleandift", "bf3a8d841ebdce7e212b61e42877f8fdaed81d58"),),
        base=base,
        size_mb=1730,
        stride=8,
        knobs=_knobs(side),
    )


FAMILY = Family(
    name="cleandift",
    cards=(
        _card("cleandift-sd21", "dift-sd21", 768, ("cleandift",)),
        _card("cleandift-sd15", "dift-sd15", 960),
    ),
    options=frozenset({"t", "up_ft_index", "layer", "ensemble_size", "prompt", "latent"}),
    matches=_matches,
    select=_select,
    load=_load,
    select_base=_select_base,
)
