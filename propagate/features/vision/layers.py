"""What can be tapped of a vision model, found without its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from propagate.features.tap import list_layers
from propagate.features.vision.architecture import describe, needing_no_more, see
from propagate.features.vision.loading import empty_network
from propagate.types import Size

if TYPE_CHECKING:
    from propagate.features.card import LayerInfo
    from propagate.features.hub import ResolvedModel

_LISTED = 224  # about the height of the image that they are found with


def vision_layers(files: ResolvedModel) -> list[LayerInfo]:
    """What can be tapped of a vision model, in the order it runs; reads `config.json` alone.

    Raises:
        ModelError: it is no vision model, or one that wants more than an image.
    """
    network = empty_network(files)
    architecture = describe(network)
    size = architecture.native
    if architecture.blocks:
        step = architecture.multiple
        height = max(_LISTED // step * step, 2 * step, architecture.least)
        size = Size(height, height + step)
    image = torch.zeros(1, 3, *size, device="meta")
    with torch.no_grad(), needing_no_more(files.name):
        found = list_layers(
            network,
            lambda: see(network, image),
            architecture.grid(size),
            prefix=architecture.prefix,
            pixels_per_unit=architecture.patch,
        )
    # Attention in the stages of Swin is computed in windows, which are no maps of the image, and
    # one cell for the whole image is no map either.
    windows = ".attention" if architecture.staged else "\0"
    return [info for info in found if windows not in info.name and info.stride < size.width]
