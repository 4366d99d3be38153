"""DIFT_sd: features of a Stable Diffusion UNet at one noise level.

Source: Tang et al., "Emergent Correspondence from Image Diffusion", NeurIPS 2023: an image is
encoded to latents, noise of step t is added, and the output of one up block of the UNet, averaged
over an ensemble of noise draws, is the feature map.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch

from propagate.config import Precision
from propagate.errors import InputError, ModelError
from propagate.features.device import (
    check_dtype_name,
    dtype_name,
    resolve_device,
    resolve_dtype,
)
from propagate.features.hub import resolve
from propagate.features.noise import NoiseSource, SeededNoise
from propagate.features.sd_loading import load_parts
from propagate.features.sd_unet import PartialUNet
from propagate.geometry import InputSize, resize_rgb
from propagate.types import FeatureMap, Frame

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from jaxtyping import Float, UInt8
    from torch import Tensor

LatentMode = Literal["sample", "mean"]


@dataclass(frozen=True, kw_only=True)
class StableDiffusionSettings:
    """Which features are taken, of which weights, and where they are computed.

    The defaults are DIFT's for label propagation on DAVIS.

    Args:
        model: alias, pipeline folder or hub repository; see `propagate.features.hub.resolve`.
        t: noise step, from 0 to one less than the number of training steps (mostly 1000).
        up_ft_index: up block of the UNet, from 0 (coarsest); 1 has stride 16 in Stable
            Diffusion, 2 and 3 have stride 8.
        ensemble_size: how many noise draws the features are averaged over.
        prompt: text that the UNet attends to.
        seed: of the noise.
        latent: "sample" draws the latent of every ensemble member from the VAE's posterior, as
            DIFT does; "mean" takes the posterior's mean.
        input_size: how frames are resized.
        device: "auto", "cpu", "mps", "cuda" or "cuda:N".
        dtype: "auto", "fp32", "bf16" or "fp16".
        unet_batch_size: the most ensemble members that go through the UNet at once; less needs
            less memory and changes the features by rounding only.
        offline: never use the network to find the weights.
    """

    model: str = "sd21"
    t: int = 51
    up_ft_index: int = 2
    ensemble_size: int = 8
    prompt: str = ""
    seed: int = 0
    latent: LatentMode = "sample"
    input_size: InputSize = field(default_factory=InputSize)
    device: str = "auto"
    dtype: Precision = "auto"
    unet_batch_size: int = 8
    offline: bool = False

    def __post_init__(self) -> None:
        least = {"t": 0, "up_ft_index": 0, "seed": 0, "ensemble_size": 1, "unet_batch_size": 1}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise InputError(f"{name} is {getattr(self, name)}; it must be {bound} or more.")
        if self.latent not in ("sample", "mean"):
            raise InputError(f"latent is {self.latent!r}; it must be 'sample' or 'mean'.")
        check_dtype_name(self.dtype)


@dataclass(frozen=True)
class Posterior:
    """The VAE's Gaussian over latents of one image, not scaled yet; fp32.

    Args:
        mean: [c, h, w].
        std: [c, h, w].
    """

    mean: Float[Tensor, "c h w"]
    std: Float[Tensor, "c h w"]


class StableDiffusionExtractor:
    """DIFT_sd features of frames, one frame at a time.

    Frames never share a batch, as the rounding of a batched network depends on who else is in
    the batch; the ensemble members of a frame do share one.

    Args:
        settings: what to compute.
        noise: where noise comes from, instead of `SeededNoise(settings.seed)`.

    Raises:
        ModelError: the weights are not to be had, or not of a Stable Diffusion pipeline.
        InputError: a setting does not fit the weights or this machine.
    """

    batch_size = 1

    def __init__(
        self, settings: StableDiffusionSettings | None = None, *, noise: NoiseSource | None = None
    ) -> None:
        self._settings = settings = settings or StableDiffusionSettings()
        self._noise = noise or SeededNoise(settings.seed)
        self._device = resolve_device(settings.device)
        self._dtype = resolve_dtype(settings.dtype, self._device)
        model = resolve(settings.model, offline=settings.offline)
        parts = load_parts(model, settings.prompt, self._dtype)
        steps = len(parts.alphas_cumprod)
        if settings.t >= steps:
            raise InputError(f"t is {settings.t}; {model.name} has steps 0 to {steps - 1}.")
        self._alpha = float(parts.alphas_cumprod[settings.t])
        self._unet = PartialUNet(parts.unet, settings.up_ft_index)
        parts.unet.to(self._device)
        self._vae = parts.vae.to(self._device)
        self._text = parts.prompt_embedding.to(self._device, self._dtype)
        self._model_identity = model.identity

    @property
    def identity(self) -> str:
        """Weights, step, up block, ensemble, prompt, latent, noise, input size and type."""
        s = self._settings
        prompt = hashlib.sha256(s.prompt.encode()).hexdigest()[:12] if s.prompt else "none"
        return (
            f"dift-sd {self._model_identity} t={s.t} up={s.up_ft_index} n={s.ensemble_size} "
            f"prompt={prompt} latent={s.latent} {self._noise.identity} {s.input_size} "
            f"{dtype_name(self._dtype)}"
        )

    def extract(self, frames: Sequence[Frame]) -> list[FeatureMap]:
        """Feature maps of `frames`, in order: float32 [c, gh, gw] on the device.

        Raises:
            InputError: the network size of a frame is smaller than one latent pixel.
            ModelError: the features are not finite, as can happen in fp16.
        """
        return [self._extract_one(frame) for frame in frames]

    def _extract_one(self, frame: Frame) -> FeatureMap:
        size = self._settings.input_size.of(frame.size)
        latents = self.noisy_latents(self.posterior(resize_rgb(frame.rgb, size)), frame.index)
        data = self.unet_features(latents)
        if not torch.isfinite(data).all():
            raise ModelError(
                f"The features of frame {frame.index} are not finite in "
                f"{dtype_name(self._dtype)}; use dtype 'fp32' or 'bf16'."
            )
        return FeatureMap(data, frame.size, size)

    @torch.no_grad()
    def posterior(self, rgb: UInt8[np.ndarray, "h w 3"]) -> Posterior:
        """Encode an image that has the network's input size already."""
        factor = 2 ** (len(self._vae.config.block_out_channels) - 1)
        if min(rgb.shape[:2]) < factor:
            raise InputError(
                f"The network's input would be {rgb.shape[1]}x{rgb.shape[0]} pixels; both sides "
                f"must be at least {factor}, so choose a larger input size."
            )
        pixels = torch.from_numpy(rgb).to(self._device).permute(2, 0, 1)[None]
        normalised = (pixels.float() / 255 - 0.5) / 0.5
        gaussian = self._vae.encode(normalised.to(self._dtype)).latent_dist
        return Posterior(gaussian.mean[0].float(), gaussian.std[0].float())

    def noisy_latents(self, posterior: Posterior, frame_index: int) -> Float[Tensor, "n c h w"]:
        """Scaled latents of every ensemble member with the noise of step t; fp32."""
        members = range(self._settings.ensemble_size)
        return torch.stack([self._noisy(posterior, frame_index, member) for member in members])

    def _noisy(self, posterior: Posterior, frame: int, member: int) -> Float[Tensor, "c h w"]:
        latent, shape = posterior.mean, tuple(posterior.mean.shape)
        if self._settings.latent == "sample":
            draw = self._noise.draw("posterior", frame=frame, member=member, shape=shape)
            latent = latent + posterior.std * draw.to(self._device)
        latent = latent * self._vae.config.scaling_factor
        noise = self._noise.draw("diffusion", frame=frame, member=member, shape=shape)
        noisy: Tensor = self._alpha**0.5 * latent + (1 - self._alpha) ** 0.5 * noise.to(
            self._device
        )
        return noisy

    @torch.no_grad()
    def unet_features(self, latents: Float[Tensor, "n c h w"]) -> Float[Tensor, "c2 gh gw"]:
        """Mean over the ensemble of the up block's output; fp32."""
        chunks = torch.split(latents.to(self._dtype), self._settings.unet_batch_size)
        maps = (self._unet(chunk, self._settings.t, self._text) for chunk in chunks)
        sums = torch.stack([chunk.float().sum(dim=0) for chunk in maps])
        return sums.sum(dim=0) / len(latents)
