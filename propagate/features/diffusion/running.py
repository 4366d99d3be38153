"""What every use of a diffusion model does around its passes: place it, probe it, draw latents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from propagate.config import LatentMode
from propagate.features.batching import Batches, fitting_weights
from propagate.features.diffusion.model import DiffusionModel, Posterior
from propagate.features.noise import NoiseSource
from propagate.geometry import InputSize
from propagate.types import Size

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

_PROBE_LATENTS = 16  # side of the latent of the pass that finds out what runs
_TYPICAL = Size(480, 854)
_MOST_FRAMES = 8


def move_to(model: DiffusionModel, device: torch.device) -> None:
    """Move a model's networks, in place.

    Raises:
        ModelError: they don't fit into the device's memory.
    """
    with fitting_weights(model.name, device):
        model.denoiser.to(device)
        if model.encoder.network is not None:
            model.encoder.network.to(device)


def probe_image(model: DiffusionModel, device: torch.device) -> Float[Tensor, "1 3 h w"]:
    """A small black image, to find out what runs and what it takes."""
    multiple = model.denoiser.multiple
    side = -(-_PROBE_LATENTS // multiple) * multiple * model.encoder.factor
    return torch.zeros(1, 3, side, side, device=device)


def frames_at_once(
    model: DiffusionModel,
    batches: Batches,
    input_size: InputSize,
    *,
    channels: int,
    members: int = 1,
) -> int:
    """Frames at 480p that go through the network together.

    Args:
        model: the model.
        batches: of its network.
        input_size: how frames are resized.
        channels: of a latent.
        members: latents of each frame.
    """
    height, width = input_size.of(_TYPICAL)
    numbers = channels * height * width // model.encoder.factor**2
    return max(min(batches.size(numbers) // members, _MOST_FRAMES), 1)


def latent_of(
    model: DiffusionModel,
    posterior: Posterior,
    mode: LatentMode,
    noise: NoiseSource,
    *,
    frame: int,
    member: int = 0,
) -> Float[Tensor, "c h w"]:
    """A frame's latent, of which a model without a VAE has but one.

    Args:
        model: the model.
        posterior: of the frame, [c, h, w].
        mode: whether it is drawn, or the mean.
        noise: of the draw.
        frame: index of the frame in its clip.
        member: of the ensemble.
    """
    if mode == "mean" or model.encoder.network is None:
        return posterior.mean
    shape = tuple(posterior.mean.shape)
    draw = noise.draw("posterior", frame=frame, member=member, shape=shape)
    return posterior.mean + posterior.std * draw.to(posterior.mean.device)
