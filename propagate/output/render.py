"""Drawings of a finished run, made in one pass over the clip: overlay video and contact sheet."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import ExitStack
from typing import Any

import numpy as np
from PIL import Image

from propagate.errors import OutputError
from propagate.output.atomic import atomic_path
from propagate.output.contact_sheet import contact_sheet
from propagate.output.label_store import LabelStore
from propagate.output.run_folder import RunFolder
from propagate.output.video_writer import VideoWriter
from propagate.types import Frame

_SHEET_TILES = 9
_SHEET_COLUMNS = 3


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
    count = store.count()
    shown = set(np.linspace(0, count - 1, min(count, _SHEET_TILES)).round().astype(int).tolist())
    tiles: list[tuple[np.ndarray, str]] = []
    with ExitStack() as stack:
        writer: VideoWriter | None = None
        for drawn, (frame, picture) in enumerate(store.drawn(frames)):
            if writer is None:
                writer = stack.enter_context(VideoWriter(folder.overlay, fps=fps, size=frame.size))
            writer.write(picture)
            if drawn in shown:
                caption = f"frame {frame.index}" + (" (given)" if frame.index in annotated else "")
                tiles.append((picture, caption))
    if not tiles:
        raise OutputError(
            f"{folder.path} holds no labels of this clip, so there is nothing to draw."
        )
    sheet = contact_sheet(tiles, columns=_SHEET_COLUMNS)
    with atomic_path(folder.contact_sheet) as temporary:
        Image.fromarray(sheet).save(temporary)
