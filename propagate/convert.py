"""Masks from one format to another, frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from propagate.errors import InputError, LabelError
from propagate.labels.clip_labels import ClipLabels, FrameLabels
from propagate.labels.format_base import MaskFormat, ReadOptions, WriteOptions
from propagate.labels.format_registry import detect_format, format_names, get_format
from propagate.labels.losses import Tally
from propagate.labels.mask_checks import Void
from propagate.output.atomic import atomic_folder, atomic_path, check_replaceable
from propagate.output.labelled_clip import with_pictures
from propagate.types import Size
from propagate.video import open_clip
from propagate.video.base import FrameReader

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import UInt8

    from propagate.progress import Progress


@dataclass(frozen=True, kw_only=True)
class ConvertRequest:
    """Everything a user says about one conversion.

    Args:
        source: file or folder with masks.
        target: file or folder to write.
        from_format: of the source; None finds out.
        to_format: of the target; None goes by its ending.
        clip: the pictures, where the target needs them or the source has no size.
        video: which of several clips in the source.
        size: of the frames, where the source has none.
        void: id of unknown pixels in mask images, see `load_reference_mask`.
        source_from: number of the first frame of a source that numbers frames, 0 or 1.
        target_from: the same of the target.
        tolerance: how far polygon borders may be moved to save points, in pixels.
        overwrite: replace what is at `target`.
    """

    source: Path
    target: Path
    from_format: str | None = None
    to_format: str | None = None
    clip: str | None = None
    video: str | None = None
    size: Size | None = None
    void: Void = "auto"
    source_from: int = 0
    target_from: int = 0
    tolerance: float = 0.0
    overwrite: bool = False


@dataclass(frozen=True)
class ConvertReport:
    """What came of a conversion.

    Args:
        path: what was written.
        source_format: name of the format that was read.
        target_format: of the one that was written.
        frames: how many.
        objects: ids of all objects.
        lost: a sentence for each thing that the target has no room for.
        notes: other sentences the user should read.
    """

    path: Path
    source_format: str
    target_format: str
    frames: int
    objects: tuple[int, ...]
    lost: dict[str, str]
    notes: tuple[str, ...]


class _Labelled(NamedTuple):
    frame: FrameLabels
    rgb: UInt8[np.ndarray, "h w 3"] | None


def convert_masks(
    request: ConvertRequest,
    *,
    progress: Progress[Any] | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> ConvertReport:
    """Read masks in one format and write them in another.

    Args:
        request: what to do.
        progress: wraps the frames: (title, expected number, frames) -> frames; None shows
            nothing.
        say: receives each note as soon as it is known.

    Raises:
        LabelError: the source is malformed, unknown or ambiguous, or the target can't hold it.
        OutputError: the target exists and may not be replaced, or can't be written.
        InputError: an option does not fit.
    """
    target = _target_format(request)
    source = _source_format(request)
    check_replaceable(
        request.target,
        source=request.source,
        folder=target.folder,
        suffixes=target.suffixes,
        overwrite=request.overwrite,
    )
    reader = open_clip(request.clip) if request.clip is not None else None
    if target.needs_frames and reader is None:
        raise InputError(f"{target.name} needs the pictures; name the clip with --clip.")
    clip = source.read(request.source, _read_options(request, reader))
    for note in clip.notes:
        say(note)
    tally = Tally(clip)
    shown = reader if target.needs_frames else None
    written = _write(request, target, clip, tally, shown, progress)
    lost = tally.lost(target.keeps)
    for note in (*lost.values(), *written):
        say(note)
    return ConvertReport(
        path=request.target,
        source_format=source.name,
        target_format=target.name,
        frames=tally.frames,
        objects=tuple(sorted(tally.objects)),
        lost={str(trait): sentence for trait, sentence in lost.items()},
        notes=(*clip.notes, *written),
    )


def _read_options(request: ConvertRequest, reader: FrameReader | None) -> ReadOptions:
    size = request.size
    if reader is not None and size is None:
        size = next(iter(reader)).size
    return ReadOptions(
        video=request.video, size=size, void=request.void, count_from=request.source_from
    )


def _write(
    request: ConvertRequest,
    target: MaskFormat,
    clip: ClipLabels,
    tally: Tally,
    pictures: FrameReader | None,
    progress: Progress[Any] | None,
) -> list[str]:
    """Write all frames; returns notes about how."""
    options = WriteOptions(tolerance=request.tolerance, count_from=request.target_from)
    place: AbstractContextManager[Path] = (
        atomic_folder(request.target) if target.folder else atomic_path(request.target)
    )
    with place as path:
        writer = target.write(path, clip, options)
        frames = tally.watch(clip.stream())
        labelled: Iterable[_Labelled] = _with_pictures(frames, pictures, clip)
        if progress is not None:
            labelled = progress("converting", len(clip.frames), labelled)
        for frame, rgb in labelled:
            writer.add(frame, rgb)
        writer.finish()
        return [*tally.overlap_note, *writer.notes]


def _with_pictures(
    frames: Iterator[FrameLabels], reader: FrameReader | None, clip: ClipLabels
) -> Iterator[_Labelled]:
    """Each frame, with its picture where those are needed."""
    if reader is None:
        yield from (_Labelled(frame, None) for frame in frames)
        return
    for picture, frame in with_pictures(frames, reader, clip):
        yield _Labelled(frame, picture.rgb)


def _target_format(request: ConvertRequest) -> MaskFormat:
    if request.to_format is not None:
        target = get_format(request.to_format)
    else:
        suffix = request.target.suffix.lower()
        fits = [
            entry
            for entry in map(get_format, format_names())
            if (suffix in entry.suffixes and not entry.folder) or (not suffix and entry.folder)
        ]
        if len(fits) != 1:
            names = ", ".join(entry.name for entry in fits) or ", ".join(format_names())
            raise InputError(f"Say with --to what {request.target} shall be: {names}.")
        target = fits[0]
    suffix = target.suffixes[0]
    if not target.folder and request.target.suffix.lower() != suffix:
        raise InputError(
            f"{target.name} is one {suffix} file, so {request.target} can't be one; end it in "
            f"{suffix}."
        )
    return target


def _source_format(request: ConvertRequest) -> MaskFormat:
    if request.from_format is None:
        return detect_format(request.source)
    source = get_format(request.from_format)
    if not request.source.exists():
        return detect_format(request.source)
    if request.source.is_dir() != source.folder:
        wanted, found = ("folder", "file") if source.folder else ("file", "folder")
        raise LabelError(f"{source.name} is a {wanted}, but {request.source} is a {found}.")
    return source
