"""Labels drawn over their clip as a video, a contact sheet or single pictures."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from propagate.errors import InputError
from propagate.output.atomic import atomic_folder, check_replaceable
from propagate.output.drawing import DrawStyle, chosen, drawn
from propagate.output.labelled_clip import LabelledClip, LabelSource, open_labelled
from propagate.output.render import (
    SHEET_COLUMNS,
    SHEET_TILES,
    Drawings,
    save_picture,
    write_sheet,
    write_video,
)
from propagate.output.video_writer import SUFFIXES as VIDEO_SUFFIXES

if TYPE_CHECKING:
    from propagate.progress import Progress
    from propagate.video.ranges import FrameChoice

RenderKind = Literal["video", "sheet", "stills"]

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True, kw_only=True)
class RenderRequest:
    """Everything a user says about one drawing.

    Args:
        source: labels and clip.
        output: video, picture or, for stills, folder to write.
        kind: what to write.
        style: how labels are drawn.
        frames: which frames; None for all that are labelled.
        fps: of a video; None for the clip's.
        tiles: pictures on a sheet.
        columns: of a sheet.
        overwrite: replace what is at `output`.

    Raises:
        InputError: `output` has an ending of something else, or a number is out of range.
    """

    source: LabelSource
    output: Path
    kind: RenderKind = "video"
    style: DrawStyle = field(default_factory=DrawStyle)
    frames: FrameChoice | None = None
    fps: float | None = None
    tiles: int = SHEET_TILES
    columns: int = SHEET_COLUMNS
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.tiles < 1 or self.columns < 1:
            raise InputError(
                f"--tiles is {self.tiles} and --columns {self.columns}; both must be 1 or more."
            )
        suffix = self.output.suffix.lower()
        allowed = self.suffixes
        if self.kind != "stills" and suffix not in allowed:
            raise InputError(
                f"{self.output} can't be a {self.kind}; end its name in {' or '.join(allowed)}."
            )
        if self.kind == "stills" and suffix in (*VIDEO_SUFFIXES, *PICTURE_SUFFIXES):
            raise InputError(f"Stills go to a folder, and {self.output} is named as a file.")

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Endings of what is written."""
        if self.kind == "stills":
            return (".png",)
        return VIDEO_SUFFIXES if self.kind == "video" else PICTURE_SUFFIXES


@dataclass(frozen=True)
class RenderReport:
    """What came of it.

    Args:
        path: what was written.
        frames: how many frames it shows.
        notes: sentences the user should read.
    """

    path: Path
    frames: int
    notes: tuple[str, ...]


def render_labels(request: RenderRequest, *, progress: Progress[Any] | None = None) -> RenderReport:
    """Draw labels over their clip.

    Args:
        request: what to do.
        progress: wraps the frames: (title, expected number, frames) -> frames; None shows nothing.

    Raises:
        PropagateError: labels, clip or output can't be used, or no frame is chosen.
    """
    check_replaceable(
        request.output,
        source=request.source.labels,
        folder=request.kind == "stills",
        suffixes=request.suffixes,
        overwrite=request.overwrite,
    )
    clip = open_labelled(request.source)
    drawings: Drawings = drawn(clip, request.style, frames=request.frames)
    if progress is not None:
        drawings = progress("drawing", clip.count, drawings)
    count = _write(request, clip, drawings)
    if not count:
        raise InputError(
            f"--frames {request.frames} chooses none of the {clip.count} labelled frames."
        )
    return RenderReport(request.output, count, clip.reader.losses.messages)


def _write(request: RenderRequest, clip: LabelledClip, drawings: Drawings) -> int:
    if request.kind == "video":
        return write_video(request.output, drawings, fps=request.fps or clip.reader.fps)
    if request.kind == "stills":
        return _write_stills(request.output, drawings)
    count = clip.count
    if request.frames is not None:
        count = sum(1 for _ in chosen(clip, request.frames))
    return write_sheet(
        request.output,
        drawings,
        count=count,
        tiles=request.tiles,
        columns=request.columns,
        given=clip.given,
    )


def _write_stills(path: Path, drawings: Drawings) -> int:
    """A PNG per frame; the folder appears when all are there, and only if there are any."""
    count = 0
    pictures = iter(drawings)
    first = next(pictures, None)
    if first is None:
        return count
    with atomic_folder(path) as folder:
        for frame, picture in chain([first], pictures):
            save_picture(folder / f"{Path(frame.name).name}.png", picture)
            count += 1
    return count
