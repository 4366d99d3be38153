"""A clip of two textured objects with known masks, and an extractor that costs nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from propagate.types import ClipLosses, FeatureMap, Frame, Keypoints, Masks, PointName

SIZE = (48, 72)


def true_ids(index: int) -> np.ndarray:
    """A disc that moves right, object 1; a square that moves left from frame 4 on, object 2."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    ids = np.where((y - 32) ** 2 + (x - 16 - 2 * index) ** 2 <= 9**2, 1, 0)
    left = 70 - 4 * (index - 4)
    if index >= 4:
        ids[4:18, max(left, 0) : left + 16] = 2
    return ids.astype(np.uint8)


def picture(index: int) -> np.ndarray:
    """A frame: each object has colours of its own over a grey ground."""
    rng = np.random.default_rng(0)
    noise = cv2.GaussianBlur(rng.integers(0, 60, (*SIZE, 3), dtype=np.uint8), (0, 0), 2)
    colours = np.array([[90, 90, 90], [220, 60, 40], [40, 80, 220]], np.uint8)
    return colours[true_ids(index)] // 2 + noise


class MovingClip:
    """A reader of `count` frames that remembers how often it was read."""

    source = "moving"
    fps = 24.0
    losses = ClipLosses()

    def __init__(self, count: int = 12) -> None:
        self.count = count

    @property
    def estimated_length(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self.count):
            yield Frame(self.source, index, picture(index), 0.0, f"{index:05d}")


class Colours:
    """An extractor whose features are the colours of cells of 4 pixels; counts its frames."""

    identity = "colours"
    batch_size = 4

    def __init__(self) -> None:
        self.seen: list[int] = []

    def extract(self, frames: Sequence[Frame]) -> list[FeatureMap]:
        self.seen += [frame.index for frame in frames]
        return [FeatureMap(self._cells(frame), frame.size, frame.size) for frame in frames]

    def _cells(self, frame: Frame) -> torch.Tensor:
        small = cv2.resize(frame.rgb, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
        cells = torch.from_numpy(small).permute(2, 0, 1).float() - 64
        return torch.cat([cells, torch.full((1, *cells.shape[1:]), 8.0)])


def true_masks(index: int, *objects: int) -> Masks:
    """True masks of a frame, of all objects or of some."""
    ids = true_ids(index)
    return Masks(np.where(np.isin(ids, objects), ids, 0) if objects else ids)


def true_points(index: int, *names: str) -> Keypoints:
    """Centres of both objects, or of those named."""
    places = {"disc": (16 + 2 * index, 32), "square": (78 - 4 * (index - 4), 11)}
    names = names or tuple(places)
    xy = np.array([places[name] for name in names], np.float32)
    inside = (xy >= 0).all(1) & (xy < SIZE[::-1]).all(1)
    return Keypoints(tuple(PointName(name) for name in names), xy, inside)


def write_clip(folder: Path, count: int = 12) -> Path:
    """The clip as a folder of PNGs."""
    clip = folder / "clip"
    clip.mkdir(parents=True)
    for index in range(count):
        Image.fromarray(picture(index)).save(clip / f"{index:05d}.png")
    return clip


def jaccard(found: np.ndarray, true: np.ndarray) -> float:
    """Intersection over union; 1 where both are empty."""
    union = (found | true).sum()
    return float((found & true).sum() / union) if union else 1.0
