"""A diffusion UNet that runs only as far as one up block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import nn

from propagate.errors import InputError

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel
    from jaxtyping import Float
    from torch import Tensor


class PartialUNet:
    """Output of one up block of a `UNet2DConditionModel`.

    A forward hook on the block ends the network's own, unchanged `forward`, and what would have
    come after is given up to free its memory. The UNet passed in is used up.

    Args:
        unet: the network.
        up_ft_index: which up block, from 0 (coarsest).

    Raises:
        InputError: there is no such up block.
    """

    def __init__(self, unet: UNet2DConditionModel, up_ft_index: int) -> None:
        blocks = len(unet.up_blocks)
        if not 0 <= up_ft_index < blocks:
            raise InputError(
                f"up_ft_index is {up_ft_index}, and this UNet has up blocks 0 to {blocks - 1}."
            )
        # Placeholders, not a shorter list: `forward` treats the last of the list differently
        # (it does not tell it the size of the next skip connection, wrong for odd sizes).
        for index in range(up_ft_index + 1, blocks):
            unet.up_blocks[index] = nn.Identity()
        unet.conv_norm_out = unet.conv_out = None
        unet.up_blocks[up_ft_index].register_forward_hook(_stop)
        self._unet = unet

    def __call__(
        self,
        latents: Float[Tensor, "n 4 h w"],
        t: int,
        prompt_embedding: Float[Tensor, "1 tokens width"],
    ) -> Float[Tensor, "n c gh gw"]:
        """Feature maps of noisy latents at step `t`, in the network's own type."""
        text = prompt_embedding.expand(len(latents), -1, -1)
        steps = torch.full((len(latents),), t, device=latents.device)
        try:
            self._unet(latents, steps, encoder_hidden_states=text)
        except _UpBlockReachedError as reached:
            return reached.features
        raise RuntimeError("The UNet finished without reaching its up block.")


class _UpBlockReachedError(Exception):
    """Carries the features out of the UNet's forward pass."""

    def __init__(self, features: Tensor) -> None:
        super().__init__()
        self.features = features


def _stop(_block: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> NoReturn:
    raise _UpBlockReachedError(output)
