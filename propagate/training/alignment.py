"""A denoiser whose features are drawn to those of a network that already has good ones.

"Representation Alignment for Generation" (Yu et al., 2025): while it learns to denoise, a layer of
the network also predicts what a frozen encoder sees in the image without noise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812, the field's usual name
from torch import nn

from propagate.config import ModelOptions
from propagate.errors import InputError
from propagate.features.fusion import on_grid
from propagate.features.registry import create_extractor
from propagate.features.tap import find_modules
from propagate.types import Frame

if TYPE_CHECKING:
    from diffusers import UNet2DModel
    from jaxtyping import Float, Int, UInt8
    from torch import Tensor


class Teacher:
    """A frozen extractor, and what its maps ask of others.

    Args:
        model: as for `create_extractor`; its own input size decides how fine its maps are.
        device: where it runs.

    Raises:
        InputError: as `create_extractor`.
        ModelError: likewise.
    """

    def __init__(self, model: str, device: torch.device) -> None:
        self._extractor = create_extractor(model, ModelOptions(device=str(device)))
        self.channels = self.maps(np.zeros((1, 64, 64, 3), dtype=np.uint8)).shape[1]

    @torch.no_grad()
    def maps(self, batch: UInt8[np.ndarray, "n h w 3"]) -> Float[Tensor, "n c gh gw"]:
        """Maps of crops; each channel has mean 0 and deviation 1 over all of them.

        What all cells share would be learned first, and tells none of them apart.
        """
        frames = [Frame("crop", at, rgb, 0.0, str(at)) for at, rgb in enumerate(batch)]
        maps = torch.stack([found.data.float() for found in self._extractor.extract(frames)])
        centred = maps - maps.mean((0, 2, 3), keepdim=True)
        spread = centred.square().mean((0, 2, 3), keepdim=True).sqrt()
        return centred / spread.clamp(min=1e-6)


class AlignedDenoiser(nn.Module):
    """A denoiser, and a linear prediction of a teacher's maps from those of one of its layers.

    Args:
        denoiser: the network.
        layer: the module whose map [n, c, gh, gw] is to tell what the teacher sees; not read
            without a teacher.
        channels: of the teacher's maps; None without one.

    Raises:
        InputError: the network has no such layer, or it gives no map.
    """

    def __init__(self, denoiser: UNet2DModel, layer: str, channels: int | None) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.projection: nn.Module | None = None
        self._seen: Tensor | None = None
        if channels is not None:
            (module,) = find_modules(denoiser, [layer])
            module.register_forward_hook(self._see)
            self.projection = nn.Conv2d(self._width(layer), channels, 1)

    def forward(
        self, noisy: Float[Tensor, "n c h w"], t: Int[Tensor, " n"]
    ) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "n k gh gw"] | None]:
        """What the denoiser predicts at steps `t`, and the teacher's maps if there is one."""
        predicted = self.denoiser(noisy, t).sample
        if self.projection is None:
            return predicted, None
        seen, self._seen = self._seen, None
        return predicted, self.projection(seen)

    @torch.no_grad()
    def _width(self, layer: str) -> int:
        """Channels of the layer, as one pass shows."""
        config = self.denoiser.config
        side = 2 ** len(config["block_out_channels"])
        self.denoiser(torch.zeros(1, config["in_channels"], side, side), 0)
        if self._seen is None:
            raise InputError(
                f"Layer {layer!r} gives no map; choose another, such as up_blocks.1.resnets.1."
            )
        return self._seen.shape[1]

    def _see(self, _module: nn.Module, _inputs: object, output: object) -> None:
        # Some give several maps, or vectors of the step.
        self._seen = output if isinstance(output, torch.Tensor) and output.ndim == 4 else None


def misalignment(
    predicted: Float[Tensor, "n k gh gw"], maps: Float[Tensor, "n k h w"]
) -> Float[Tensor, ""]:
    """1 - the cosine of predicted and wanted vectors, its mean over all cells; 0 to 2."""
    wanted = on_grid(maps.to(predicted.device), (predicted.shape[2], predicted.shape[3]))
    return 1 - F.cosine_similarity(predicted.float(), wanted, dim=1).mean()
