"""The diffusion model of prompt-optimised matching: crops to latents, latents to attention maps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from propagate.errors import InputError, ModelError
from propagate.features.batching import activation_growth
from propagate.features.device import dtype_name
from propagate.features.diffusion.attention import AttentionTap, cross_attention_layers
from propagate.features.diffusion.running import move_to
from propagate.types import Size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float
    from torch import Tensor

    from propagate.features.diffusion.attention import AttentionLayer
    from propagate.features.diffusion.model import DiffusionModel
    from propagate.matching.prompt.settings import PromptSettings

TOKENS = 77  # of a prompt of CLIP


class PromptNetwork:
    """A UNet that attends to a prompt, with its encoder and noise levels.

    Args:
        model: loaded without text; is moved to `device`.
        settings: which maps are taken, of which noise steps.
        device: where the networks run.
        dtype: what they compute in.

    Raises:
        ModelError: the network does not attend to text.
        InputError: it lacks a noise step.
    """

    def __init__(
        self,
        model: DiffusionModel,
        settings: PromptSettings,
        *,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        network: Any = model.denoiser.network
        self._every = cross_attention_layers(network, model.name)
        last = len(model.levels) - 1
        for t in (settings.optimise_t, settings.infer_t):
            if t > last:
                raise InputError(f"t is {t}; {model.name} has steps 0 to {last}.")
        if settings.token >= TOKENS:
            raise InputError(f"token is {settings.token}; a prompt has tokens 0 to {TOKENS - 1}.")
        self.device = device
        self.identity = f"{model.identity} {dtype_name(dtype)}"
        self.width = int(network.config.cross_attention_dim)
        self.unet: Any = network.requires_grad_(False)
        self._encoder = model.encoder
        self._levels = model.levels
        self._settings = settings
        self._dtype = dtype
        self._name = model.name
        self._tap: AttentionTap | None = None
        self._chosen: tuple[AttentionLayer, ...] = ()
        if model.encoder.network is not None:
            model.encoder.network.requires_grad_(False)
        move_to(model, device)

    @property
    def factor(self) -> int:
        """Pixels per latent along each axis."""
        return self._encoder.factor

    @torch.no_grad()
    def encode(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c gh gw"]:
        """Latents of images from 0 to 1: the mean of the encoder's posterior, fp32 on the CPU."""
        latents = self._encoder(pixels.to(self.device) * 2 - 1).mean.cpu()
        if not torch.isfinite(latents).all():
            raise ModelError(
                f"The latents of {self._name} are not finite in {dtype_name(self._dtype)}; use "
                "--dtype fp32."
            )
        return latents

    def noisy(
        self, latents: Float[Tensor, "b c h w"], noise: Float[Tensor, "b c h w"], t: int
    ) -> Float[Tensor, "b c h w"]:
        """Latents with the noise of step `t`."""
        return self._levels.signal[t] * latents + self._levels.noise[t] * noise

    def maps(
        self,
        noisy: Float[Tensor, "b c h w"],
        contexts: Float[Tensor, "b tokens d"],
        t: int,
    ) -> list[Float[Tensor, "b heads gh gw"]]:
        """Attention of the chosen layers to the prompt's token, fp32; no further layer is run.

        Args:
            noisy: latents with the noise of step `t`, one for each context.
            contexts: prompts, fp32 on the device.
            t: noise step.

        Raises:
            InputError: the network lacks one of the layers.
        """
        latent = Size(noisy.shape[2], noisy.shape[3])
        tap = self._tap_for(latent)
        sample = noisy.to(self.device, self._dtype)
        steps = torch.full((len(sample),), t, device=self.device)

        def run() -> object:
            return self.unet(sample, steps, encoder_hidden_states=contexts.to(self._dtype))

        return tap(run, [layer.grid(latent) for layer in self._chosen])

    def _tap_for(self, latent: Size) -> AttentionTap:
        chosen = tuple(self._settings.chosen_layers(self._every, latent))
        if self._tap is None or chosen != self._chosen:
            if self._tap is not None:
                self._tap.remove()
            self._chosen = chosen
            names = [layer.name for layer in chosen]
            self._tap = AttentionTap(
                self.unet, names, token=self._settings.token, heads=self._settings.heads
            )
        return self._tap

    def layer_names(self, latent: Size) -> tuple[str, ...]:
        """Names of the chosen layers for latents of a size."""
        chosen: Sequence[AttentionLayer] = self._settings.chosen_layers(self._every, latent)
        return tuple(layer.name for layer in chosen)

    def bytes_kept(self, latent: Size) -> float:
        """Bytes that the pass of one prompt keeps for the way back, as seen in one pass."""
        kept: dict[int, int] = {}
        weights = {part.data_ptr() for part in self.unet.parameters()}

        def note(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda it: it):
            self._pass(latent)
        return float(sum(kept.values()))

    def bytes_of_a_look(self, latent: Size) -> float:
        """An estimate of the bytes that one prompt takes when nothing is optimised."""
        with torch.no_grad():
            return activation_growth(self.unet, lambda: self._pass(latent), 1)

    def _pass(self, latent: Size) -> object:
        sample = torch.zeros(1, self.unet.config.in_channels, *latent)
        context = torch.zeros(1, TOKENS, self.width, device=self.device, requires_grad=True)
        return self.maps(sample, context, self._settings.optimise_t)
