"""Keypoints, their names and skeletons drawn over their frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from propagate.errors import InputError
from propagate.labels.keypoint_formats.base import Edge
from propagate.labels.palette import bright_colors, color_of
from propagate.output.overlay import HALO
from propagate.types import Keypoints, PointName

if TYPE_CHECKING:
    from jaxtyping import UInt8

Color = tuple[int, int, int]
_Spot = tuple[float, float, int, int]  # x, y of a point, and on which side of it to write

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
    visible point is a disc, a hidden one whose place is known a ring. Names are those of parts, or
    of individuals where there are several, and are left out where they would cover each other or
    another point.

    Args:
        rgb: the frame.
        points: those without a place are not drawn.
        edges: parts to join by a line within each individual, where both are visible: what is known
            of a hidden point is often wrong, and its bones would cross the picture.
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
    radius = _radius(points, rgb.shape[0])
    for name, (x, y), visible in zip(points.names, points.xy, points.visible, strict=True):
        if np.isfinite(x):
            color = part_color(parts.index(name.part))
            _draw_point(drawn, (float(x), float(y)), color, radius, filled=bool(visible))
    return _write_names(drawn, points, radius) if names else drawn


def _radius(points: Keypoints, height: int) -> int:
    """Discs as large as the frame allows that don't cover their neighbours."""
    places = points.xy[np.isfinite(points.xy).all(axis=1)].astype(np.float64)
    radius = height / _ROWS_PER_RADIUS
    if len(places) > 1:
        apart = np.linalg.norm(places[:, None] - places, axis=2)
        np.fill_diagonal(apart, np.inf)
        radius = min(radius, float(np.median(apart.min(axis=1))) / 3)
    return max(3, round(radius))


def _draw_bones(rgb: UInt8[np.ndarray, "h w 3"], points: Keypoints, edges: Sequence[Edge]) -> None:
    place = {
        name: _fixed(float(x), float(y))
        for name, (x, y), visible in zip(points.names, points.xy, points.visible, strict=True)
        if visible
    }
    individuals = list(dict.fromkeys(name.individual for name in points.names))
    width = max(1, round(rgb.shape[0] / _ROWS_PER_WIDTH))
    for thickness, halo in ((width + 2, True), (width, False)):
        for number, individual in enumerate(individuals):
            color = HALO if halo else part_color(number)
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
        cv2.circle(rgb, centre, scaled + (1 << _SHIFT), HALO, 1, cv2.LINE_AA, _SHIFT)
        cv2.circle(rgb, centre, scaled, color, 1, cv2.LINE_AA, _SHIFT)


def _fixed(x: float, y: float) -> tuple[int, int]:
    """A place in OpenCV's fixed point numbers, which count from the centre of the first pixel."""
    far = 1 << 24  # keeps places far outside within 32 bits
    return (
        int(np.clip(round((x - 0.5) * (1 << _SHIFT)), -far, far)),
        int(np.clip(round((y - 0.5) * (1 << _SHIFT)), -far, far)),
    )


def part_color(number: int) -> Color:
    """The colour of the part, or individual, at this position."""
    colors = bright_colors(np.array([color_of(number + 1)], dtype=np.uint8))
    red, green, blue = colors[0].tolist()
    return red, green, blue


def _write_names(
    rgb: UInt8[np.ndarray, "h w 3"], points: Keypoints, radius: int
) -> UInt8[np.ndarray, "h w 3"]:
    font = ImageFont.load_default(max(9, round(rgb.shape[0] / _ROWS_PER_LETTER)))
    image = Image.fromarray(rgb)
    draw = ImageDraw.Draw(image)
    known = points.xy[np.isfinite(points.xy).all(axis=1)].astype(np.float64)
    taken = [(x - radius, y - radius, x + radius, y + radius) for x, y in known.tolist()]
    for text, spots in _labels(points):
        for x, y, right, down in spots:
            start = (x + right * (radius + 2), y + down * (radius + 2))
            anchor = ("r", "m", "l")[right + 1] + ("b", "m", "t")[down + 1]
            box = draw.textbbox(start, text, font=font, anchor=anchor, stroke_width=1)
            if not any(_overlap(box, other) for other in taken):
                taken.append(box)
                draw.text(start, text, _TEXT, font, anchor, stroke_width=1, stroke_fill=HALO)
                break
    return np.array(image)


def _labels(points: Keypoints) -> Iterator[tuple[str, list[_Spot]]]:
    """What to write, and where it may go, best first."""
    pairs = zip(points.names, points.xy.tolist(), strict=True)
    known = [(name, x, y) for name, (x, y) in pairs if np.isfinite([x, y]).all()]
    individuals = list(dict.fromkeys(name.individual for name, _, _ in known))
    if len(individuals) < 2:
        yield from ((name.part, [(x, y, 1, 0), (x, y, -1, 0)]) for name, x, y in known)
        return
    for individual in individuals:
        places = [(x, y) for name, x, y in known if name.individual == individual]
        by_row = sorted(places, key=lambda place: place[1])
        outer = [(max(places), 1, 0), (min(places), -1, 0), (by_row[0], 0, -1), (by_row[-1], 0, 1)]
        yield individual, [(*place, right, down) for place, right, down in outer]


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
