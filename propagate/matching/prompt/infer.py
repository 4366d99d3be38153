"""Where prompts look in another image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from propagate.matching.prompt.crops import Draws, Window, draw_window
from propagate.matching.prompt.maps import brightest_pixel, layer_means
from propagate.types import Size

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from propagate.matching.prompt.encoded import EncodedImage
    from propagate.matching.prompt.network import PromptNetwork
    from propagate.matching.prompt.settings import PromptSettings


class CropMean:
    """Mean of maps of crops where these lie in the whole image.

    Args:
        count: prompts.
        layers: maps of each.
        size: of the image in pixels.
        device: where the sums are.
    """

    def __init__(self, count: int, layers: int, size: Size, device: torch.device) -> None:
        self.count = count
        self._sums = torch.zeros(count, layers, *size, device=device)
        self._crops = torch.zeros(count, 1, *size, device=device)

    def add(
        self, maps: Sequence[Float[Tensor, "b heads gh gw"]], windows: Sequence[Window]
    ) -> None:
        """One crop for each prompt, all of one size."""
        _, height, _, width = windows[0]
        layers = layer_means(maps, Size(height, width))
        for index, (top, _, left, _) in enumerate(windows):
            where = (index, slice(None), slice(top, top + height), slice(left, left + width))
            self._sums[where] += layers[index]
            self._crops[where] += 1

    def value(self) -> Float[Tensor, "b layers h w"]:
        """The mean of the crops that show a pixel; 0 where none does."""
        return self._sums / self._crops.clamp_min(1)


def attention_in(
    network: PromptNetwork,
    image: EncodedImage,
    contexts: Float[Tensor, "b tokens d"],
    draws: Sequence[Draws],
    settings: PromptSettings,
    *,
    windows: Sequence[Window] | None,
    tick: Callable[[int], None] = lambda _: None,
) -> Float[Tensor, "b layers h w"]:
    """Attention of prompts to each pixel of an image, by layer; fp32 on the network's device.

    Args:
        network: the model.
        image: to look in.
        contexts: the prompts, all in one batch.
        draws: random numbers of each: of its crops where there are no `windows`, and noise.
        settings: how.
        windows: the crops of all prompts; None lets the crops of each follow its best place, from
            the four corners on.
        tick: told before each crop how many prompts look at it.
    """
    prompts = contexts.to(network.device)
    mean = CropMean(len(contexts), len(settings.layers), image.size, network.device)
    with torch.inference_mode():
        for number in range(settings.crops):
            tick(len(contexts))
            if windows is None:
                places = _crop_places(number, image.size, mean)
                chosen = [
                    draw_window(image.size, place, draw, settings)
                    for place, draw in zip(places, draws, strict=True)
                ]
            else:
                chosen = [windows[number]] * len(contexts)
            latents = image.latents(chosen)
            shape = tuple(latents.shape[1:])
            noise = torch.stack([draw.noise(shape, settings.noise) for draw in draws])
            noisy = network.noisy(latents, noise, settings.infer_t)
            mean.add(network.maps(noisy, prompts, settings.infer_t), chosen)
    return mean.value()


def _crop_places(number: int, size: Size, mean: CropMean) -> list[tuple[float, float]]:
    """What the crops of a number are drawn around: a corner, then the best pixels so far."""
    if number < len(_CORNERS):
        x, y = _CORNERS[number]
        return [(x * size.width, y * size.height)] * mean.count
    best = brightest_pixel(mean.value().mean(dim=1)) + 0.5
    return [(float(x), float(y)) for x, y in best]


_CORNERS = ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0))
