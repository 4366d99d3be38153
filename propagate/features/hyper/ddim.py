"""Steps of DDIM in either direction, and the maps of the network's layers along the way."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from propagate.errors import InputError
from propagate.features.diffusion.model import DiffusionModel, NoiseLevels
from propagate.features.hyper.sources import Place, Sink, on_grid
from propagate.types import Size

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

CLEAN = -1
"""The step of the clean image, as the network is told it."""


def check_ddim(model: DiffusionModel, steps: int, *, what: str) -> None:
    """Check that DDIM has a way through a model's noise.

    Args:
        model: the model.
        steps: of the way.
        what: what the way is called in the message.

    Raises:
        InputError: the model predicts something else than noise or velocity, or has fewer steps.
    """
    if model.prediction not in ("epsilon", "v_prediction"):
        raise InputError(
            f"{model.name} predicts {model.prediction!r}, and DDIM inverts and generates with "
            "models of noise (epsilon) or velocity (v_prediction); take a Stable Diffusion 1 or "
            "2, or XL."
        )
    if steps > len(model.levels):
        raise InputError(
            f"The {what} has {steps} steps, and {model.name} {len(model.levels)} at most."
        )


def decoder_layers(network: nn.Module) -> tuple[str, ...]:
    """The second convolution of every residual block of a UNet's decoder, coarsest first.

    The published maps are what a block adds to its input, not its output.

    Raises:
        InputError: the network has no such blocks.
    """
    names = [
        f"up_blocks.{i}.resnets.{j}.conv2"
        for i, block in enumerate(getattr(network, "up_blocks", ()))
        for j in range(len(getattr(block, "resnets", ())))
    ]
    if not names:
        raise InputError(
            "The denoising network is no UNet with residual blocks in its decoder; name its "
            "layers with --layer, each joined by +."
        )
    return tuple(names)


def ddim_step(
    latents: Float[Tensor, "n c h w"],
    output: Float[Tensor, "n c h w"],
    *,
    prediction: str,
    levels: NoiseLevels,
    now: int,
    then: int,
) -> Float[Tensor, "n c h w"]:
    """The latents at another step, with no new noise (Song et al., 2021, eq. 12).

    Args:
        latents: at step `now`.
        output: of the network for them.
        prediction: what it is: "epsilon" or "v_prediction".
        levels: noise of each step.
        now: a step, or `CLEAN`.
        then: likewise.
    """
    signal, noise = _factors(levels, now)
    if prediction == "v_prediction":
        image = signal * latents - noise * output
        output = noise * latents + signal * output
    else:
        image = (latents - noise * output) / signal
    signal, noise = _factors(levels, then)
    return signal * image + noise * output


def _factors(levels: NoiseLevels, t: int) -> tuple[float, float]:
    """Factors of the image and of the noise."""
    return (1.0, 0.0) if t == CLEAN else (float(levels.signal[t]), float(levels.noise[t]))


@contextmanager
def listening(
    modules: Mapping[str, nn.Module],
    step: int | None,
    grid: Size,
    sink: Sink[Any],
    wanted: Collection[Place] | None,
    *,
    first: int | None = None,
) -> Iterator[None]:
    """While the network runs, hand the maps of a saved step over.

    Args:
        modules: the layers by name.
        step: its position among those that are saved; None is one that is not.
        grid: what the maps are resized to.
        sink: takes them.
        wanted: the layers and steps that are needed; all if None.
        first: of how many inputs of a pass, from the first on; all if None.
    """

    def pass_on(layer: int, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            sink.take(layer, step or 0, on_grid(_checked(output, name)[:first], grid))

        return hook

    handles = [
        module.register_forward_hook(pass_on(layer, name))
        for layer, (name, module) in enumerate(modules.items())
        if step is not None and (wanted is None or (layer, step) in wanted)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _checked(output: Any, layer: str) -> Tensor:
    if not isinstance(output, torch.Tensor) or output.ndim != 4:
        raise InputError(
            f"Layer {layer!r} gives no map of channels, rows and columns; take convolutions or "
            "blocks of a UNet, from `propagate models layers`."
        )
    return output
