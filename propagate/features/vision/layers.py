"""What can be tapped of a vision model, found without its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from propagate.features.tap import Tap, list_layers
from propagate.features.vision.architecture import describe
from propagate.features.vision.calling import needing_no_more, see
from propagate.features.vision.loading import empty_network
from propagate.types import Size

if TYPE_CHECKING:
    from propagate.features.card import LayerInfo
    from propagate.features.hub import ResolvedModel
    from propagate.features.vision.architecture import Architecture

_LISTED = 224  # about the height of the image that they are found with


def vision_layers(files: ResolvedModel) -> list[LayerInfo]:
    """What can be tapped of a vision model, in the order it runs; reads `config.json` alone.

    Raises:
        ModelError: it is no vision model, or one that wants more than an image.
    """
    network = empty_network(files)
    architecture = describe(network)
    size = _listed_size(architecture)
    grid, prefix = architecture.grid(size), architecture.prefix
    image = torch.zeros(1, 3, *size, device="meta")

    def run() -> object:
        return see(network, image)

    with torch.no_grad(), needing_no_more(files.name):
        found = list_layers(network, run, grid, prefix=prefix, pixels_per_unit=architecture.patch)
        maps = Tap(network, [info.name for info in found], prefix=prefix)(run, grid)
    return [
        info
        for info, data in zip(found, maps, strict=True)
        if architecture.is_map(data, images=1, size=size)
    ]


def _listed_size(architecture: Architecture) -> Size:
    if not architecture.blocks:
        return architecture.native
    step = architecture.multiple
    height = max(_LISTED // step * step, 2 * step, architecture.least)
    return Size(height, height + step)
