"""What a layer is that the user names, by number or name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from propagate.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from propagate.config import Facet
    from propagate.features.vision.architecture import Architecture

_PROJECTIONS = {
    "query": ("q_proj", "query"),
    "key": ("k_proj", "key"),
    "value": ("v_proj", "value"),
}


@dataclass(frozen=True)
class Layer:
    """One map to take.

    Args:
        module: whose output it is.
        normed: whether the final norm is applied to it.
    """

    module: str
    normed: bool


def choose_layers(
    network: nn.Module, architecture: Architecture, text: str | None, facet: Facet
) -> list[Layer]:
    """The layers that `--layer` and `--facet` ask for.

    Args:
        network: whose layers they are.
        architecture: of the network.
        text: numbers of blocks from 0 or names of modules, joined by "+"; None is the last block,
            of networks of stages the last stage but one.
        facet: what is taken of numbered blocks.

    Raises:
        InputError: there is no such block, or no such facet of it.
    """
    if text is None:
        text = _default(architecture)
    parts = [part.strip() for part in text.split("+")]
    layers = [_layer(network, architecture, part, facet) for part in parts]
    if len({layer.module for layer in layers}) < len(layers):
        raise InputError(f"layer is {text!r}, which has one of them twice; name each once.")
    return layers


def _layer(network: nn.Module, architecture: Architecture, text: str, facet: Facet) -> Layer:
    numbered = text.removeprefix("-").isdecimal()
    if not numbered and facet != "token":
        raise InputError(
            f"facet is {facet!r} and layer {text!r} is no number of a block; give a number, or "
            "the projection's own name with facet 'token'."
        )
    if not numbered:
        return Layer(text, normed=False)
    block = _numbered(architecture, text)
    if facet == "token":
        return Layer(block, normed=architecture.norm is not None)
    return Layer(_projection(network, architecture, block, facet), normed=False)


def _default(architecture: Architecture) -> str:
    if not architecture.blocks:
        raise InputError(
            f"No layer is known to be good in a {architecture.kind}; give one with --layer, by a "
            "name that `propagate models layers` shows."
        )
    last = len(architecture.blocks) - 1
    return str(max(last - 1, 0) if architecture.staged else last)


def _numbered(architecture: Architecture, text: str) -> str:
    if not architecture.blocks:
        raise InputError(
            f"layer is {text!r}, and the blocks of a {architecture.kind} have no numbers here; "
            "give a name that `propagate models layers` shows."
        )
    if not 0 <= int(text) < len(architecture.blocks):
        what = "stage" if architecture.staged else "block"
        raise InputError(
            f"layer is {text!r}; this {architecture.kind} has {what}s 0 to "
            f"{len(architecture.blocks) - 1}."
        )
    return architecture.blocks[int(text)]


def _projection(network: nn.Module, architecture: Architecture, block: str, facet: Facet) -> str:
    found = [
        name
        for name, _ in network.get_submodule(block).named_modules()
        if name.rsplit(".", 1)[-1] in _PROJECTIONS[facet]
    ]
    if architecture.staged or len(found) != 1:
        raise InputError(
            f"facet is {facet!r}, and a {architecture.kind} has no {facet} of a whole image; use "
            "facet 'token'."
        )
    return f"{block}.{found[0]}"
