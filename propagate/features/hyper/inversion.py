"""Maps of a diffusion model along the DDIM inversion of an image, as they appear.

Source: Luo et al., "Diffusion Hyperfeatures", NeurIPS 2023; the inversion is DDIM's (Song et al.,
2021, eq. 12 with no noise) from the clean latent to noise.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from propagate.config import LatentMode
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
from propagate.features.frames import pixel_batch
from propagate.features.hyper.ddim import (
    CLEAN,
    check_ddim,
    ddim_step,
    decoder_layers,
    listening,
)
from propagate.features.hyper.recipe import Inversion
from propagate.features.hyper.sources import Place, Sink
from propagate.features.noise import NoiseSource, SeededNoise
from propagate.features.tap import compile_blocks, find_modules
from propagate.geometry import InputSize
from propagate.types import Frame, Size

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class InversionSettings:
    """What is taken along the way, and how it is computed.

    Args:
        inversion: the steps.
        layers: modules of the network; empty is `decoder_layers`.
        latent: "sample" draws the latent from the VAE's posterior, as published; "mean" takes the
            posterior's mean.
        input_size: how frames are resized.
        batch_size: the most frames at once; None follows from `memory`.
        memory: gigabytes that activations may take; None is a share of a GPU's, and one frame at
            a time on a CPU.
        compile: compile the network's blocks.
    """

    inversion: Inversion = field(default_factory=Inversion)
    layers: tuple[str, ...] = ()
    latent: LatentMode = "sample"
    input_size: InputSize = field(default_factory=InputSize)
    batch_size: int | None = None
    memory: float | None = None
    compile: bool = False


class InversionSource:
    """A `MapSource`: all layers at some steps of the inversion.

    Args:
        model: is moved to `device`.
        settings: which maps.
        device: where the networks run.
        dtype: what they compute in; the latents stay in float32.
        noise: of the latent's posterior; seed 0 if None.
        notify: receives a note when memory runs out.

    Raises:
        InputError: the model has no such layers, or predicts what can't be inverted.
    """

    def __init__(
        self,
        model: DiffusionModel,
        settings: InversionSettings,
        *,
        device: torch.device,
        dtype: torch.dtype,
        noise: NoiseSource | None = None,
        notify: Notify = notify_by_log,
    ) -> None:
        check_ddim(model, settings.inversion.steps, what="inversion")
        self._model, self._settings = model, settings
        self._device, self._dtype = device, dtype
        self._noise = noise or SeededNoise()
        self._ratio = len(model.levels) // settings.inversion.steps
        self.layers = settings.layers or decoder_layers(model.denoiser.network)
        modules = find_modules(model.denoiser.network, self.layers)
        self._modules = dict(zip(self.layers, modules, strict=True))
        move_to(model, device)
        self._batches = Batches(
            device,
            self._probe(),
            size=settings.batch_size,
            budget=settings.memory,
            what="images",
            notify=notify,
        )
        if settings.compile:
            compile_blocks(model.denoiser.network, self.layers)

    @property
    def identity(self) -> str:
        """Weights, steps, layers, latent, noise, input size and type."""
        s, inversion = self._settings, self._settings.inversion
        saves = ",".join(map(str, inversion.saves))
        layers = "+".join(self._settings.layers) or "decoder"
        noise = f" {self._noise.identity}" if s.latent == "sample" else ""
        return (
            f"{self._model.identity} ddim={inversion.steps}[{saves}] layer={layers} "
            f"latent={s.latent}{noise} {s.input_size} {dtype_name(self._dtype)}"
        )

    @property
    def batch_size(self) -> int:
        """Frames at 480p that go through the network at once."""
        return frames_at_once(
            self._model, self._batches, self._settings.input_size, channels=self._channels
        )

    def run(
        self,
        frames: Sequence[Frame],
        make: Callable[[], Sink[R]],
        wanted: Collection[Place] | None = None,
    ) -> list[tuple[R, Size]]:
        """See `MapSource`; maps are on the grid of the latents.

        Raises:
            InputError: the network's input would be of a wrong size.
            ModelError: no memory is left.
        """
        size = self._settings.input_size.of(frames[0].size)
        check_input_size(self._model, size)
        latents = torch.cat([self._latent(frame, size) for frame in frames])

        def invert(chunk: Float[Tensor, "n c h w"]) -> R:
            sink = make()
            self._invert(chunk, sink, wanted)
            return sink.result()

        return [(result, size) for result in self._batches.run(invert, latents)]

    @torch.no_grad()
    def _latent(self, frame: Frame, size: Size) -> Float[Tensor, "1 c h w"]:
        resizing = self._settings.input_size.resizing
        pixels = pixel_batch([frame], size, resizing).to(self._device)
        encoded = encode_pixels(self._model, pixels)
        posterior = Posterior(encoded.mean[0], encoded.std[0])
        latent = self._settings.latent
        return latent_of(self._model, posterior, latent, self._noise, frame=frame.index)[None]

    @torch.no_grad()
    def _invert(
        self, latents: Float[Tensor, "n c h w"], sink: Sink[Any], wanted: Collection[Place] | None
    ) -> None:
        inversion = self._settings.inversion
        # As published, steps count from the noisy end; they are passed from the clean one.
        positions = {save: position for position, save in enumerate(inversion.saves)}
        needed = positions.values() if wanted is None else {step for _, step in wanted}
        last = min(inversion.saves[step] for step in needed)
        grid = Size(latents.shape[2], latents.shape[3])
        for passed in range(inversion.steps - last):
            step = positions.get(inversion.steps - 1 - passed)
            with listening(self._modules, step, grid, sink, wanted):
                output = self._predict(latents, passed)
            latents = ddim_step(
                latents,
                output,
                prediction=self._model.prediction,
                levels=self._model.levels,
                now=self._t(passed),
                # The first step leads from the clean image to step 0, one pass further on.
                then=self._t(passed + 1),
            )

    def _predict(self, latents: Float[Tensor, "n c h w"], passed: int) -> Float[Tensor, "n c h w"]:
        output: Any = self._model.denoiser(latents.to(self._dtype), self._t(passed))
        # Models that learn the variance too give it after the prediction.
        prediction: Tensor = output.sample[:, : latents.shape[1]].float()
        return prediction

    def _t(self, passed: int) -> int:
        """The step that the latents are at; the network is told that of the clean image too."""
        return (passed - 1) * self._ratio if passed else CLEAN

    @torch.no_grad()
    def _probe(self) -> float:
        """Bytes that a number of a latent takes, by one pass over a small black image."""
        encoder, denoiser = self._model.encoder, self._model.denoiser
        latents = encoder(probe_image(self._model, self._device)).mean
        self._channels = latents.shape[1]
        return activation_growth(
            denoiser.network, lambda: self._predict(latents, 0), latents.numel()
        )
