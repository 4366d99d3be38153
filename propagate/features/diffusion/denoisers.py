"""How each kind of denoising network of diffusers is called for one step, without guidance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

_FLUX_GUIDANCE = 3.5  # default of diffusers' FluxPipeline, for models that were distilled with it


class _Denoiser:
    """A network, its text conditions, and what sides of the latent must be multiples of.

    Args:
        network: of diffusers.
        conditions: tensors for one image, which are repeated for each latent.
        multiple: patch size of a transformer; 1 for networks that take any size.
        largest: longest side of a latent that it has positions for; None for any.
    """

    def __init__(
        self,
        network: nn.Module,
        conditions: Mapping[str, Tensor],
        *,
        multiple: int = 1,
        largest: int | None = None,
    ) -> None:
        self.network = network
        self.multiple = multiple
        self.largest = largest
        self._conditions = dict(conditions)

    def to(self, device: torch.device) -> None:
        """Move network and conditions."""
        self.network.to(device)
        self._conditions = {name: part.to(device) for name, part in self._conditions.items()}

    def _repeated(self, count: int) -> dict[str, Tensor]:
        return {
            name: part.expand(count, *part.shape[1:]) for name, part in self._conditions.items()
        }


class ConditionalUNet(_Denoiser):
    """`UNet2DConditionModel` of Stable Diffusion 1, 2 and XL.

    XL's added conditions (its paper, section 2.2) say that the image was this size and not cropped.

    Args:
        network: the UNet.
        conditions: `encoder_hidden_states`, and for XL the pooled `text_embeds`.
        factor: pixels per latent.
    """

    def __init__(
        self, network: nn.Module, conditions: Mapping[str, Tensor], *, factor: int
    ) -> None:
        super().__init__(network, conditions)
        self._factor = factor

    def __call__(self, latents: Float[Tensor, "n c h w"], t: int) -> object:
        """Run the network on noisy latents of step `t`."""
        parts = self._repeated(len(latents))
        pooled = parts.pop("text_embeds", None)
        added = None
        if pooled is not None:
            height, width = (side * self._factor for side in latents.shape[2:])
            # Original size, corner of the crop, target size.
            ids = _row(latents, height, width, 0, 0, height, width)
            added = {"text_embeds": pooled, "time_ids": ids.expand(len(latents), -1)}
        return self.network(latents, _steps(latents, t), added_cond_kwargs=added, **parts)


class UnconditionalUNet(_Denoiser):
    """`UNet2DModel`: DDPM's and ADM's.

    Args:
        network: the UNet.
        multiple: what its levels halve without a rest.
    """

    def __init__(self, network: nn.Module, *, multiple: int) -> None:
        super().__init__(network, {}, multiple=multiple)

    def __call__(self, latents: Float[Tensor, "n c h w"], t: int) -> object:
        """Run the network on noisy images of step `t`."""
        return self.network(latents, _steps(latents, t))


class ClassDiT(_Denoiser):
    """`DiTTransformer2DModel`, with the class that stands for none.

    Args:
        network: the transformer.
        multiple: its patch size.
        null_class: index of the embedding that was trained by dropping the class.
    """

    def __init__(self, network: nn.Module, *, multiple: int, null_class: int) -> None:
        super().__init__(network, {}, multiple=multiple)
        self._null_class = null_class

    def __call__(self, latents: Float[Tensor, "n c h w"], t: int) -> object:
        """Run the network on noisy latents of step `t`."""
        steps = _steps(latents, t)
        labels = torch.full_like(steps, self._null_class)
        return self.network(latents, timestep=steps, class_labels=labels)


class PixArt(_Denoiser):
    """`PixArtTransformer2DModel` of PixArt-alpha and -Sigma.

    Args:
        network: the transformer.
        conditions: `encoder_hidden_states` and `encoder_attention_mask` of T5.
        multiple: its patch size.
        factor: pixels per latent, for models that are told the image's size.
    """

    def __init__(
        self,
        network: nn.Module,
        conditions: Mapping[str, Tensor],
        *,
        multiple: int,
        factor: int,
    ) -> None:
        super().__init__(network, conditions, multiple=multiple)
        self._factor = factor

    def __call__(self, latents: Float[Tensor, "n c h w"], t: int) -> object:
        """Run the network on noisy latents of step `t`."""
        count, height, width = len(latents), *(side * self._factor for side in latents.shape[2:])
        added = {
            "resolution": _row(latents, height, width).expand(count, -1),
            "aspect_ratio": _row(latents, height / width).expand(count, -1),
        }
        return self.network(
            latents,
            timestep=_steps(latents, t),
            added_cond_kwargs=added,
            **self._repeated(count),
        )


class MMDiT(_Denoiser):
    """`SD3Transformer2DModel` of Stable Diffusion 3 and 3.5.

    Args:
        network: the transformer.
        conditions: `encoder_hidden_states` and `pooled_projections`.
        multiple: its patch size.
        largest: longest side of a latent that it has positions for.
    """

    def __call__(self, latents: Float[Tensor, "n c h w"], t: int) -> object:
        """Run the network on noisy latents of step `t`."""
        parts = self._repeated(len(latents))
        return self.network(latents, timestep=_steps(latents, t), **parts)


class Flux(_Denoiser):
    """`FluxTransformer2DModel`, whose latents come as patches of 2x2.

    Args:
        network: the transformer.
        conditions: `encoder_hidden_states` of T5 and `pooled_projections` of CLIP.
        guidance: whether it was distilled with a guidance scale, which is then told.
    """

    def __init__(
        self, network: nn.Module, conditions: Mapping[str, Tensor], *, guidance: bool
    ) -> None:
        super().__init__(network, conditions, multiple=2)
        self._guidance = guidance

    def __call__(self, latents: Float[Tensor, "n c h w"], t: int) -> object:
        """Run the network on noisy latents of step `t` of 1000."""
        count, channels, height, width = latents.shape
        parts = self._repeated(count)
        patches = latents.reshape(count, channels, height // 2, 2, width // 2, 2)
        packed = patches.permute(0, 2, 4, 1, 3, 5).reshape(count, -1, 4 * channels)
        text = parts["encoder_hidden_states"].shape[1]
        optional: dict[str, Any] = {}
        if self._guidance:
            optional["guidance"] = torch.full((count,), _FLUX_GUIDANCE, device=latents.device)
        return self.network(
            packed,
            timestep=_steps(latents, t) / 1000,
            img_ids=_positions(height // 2, width // 2, latents),
            txt_ids=torch.zeros(text, 3, device=latents.device, dtype=latents.dtype),
            **parts,
            **optional,
        )


def _positions(height: int, width: int, like: Tensor) -> Float[Tensor, "n 3"]:
    """(0, row, column) of every patch: what Flux's rotary embedding counts."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    ids = torch.stack([torch.zeros_like(rows), rows, columns], dim=-1).flatten(0, 1)
    return ids.to(like.device, like.dtype)


def _steps(latents: Tensor, t: int) -> Tensor:
    return torch.full((len(latents),), t, device=latents.device)


def _row(like: Tensor, *values: float) -> Tensor:
    return torch.tensor([values], device=like.device, dtype=like.dtype)
