"""A diffusion model as features need it: an encoder, noise levels, and a network to tap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import nn
from torch.nn.functional import pixel_unshuffle

from propagate.errors import InputError
from propagate.types import Size

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8
    from torch import Tensor


@dataclass(frozen=True)
class Posterior:
    """A Gaussian over the latents of some images, on the scale the network was trained on; fp32.

    Args:
        mean: of each latent.
        std: of each latent; zeros where encoding is exact.
    """

    mean: Float[Tensor, "b c h w"]
    std: Float[Tensor, "b c h w"]


class Encoder(Protocol):
    """From images to what a denoising network takes."""

    @property
    def network(self) -> nn.Module | None:
        """What computes, or None where nothing is to be computed."""
        ...

    @property
    def factor(self) -> int:
        """Pixels per latent along each axis."""
        ...

    def __call__(self, pixels: Float[Tensor, "b 3 h w"]) -> Posterior:
        """Latents of images in [-1, 1]."""
        ...


class Denoiser(Protocol):
    """A denoising network with everything it needs beside latents and a step."""

    @property
    def network(self) -> nn.Module:
        """Its blocks are what is tapped."""
        ...

    @property
    def multiple(self) -> int:
        """Sides of the latent must be multiples of this."""
        ...

    @property
    def largest(self) -> int | None:
        """Longest side of a latent that it takes; None for any."""
        ...

    def to(self, device: torch.device) -> None:
        """Move network and conditions."""
        ...

    def __call__(self, latents: Float[Tensor, "n c h w"], t: int) -> object:
        """Run the network on latents with the noise of step `t`."""
        ...


@dataclass(frozen=True)
class NoiseLevels:
    """How much of the image and of noise a latent holds at each step.

    Args:
        signal: factor of the clean latent; one per training step.
        noise: factor of the standard normal noise.
    """

    signal: Float[Tensor, " steps"]
    noise: Float[Tensor, " steps"]

    @staticmethod
    def of_diffusion(alphas_cumprod: Float[Tensor, " steps"]) -> NoiseLevels:
        """Variance-preserving diffusion: x_t = sqrt(a) x + sqrt(1 - a) noise (DDPM, eq. 4)."""
        return NoiseLevels(alphas_cumprod.sqrt(), (1 - alphas_cumprod).sqrt())

    @staticmethod
    def of_flow(steps: int) -> NoiseLevels:
        """Rectified flow: x_t = (1 - s) x + s noise with s = t / steps (SD 3's paper, eq. 13)."""
        sigma = torch.arange(steps) / steps
        return NoiseLevels(1 - sigma, sigma)

    @staticmethod
    def of_clean(steps: int) -> NoiseLevels:
        """No noise at any step, for networks that were tuned to clean latents (CleanDIFT)."""
        return NoiseLevels(torch.ones(steps), torch.zeros(steps))

    def __len__(self) -> int:
        return len(self.signal)


@dataclass(frozen=True, kw_only=True)
class DiffusionModel:
    """The parts of a loaded model; networks are frozen, in eval mode, on the CPU.

    Args:
        name: what to call it in a message.
        identity: tells its weights and conditions from any others.
        encoder: images to latents.
        levels: noise of each step.
        denoiser: the network to tap.
        up_block: name of the layer that DIFT's `up_ft_index` counts, for an index; raises
            InputError.
        prediction: what the network gives, as schedulers of diffusers call it.
    """

    name: str
    identity: str
    encoder: Encoder
    levels: NoiseLevels
    denoiser: Denoiser
    up_block: Callable[[int], str]
    prediction: str = "epsilon"


def encode_pixels(model: DiffusionModel, pixels: UInt8[Tensor, "b 3 h w"]) -> Posterior:
    """Latents of images 0-255 that have the network's input size and are on its device."""
    return model.encoder((pixels.float() / 255 - 0.5) / 0.5)


def check_input_size(model: DiffusionModel, size: Size) -> None:
    """Check that images of a size can go through a model.

    Raises:
        InputError: too small or large, or a side is no multiple of what the network needs.
    """
    factor, denoiser = model.encoder.factor, model.denoiser
    unit = factor * denoiser.multiple
    problem = None
    if min(size) < unit:
        problem = f"both sides must be at least {unit}"
    elif any(side // factor % denoiser.multiple for side in size):
        problem = f"{model.name} takes multiples of {unit}"
    elif denoiser.largest is not None and max(size) > denoiser.largest * factor:
        problem = f"{model.name} takes at most {denoiser.largest * factor} a side"
    if problem is not None:
        raise InputError(
            f"The network's input would be {size} pixels; {problem}, so choose another input size."
        )


class PixelEncoder:
    """For models of the pixels themselves.

    Args:
        factor: side of the squares of pixels that are the channels of one latent, as
            `torch.nn.PixelUnshuffle` orders them.
    """

    network = None

    def __init__(self, factor: int = 1) -> None:
        self.factor = factor
        self.channels = 3 * factor**2

    def __call__(self, pixels: Float[Tensor, "b 3 h w"]) -> Posterior:
        """The images."""
        latents = pixel_unshuffle(pixels, self.factor)
        return Posterior(latents, torch.zeros_like(latents))


def default_layer(network: nn.Module) -> str:
    """Where features are taken when nobody says: the last but one up block, or the middle block."""
    blocks = _count(network, "up_blocks")
    if blocks:
        return f"up_blocks.{max(blocks - 2, 0)}"
    return f"transformer_blocks.{_count(network, 'transformer_blocks') // 2}"


def up_block(model: str, network: nn.Module, index: int) -> str:
    """Name of the up block `index` of a network of diffusers, coarsest first.

    Raises:
        InputError: there is none; `model` is what the message calls it.
    """
    blocks = _count(network, "up_blocks")
    if not blocks:
        raise InputError(
            f"up_ft_index is {index}, and {model} has no up blocks; name a layer with "
            f"--layer, such as {default_layer(network)}."
        )
    if not 0 <= index < blocks:
        raise InputError(f"up_ft_index is {index}, and this UNet has up blocks 0 to {blocks - 1}.")
    return f"up_blocks.{index}"


def _count(network: nn.Module, name: str) -> int:
    blocks = getattr(network, name, None)
    return len(blocks) if isinstance(blocks, nn.ModuleList) else 0
