"""Feature maps of a diffusion model.

Source: Tang et al., "Emergent Correspondence from Image Diffusion", NeurIPS 2023: noise of step t
is added to an image (or its latents), and the output of a layer of the denoising network, averaged
over an ensemble of noise draws, is the feature map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from propagate.config import LatentMode
from propagate.errors import InputError
from propagate.features.batching import (
    Batches,
    Notify,
    activation_growth,
    notify_by_log,
)
from propagate.features.device import dtype_name
from propagate.features.diffusion.model import (
    DiffusionModel,
    Posterior,
    check_input_size,
    encode_pixels,
)
from propagate.features.diffusion.running import (
    frames_at_once,
    latent_of,
    move_to,
    probe_image,
)
from propagate.features.frames import finite_map, pixel_batch
from propagate.features.fusion import fuse_maps
from propagate.features.noise import NoiseSource, SeededNoise
from propagate.features.tap import Tap, compile_blocks
from propagate.geometry import InputSize
from propagate.types import FeatureMap, Frame, Size

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class DiffusionSettings:
    """Which features are taken, and how they are computed.

    Args:
        t: noise step, from 0 to one less than the number of training steps (mostly 1000).
        layers: modules of the denoising network; several are fused with equal weights.
        ensemble_size: how many noise draws the features are averaged over.
        latent: "sample" draws the latent of every ensemble member from the VAE's posterior, as
            DIFT does; "mean" takes the posterior's mean.
        input_size: how frames are resized.
        batch_size: the most ensemble members that go through the network at once; None follows
            from `memory`.
        memory: gigabytes that activations may take; None is a share of a GPU's, and one input at
            a time on a CPU.
        compile: compile the network's blocks.
    """

    t: int
    layers: tuple[str, ...]
    ensemble_size: int = 1
    latent: LatentMode = "sample"
    input_size: InputSize = field(default_factory=InputSize)
    batch_size: int | None = None
    memory: float | None = None
    compile: bool = False


class DiffusionExtractor:
    """DIFT features of any `DiffusionModel`.

    The image is encoded once, whatever the ensemble; members of all frames share batches; the
    network runs no further than its last tapped layer, and what comes after it is given up.

    Args:
        model: is moved to `device` and used up.
        settings: which features.
        device: where the networks run.
        dtype: what they compute in.
        noise: where random numbers come from; seed 0 if None.
        notify: receives a note when memory runs out.

    Raises:
        InputError: `t` or a layer that the model does not have.
    """

    def __init__(
        self,
        model: DiffusionModel,
        settings: DiffusionSettings,
        *,
        device: torch.device,
        dtype: torch.dtype,
        noise: NoiseSource | None = None,
        notify: Notify = notify_by_log,
    ) -> None:
        if settings.t >= len(model.levels):
            last = len(model.levels) - 1
            raise InputError(f"t is {settings.t}; {model.name} has steps 0 to {last}.")
        self._model = model
        self._settings = settings
        self._device = device
        self._dtype = dtype
        self._noise = noise or SeededNoise()
        self._signal = float(model.levels.signal[settings.t])
        self._sigma = float(model.levels.noise[settings.t])
        self._tap = Tap(model.denoiser.network, settings.layers)
        move_to(model, device)
        encoding, denoising = self._probe()
        self._encoding = self._batches(encoding, "images", notify)
        self._denoising = self._batches(denoising, "noise draws", notify)
        if settings.compile:
            compile_blocks(model.denoiser.network, settings.layers)

    @property
    def identity(self) -> str:
        """Weights, step, layers, ensemble, latent, noise, input size and type."""
        return self._identity(self._settings.layers)

    def layer_identity(self, index: int) -> str:
        """See `LayeredExtractor`."""
        return self._identity(self._settings.layers[index : index + 1])

    def _identity(self, layers: Sequence[str]) -> str:
        s = self._settings
        return (
            f"{self._model.identity} t={s.t} layer={'+'.join(layers)} n={s.ensemble_size} "
            f"latent={s.latent} {self._noise.identity} {s.input_size} {dtype_name(self._dtype)}"
        )

    @property
    def batch_size(self) -> int:
        """Frames whose ensembles fill one batch of the network at 480p."""
        return frames_at_once(
            self._model,
            self._denoising,
            self._settings.input_size,
            channels=self._channels,
            members=self._settings.ensemble_size,
        )

    @torch.inference_mode()
    def extract(self, frames: Sequence[Frame]) -> list[FeatureMap]:
        """Feature maps of `frames`, in order: float32 [c, gh, gw] on the device.

        Maps of several layers are fused, with unit cells.

        Raises:
            InputError: the network's input would be too small, or a side no multiple of what the
                network needs.
            ModelError: the features are not finite, as can happen in fp16; or no memory is left.
        """
        return [fuse_maps(layers) for layers in self.extract_layers(frames)]

    @torch.inference_mode()
    def extract_layers(self, frames: Sequence[Frame]) -> list[list[FeatureMap]]:
        """See `LayeredExtractor`; raises as `extract`."""
        if not frames:
            return []
        size = self._settings.input_size.of(frames[0].size)
        check_input_size(self._model, size)
        posterior = self.posterior(pixel_batch(frames, size, self._settings.input_size.resizing))
        noisy = [
            self.noisy_latents(Posterior(posterior.mean[i], posterior.std[i]), frame.index)
            for i, frame in enumerate(frames)
        ]
        maps = self._means(torch.cat(noisy), len(frames))
        return [
            [finite_map(layer[position], frame, size, self._dtype) for layer in maps]
            for position, frame in enumerate(frames)
        ]

    @torch.inference_mode()
    def posterior(self, pixels: UInt8[Tensor, "b 3 h w"]) -> Posterior:
        """Latents of images that have the network's input size already."""
        parts = list(self._encoding.run(self._encode, pixels))
        return Posterior(
            torch.cat([part.mean for part in parts]), torch.cat([part.std for part in parts])
        )

    def _encode(self, pixels: UInt8[Tensor, "n 3 h w"]) -> Posterior:
        return encode_pixels(self._model, pixels.to(self._device))

    def noisy_latents(self, posterior: Posterior, frame_index: int) -> Float[Tensor, "n c h w"]:
        """Latents of every ensemble member of one frame with the noise of step t; fp32.

        Args:
            posterior: of the frame, [c, h, w].
            frame_index: of the frame in its clip.
        """
        members = range(self._settings.ensemble_size)
        return torch.stack([self._noisy(posterior, frame_index, member) for member in members])

    def _noisy(self, posterior: Posterior, frame: int, member: int) -> Float[Tensor, "c h w"]:
        latent = latent_of(
            self._model, posterior, self._settings.latent, self._noise, frame=frame, member=member
        )
        if not self._sigma:
            return self._signal * latent
        shape = tuple(latent.shape)
        noise = self._noise.draw("diffusion", frame=frame, member=member, shape=shape)
        return self._signal * latent + self._sigma * noise.to(self._device)

    def _means(
        self, latents: Float[Tensor, "n c h w"], frames: int
    ) -> list[list[Float[Tensor, "c2 gh gw"]]]:
        """For each layer the mean over the ensemble of each frame, in fp32.

        Members are added one by one in their order, so that the batch does not matter.
        """
        members = len(latents) // frames
        sums = [[torch.zeros((), device=self._device)] * frames for _ in self._settings.layers]
        done = 0
        for maps in self._denoising.run(self._maps, latents):
            for total, layer in zip(sums, maps, strict=True):
                for offset, one in enumerate(layer):
                    frame = (done + offset) // members
                    total[frame] = total[frame] + one.float()
            done += len(maps[0])
        return [[one / members for one in total] for total in sums]

    def _maps(self, latents: Float[Tensor, "n c h w"]) -> list[Float[Tensor, "n c2 gh gw"]]:
        size = Size(latents.shape[2], latents.shape[3])
        chunk = latents.to(self._dtype)
        return self._tap(lambda: self._model.denoiser(chunk, self._settings.t), size)

    @torch.inference_mode()
    def _probe(self) -> tuple[float, float]:
        """One pass over a small black image: checks the layers, prunes, and measures activations.

        Returns:
            Bytes that each number of an image and of a latent makes the networks take.
        """
        encoder, denoiser = self._model.encoder, self._model.denoiser
        image = probe_image(self._model, self._device)
        latents = encoder(image).mean.to(self._dtype)
        self._channels = latents.shape[1]

        def run() -> object:
            return denoiser(latents, self._settings.t)

        size = Size(latents.shape[2], latents.shape[3])
        self._tap.prune(run, size)
        denoising = activation_growth(
            denoiser.network, lambda: self._tap(run, size), latents.numel()
        )
        if encoder.network is None:
            return 1.0, denoising
        return activation_growth(encoder.network, lambda: encoder(image), image.numel()), denoising

    def _batches(self, growth: float, what: str, notify: Notify) -> Batches:
        return Batches(
            self._device,
            growth,
            size=self._settings.batch_size,
            budget=self._settings.memory,
            what=what,
            notify=notify,
        )
