"""Pairs made out of single images: two views of each, by random warps and colours.

The map from the second view's pixels to the first's is what the picture is drawn by, so the points
of both correspond exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from scipy.interpolate import RBFInterpolator

from propagate.benchmarks.pairs import picture
from propagate.errors import InputError
from propagate.geometry import resize_rgb
from propagate.training.pairs import TrainingPair
from propagate.types import Frame, Size

if TYPE_CHECKING:
    from jaxtyping import Float32, Float64, UInt8

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
_LATTICE = 16  # pixels between the places that the thin-plate spline is evaluated at


@dataclass(frozen=True, kw_only=True)
class WarpSettings:
    """How much two views of an image differ.

    Args:
        side: short side that images are resized to first, in pixels; smaller ones too.
        points: how many points correspond, at most.
        rotation: largest angle, in degrees.
        zoom: largest factor, and its inverse.
        shift: largest move, as a share of the sides.
        tilt: largest move of a corner by perspective, as a share of the sides.
        bend: standard deviation of the thin-plate spline's control points, as a share of the
            short side.
        colour: largest change of brightness, contrast and saturation, as a share.

    Raises:
        InputError: a value is out of range.
    """

    side: int = 240
    points: int = 64
    rotation: float = 30.0
    zoom: float = 1.5
    shift: float = 0.15
    tilt: float = 0.1
    bend: float = 0.03
    colour: float = 0.3

    def __post_init__(self) -> None:
        for name, least in (("side", 32), ("points", 1), ("zoom", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}; it must be {least} or more.")
        for name in ("rotation", "shift", "tilt", "bend", "colour"):
            if not 0 <= getattr(self, name) < 180:
                raise InputError(f"{name} is {getattr(self, name)}; it must be 0 or more.")


class WarpedImages:
    """A `PairSource` of two views each of random images.

    Args:
        paths: of the images.
        seed: of the choice and of the views.
        settings: how much views differ.
    """

    def __init__(
        self, paths: Sequence[Path], *, seed: int, settings: WarpSettings | None = None
    ) -> None:
        self._paths = list(paths)
        self._seed = seed
        self._settings = settings or WarpSettings()

    def pair(self, number: int) -> TrainingPair:
        """See `PairSource`."""
        random = np.random.default_rng((self._seed, number))
        # A warp may leave too little of an image; another one then.
        for _ in range(100):
            path = self._paths[random.integers(len(self._paths))]
            found = warp(picture(path), random, self._settings)
            if len(found.source_xy):
                return found
        raise InputError("The warps leave nothing of the images; choose smaller ones.")


def find_images(folder: Path) -> list[Path]:
    """The images in a folder and its sub-folders, in the order of their names.

    Raises:
        InputError: there are none.
    """
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    )
    if not found:
        raise InputError(
            f"{folder} holds no image; expected are {', '.join(IMAGE_SUFFIXES)} in it or in "
            "folders below."
        )
    return found


def warp(frame: Frame, random: np.random.Generator, settings: WarpSettings) -> TrainingPair:
    """Two views of an image.

    Args:
        frame: the image.
        random: what decides the views.
        settings: how much they differ.

    Returns:
        A pair; without points where the views share nothing.
    """
    size = _resized(frame.size, settings.side)
    first = resize_rgb(frame.rgb, size)
    lookup = _lookup(size, random, settings)
    second = cv2.remap(
        first,
        lookup,
        None,
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
    )
    target_xy, source_xy = _points(lookup, size, random, settings.points)
    views = [
        Frame(f"{frame.source}#{number}", 0, recoloured(rgb, random, settings.colour), 0.0, name)
        for number, (rgb, name) in enumerate(((first, "source"), (second, "target")))
    ]
    return TrainingPair(views[0], views[1], source_xy, target_xy)


def _resized(size: Size, side: int) -> Size:
    scale = side / min(size)
    return Size(round(size.height * scale), round(size.width * scale))


def _lookup(
    size: Size, random: np.random.Generator, settings: WarpSettings
) -> Float32[np.ndarray, "h w 2"]:
    """For each pixel of the second view where it is in the first, as `cv2.remap` counts.

    It counts centres of pixels from 0.
    """
    rows, columns = (np.arange(side, dtype=np.float64) for side in size)
    x, y = np.meshgrid(columns, rows)
    homography = _homography(size, random, settings)
    projected = np.stack([x, y, np.ones_like(x)], axis=-1) @ homography.T
    places = projected[..., :2] / projected[..., 2:]
    return np.asarray(places + _bend(size, random, settings.bend), dtype=np.float32)


def _homography(
    size: Size, random: np.random.Generator, settings: WarpSettings
) -> Float64[np.ndarray, "3 3"]:
    sides = np.array([size.width, size.height], dtype=np.float64)
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * sides
    angle = np.deg2rad(random.uniform(-settings.rotation, settings.rotation))
    factor = np.exp(random.uniform(-1, 1) * np.log(settings.zoom))
    turn = factor * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = (corners - sides / 2) @ turn.T + sides / 2
    moved += random.uniform(-settings.shift, settings.shift, 2) * sides
    moved += random.uniform(-settings.tilt, settings.tilt, (4, 2)) * sides
    found = cv2.getPerspectiveTransform(corners.astype(np.float32), moved.astype(np.float32))
    return np.asarray(found, dtype=np.float64)


def _bend(
    size: Size, random: np.random.Generator, spread: float
) -> Float64[np.ndarray, "h w 2"] | float:
    """Displacement of each pixel, by a thin-plate spline through 4 x 4 control points."""
    if not spread:
        return 0.0
    ends = (np.linspace(0, side, 4) for side in size)
    controls = np.stack(np.meshgrid(*ends, indexing="ij"), axis=-1).reshape(-1, 2)
    moves = random.normal(0, spread * min(size), (len(controls), 2))
    counts = [side // _LATTICE + 2 for side in size]
    lattice = np.stack(
        np.meshgrid(
            *(np.linspace(0, side, count) for side, count in zip(size, counts, strict=True)),
            indexing="ij",
        ),
        axis=-1,
    )
    spline = RBFInterpolator(controls, moves, kernel="thin_plate_spline")
    coarse = spline(lattice.reshape(-1, 2)).reshape(*counts, 2)
    return np.asarray(cv2.resize(coarse, (size.width, size.height), interpolation=cv2.INTER_CUBIC))


def _points(
    lookup: Float32[np.ndarray, "h w 2"], size: Size, random: np.random.Generator, most: int
) -> tuple[Float64[np.ndarray, "n 2"], Float64[np.ndarray, "n 2"]]:
    """Random pixels of the second view that the first one shows, and where."""
    inside = (lookup >= 0).all(axis=2) & (lookup <= (size.width - 1, size.height - 1)).all(axis=2)
    rows, columns = np.nonzero(inside)
    chosen = random.permutation(len(rows))[:most]
    rows, columns = rows[chosen], columns[chosen]
    target = np.stack([columns, rows], axis=1) + 0.5
    return target, lookup[rows, columns].astype(np.float64) + 0.5


def recoloured(
    rgb: UInt8[np.ndarray, "h w 3"], random: np.random.Generator, most: float
) -> UInt8[np.ndarray, "h w 3"]:
    """An image with another brightness, contrast and saturation, by `most` as a share each."""
    brightness, contrast, saturation = 1 + random.uniform(-most, most, 3)
    values = rgb.astype(np.float32) * brightness
    values = (values - values.mean()) * contrast + values.mean()
    grey = values.mean(axis=2, keepdims=True)
    values = (values - grey) * saturation + grey
    return np.asarray(np.clip(values, 0, 255).round().astype(np.uint8))
