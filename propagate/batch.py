"""Many clips: find them with their masks, label one after the other, and go on when one fails."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from propagate.errors import InputError, PropagateError
from propagate.features.registry import create_extractor
from propagate.labels.reference_files import ReferenceFile
from propagate.output.atomic import atomic_path, make_folder
from propagate.progress import Progress, no_progress
from propagate.run import RunRequest, run_clip
from propagate.video.image_reader import IMAGE_ENDINGS, natural_key

_VIDEO_ENDINGS = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".mpg", ".mpeg", ".ts", ".gif")
_MASK_ENDINGS = (".png", ".tif", ".tiff", ".bmp")
_COLUMNS = ("clip", "mask", "name", "frames")


@dataclass(frozen=True, kw_only=True)
class BatchItem:
    """One clip to label.

    Args:
        name: of its folder in the output; one part of a path.
        clip: what `open_clip` takes.
        mask: mask of its first frame.
        frames: range of the clip as "start:stop:step", or None for all of it.
    """

    name: str
    clip: Path
    mask: Path
    frames: str | None = None

    def __post_init__(self) -> None:
        if not self.name or self.name in (".", "..") or set(self.name) & set('/\\:*?"<>|\0'):
            raise InputError(
                f"{self.name!r} can't be the name of a folder; use letters, digits, spaces, dots, "
                "hyphens and underscores."
            )


@dataclass(frozen=True, kw_only=True)
class BatchOutcome:
    """What came of one clip.

    Args:
        name: of the clip.
        status: "done", "skipped" (it was complete before) or "failed".
        frames: labelled in this call.
        seconds: they took.
        error: why it failed, a sentence.
    """

    name: str
    status: str
    frames: int = 0
    seconds: float = 0.0
    error: str = ""


def find_items(source: Path, masks: Path | None = None) -> list[BatchItem]:
    """The clips of a folder or a manifest, in natural order of their names.

    Args:
        source: a CSV file with the columns clip, mask and, if wanted, name and frames, whose paths
            are relative to it; or a folder of video files and folders of images.
        masks: where the mask of a folder's clip lies: `NAME.png`, or a folder `NAME` whose first
            image it is. None is beside the clip.

    Raises:
        InputError: there is no such source, a line is malformed, a clip has no mask, or two clips
            have one name.
    """
    if source.is_file():
        items = _of_manifest(source)
    elif source.is_dir():
        items = _of_folder(source, masks or source)
    else:
        raise InputError(
            f"{source} does not exist; give a folder of clips, or a CSV file with the columns clip "
            "and mask."
        )
    if not items:
        raise InputError(f"{source} holds no clip; expected are videos, or folders of images.")
    names = [item.name.casefold() for item in items]
    twice = next((item.name for item in items if names.count(item.name.casefold()) > 1), None)
    if twice is not None:
        raise InputError(
            f"Two clips of {source} are called {twice}; rename one, or give names in a manifest."
        )
    return sorted(items, key=lambda item: natural_key(Path(item.name)))


def select_shard(items: Sequence[BatchItem], shard: str) -> list[BatchItem]:
    """Every n-th clip from the i-th on, for `shard` "i/n" that counts from 1.

    Raises:
        InputError: `shard` is not like that.
    """
    first, slash, count = shard.partition("/")
    if not (slash and first.isdecimal() and count.isdecimal() and 1 <= int(first) <= int(count)):
        raise InputError(
            f"--shard is {shard!r}; write which of how many machines this is, such as 1/4 to 4/4."
        )
    return list(items[int(first) - 1 :: int(count)])


def run_batch(
    items: Sequence[BatchItem],
    output: Path,
    base: RunRequest,
    *,
    report: Callable[[BatchOutcome], None] = lambda _: None,
    progress: Progress[Any] = no_progress,
    say: Callable[[str], None] = lambda _: None,
) -> list[BatchOutcome]:
    """Label clips one after the other with one model, each into a folder of its own.

    Args:
        items: the clips.
        output: the folder above theirs; made when missing.
        base: all settings. Its mode holds for each clip, but that "resume" starts those that were
            not begun.
        report: receives each outcome as it is known.
        progress: as for `run_clip`.
        say: receives notes, with the clip's name before them.

    Raises:
        PropagateError: the model or the output can't be used, so that no clip could be labelled.
    """
    make_folder(output)
    extractor = create_extractor(base.model, base.options)
    outcomes = []
    for item in items:
        request = replace(
            base,
            clip=str(item.clip),
            references=(ReferenceFile(item.mask),),
            frames=item.frames,
            output=output / item.name,
        )
        try:
            done = run_clip(
                request,
                extractor=extractor,
                progress=progress,
                say=partial(_say_of, say, item.name),
            )
        except (PropagateError, OSError) as error:
            outcome = BatchOutcome(name=item.name, status="failed", error=str(error))
        else:
            outcome = BatchOutcome(
                name=item.name,
                status="done" if done.frames else "skipped",
                frames=done.frames,
                seconds=round(done.elapsed, 3),
            )
        outcomes.append(outcome)
        report(outcome)
    return outcomes


def _say_of(say: Callable[[str], None], name: str, note: str) -> None:
    say(f"{name}: {note}")


def write_outcomes(path: Path, outcomes: Iterable[BatchOutcome]) -> None:
    """Write outcomes as a JSON list, atomically."""
    text = json.dumps([vars(outcome) for outcome in outcomes], indent=2) + "\n"
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _of_manifest(path: Path) -> list[BatchItem]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        columns = tuple(reader.fieldnames or ())
        if not {"clip", "mask"} <= set(columns) <= set(_COLUMNS):
            raise InputError(
                f"{path} has the columns {', '.join(columns) or 'none'}; it needs clip and mask, "
                "and may have name and frames."
            )
        return [_of_row(path, number, row) for number, row in enumerate(reader, start=2)]


def _of_row(path: Path, number: int, row: dict[str, Any]) -> BatchItem:
    clip, mask = (row.get(column) for column in ("clip", "mask"))
    if not clip or not mask or None in row:
        raise InputError(
            f"Line {number} of {path} can't be read; it must have as many values as there are "
            "columns, with clip and mask filled in."
        )
    return BatchItem(
        name=row.get("name") or Path(clip).stem,
        clip=path.parent / clip,
        mask=path.parent / mask,
        frames=row.get("frames") or None,
    )


def _of_folder(folder: Path, masks: Path) -> list[BatchItem]:
    entries = [path for path in folder.iterdir() if not path.name.startswith(".")]
    clips = [path for path in entries if path.suffix.lower() in _VIDEO_ENDINGS and path.is_file()]
    folders = [path for path in entries if path.is_dir() and path.resolve() != masks.resolve()]
    clips += [path for path in folders if _has_images(path)]
    return [_with_mask(clip, masks) for clip in clips]


def _has_images(folder: Path) -> bool:
    return any(path.suffix.lower() in IMAGE_ENDINGS for path in folder.iterdir())


def _with_mask(clip: Path, masks: Path) -> BatchItem:
    name = clip.name if clip.is_dir() else clip.stem
    candidates = [masks / f"{name}{ending}" for ending in _MASK_ENDINGS]
    folder = masks / name
    if folder.is_dir() and folder != clip:
        inside = [path for path in folder.iterdir() if path.suffix.lower() in _MASK_ENDINGS]
        candidates += sorted(inside, key=natural_key)[:1]
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        raise InputError(
            f"{clip} has no mask: there is no {candidates[0]}; draw one, name the folder of masks "
            "with --masks, or give a manifest."
        )
    return BatchItem(name=name, clip=clip, mask=found)
