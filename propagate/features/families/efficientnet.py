"""EfficientNet-Lite0: the embedded default."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from propagate.config import EMBEDDED_MODEL, ModelOptions
from propagate.errors import InputError
from propagate.features.card import Family, Layout, ModelCard

if TYPE_CHECKING:
    from propagate.features.efficientnet import EfficientNetExtractor
    from propagate.features.hub import ResolvedModel


def _load(card: ModelCard, files: ResolvedModel, options: ModelOptions) -> EfficientNetExtractor:
    del card, files
    from propagate.features.device import resolve_device, resolve_dtype
    from propagate.features.efficientnet import EfficientNetExtractor, EfficientNetSettings
    from propagate.features.sizing import input_size

    layers = {} if options.layer is None else {"layers": _layers(options.layer)}
    settings = EfficientNetSettings(input_size=input_size(options, multiple=16), **layers)
    device = resolve_device(options.device)
    dtype = resolve_dtype(options.dtype, device)
    return EfficientNetExtractor(settings, device=device, dtype=dtype)


def _layers(text: str) -> tuple[tuple[int, float], ...]:
    """Blocks and weights from "4+10", or "2:0.5+4+10" where a weight is not 1."""
    try:
        parts = [part.partition(":") for part in text.split("+")]
        return tuple(
            (int(block), float(weight) if colon else 1.0) for block, colon, weight in parts
        )
    except ValueError:
        raise InputError(
            f"layer is {text!r}; for {EMBEDDED_MODEL} it must be a block from 0 to 15, or several "
            "as 4+10, each with its weight as 2:0.5+4+10 if it is not 1."
        ) from None


def _matches(present: Collection[str]) -> bool:
    del present
    return False


def _select(present: Collection[str], name: str) -> Layout:
    del present, name
    return Layout(())


FAMILY = Family(
    name="efficientnet",
    cards=(
        ModelCard(
            name=EMBEDDED_MODEL,
            summary="EfficientNet-Lite0, ImageNet classifier, blocks 4+10 fused; installed with "
            "the program",
            licence="Apache-2.0",
            stride=8,
            knobs={
                "propagation": ModelOptions(short_side=480),
                "semantic": ModelOptions(layer="10+14+15", short_side=480),
            },
        ),
    ),
    options=frozenset({"layer"}),
    matches=_matches,
    select=_select,
    load=_load,
)
