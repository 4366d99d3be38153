"""A diffusion model small enough to be installed with the program."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from propagate.config import ModelOptions
from propagate.features.card import Family, ModelCard
from propagate.features.families import diffusers

_WEIGHTS = Path(__file__).resolve().parent.parent / "weights" / "pocket"


def _matches(present: Collection[str]) -> bool:
    # A folder of the same kind is a pipeline of diffusers.
    del present
    return False


FAMILY = Family(
    name="pocket",
    cards=(
        ModelCard(
            name="pocket",
            summary="Pixel diffusion UNet of 6.7 M weights, Caltech-101, features drawn to those "
            "of efficientnet-lite0; installed with the program",
            licence="Apache-2.0",
            stride=8,
            knobs={
                "propagation": ModelOptions(
                    t=0, layer="up_blocks.1.resnets.1", ensemble_size=1, short_side=480
                ),
            },
            inside=_WEIGHTS,
        ),
    ),
    options=diffusers.FAMILY.options - {"prompt", "latent"},
    matches=_matches,
    select=diffusers.FAMILY.select,
    load=diffusers.FAMILY.load,
    layers=diffusers.FAMILY.layers,
)
