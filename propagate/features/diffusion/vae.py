"""Latents of an `AutoencoderKL`, and images of latents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from diffusers import AutoencoderKL
from torch import nn

from propagate.features.diffusion.model import Posterior
from propagate.features.diffusion.parts import load_diffusers, read_config

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8
    from torch import Tensor

    from propagate.features.hub import ResolvedModel


class VaeEncoder:
    """Encodes images to the posterior over latents, shifted and scaled as the network has them.

    Args:
        vae: loses its decoder.
    """

    def __init__(self, vae: AutoencoderKL) -> None:
        del vae.decoder, vae.post_quant_conv
        # A seventh faster in bf16 on a CPU, where it makes no difference for the UNet.
        self.network: nn.Module = vae.to(memory_format=torch.channels_last)
        self.factor = vae_factor(vae.config)
        self.channels = int(vae.config.latent_channels)
        self._encode = vae.encode
        self._dtype = vae.dtype
        self._scale = float(vae.config.scaling_factor)
        self._shift = float(vae.config.get("shift_factor") or 0)

    def __call__(self, pixels: Float[Tensor, "b 3 h w"]) -> Posterior:
        """Posterior of images in [-1, 1], on the network's scale; fp32."""
        gaussian = self._encode(pixels.to(self._dtype)).latent_dist
        mean = (gaussian.mean.float() - self._shift) * self._scale
        return Posterior(mean, gaussian.std.float() * self._scale)


class VaeDecoder:
    """Decodes latents as the network has them to images.

    Args:
        vae: loses its encoder.
    """

    def __init__(self, vae: AutoencoderKL) -> None:
        del vae.encoder, vae.quant_conv
        self.network: nn.Module = vae.to(memory_format=torch.channels_last)
        self.channels = int(vae.config.latent_channels)
        self._decode = vae.decode
        self._dtype = vae.dtype
        self._scale = float(vae.config.scaling_factor)
        self._shift = float(vae.config.get("shift_factor") or 0)

    def __call__(self, latents: Float[Tensor, "b c h w"]) -> UInt8[Tensor, "b 3 h w"]:
        """RGB values 0-255 of latents on the network's scale."""
        unscaled = (latents / self._scale + self._shift).to(self._dtype)
        pixels: Tensor = self._decode(unscaled).sample.float()
        return ((pixels / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)


def load_vae(files: ResolvedModel, dtype: torch.dtype) -> VaeEncoder:
    """Load the encoder of a pipeline; in fp32 where it is known to overflow in fp16.

    Raises:
        ModelError: it is damaged or does not fit its configuration.
    """
    return VaeEncoder(_load(files, dtype))


def load_vae_decoder(files: ResolvedModel, dtype: torch.dtype) -> VaeDecoder:
    """Load the decoder of a pipeline; as `load_vae`."""
    return VaeDecoder(_load(files, dtype))


def _load(files: ResolvedModel, dtype: torch.dtype) -> AutoencoderKL:
    upcast = dtype == torch.float16 and read_config(files, "vae/config.json").get("force_upcast")
    return load_diffusers(files, "vae", AutoencoderKL, torch.float32 if upcast else dtype)


def vae_factor(config: Mapping[str, Any]) -> int:
    """Pixels per latent along each axis: the encoder halves between its levels."""
    return int(2 ** (len(config["block_out_channels"]) - 1))
