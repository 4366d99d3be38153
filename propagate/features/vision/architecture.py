"""Where a vision network has its numbered blocks, and what a layer that the user names is."""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from propagate.errors import InputError, ModelError
from propagate.types import Size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jaxtyping import Float
    from torch import Tensor

    from propagate.config import Facet

# Transformers of one resolution, with the final norm that their features are published with: DIFT
# and the models' own evaluations norm any block of DINO, DINOv2 and DINOv3, and none of OpenCLIP.
_COLUMNS = {
    "vit": "layernorm",
    "deit": "layernorm",
    "ijepa": "layernorm",
    "vit_msn": "layernorm",
    "dinov2": "layernorm",
    "dinov2_with_registers": "layernorm",
    "dinov3_vit": "norm",
    "clip_vision_model": None,
    "siglip_vision_model": None,
}
# Networks of stages, each at half the resolution of the one before.
_STAGES = ("swin", "swinv2", "convnext", "convnextv2", "resnet", "regnet", "dinov3_convnext")
_SPECIAL_TOKENS = ("cls_token", "class_embedding", "distillation_token")
_PROJECTIONS = {
    "query": ("q_proj", "query"),
    "key": ("k_proj", "key"),
    "value": ("v_proj", "value"),
}


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What is to be known of a network to take its features by number.

    Args:
        kind: what transformers calls it, such as "dinov2".
        blocks: module behind each number; empty where the network has no numbers here.
        staged: whether numbers are stages of falling resolution instead of blocks of one.
        norm: module that is applied to a block's tokens; None where they are taken as they are.
        prefix: tokens before the image's own.
        patch: pixels of the input per cell of the finest grid that has tokens.
        multiple: what both sides of an input must be a multiple of.
        least: the least length of its sides.
        native: the size it was trained with; others work for sure only if there are numbers.
    """

    kind: str
    blocks: tuple[str, ...]
    staged: bool
    norm: str | None
    prefix: int
    patch: int
    multiple: int
    least: int
    native: Size

    def grid(self, size: Size) -> Size:
        """The finest grid that has tokens, for an input of `size` pixels."""
        return Size(size.height // self.patch, size.width // self.patch)


@dataclass(frozen=True)
class Layer:
    """One map to take.

    Args:
        module: whose output it is.
        normed: whether the final norm is applied to it.
    """

    module: str
    normed: bool


def describe(network: nn.Module) -> Architecture:
    """The architecture of a network of transformers, pooler or not, weights or not."""
    config: Any = network.config
    kind = config.model_type
    staged = kind in _STAGES
    patch = _patch_of(config, usual=4 if staged else 1)
    multiple = patch if patch > 1 else 32
    blocks: tuple[str, ...] = ()
    if staged:
        blocks = _stages(network, len(config.depths))
        multiple = patch * 2 ** (len(blocks) - 1)
    elif kind in _COLUMNS:
        blocks = _list_of(network, config.num_hidden_layers)
    return Architecture(
        kind=kind,
        blocks=blocks,
        staged=staged,
        norm=_COLUMNS.get(kind),
        prefix=_special_tokens(network),
        patch=patch,
        multiple=multiple,
        # Swin's windows must fit into the coarsest grid.
        least=multiple * (config.window_size if kind == "swin" else 1),
        native=_native_size(config),
    )


def see(network: nn.Module, pixels: Float[Tensor, "b 3 h w"]) -> object:
    """Call a network of transformers on images, of another size than it was trained with too."""
    # Some take other sizes than they were trained with only when told so.
    interpolates = "interpolate_pos_encoding" in inspect.signature(network.forward).parameters
    return network(pixels, **({"interpolate_pos_encoding": True} if interpolates else {}))


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


def _stages(network: nn.Module, count: int) -> tuple[str, ...]:
    """Modules whose output is a stage's at its own resolution."""
    names = []
    for name in _list_of(network, count):
        inner = getattr(network.get_submodule(name), "blocks", None)
        # The stages of Swin end with the step to the next one's resolution.
        names.append(name if inner is None else f"{name}.blocks.{len(inner) - 1}")
    return tuple(names)


def _list_of(network: nn.Module, count: int) -> tuple[str, ...]:
    """The items of the outermost list of `count` modules."""
    for name, module in network.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return tuple(f"{name}.{index}" for index in range(count))
    return ()


def _special_tokens(network: nn.Module) -> int:
    tokens = 0
    for name, weight in network.named_parameters():
        last = name.rsplit(".", 1)[-1]
        if last in _SPECIAL_TOKENS:
            tokens += 1
        elif last == "register_tokens":
            tokens += weight.shape[-2]
    return tokens


@contextmanager
def needing_no_more(name: str) -> Iterator[None]:
    """For the first call of a network that may want more than an image.

    Raises:
        ModelError: naming the model, instead of whatever the network raises then.
    """
    try:
        yield
    except (InputError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # what a network lacks shows anywhere inside
        raise ModelError(
            f"{name} can't be run on an image alone ({first_line(error)}); choose a model that can."
        ) from error


def first_line(error: Exception) -> str:
    """What an error says at first, with its type."""
    lines = str(error).strip().splitlines() or ["no reason given"]
    return f"{type(error).__name__}: {lines[0].rstrip('.')}"


def _native_size(config: Any) -> Size:
    size = getattr(config, "image_size", None) or 224
    return Size(size, size) if isinstance(size, int) else Size(*size)


def _patch_of(config: Any, *, usual: int) -> int:
    patch = getattr(config, "patch_size", None) or usual
    return int(patch if isinstance(patch, int) else max(patch))
