"""Labels of any kind drawn over their picture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from propagate.errors import InputError
from propagate.output.keypoint_overlay import draw_keypoints
from propagate.output.labelled_clip import LabelledClip, MaskedClip, MaskedFrame, PointedFrame
from propagate.output.overlay import draw_overlay
from propagate.types import Frame

if TYPE_CHECKING:
    from jaxtyping import UInt8

    from propagate.video.ranges import FrameChoice


@dataclass(frozen=True, kw_only=True)
class DrawStyle:
    """How labels are drawn.

    Args:
        opacity: of masks, 0 (no tint) to 1 (flat colour).
        contour: whether masks are outlined.
        names: whether keypoints have their names written beside them.
        beside: put the bare picture to the left of the one with labels.

    Raises:
        InputError: `opacity` is out of range, or nothing is left to draw.
    """

    opacity: float = 0.5
    contour: bool = True
    names: bool = True
    beside: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.opacity <= 1:
            raise InputError(f"--opacity is {self.opacity}; it must be from 0 to 1.")
        if self.opacity == 0 and not self.contour:
            raise InputError(
                "Without tint (--opacity 0) and contours masks can't be seen; leave one out."
            )


def drawn(
    clip: LabelledClip, style: DrawStyle, *, frames: FrameChoice | None = None
) -> Iterator[tuple[Frame, UInt8[np.ndarray, "h w 3"]]]:
    """The labelled frames of a clip with their labels drawn over them.

    Args:
        clip: pictures and labels.
        style: how.
        frames: which of them; None for all.
    """
    return ((item.frame, _draw(clip, item, style)) for item in chosen(clip, frames))


def chosen(clip: LabelledClip, frames: FrameChoice | None) -> Iterator[MaskedFrame | PointedFrame]:
    """The labelled frames of a clip that are chosen; what comes after the last is not read."""
    items: Iterable[MaskedFrame | PointedFrame] = clip
    for item in items:
        last = None if frames is None else frames.last
        if last is not None and item.frame.index > last:
            return
        if frames is None or item.frame.index in frames:
            yield item


def _draw(
    clip: LabelledClip, item: MaskedFrame | PointedFrame, style: DrawStyle
) -> UInt8[np.ndarray, "h w 3"]:
    rgb = item.frame.rgb
    if isinstance(item, MaskedFrame):
        palette = clip.palette if isinstance(clip, MaskedClip) else None
        picture = draw_overlay(
            rgb,
            item.labels.masks.ids,
            opacity=style.opacity,
            contour=style.contour,
            palette=palette,
        )
    else:
        edges = () if isinstance(clip, MaskedClip) else clip.edges
        picture = draw_keypoints(rgb, item.labels, edges=edges, names=style.names)
    return np.concatenate([rgb, picture], axis=1) if style.beside else picture
