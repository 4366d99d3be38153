"""Clips that are image files: a folder, a glob pattern, or a single picture."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

from propagate.errors import ClipError
from propagate.types import ClipLosses, Frame, Size
from propagate.video.locate import existing_path, file_identity
from propagate.video.still import UNREADABLE, decode_still
from propagate.video.timing import DEFAULT_FPS

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm")
"""Endings of names, in lower case, of the files that count as pictures of a folder."""


class ImageReader:
    """Streams the images of a folder or pattern, sorted as people count: img2 before img10.

    Hidden files and files of other endings are passed over. `Frame.name` is the stem of the file,
    or its whole name where two files share a stem. A file that can't be read is a loss and takes
    no index. See `still.decode_still` for colours.

    Args:
        path: a folder, one image file, or a glob pattern (`*`, `?`, `[...]`, `**`).

    Raises:
        ClipError: nothing is there, or none of it is a picture that decodes.
    """

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        self._files = _image_files(path)
        self._names = _unique_names(self._files)
        self._source = _identity(path, self._files)
        self._losses: list[str] = []
        with closing(iter(self)) as frames:
            next(frames)

    @property
    def source(self) -> str:
        """Absolute path of the folder or pattern, and the number of files."""
        return self._source

    @property
    def fps(self) -> float:
        """24, as images have no clock."""
        return DEFAULT_FPS

    @property
    def estimated_length(self) -> int:
        """Number of files."""
        return len(self._files)

    @property
    def losses(self) -> ClipLosses:
        """Files that could not be read."""
        return ClipLosses(tuple(self._losses))

    def __iter__(self) -> Generator[Frame, None, None]:
        """A fresh pass.

        Raises:
            ClipError: a picture differs in size from the first one, or none decodes.
        """
        losses = self._losses = []
        first: tuple[Path, Size] | None = None
        index = 0
        for file, name in zip(self._files, self._names, strict=True):
            try:
                rgb = decode_still(file.read_bytes())
            except UNREADABLE as error:
                losses.append(f"{file.name} cannot be read and was skipped ({error}).")
                continue
            frame = Frame(self._source, index, rgb, 0.0, name)
            first = first or (file, frame.size)
            check_size(file.name, frame.size, first[0].name, first[1])
            yield frame
            index += 1
        if first is None:
            raise ClipError(
                f"None of the {len(self._files)} image files of {self._source} can be read; the "
                f"first loss: {losses[0]}"
            )


def check_size(name: str, size: Size, first_name: str, first_size: Size) -> None:
    """All pictures of a clip have the size of the first.

    Raises:
        ClipError: `size` is another one.
    """
    if size != first_size:
        raise ClipError(
            f"{name} is {size} but the first picture, {first_name}, is {first_size}; resize the "
            "pictures to one size, or choose those of one size with a glob pattern or a range."
        )


def natural_key(path: Path) -> tuple[list[str | int], str]:
    """Sorting key by which numbers in a path count by value, and case only breaks ties."""
    parts = re.split(r"(\d+)", str(path).casefold())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], str(path)


def is_pattern(path: Path) -> bool:
    """Whether `path` is a glob pattern: nothing has this very name, and it has wildcards."""
    return any(wildcard in str(path) for wildcard in "*?[") and not path.exists()


def _image_files(path: Path) -> list[Path]:
    """The picture files that `path` stands for, absolute, in order."""
    if is_pattern(path):
        root = Path(path.absolute().anchor)
        found = list(root.glob(str(path.absolute().relative_to(root))))
    else:
        path = existing_path(path)
        if path.is_file():
            return [path]
        found = list(path.iterdir())
    files = [
        file
        for file in found
        if file.suffix.lower() in IMAGE_ENDINGS and not file.name.startswith(".") and file.is_file()
    ]
    if not files:
        raise ClipError(
            f"{path} {'matches' if is_pattern(path) else 'holds'} no image file "
            f"({', '.join(IMAGE_ENDINGS)}); give the folder that holds the frames."
        )
    return sorted(files, key=natural_key)


def _unique_names(files: list[Path]) -> list[str]:
    """Stems, or whole names where stems collide.

    Raises:
        ClipError: files of different folders have one name.
    """
    stems = Counter(file.stem.casefold() for file in files)
    names = [file.stem if stems[file.stem.casefold()] == 1 else file.name for file in files]
    if len(set(names)) < len(names):
        names = [file.name for file in files]
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise ClipError(
            f"{count} files that match are named {name}, in different folders; give a pattern "
            "that matches the frames of one folder."
        )
    return names


def _identity(path: Path, files: list[Path]) -> str:
    if path.is_file():
        return file_identity(path)
    return f"{path.absolute()} ({len(files)} images)"
