"""Two images with the same keypoints, and how places found for them are scored."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from PIL import Image

from propagate.errors import InputError
from propagate.metrics.pck import box_side, correct_points, image_side, keypoint_side
from propagate.pipeline import first_frame
from propagate.types import Frame, Size
from propagate.video import open_clip

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Float64

Normaliser = Literal["target-box", "source-box", "target-keypoints", "image"]

_IN_NAMES = re.compile(r"[^\w.()+-]+")


@dataclass(frozen=True, eq=False)
class KeypointPair:
    """Two images with the same keypoints.

    Args:
        name: unique in the data set.
        category: of the thing that both show.
        source: image that points are taken from.
        target: image that they are looked for in.
        source_xy: float64 [n, 2], pixels from the outer corner of the top-left pixel.
        target_xy: float64 [n, 2], the same points in the target.
        source_box: left, top, right, bottom of the thing, where the data set has it.
        target_box: the same in the target.
        subject: what both show, in words; empty where the category says it.
    """

    name: str
    category: str
    source: Path
    target: Path
    source_xy: Float64[np.ndarray, "n 2"]
    target_xy: Float64[np.ndarray, "n 2"]
    source_box: tuple[float, float, float, float] | None = None
    target_box: tuple[float, float, float, float] | None = None
    subject: str = ""

    @property
    def shown(self) -> str:
        """What both images show, in words."""
        return self.subject or self.category

    @property
    def unit(self) -> str:
        """Category and name as a relative path that any file system takes."""
        return "/".join(_IN_NAMES.sub("_", part) for part in (self.category, self.name))

    def side(self, normaliser: Normaliser) -> float:
        """What distances are divided by, in pixels.

        Raises:
            InputError: the data set has no boxes.
        """
        if normaliser == "image":
            return image_side(picture_size(self.target))
        if normaliser == "target-keypoints":
            return keypoint_side(self.target_xy)
        box = self.target_box if normaliser == "target-box" else self.source_box
        if box is None:
            raise InputError(
                f"Pair {self.name} has no box, so --normaliser {normaliser} can't be; take image "
                "or target-keypoints."
            )
        return box_side(box)


@dataclass(frozen=True, kw_only=True)
class PckProtocol:
    """How predictions are scored.

    Args:
        normaliser: what a distance is divided by: the longer side of the thing's box in target or
            source, of the box around the target's keypoints, or of the target image.
        strict: whether a point exactly on the threshold is wrong.
        alphas: thresholds, as shares of that side.

    Raises:
        InputError: a value is out of range.
    """

    normaliser: Normaliser = "target-box"
    strict: bool = False
    alphas: tuple[float, ...] = (0.05, 0.1, 0.15)

    def __post_init__(self) -> None:
        allowed = get_args(Normaliser)
        if self.normaliser not in allowed:
            raise InputError(
                f"normaliser is {self.normaliser!r}; it must be one of {', '.join(allowed)}."
            )
        if not self.alphas or not all(0 < alpha <= 1 for alpha in self.alphas):
            raise InputError(f"alphas are {self.alphas}; give one or more, each from 0 to 1.")

    def correct(
        self, xy: Float[np.ndarray, "n 2"], pair: KeypointPair, side: float, alpha: float
    ) -> Bool[np.ndarray, " n"]:
        """Which places found for a pair's points are right.

        Args:
            xy: float64, pixels of the target; NaN where nothing was found.
            pair: of the points.
            side: `pair.side` by this protocol.
            alpha: the threshold.
        """
        return correct_points(xy, pair.target_xy, side=side, alpha=alpha, strict=self.strict)

    def __str__(self) -> str:
        return f"PCK, distance {'<' if self.strict else '<='} alpha x {self.normaliser}"


def picture(path: Path) -> Frame:
    """An image of a data set."""
    return first_frame(open_clip(str(path)))


def picture_size(path: Path) -> Size:
    """Size of an image in pixels, from its header."""
    with Image.open(path) as image:
        return Size(image.height, image.width)


def require_file(path: Path, what: str, where: str) -> Path:
    """The path itself, if there is such a file.

    Args:
        path: of the file.
        what: name of the data set.
        where: where it is to be had.

    Raises:
        InputError: it is missing.
    """
    if not path.is_file():
        raise InputError(
            f"{path} is missing, so this is no complete {what}; get it from {where}, and name the "
            "folder that it unpacks to as --root."
        )
    return path


def chosen_pairs(
    pairs: Sequence[KeypointPair], categories: Sequence[str], limit: int | None
) -> list[KeypointPair]:
    """Those of some categories, and the first `limit` of them, by category.

    Raises:
        InputError: there is no such category, or `limit` is below 1.
    """
    there = sorted({pair.category for pair in pairs})
    unknown = [name for name in categories if name not in there]
    if unknown:
        raise InputError(f"There is no category {unknown[0]!r}; there are {', '.join(there)}.")
    if limit is not None and limit < 1:
        raise InputError(f"--limit is {limit}; it must be 1 or more.")
    found = [pair for pair in pairs if not categories or pair.category in categories]
    return sorted(found, key=lambda pair: (pair.category, str(pair.source), pair.name))[:limit]
