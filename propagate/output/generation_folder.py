"""The folder of generated images: the images, their features, and what made them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from propagate.output.atomic import atomic_path, make_folder, remove_leftovers
from propagate.output.feature_folder import FeatureFolder
from propagate.output.record_folder import Mode, ReplaceableFolder
from propagate.types import Frame

_IMAGE = re.compile(r"\d{5}\.png", re.ASCII)


class GenerationFolder(ReplaceableFolder):
    """Paths and the record (`generate.json`) of a generation.

    Args:
        path: the folder.
        config: everything that decides the result.
        stored: likewise of the features, for their own record.
        mode: "new" or "overwrite".

    Raises:
        OutputError: the folder holds something that must not be lost.
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

    def image(self, name: str) -> Path:
        """An image."""
        return self.images / f"{name}.png"

    def prepare(self) -> None:
        """Make the folders, without what an earlier generation left there."""
        if self._replaces and self.images.is_dir():
            for item in self.images.iterdir():
                if _IMAGE.fullmatch(item.name):
                    item.unlink()
        for folder in (self.path, self.images):
            make_folder(folder)
            remove_leftovers(folder)
        self.write_record("running")
        self.features.claim(self.clip, self.clip)
        self.features.prepare()

    def write_image(self, frame: Frame) -> Path:
        """Write an image; returns where."""
        target = self.image(frame.name)
        with atomic_path(target) as path:
            Image.fromarray(frame.rgb).save(path)
        return target
