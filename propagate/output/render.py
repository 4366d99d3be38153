"""Drawings of labels, made in one pass over the clip: videos, contact sheets and stills."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from propagate.errors import OutputError
from propagate.output.atomic import atomic_path
from propagate.output.contact_sheet import contact_sheet, tile_of
from propagate.output.label_store import LabelStore
from propagate.output.run_folder import RunFolder
from propagate.output.video_writer import VideoWriter
from propagate.stages import ahead
from propagate.types import Frame, Size

if TYPE_CHECKING:
    from jaxtyping import UInt8

SHEET_TILES = 9
SHEET_COLUMNS = 3

Drawings = Iterable[tuple[Frame, "UInt8[np.ndarray, 'h w 3']"]]
"""Frames of a clip, in order, with what was drawn over each."""


def render_overlay(
    frames: Iterable[Frame],
    folder: RunFolder,
    store: LabelStore[Any],
    *,
    fps: float,
    annotated: Collection[int],
) -> None:
    """Write `overlay.mp4` and `contact_sheet.png` of a run from its labels.

    Args:
        frames: the clip's frames again, in order; those without labels are left out.
        folder: the run.
        store: its labels.
        fps: of the video.
        annotated: frames whose labels the user gave, marked in the sheet.

    Raises:
        OutputError: when no frame has labels.
    """
    tiles: list[tuple[np.ndarray, str]] = []
    shown = evenly(store.count(), SHEET_TILES)
    drawn = ahead(store.drawn(ahead(frames, 1, "decode")), 1, "draw")
    drawings = _collect(drawn, tiles, shown, given=annotated)
    if not write_video(folder.overlay, drawings, fps=fps):
        raise OutputError(
            f"{folder.path} holds no labels of this clip, so there is nothing to draw."
        )
    save_picture(folder.contact_sheet, contact_sheet(tiles, columns=SHEET_COLUMNS))


def write_video(path: Path, drawings: Drawings, *, fps: float) -> int:
    """Write drawings as a video; returns of how many frames, and for none writes nothing."""
    count = 0
    with ExitStack() as stack:
        writer: VideoWriter | None = None
        for _, picture in drawings:
            if writer is None:
                size = Size(*picture.shape[:2])
                writer = stack.enter_context(VideoWriter(path, fps=fps, size=size))
            writer.write(picture)
            count += 1
    return count


def write_sheet(
    path: Path, drawings: Drawings, *, count: int, tiles: int, columns: int, given: Collection[int]
) -> int:
    """Write some drawings, evenly spread, as one picture; returns how many.

    Args:
        path: of an image.
        drawings: all there are.
        count: how many those are.
        tiles: how many to show.
        columns: of the sheet.
        given: indices of frames whose labels the user gave, named in captions.
    """
    shown: list[tuple[np.ndarray, str]] = []
    for _ in _collect(drawings, shown, evenly(count, tiles), given):
        pass
    if shown:
        save_picture(path, contact_sheet(shown, columns=columns))
    return len(shown)


def evenly(count: int, wanted: int) -> set[int]:
    """Positions of at most `wanted` of `count` things, evenly spread, with the first and last."""
    return set(np.linspace(0, count - 1, min(count, wanted)).round().astype(int).tolist())


def save_picture(path: Path, rgb: UInt8[np.ndarray, "h w 3"]) -> None:
    """Write an image, whole or not at all.

    Raises:
        OutputError: it can't be written.
    """
    with atomic_path(path) as temporary:
        try:
            Image.fromarray(rgb).save(temporary)
        except (OSError, ValueError) as error:
            raise OutputError(f"Cannot write the picture {path}: {error}.") from error


def _collect(
    drawings: Drawings, tiles: list[tuple[np.ndarray, str]], shown: set[int], given: Collection[int]
) -> Iterator[tuple[Frame, UInt8[np.ndarray, "h w 3"]]]:
    """Pass drawings on and keep those at the positions `shown` as tiles of a contact sheet."""
    for position, (frame, picture) in enumerate(drawings):
        if position in shown:
            mark = " (given)" if frame.index in given else ""
            tiles.append((tile_of(picture), f"frame {frame.index}{mark}"))
        yield frame, picture
