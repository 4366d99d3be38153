"""What can be tapped of a vision model, found without its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from propagate.features.tap import list_layers
from propagate.features.vision.architecture import describe, see
from propagate.features.vision.loading import empty_network
from propagate.types import Size

if TYPE_CHECKING:
    from propagate.features.card import LayerInfo
    from propagate.features.hub import ResolvedModel

_LISTED = 224  # about the height of the image they are found with


def vision_layers(files: ResolvedModel) -> list[LayerInfo]:
    """What can be tapped of a vision model, in the order it runs; reads `config.json` alone.

    Raises:
        ModelError: it is no vision model.
    """
    network = empty_network(files)
    architecture = describe(network)
    height = max(_LISTED // architecture.multiple, 2) * architecture.multiple
    size = Size(height, height + architecture.multiple)
    image = torch.zeros(1, 3, *size, device="meta")
    with torch.no_grad():
        found = list_layers(
            network,
            lambda: see(network, image),
            architecture.grid(size),
            prefix=architecture.prefix,
            pixels_per_unit=architecture.patch,
        )
    # Attention in the stages of Swin is computed in windows, which are no maps of the image.
    return [info for info in found if not (architecture.staged and ".attention" in info.name)]
