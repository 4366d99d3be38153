"""The network's input size that a user's options ask for."""

from __future__ import annotations

from propagate.config import ModelOptions
from propagate.geometry import InputSize
from propagate.types import Size


def input_size(options: ModelOptions, *, multiple: int) -> InputSize:
    """What `short_side` or `input_size` ask for; short side 480 when neither is set.

    Args:
        options: complete options.
        multiple: what both sides are floored to a multiple of.
    """
    how = options.resizing or "bilinear"
    if options.input_size is not None:
        return InputSize(exact=Size(*options.input_size), multiple=multiple, resizing=how)
    if options.short_side is not None:
        return InputSize(short_side=options.short_side, multiple=multiple, resizing=how)
    return InputSize(multiple=multiple, resizing=how)
