"""How camera and objects of the synthetic clip move.

Lengths are in frame heights, angles in degrees, times in frames.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, TypeVar

import numpy as np

from propagate.types import Size

_FOCAL_LENGTH = 1.6


class Wave(NamedTuple):
    """A value that swings: middle + amplitude * sin(2 pi (t / period + phase))."""

    middle: float
    amplitude: float = 0.0
    period: float = 100.0
    phase: float = 0.0

    def at(self, t: float) -> float:
        """Value at time `t`."""
        turns = t / self.period + self.phase
        return self.middle + self.amplitude * float(np.sin(2 * np.pi * turns))

    def varied(self, rng: np.random.Generator) -> Wave:
        """A similar wave: amplitude and period change by up to 10 %, phase by up to 0.02."""
        grow, slow, shift = rng.uniform((0.9, 0.9, -0.02), (1.1, 1.1, 0.02))
        return Wave(self.middle, self.amplitude * grow, self.period * slow, self.phase + shift)


@dataclass(frozen=True, kw_only=True)
class Camera:
    """Looks down at the ground point (x, y), tilted from the vertical and rolled."""

    x: Wave
    y: Wave
    zoom: Wave
    tilt: Wave
    roll: Wave

    def homography(self, t: float, size: Size) -> np.ndarray:
        """Ground to image (pixels from the outer corner of the first one), [3, 3]."""
        roll, tilt = np.radians([self.roll.at(t), self.tilt.at(t)])
        move = np.array([[1, 0, -self.x.at(t)], [0, 1, -self.y.at(t)], [0, 0, 1]])
        # A ground point above the middle (negative y) is further away.
        lean = np.array([[1, 0, 0], [0, np.cos(tilt), 0], [0, -np.sin(tilt) / _FOCAL_LENGTH, 1]])
        scale = self.zoom.at(t) * size.height
        lens = np.array([[scale, 0, size.width / 2], [0, scale, size.height / 2], [0, 0, 1]])
        return np.asarray(lens @ lean @ _rotation(roll) @ move)


@dataclass(frozen=True, kw_only=True)
class Actor:
    """One moving object: a flat cut-out on the ground, seen in perspective.

    Args:
        asset: stem of its picture and matte in `assets/`.
        height: of the cut-out at scale 1.
        bend: how far points of it wander from their rigid place, as a share of its height.
        thickness: how far to the right and down its shadow falls.
        x, y, angle, scale: its motion.
    """

    asset: str
    height: float
    bend: float
    thickness: float
    x: Wave
    y: Wave
    angle: Wave
    scale: Wave

    def placement(self, t: float, shift: float = 0.0) -> np.ndarray:
        """Cut-out (unit height, centred) to ground, [3, 3]; moved by `shift` right and down."""
        size = self.height * self.scale.at(t)
        place = size * _rotation(np.radians(self.angle.at(t)))
        place[:, 2] = self.x.at(t) + shift, self.y.at(t) + shift, 1
        return place


CAMERA = Camera(
    x=Wave(0.0, 0.16, 120, 0.05),
    y=Wave(0.0, 0.06, 75, 0.2),
    zoom=Wave(1.0, 0.08, 90, 0.1),
    tilt=Wave(27.0, 4.0, 85, 0.3),
    roll=Wave(0.0, 5.0, 130, 0.0),
)

# From the lowest up; object ids are 1, 2, 3. The photograph slips under the astronaut and comes
# out on the other side; then the cup passes over the astronaut.
ACTORS = (
    Actor(
        asset="cat",
        height=0.42,
        bend=0.025,
        thickness=0.012,
        x=Wave(0.18, 0.24, 110, -0.25),
        y=Wave(-0.15, 0.10, 90, -0.25),
        angle=Wave(-4.0, 22.0, 90, 0.0),
        scale=Wave(1.0, 0.08, 60, 0.1),
    ),
    Actor(
        asset="astronaut",
        height=0.56,
        bend=0.02,
        thickness=0.016,
        x=Wave(0.18, 0.33, 120, 0.25),
        y=Wave(0.09, 0.06, 80, 0.1),
        angle=Wave(2.0, 13.0, 82, 0.1),
        scale=Wave(1.0, 0.12, 95, 0.0),
    ),
    Actor(
        asset="coffee",
        height=0.40,
        bend=0.015,
        thickness=0.035,
        x=Wave(-0.20, 0.34, 120, -0.25),
        y=Wave(0.15, 0.10, 80, 0.0),
        angle=Wave(0.0, 20.0, 76, -0.1),
        scale=Wave(1.0, 0.12, 70, 0.0),
    ),
)

Mover = TypeVar("Mover", Camera, Actor)


def varied(mover: Mover, rng: np.random.Generator) -> Mover:
    """A camera or actor that moves much like `mover`."""
    values = {field.name: getattr(mover, field.name) for field in fields(mover)}
    waves: dict[str, Any] = {
        name: value.varied(rng) for name, value in values.items() if isinstance(value, Wave)
    }
    return replace(mover, **waves)


def _rotation(radians: float) -> np.ndarray:
    cos, sin = np.cos(radians), np.sin(radians)
    return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
