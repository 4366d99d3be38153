"""Prompts whose attention peaks at given places of an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from propagate.matching.prompt.crops import Draws, Window, draw_window
from propagate.matching.prompt.maps import gaussian_maps, layer_means, map_losses
from propagate.types import Size

if TYPE_CHECKING:
    from jaxtyping import Float, Float64
    from torch import Tensor

    from propagate.matching.prompt.encoded import EncodedImage
    from propagate.matching.prompt.network import PromptNetwork
    from propagate.matching.prompt.settings import PromptSettings

_SNAPSHOTS = 4
_PUBLISHED_SIDE = 512  # whose pixels sigma counts


@dataclass(frozen=True)
class Snapshot:
    """What one prompt's attention looked like in one step.

    Args:
        step: from 0.
        window: the crop that was looked at.
        map: mean over heads and layers, on the grid of the latents.
    """

    step: int
    window: Window
    map: Float[np.ndarray, "gh gw"]


@dataclass(frozen=True)
class Course:
    """How the optimisation of one prompt went.

    Args:
        losses: before each step.
        snapshots: of some steps, the first and last among them.
    """

    losses: Float64[np.ndarray, " steps"]
    snapshots: tuple[Snapshot, ...] = field(default=())


@dataclass(frozen=True)
class Optimised:
    """Prompts, in the order they were asked for.

    Args:
        contexts: fp32 on the CPU.
        courses: one for each.
    """

    contexts: Float[Tensor, "b tokens d"]
    courses: tuple[Course, ...]


def optimise_prompts(
    network: PromptNetwork,
    image: EncodedImage,
    places: Sequence[tuple[float, float]],
    draws: Sequence[Draws],
    contexts: Float[Tensor, "b tokens d"],
    settings: PromptSettings,
    *,
    tick: Callable[[int], None] = lambda _: None,
) -> Optimised:
    """Adam on prompts, all in one batch, none of which changes another.

    Each step looks at another crop with other noise. Nothing but the prompts is trained, and the
    attention maps of the chosen layers alone are kept.

    Args:
        network: the model.
        image: with the places.
        places: (x, y) in pixels of the resized image, one for each prompt.
        draws: random numbers of each prompt: per step x and y of the crop, then noise.
        contexts: the prompts to start from.
        settings: how.
        tick: told before each step how many prompts take it.

    Raises:
        InputError: the network lacks a layer.
    """
    prompts = contexts.to(network.device).clone().requires_grad_()
    optimiser = torch.optim.Adam([prompts], lr=settings.learning_rate)
    losses = np.zeros((settings.steps, len(places)))
    snapshots: list[list[Snapshot]] = [[] for _ in places]
    shown = set(np.linspace(0, settings.steps - 1, _SNAPSHOTS).round().astype(int).tolist())
    for step in range(settings.steps):
        tick(len(places))
        windows = [
            draw_window(image.size, place, draw, settings)
            for place, draw in zip(places, draws, strict=True)
        ]
        latents = image.latents(windows)
        noise = torch.stack(
            [draw.noise(tuple(latents.shape[1:]), settings.noise) for draw in draws]
        )
        noisy = network.noisy(latents, noise, settings.optimise_t)
        shares = torch.tensor(
            [window.share(place) for window, place in zip(windows, places, strict=True)]
        )
        maps = network.maps(noisy, prompts, settings.optimise_t)
        each = prompt_losses(maps, shares.to(network.device), image.size, settings)
        optimiser.zero_grad()
        torch.autograd.backward(each.sum())
        optimiser.step()
        losses[step] = each.detach().cpu().numpy()
        if step in shown:
            looked = _looked_at(maps, Size(latents.shape[2], latents.shape[3]))
            for one, window, seen in zip(snapshots, windows, looked, strict=True):
                one.append(Snapshot(step, window, seen))
    courses = [Course(losses[:, index].copy(), tuple(one)) for index, one in enumerate(snapshots)]
    return Optimised(prompts.detach().cpu(), tuple(courses))


def prompt_losses(
    maps: Sequence[Float[Tensor, "b heads gh gw"]],
    shares: Float[Tensor, "b 2"],
    size: Size,
    settings: PromptSettings,
) -> Float[Tensor, " b"]:
    """How far attention is from Gaussians at some places.

    Args:
        maps: of each layer.
        shares: (x, y) of the places as shares of the input's sides.
        size: of the network's input, in pixels.
        settings: the Gaussian's width and grid.
    """
    stride = settings.target_stride
    grid = Size(*(max(side // stride, 1) for side in size))
    side = (size.height * size.width) ** 0.5
    sigma = settings.sigma * side / _PUBLISHED_SIDE / stride
    wanted = gaussian_maps(shares, grid, sigma, cell_centres=settings.cell_centres)
    return map_losses(layer_means(maps, grid), wanted)


def _looked_at(
    maps: Sequence[Float[Tensor, "b heads gh gw"]], grid: Size
) -> Float[np.ndarray, "b gh gw"]:
    with torch.no_grad():
        means = layer_means([layer.detach() for layer in maps], grid).mean(dim=1)
    return np.asarray(means.cpu().numpy())
