"""Keypoints, their names and skeletons drawn over their frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from propagate.errors import InputError
from propagate.labels.keypoint_formats.base import Edge
from propagate.labels.palette import color_of
from propagate.output.overlay import HALO
from propagate.types import Keypoints, PointName

if TYPE_CHECKING:
    from jaxtyping import UInt8

Color = tuple[int, int, int]

_SHIFT = 4  # OpenCV draws to 1/16 of a pixel
_TEXT = (255, 255, 255)
# Rows of the frame for each pixel of a point's radius, a line's width and a letter's height.
_ROWS_PER_RADIUS, _ROWS_PER_WIDTH, _ROWS_PER_LETTER = 120, 480, 45


def draw_keypoints(
    rgb: UInt8[np.ndarray, "h w 3"],
    points: Keypoints,
    *,
    edges: Sequence[Edge] = (),
    names: bool = True,
) -> UInt8[np.ndarray, "h w 3"]:
    """A copy of `rgb` with points, skeleton and names.

    A part has the same colour in all individuals; bones have the colour of their individual. A
    visible point is a disc, a hidden one whose place is known a ring. Names are left out where they
    would cover another name.

    Args:
        rgb: the frame.
        points: those without a place are not drawn.
        edges: parts to join by a line within each individual.
        names: whether to write names.

    Raises:
        InputError: an edge names a part that there isn't.
    """
    parts = list(dict.fromkeys(name.part for name in points.names))
    unknown = [part for edge in edges for part in edge if part not in parts]
    if unknown:
        raise InputError(f"An edge names {unknown[0]!r}; the points are {', '.join(parts)}.")
    drawn = rgb.copy()
    _draw_bones(drawn, points, edges)
    radius = max(2, round(rgb.shape[0] / _ROWS_PER_RADIUS))
    for name, (x, y), visible in zip(points.names, points.xy, points.visible, strict=True):
        if np.isfinite(x):
            color = _bright(parts.index(name.part))
            _draw_point(drawn, (float(x), float(y)), color, radius, filled=bool(visible))
    return _write_names(drawn, points, radius) if names else drawn


def _draw_bones(rgb: UInt8[np.ndarray, "h w 3"], points: Keypoints, edges: Sequence[Edge]) -> None:
    place = {
        name: _fixed(float(x), float(y))
        for name, (x, y) in zip(points.names, points.xy, strict=True)
        if np.isfinite(x)
    }
    individuals = list(dict.fromkeys(name.individual for name in points.names))
    width = max(1, round(rgb.shape[0] / _ROWS_PER_WIDTH))
    for thickness, halo in ((width + 2, True), (width, False)):
        for number, individual in enumerate(individuals):
            color = HALO if halo else _bright(number)
            for first, second in edges:
                ends = [place.get(PointName(part, individual)) for part in (first, second)]
                if ends[0] is not None and ends[1] is not None:
                    cv2.line(rgb, ends[0], ends[1], color, thickness, cv2.LINE_AA, _SHIFT)


def _draw_point(
    rgb: UInt8[np.ndarray, "h w 3"],
    place: tuple[float, float],
    color: Color,
    radius: int,
    *,
    filled: bool,
) -> None:
    centre = _fixed(*place)
    scaled = radius << _SHIFT
    if filled:
        cv2.circle(rgb, centre, scaled + (1 << _SHIFT), HALO, -1, cv2.LINE_AA, _SHIFT)
        cv2.circle(rgb, centre, scaled, color, -1, cv2.LINE_AA, _SHIFT)
    else:
        cv2.circle(rgb, centre, scaled, HALO, 3, cv2.LINE_AA, _SHIFT)
        cv2.circle(rgb, centre, scaled, color, 1, cv2.LINE_AA, _SHIFT)


def _fixed(x: float, y: float) -> tuple[int, int]:
    """A place in OpenCV's fixed point numbers, which count from the centre of the first pixel."""
    far = 1 << 24  # keeps places far outside within 32 bits
    return (
        int(np.clip(round((x - 0.5) * (1 << _SHIFT)), -far, far)),
        int(np.clip(round((y - 0.5) * (1 << _SHIFT)), -far, far)),
    )


def _bright(number: int) -> Color:
    """The palette's colour as bright as it gets, a fifth lighter since pure blue looks dark."""
    color = np.array(color_of(number + 1), dtype=np.float64)
    red, green, blue = np.round(51 + color * (204 / max(color.max(), 1))).astype(int).tolist()
    return red, green, blue


def _write_names(
    rgb: UInt8[np.ndarray, "h w 3"], points: Keypoints, radius: int
) -> UInt8[np.ndarray, "h w 3"]:
    font = ImageFont.load_default(max(9, round(rgb.shape[0] / _ROWS_PER_LETTER)))
    image = Image.fromarray(rgb)
    draw = ImageDraw.Draw(image)
    taken: list[tuple[float, float, float, float]] = []
    for name, (x, y) in zip(points.names, points.xy, strict=True):
        if not np.isfinite(x):
            continue
        start = (float(x) + radius + 2, float(y))
        box = draw.textbbox(start, str(name), font=font, anchor="lm")
        if any(_overlap(box, other) for other in taken):
            continue
        taken.append(box)
        draw.text(start, str(name), _TEXT, font, anchor="lm", stroke_width=1, stroke_fill=HALO)
    return np.array(image)


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
