"""Images to train on, in a folder or in a tar file that is never unpacked."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from propagate.errors import InputError
from propagate.training.warps import IMAGE_SUFFIXES, find_images, recoloured

if TYPE_CHECKING:
    from jaxtyping import UInt8


@dataclass(frozen=True)
class StoredImage:
    """One image, as the bytes of a file.

    Args:
        name: what messages call it.
        read: gives the bytes.
    """

    name: str
    read: Callable[[], bytes]

    def rgb(self) -> UInt8[np.ndarray, "h w 3"]:
        """The pixels.

        Raises:
            InputError: it is no image that can be decoded.
        """
        data = np.frombuffer(self.read(), dtype=np.uint8)
        pixels = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
        if pixels is None:
            raise InputError(f"{self.name} can't be decoded as an image; take it away.")
        return np.ascontiguousarray(pixels[..., ::-1])


def stored_images(path: Path) -> list[StoredImage]:
    """The images of a folder and those below it, or of a tar file, in the order of their names.

    Raises:
        InputError: there are none, or it is neither.
    """
    if path.is_dir():
        return [StoredImage(str(file), file.read_bytes) for file in find_images(path)]
    try:
        # Plain tar only: what is compressed can't be read from the middle.
        with tarfile.open(path, "r:") as archive:
            members = [item for item in archive.getmembers() if _is_image(item)]
    except (tarfile.TarError, OSError) as error:
        raise InputError(
            f"{path} is neither a folder nor an uncompressed tar file ({error})."
        ) from error
    if not members:
        raise InputError(f"{path} holds no image; expected are {', '.join(IMAGE_SUFFIXES)} in it.")
    return [
        StoredImage(f"{path}:{item.name}", partial(_slice, path, item.offset_data, item.size))
        for item in sorted(members, key=lambda item: item.name)
    ]


def _is_image(item: tarfile.TarInfo) -> bool:
    name = Path(item.name)
    return item.isfile() and name.suffix.lower() in IMAGE_SUFFIXES and name.name[0] != "."


def _slice(path: Path, start: int, length: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(length)


@dataclass(frozen=True, kw_only=True)
class RandomCrops:
    """Square crops of random images, at random scales; crop `n` is the same whenever it is drawn.

    Args:
        images: to choose from.
        side: of a crop, in pixels.
        zoom: the largest side of a crop before it is made smaller, as a factor of `side`; nothing
            is made larger.
        colour: largest change of brightness, contrast and saturation, as a share.
        seed: of all choices.
    """

    images: Sequence[StoredImage]
    side: int
    zoom: float = 2.25
    colour: float = 0.2
    seed: int = 0

    def crop(self, number: int) -> UInt8[np.ndarray, "side side 3"]:
        """Crop `number`.

        Raises:
            InputError: a hundred images in a row are smaller than a crop.
        """
        random = np.random.default_rng((self.seed, number))
        for _ in range(100):
            rgb = self.images[int(random.integers(len(self.images)))].rgb()
            if min(rgb.shape[:2]) >= self.side:
                return self._cut(rgb, random)
        raise InputError(
            f"The images are smaller than a crop, {self.side} pixels; choose a smaller --side."
        )

    def batch(self, first: int, count: int) -> UInt8[np.ndarray, "count side side 3"]:
        """Crops `first` and those that follow."""
        return np.stack([self.crop(first + position) for position in range(count)])

    def _cut(
        self, rgb: UInt8[np.ndarray, "h w 3"], random: np.random.Generator
    ) -> UInt8[np.ndarray, "side side 3"]:
        height, width = rgb.shape[:2]
        largest = min(height, width, self.side * self.zoom)
        taken = round(self.side * (largest / self.side) ** random.uniform())
        top, left = random.integers(height - taken + 1), random.integers(width - taken + 1)
        part = rgb[top : top + taken, left : left + taken]
        if random.integers(2):
            part = part[:, ::-1]
        scaled = cv2.resize(
            np.ascontiguousarray(part), (self.side, self.side), interpolation=cv2.INTER_AREA
        )
        return recoloured(np.asarray(scaled, dtype=np.uint8), random, self.colour)
