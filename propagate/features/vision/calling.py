"""Calls a network of transformers on images alone."""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn

from propagate.errors import InputError, ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jaxtyping import Float
    from torch import Tensor


def see(network: nn.Module, pixels: Float[Tensor, "b 3 h w"]) -> object:
    """Call a network of transformers on images, of another size than it was trained with too."""
    # Some take other sizes than they were trained with only when told so.
    interpolates = "interpolate_pos_encoding" in inspect.signature(network.forward).parameters
    return network(pixels, **({"interpolate_pos_encoding": True} if interpolates else {}))


@contextmanager
def needing_no_more(name: str) -> Iterator[None]:
    """For the first call of a network that may want more than an image.

    Raises:
        ModelError: naming the model, instead of whatever the network raises then.
    """
    try:
        yield
    except (InputError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # what a network lacks shows anywhere inside
        raise ModelError(
            f"{name} can't be run on an image alone ({first_line(error)}); choose a model that can."
        ) from error


def first_line(error: Exception) -> str:
    """What an error says at first, with its type."""
    lines = str(error).strip().splitlines() or ["no reason given"]
    return f"{type(error).__name__}: {lines[0].rstrip('.')}"
