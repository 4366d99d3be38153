"""Clips in one file of several pictures: GIF, TIFF, animated WebP and PNG."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from propagate.errors import ClipError
from propagate.types import ClipLosses, Frame, Size
from propagate.video.image_reader import check_size
from propagate.video.locate import existing_file, file_identity
from propagate.video.still import UNREADABLE, open_image, to_rgb
from propagate.video.timing import plausible_rate

if TYPE_CHECKING:
    from jaxtyping import UInt8

PAGED_ENDINGS = (".gif", ".tif", ".tiff", ".webp", ".png", ".apng")
"""Endings of names, in lower case, of formats that may hold several pictures."""


class MultipageReader:
    """Streams the pages of an image file through Pillow, which composes animations.

    See `still.to_rgb` for colours; of colour with 16 bits per channel the upper 8 are used.

    Args:
        path: a GIF, TIFF, WebP or PNG file.

    Raises:
        ClipError: the file is missing, empty, no image, or none of its pages decodes.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = existing_file(Path(path))
        self._source = file_identity(self._path)
        self._losses: list[str] = []
        with _opened(self._path) as image:
            self._pages = _page_count(image)
            with suppress(*UNREADABLE):
                image.load()  # Pillow knows the durations of WebP only then
            self._fps = plausible_rate(1 / seconds if (seconds := _duration(image)) else None)
        with closing(iter(self)) as frames:
            next(frames)

    @property
    def source(self) -> str:
        """Absolute path, size and modification time of the file."""
        return self._source

    @property
    def fps(self) -> float:
        """Rate of the first page; 24 where it has no duration."""
        return self._fps

    @property
    def estimated_length(self) -> int | None:
        """Number of pages, or None where the chain of pages is broken."""
        return self._pages

    @property
    def losses(self) -> ClipLosses:
        """Pages that could not be read."""
        return ClipLosses(tuple(self._losses))

    def __iter__(self) -> Generator[Frame, None, None]:
        """A fresh pass.

        Raises:
            ClipError: a page differs in size from the first one, or none decodes.
        """
        self._losses = []
        first: tuple[str, Size] | None = None
        index = 0
        time = 0.0
        with _opened(self._path) as image:
            for page, rgb in _pages(image, self._losses):
                frame = Frame(self._source, index, rgb, time, f"{index:05d}")
                first = first or (f"page {page}", frame.size)
                check_size(f"Page {page} of {self._path}", frame.size, *first)
                yield frame
                index += 1
                time += _duration(image)
        if first is None:
            raise ClipError(
                f"No page of {self._path} can be read; check that the file is complete."
            )


def _pages(
    image: Image.Image, losses: list[str]
) -> Iterator[tuple[int, UInt8[np.ndarray, "h w 3"]]]:
    """Number and picture of every page that decodes; `losses` gets a sentence per other one."""
    for page in count():
        try:
            image.seek(page)
        except EOFError:
            return
        except UNREADABLE as error:
            losses.append(f"Page {page} and those after it cannot be found ({error}).")
            return
        try:
            rgb = to_rgb(image)
        except UNREADABLE as error:
            losses.append(f"Page {page} cannot be read and was skipped ({error}).")
            continue
        yield page, rgb


def has_pages(path: Path) -> bool:
    """Whether the file is an image of more than one page."""
    if path.suffix.lower() not in PAGED_ENDINGS:
        return False
    try:
        with Image.open(path) as image:
            return bool(getattr(image, "is_animated", False))
    except UNREADABLE:
        return False


def _page_count(image: Image.Image) -> int | None:
    try:
        return int(getattr(image, "n_frames", 1))
    except UNREADABLE:
        return None


def _duration(image: Image.Image) -> float:
    """Seconds for which the current page is shown, 0 where there is no clock."""
    return float(image.info.get("duration", 0)) / 1000


def _opened(path: Path) -> Image.Image:
    try:
        return open_image(path)
    except UNREADABLE as error:
        raise ClipError(
            f"{path} cannot be opened as an image of several pages ({error}); give a GIF, TIFF, "
            "WebP or PNG file."
        ) from error
