"""The files that a clip's annotated frames come from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from propagate.errors import InputError
from propagate.labels.keypoint_checks import load_reference_keypoints
from propagate.labels.keypoint_files import is_keypoint_file
from propagate.labels.keypoint_formats.base import Edge
from propagate.labels.mask_checks import Void, load_reference_mask
from propagate.labels.references import References, keypoint_references, mask_references
from propagate.types import Frame, Keypoints, Masks, Size

if TYPE_CHECKING:
    from jaxtyping import UInt8

Objects = tuple[int, ...] | Literal["all"] | None

_TEXT = re.compile(r"(?:(\d+)=)?(.+?)(?::(all|\d+(?:,\d+)*))?", re.ASCII | re.DOTALL)


@dataclass(frozen=True)
class ReferenceFile:
    """Labels of one frame in a file.

    Args:
        path: a mask or keypoint file.
        frame: index in the clip; None for the first frame.
        objects: ids that a mask says something about: those that have pixels in it (None), all that
            the clip has ("all"), or these; pixels of others count as background.
    """

    path: Path
    frame: int | None = None
    objects: Objects = None

    @classmethod
    def parse(cls, text: str) -> ReferenceFile:
        """Read "FRAME=FILE" or "FRAME=FILE:OBJECTS", OBJECTS being "all" or ids joined by commas.

        Raises:
            InputError: another form.
        """
        match = _TEXT.fullmatch(text)
        if match is None or match[1] is None:
            raise InputError(
                f"A reference is given as {text!r}; write FRAME=FILE, such as 120=fix.png, or "
                "FRAME=FILE:OBJECTS with ids or all, such as 120=fix.png:1,2."
            )
        objects: Objects = None
        if match[3] == "all":
            objects = "all"
        elif match[3]:
            objects = tuple(int(number) for number in match[3].split(","))
        return cls(Path(match[2]), int(match[1]), objects)


@dataclass(frozen=True, kw_only=True)
class ReferenceOptions:
    """How the files are read; see `load_reference_mask` and `load_reference_keypoints`."""

    void: Void = "auto"
    binarize: bool = False
    trust_ids: bool = False
    points_size: Size | None = None
    skeleton: str | None = None


@dataclass(frozen=True, repr=False)
class LoadedReferences:
    """References that passed the checks.

    Args:
        references: of masks or of keypoints.
        notes: sentences for the user about what was assumed or looks odd.
        palette: uint8 [n, 3], colours of an indexed mask.
        edges: of a skeleton to draw.
    """

    references: References[Masks] | References[Keypoints]
    notes: tuple[str, ...]
    palette: UInt8[np.ndarray, "n 3"] | None = None
    edges: tuple[Edge, ...] = ()

    @property
    def of_keypoints(self) -> bool:
        """Whether they are keypoints."""
        return self.references.kind is Keypoints


def are_keypoints(files: Iterable[ReferenceFile]) -> bool:
    """Whether files hold keypoints, by their endings.

    Raises:
        InputError: some do and some don't, or there is none.
    """
    kinds = {is_keypoint_file(file.path): file.path for file in files}
    if not kinds:
        raise InputError("There is no reference; give the labels of at least one frame.")
    if len(kinds) == 2:
        raise InputError(
            f"{kinds[True]} holds keypoints and {kinds[False]} a mask; a run carries one kind."
        )
    return next(iter(kinds))


def load_references(
    files: Sequence[ReferenceFile], frames: Mapping[int, Frame], options: ReferenceOptions
) -> LoadedReferences:
    """Read and check the labels of all annotated frames.

    Args:
        files: of different frames, all with their numbers.
        frames: the frames they are for, by number.
        options: how files are read.

    Raises:
        LabelError: a file doesn't fit its frame, or holds nothing.
        InputError: an option is set that is for the other kind, or a frame has two files.
    """
    numbers = [file.frame for file in files]
    twice = next((number for number in numbers if numbers.count(number) > 1), None)
    if twice is not None:
        raise InputError(f"Frame {twice} has two references; give one.")
    if are_keypoints(files):
        return _load_keypoints(files, frames, options)
    return _load_masks(files, frames, options)


def _load_keypoints(
    files: Sequence[ReferenceFile], frames: Mapping[int, Frame], options: ReferenceOptions
) -> LoadedReferences:
    if options.binarize or options.trust_ids or options.void != "auto":
        raise InputError(
            f"--void, --binarize and --trust-ids are for masks, and {files[0].path} is a "
            "keypoint file; leave them out."
        )
    listed = next((file for file in files if file.objects is not None), None)
    if listed is not None:
        raise InputError(
            f"{listed.path} is a keypoint file, which lists its points itself; leave out what "
            "follows the colon."
        )
    found = {
        frame.index: load_reference_keypoints(
            file.path, frame=frame, points_size=options.points_size, skeleton=options.skeleton
        )
        for file, frame in _with_frames(files, frames)
    }
    notes = [note for index in sorted(found) for note in found[index].notes]
    edges = dict.fromkeys(edge for item in found.values() for edge in item.edges)
    references = keypoint_references({index: item.keypoints for index, item in found.items()})
    return LoadedReferences(references, tuple(dict.fromkeys(notes)), edges=tuple(edges))


def _load_masks(
    files: Sequence[ReferenceFile], frames: Mapping[int, Frame], options: ReferenceOptions
) -> LoadedReferences:
    if options.points_size is not None or options.skeleton is not None:
        raise InputError(
            f"--points-size and --skeleton are for keypoints, and {files[0].path} is a mask by its "
            "ending; leave them out."
        )
    found = {
        frame.index: load_reference_mask(
            file.path,
            frame_size=frame.size,
            void=options.void,
            binarize=options.binarize,
            trust_ids=options.trust_ids,
            may_be_empty=file.objects is not None,
        )
        for file, frame in _with_frames(files, frames)
    }
    masks = {index: found[index].masks for index in sorted(found)}
    stated = _stated(files, masks)
    masks = {index: _only(item, stated[index]) for index, item in masks.items()}
    references = mask_references(masks, stated=stated)
    notes = [note for index in sorted(found) for note in found[index].notes]
    notes += _incomplete(references)
    palettes = (item.palette for item in found.values() if item.palette is not None)
    return LoadedReferences(references, tuple(dict.fromkeys(notes)), next(palettes, None))


def _with_frames(
    files: Sequence[ReferenceFile], frames: Mapping[int, Frame]
) -> Iterable[tuple[ReferenceFile, Frame]]:
    for file in files:
        if file.frame is None:
            raise InputError(f"{file.path} has no frame number; say FRAME={file.path}.")
        yield file, frames[file.frame]


def _stated(
    files: Sequence[ReferenceFile], masks: Mapping[int, Masks]
) -> dict[int, tuple[int, ...]]:
    """Objects that each mask says something about."""
    everything = {i for item in masks.values() for i in item.object_ids}
    everything |= {i for file in files if isinstance(file.objects, tuple) for i in file.objects}
    stated = {}
    for file in files:
        if file.frame is None:
            continue
        present = masks[file.frame].object_ids
        if file.objects is None:
            stated[file.frame] = present
        else:
            stated[file.frame] = tuple(everything) if file.objects == "all" else file.objects
    return stated


def _only(masks: Masks, stated: Iterable[int]) -> Masks:
    """Without the pixels of objects that a mask is not about."""
    others = set(masks.object_ids) - set(stated)
    if not others:
        return masks
    return Masks(np.where(np.isin(masks.ids, list(others)), 0, masks.ids), masks.void)


def _incomplete(references: References[Masks]) -> list[str]:
    notes = []
    known: set[int] = set()
    for item in references:
        known |= item.stated
        missing = sorted(known - item.stated)
        if missing:
            objects = ", ".join(map(str, missing))
            several = len(missing) > 1
            notes.append(
                f"The mask of frame {item.index} has no pixel of object{'s' if several else ''} "
                f"{objects}, which {'are' if several else 'is'} propagated through it; add :all to "
                f"the file's name if {'they are' if several else 'it is'} not there."
            )
    return notes


def numbered(files: Iterable[ReferenceFile], first: int) -> list[ReferenceFile]:
    """The same files, those of the first frame with its number."""
    return [replace(file, frame=first) if file.frame is None else file for file in files]
