"""Cut-outs of photographs that are placed, bent and blended in perspective."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from ground import read_image

_SHADOW_STRENGTH = 0.55
_SHADOW_BLUR = 0.025
# Where a picture point comes from is worked out every so many pixels and interpolated.
_MAP_STEP = 8


class Patch(NamedTuple):
    """Premultiplied uint8 [h, w, 4], or just its alpha [h, w]; and its top left pixel."""

    pixels: np.ndarray
    left: int
    top: int


class Bend(NamedTuple):
    """How a cut-out is out of shape: by which share of its height, at which time in frames."""

    amount: float
    t: float


@dataclass(frozen=True)
class Sprite:
    """A cut-out and its shadow; its coordinates are centred, with the cut-out's height as unit.

    Args:
        rgba: premultiplied uint8 [h, w, 4].
        shade: alpha of its shadow, uint8 [h + 2 m, w + 2 m] with a margin of m all around.
        unit: pixels of it per unit.
    """

    rgba: np.ndarray
    shade: np.ndarray
    unit: int

    @classmethod
    def load(cls, asset: str, *, height: float) -> Sprite:
        """Read `assets/ASSET.jpg` and its matte, at a resolution that suits a height in pixels."""
        rgb = read_image(f"{asset}.jpg")
        alpha = read_image(f"{asset}_matte.png")[..., None].astype(np.float32)
        rgba = np.concatenate([rgb * (alpha / 255), alpha], axis=2)
        # Finer than the picture, since a sprite may be drawn larger than life.
        unit = min(rgba.shape[0], round(1.5 * height))
        width = round(rgba.shape[1] * unit / rgba.shape[0])
        rgba = cv2.resize(rgba, (width, unit), interpolation=cv2.INTER_AREA)
        blur = _SHADOW_BLUR * unit
        shade = np.pad(_SHADOW_STRENGTH * rgba[..., 3], round(3 * blur))
        shade = cv2.GaussianBlur(shade, (0, 0), blur)
        return cls(np.rint(rgba).astype(np.uint8), np.rint(shade).astype(np.uint8), unit)

    def colour(self, to_image: np.ndarray, bend: Bend) -> Patch:
        """The cut-out, bent and then mapped to pixels by the homography `to_image` [3, 3]."""
        return self._draw(self.rgba, to_image, bend)

    def shadow(self, to_image: np.ndarray, bend: Bend) -> Patch:
        """Its shadow, likewise."""
        return self._draw(self.shade, to_image, bend)

    def _draw(self, texture: np.ndarray, to_image: np.ndarray, bend: Bend) -> Patch:
        half = np.array(texture.shape[1::-1]) / (2 * self.unit)
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * (half + bend.amount)
        outline = cv2.perspectiveTransform(corners[None], to_image)[0]
        left, top = np.floor(outline.min(axis=0)).astype(int).tolist()
        columns, rows = np.ceil((np.ptp(outline, axis=0) + 1) / _MAP_STEP).astype(int) + 2
        xs = left + _MAP_STEP * (np.arange(columns) - 0.5)
        ys = top + _MAP_STEP * (np.arange(rows) - 0.5)
        points = np.stack(np.meshgrid(xs, ys), axis=2).reshape(1, -1, 2)
        points = _bent(cv2.perspectiveTransform(points, np.linalg.inv(to_image))[0], bend)
        sources = ((points + half) * self.unit - 0.5).reshape(rows, columns, 2)
        fine = cv2.resize(sources.astype(np.float32), None, fx=_MAP_STEP, fy=_MAP_STEP)
        # Resizing doesn't extrapolate, so the outermost cells are of no use.
        fine = fine[_MAP_STEP:-_MAP_STEP, _MAP_STEP:-_MAP_STEP]
        return Patch(cv2.remap(texture, fine, None, cv2.INTER_LINEAR), left, top)


def _bent(points: np.ndarray, bend: Bend) -> np.ndarray:
    """Points [n, 2] displaced smoothly, by at most the amount in x and in y."""
    (x, y), t = points.T, bend.t
    sway = np.sin(5.1 * y + 0.17 * t) + 0.5 * np.sin(7.3 * x - 0.23 * t + 1)
    heave = np.sin(4.7 * x - 0.19 * t + 2) + 0.5 * np.sin(8.1 * y + 0.13 * t)
    return points + bend.amount / 1.5 * np.stack([sway, heave], axis=1)


def blend_colour(canvas: np.ndarray, cover: np.ndarray, patch: Patch, number: int) -> None:
    """Draw a cut-out, in place.

    Args:
        canvas: the picture so far, uint8 [h, w, 3].
        cover: share of each pixel where each object is what one sees, in 255ths, uint8 [h, w, 3].
        patch: what to draw.
        number: its channel in `cover`.
    """
    overlap = _overlap(canvas, patch)
    if overlap is None:
        return
    place, pixels = overlap
    alpha = pixels[..., 3]
    through = cv2.cvtColor(255 - alpha, cv2.COLOR_GRAY2RGB)
    darkened = cv2.multiply(canvas[place], through, scale=1 / 255)
    canvas[place] = cv2.add(darkened, cv2.cvtColor(pixels, cv2.COLOR_RGBA2RGB))
    cover[place] = cv2.multiply(cover[place], through, scale=1 / 255)
    cover[place][..., number] = alpha


def blend_shadow(canvas: np.ndarray, patch: Patch) -> None:
    """Darken `canvas` uint8 [h, w, 3] in place."""
    overlap = _overlap(canvas, patch)
    if overlap is None:
        return
    place, shade = overlap
    through = cv2.cvtColor(255 - shade, cv2.COLOR_GRAY2RGB)
    canvas[place] = cv2.multiply(canvas[place], through, scale=1 / 255)


def _overlap(canvas: np.ndarray, patch: Patch) -> tuple[tuple[slice, slice], np.ndarray] | None:
    """Where in `canvas` a patch lies and its pixels there, or None when it lies outside."""
    height, width = canvas.shape[:2]
    top, left = max(patch.top, 0), max(patch.left, 0)
    bottom = min(patch.top + patch.pixels.shape[0], height)
    right = min(patch.left + patch.pixels.shape[1], width)
    if top >= bottom or left >= right:
        return None
    rows = slice(top - patch.top, bottom - patch.top)
    columns = slice(left - patch.left, right - patch.left)
    return (slice(top, bottom), slice(left, right)), patch.pixels[rows, columns]
