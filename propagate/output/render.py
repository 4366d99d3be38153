"""Drawings of a finished run, made in one pass over the clip: overlay video and contact sheet."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack

import numpy as np
from PIL import Image

from propagate.errors import OutputError
from propagate.labels.mask_files import read_mask
from propagate.output.atomic import atomic_path
from propagate.output.contact_sheet import contact_sheet
from propagate.output.overlay import draw_overlay
from propagate.output.run_folder import RunFolder
from propagate.output.video_writer import VideoWriter
from propagate.types import Frame

_SHEET_TILES = 9
_SHEET_COLUMNS = 3


def render_overlay(
    frames: Iterable[Frame], folder: RunFolder, *, fps: float, annotated: int
) -> None:
    """Write `overlay.mp4` and `contact_sheet.png` of a run from its masks.

    Args:
        frames: the clip's frames again, in order; those without a mask are left out.
        folder: the run.
        fps: of the video.
        annotated: index of the frame whose mask the user gave, named in the sheet.

    Raises:
        OutputError: when no frame has a mask.
    """
    count = folder.count_masks()
    shown = set(np.linspace(0, count - 1, min(count, _SHEET_TILES)).round().astype(int).tolist())
    tiles: list[tuple[np.ndarray, str]] = []
    drawn = 0
    with ExitStack() as stack:
        writer: VideoWriter | None = None
        for frame in frames:
            path = folder.mask_path(frame.name)
            if not path.exists():
                continue
            mask = read_mask(path)
            picture = draw_overlay(frame.rgb, mask.ids, palette=mask.palette)
            if writer is None:
                writer = stack.enter_context(VideoWriter(folder.overlay, fps=fps, size=frame.size))
            writer.write(picture)
            if drawn in shown:
                caption = f"frame {frame.index}" + (" (given)" if frame.index == annotated else "")
                tiles.append((picture, caption))
            drawn += 1
    if not tiles:
        raise OutputError(
            f"{folder.masks} holds no mask of this clip, so there is nothing to draw."
        )
    sheet = contact_sheet(tiles, columns=_SHEET_COLUMNS)
    with atomic_path(folder.contact_sheet) as temporary:
        Image.fromarray(sheet).save(temporary)
