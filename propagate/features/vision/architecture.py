"""What a vision network is made of: its numbered blocks, tokens and grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from propagate.types import Size

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

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

    def is_map(self, data: Float[Tensor, "b c gh gw"], *, images: int, size: Size) -> bool:
        """Whether `data` is a map of each of some images, and not of windows or channels last.

        A cell of a map is as many pixels wide as high, but for how the sides are rounded.
        """
        number, _, rows, columns = data.shape
        if rows == columns == 1 and max(size) > self.multiple:
            return False  # pooled
        fewest = max(size.height / (rows + 1), size.width / (columns + 1))
        most = min(size.height / max(rows - 1, 0.1), size.width / max(columns - 1, 0.1))
        return number == images and fewest < most


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
        parent, _, last = name.rpartition(".")
        if "embed" not in parent:
            continue  # of a head that comes after the blocks
        if last in _SPECIAL_TOKENS:
            tokens += 1
        elif last == "register_tokens":
            tokens += weight.shape[-2]
    return tokens


def _native_size(config: Any) -> Size:
    size = getattr(config, "image_size", None) or 224
    return Size(size, size) if isinstance(size, int) else Size(*size)


def _patch_of(config: Any, *, usual: int) -> int:
    patch = getattr(config, "patch_size", None) or usual
    return int(patch if isinstance(patch, int) else max(patch))
