"""Images that a diffusion model makes from text, and its maps while it makes them.

Source: Luo et al., "Diffusion Hyperfeatures", NeurIPS 2023: the maps of synthetic images are those
of the generation itself. It is DDIM's (Song et al., 2021, eq. 12 with no noise), with
classifier-free guidance (Ho and Salimans, 2022).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from propagate.errors import InputError, ModelError
from propagate.features.batching import (
    Batches,
    Notify,
    activation_growth,
    fitting_weights,
    notify_by_log,
)
from propagate.features.device import dtype_name
from propagate.features.diffusion.model import DiffusionModel, check_input_size
from propagate.features.diffusion.vae import VaeDecoder
from propagate.features.hyper.ddim import (
    CLEAN,
    check_ddim,
    ddim_step,
    decoder_layers,
    listening,
)
from propagate.features.hyper.recipe import Inversion
from propagate.features.hyper.sources import Place, Sink
from propagate.features.noise import SeededNoise
from propagate.features.tap import compile_blocks, find_modules
from propagate.types import Size

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float, UInt8
    from torch import Tensor

R = TypeVar("R")
Through = Callable[[range], Iterable[int]]
"""Goes through the steps of one batch, for who wants to see them."""

_PROBE = 16  # side of the latent of the pass that finds out what runs


@dataclass(frozen=True, kw_only=True)
class GenerationSettings:
    """How images are made, and which maps are taken.

    Args:
        size: of the images, in pixels.
        steps: number of steps, and those whose maps are taken, counted from the noisy end.
        guidance: scale of classifier-free guidance; 1 is none.
        layers: modules of the network; empty is `decoder_layers`.
        batch_size: the most images at once; None follows from `memory`.
        memory: gigabytes that activations may take; None is a share of a GPU's, and one image at a
            time on a CPU.
        compile: compile the network's blocks.

    Raises:
        InputError: the guidance is less than 1, or not finite.
    """

    size: Size
    steps: Inversion = field(default_factory=Inversion)
    guidance: float = 7.5
    layers: tuple[str, ...] = ()
    batch_size: int | None = None
    memory: float | None = None
    compile: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.guidance < float("inf"):
            raise InputError(f"guidance is {self.guidance:g}; it must be 1 (none) or more.")


@dataclass(frozen=True)
class Texts:
    """What a UNet attends to.

    Args:
        prompts: what images are made of.
        negative: the unconditional branch of the guidance.
        states: of `prompts`, then of `negative`.
    """

    prompts: tuple[str, ...]
    negative: str
    states: Float[Tensor, "texts tokens c"]


class Generator:
    """Makes images from noise; the maps are those of the branch with the prompt.

    Args:
        model: a UNet with cross-attention to one text; is moved to `device`.
        decoder: of the pipeline's VAE; likewise.
        texts: the prompts.
        settings: how.
        device: where the networks run.
        dtype: what they compute in; the latents stay in float32.
        noise: that images are made of; follows from the seed and the number of the image.
        notify: receives a note when memory runs out.

    Raises:
        InputError: the size or a layer is wrong, or the model predicts what DDIM can't take.
        ModelError: the text is of another width than the network attends to.
    """

    def __init__(
        self,
        model: DiffusionModel,
        decoder: VaeDecoder,
        texts: Texts,
        settings: GenerationSettings,
        *,
        device: torch.device,
        dtype: torch.dtype,
        noise: SeededNoise,
        notify: Notify = notify_by_log,
    ) -> None:
        check_ddim(model, settings.steps.steps, what="generation")
        _check_size(model, settings.size)
        self._identity = model.identity
        self._name, self._prediction = model.name, model.prediction
        self._levels, self._network = model.levels, model.denoiser.network
        self._factor = model.encoder.factor
        _check_width(model, texts)
        self._decoder, self._texts, self._settings = decoder, texts, settings
        self._device, self._dtype, self._noise = device, dtype, noise
        self._states = texts.states.to(device, dtype)
        self._ratio = len(model.levels) // settings.steps.steps
        self.layers = settings.layers or decoder_layers(self._network)
        modules = find_modules(self._network, self.layers)
        self._modules = dict(zip(self.layers, modules, strict=True))
        with fitting_weights(model.name, device):
            self._network.to(device)
            decoder.network.to(device)
        self._batches = Batches(
            device,
            self._probe(),
            size=settings.batch_size,
            budget=settings.memory,
            what="images",
            shrink="--size",
            notify=notify,
        )
        self._decoding = Batches(device, 1.0, size=1, what="images", shrink="--size")
        if settings.compile:
            compile_blocks(self._network, self.layers)

    @property
    def identity(self) -> str:
        """Weights, texts, steps, guidance, layers, size, seed and type."""
        s, texts = self._settings, self._texts
        words = hashlib.sha256("\0".join((*texts.prompts, texts.negative)).encode())
        layers = "+".join(s.layers) or "decoder"
        return (
            f"{self._identity} generated texts={words.hexdigest()[:12]} "
            f"ddim={s.steps.steps}[{','.join(map(str, s.steps.saves))}] guidance={s.guidance:g} "
            f"layer={layers} {s.size} {self._noise.identity} {dtype_name(self._dtype)}"
        )

    def run(
        self,
        prompt: int,
        numbers: Sequence[int],
        make: Callable[[], Sink[R]],
        wanted: Collection[Place] | None = None,
        *,
        through: Through = iter,
    ) -> Iterator[tuple[list[UInt8[np.ndarray, "h w 3"]], R]]:
        """Images of a prompt, and what a new sink makes of each batch of them.

        Args:
            prompt: its position among the texts.
            numbers: of the images, which their noise follows from.
            make: makes a sink, for images that go through the model together.
            wanted: the layers and steps that are needed; all if None.
            through: goes through the steps of each batch.

        Raises:
            ModelError: no memory is left, or the latents are not finite.
        """
        latents = torch.stack([self._draw(number) for number in numbers]).to(self._device)

        def generate(chunk: Float[Tensor, "n c h w"]) -> tuple[Float[Tensor, "n c h w"], R]:
            sink = make()
            return self.denoise(chunk, prompt, sink, wanted, through=through), sink.result()

        for made, result in self._batches.run(generate, latents):
            yield self._images(made), result

    @torch.inference_mode()
    def denoise(
        self,
        latents: Float[Tensor, "n c h w"],
        prompt: int,
        sink: Sink[Any],
        wanted: Collection[Place] | None = None,
        *,
        through: Through = iter,
    ) -> Float[Tensor, "n c h w"]:
        """Clean latents of some noise; the other arguments as for `run`."""
        steps, count = self._settings.steps, len(latents)
        positions = {save: position for position, save in enumerate(steps.saves)}
        grid = Size(latents.shape[2], latents.shape[3])
        for step in through(range(steps.steps)):
            t = (steps.steps - 1 - step) * self._ratio
            place = positions.get(step)
            with listening(self._modules, place, grid, sink, wanted, first=count):
                output = self._predict(latents, prompt, t)
            latents = ddim_step(
                latents,
                output,
                prediction=self._prediction,
                levels=self._levels,
                now=t,
                then=t - self._ratio if t else CLEAN,
            )
        return latents

    def _predict(
        self, latents: Float[Tensor, "n c h w"], prompt: int, t: int
    ) -> Float[Tensor, "n c h w"]:
        guidance, count = self._settings.guidance, len(latents)
        # Both branches go through the network together, the one with the prompt first.
        rows = [prompt] * count if guidance == 1 else [prompt] * count + [-1] * count
        inputs = latents.repeat(len(rows) // count, 1, 1, 1).to(self._dtype)
        steps = torch.full((len(rows),), t, device=self._device)
        states = self._states[rows]
        output: Any = self._network(inputs, steps, encoder_hidden_states=states)
        prediction: Tensor = output.sample.float()
        if guidance == 1:
            return prediction
        conditional, unconditional = prediction.chunk(2)
        return unconditional + guidance * (conditional - unconditional)

    def _draw(self, number: int) -> Float[Tensor, "c h w"]:
        height, width = (side // self._factor for side in self._settings.size)
        shape = (self._decoder.channels, height, width)
        return self._noise.draw("diffusion", frame=number, member=0, shape=shape)

    @torch.inference_mode()
    def _images(self, latents: Float[Tensor, "n c h w"]) -> list[UInt8[np.ndarray, "h w 3"]]:
        if not torch.isfinite(latents).all():
            raise ModelError(
                f"What {self._name} generates is not finite in {dtype_name(self._dtype)}; use "
                "--dtype fp32 or bf16."
            )
        decoded = self._decoding.run(self._decoder, latents)
        return [one[0].permute(1, 2, 0).contiguous().cpu().numpy() for one in decoded]

    @torch.inference_mode()
    def _probe(self) -> float:
        """Bytes that a number of a latent takes, by one pass over a small one."""
        latents = torch.zeros(1, self._decoder.channels, _PROBE, _PROBE, device=self._device)
        run = partial(self._predict, latents, 0, 0)
        return activation_growth(self._network, run, latents.numel())


def _check_size(model: DiffusionModel, size: Size) -> None:
    factor = model.encoder.factor
    if any(side % factor for side in size):
        raise InputError(
            f"The images would be {size} pixels; {model.name} makes multiples of {factor}."
        )
    check_input_size(model, size)


def _check_width(model: DiffusionModel, texts: Texts) -> None:
    config: Any = model.denoiser.network.config
    width = config.cross_attention_dim
    if texts.states.shape[-1] != width:
        raise ModelError(
            f"The network of {model.name} attends to text of width {width} and its text encoder "
            f"gives {texts.states.shape[-1]}; the parts are of different pipelines."
        )
