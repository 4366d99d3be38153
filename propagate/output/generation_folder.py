"""The folder of generated images: the images, their features, and what made them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from propagate.features.stored import list_maps
from propagate.output.atomic import atomic_path, make_folder, remove_leftovers
from propagate.output.feature_folder import FeatureFolder
from propagate.output.record_folder import Mode, RecordFolder
from propagate.types import Frame

_IMAGE = re.compile(r"\d{5}\.png", re.ASCII)


class GenerationFolder(RecordFolder):
    """Paths and the record (`generate.json`) of a generation.

    Args:
        path: the folder.
        config: everything that decides the result.
        stored: likewise of the features, for their own record.
        mode: "new", "overwrite" or "resume".

    Raises:
        OutputError: the folder holds something that must not be lost, or another generation.
    """

    job = "generation"

    def __init__(
        self, path: Path, config: Mapping[str, Any], *, stored: Mapping[str, Any], mode: Mode
    ) -> None:
        super().__init__(path, config, mode=mode)
        self.features = FeatureFolder(path / "features", stored, mode=mode)

    @property
    def record_path(self) -> Path:
        """The resolved configuration, and a line for each image."""
        return self.path / "generate.json"

    @property
    def images(self) -> Path:
        """The images, which are a clip too."""
        return self.path / "images"

    @property
    def clip(self) -> str:
        """What the features call the images."""
        return str(self.images.absolute())

    def image(self, number: int) -> Path:
        """An image."""
        return self.images / f"{number:05d}.png"

    def missing(self, count: int) -> list[int]:
        """Which of `count` images, by number, are yet to be made."""
        if self._replaces or self.clip not in {clip.path for clip in self.features.clips}:
            return list(range(count))
        mapped = {name.frame for name in list_maps(self.features.maps_of(self.clip))}
        return [n for n in range(count) if n not in mapped or not self.image(n).exists()]

    def prepare(self) -> None:
        """Make the folders, without what a generation that is replaced left there."""
        if self._replaces and self.images.is_dir():
            for item in self.images.iterdir():
                if _IMAGE.fullmatch(item.name):
                    item.unlink()
        for folder in (self.path, self.images):
            make_folder(folder)
            remove_leftovers(folder)
        self.features.claim(self.clip, self.clip)
        self.features.prepare()

    def write_image(self, frame: Frame) -> Path:
        """Write an image; returns where."""
        target = self.image(frame.index)
        with atomic_path(target) as path:
            Image.fromarray(frame.rgb).save(path)
        return target
