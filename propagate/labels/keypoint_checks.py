"""Do these points belong to this frame? Everything that can be told before any long work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from propagate.errors import InputError, LabelError
from propagate.geometry import map_points
from propagate.labels.keypoint_files import read_keypoints
from propagate.labels.keypoint_formats.base import AnnotatedFrame, Edge, KeypointFile
from propagate.types import Frame, Keypoints, Size

_NAMED = 6  # names that a message lists


@dataclass(frozen=True, repr=False)
class ReferenceKeypoints:
    """The points of a frame that passed the checks.

    Args:
        keypoints: in pixels of the frame.
        edges: of the skeleton to draw.
        notes: sentences for the user about what was assumed or looks odd.
    """

    keypoints: Keypoints
    edges: tuple[Edge, ...]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        return f"ReferenceKeypoints({self.keypoints!r}, notes={list(self.notes)})"


def load_reference_keypoints(
    path: str | Path,
    *,
    frame: Frame,
    points_size: Size | None = None,
    skeleton: str | None = None,
) -> ReferenceKeypoints:
    """Read a keypoint file and take the points of `frame` out of it.

    They are those of the file's frame with the picture's name, else with its number in the clip,
    else of the only frame there is, with a note unless the format is for any one picture.

    Args:
        path: any file that `read_keypoints` reads.
        frame: the annotated frame.
        points_size: size of the pictures that the points were marked on, in pixels, where it is
            not the frame's and the file doesn't say.
        skeleton: edges as "a-b,b-c"; None for the file's own.

    Raises:
        LabelError: the file is missing or damaged, has nothing about the frame, or places that
            can't be on it.
        InputError: `skeleton` names other parts.
    """
    content = read_keypoints(path)
    found, notes = _find(path, content, frame)
    points = scaled_points(path, content, found, size=frame.size, points_size=points_size)
    points, outside = _inside(path, points, frame.size)
    if not points.visible.any():
        raise LabelError(f"No point is visible in frame {frame.index} of {path}; mark some.")
    edges = content.edges if skeleton is None else parse_skeleton(skeleton, points)
    return ReferenceKeypoints(points, edges, (*content.notes, *notes, *outside))


def parse_skeleton(text: str, points: Keypoints) -> tuple[Edge, ...]:
    """Edges from "a-b,b-c"; parts may have hyphens in their names.

    Raises:
        InputError: naming the pair that is none.
    """
    parts = {name.part for name in points.names}
    edges = []
    for pair in filter(None, (item.strip() for item in text.split(","))):
        cuts = [(pair[:i], pair[i + 1 :]) for i, letter in enumerate(pair) if letter == "-"]
        fitting = [cut for cut in cuts if parts.issuperset(cut)]
        if not fitting:
            raise InputError(
                f"--skeleton has {pair!r}, which joins no two points by a hyphen; the points are "
                f"{_listed(sorted(parts))}."
            )
        edges.append(fitting[0])
    return tuple(edges)


def _find(
    path: str | Path, content: KeypointFile, frame: Frame
) -> tuple[AnnotatedFrame, tuple[str, ...]]:
    for wanted in (
        [item for item in content.frames if item.name is not None and item.name == frame.name],
        [item for item in content.frames if item.index == frame.index],
    ):
        if wanted:
            return wanted[0], ()
    if len(content.frames) == 1:
        only = content.frames[0]
        if only.name is None and only.index is None:
            return only, ()  # a format for any one picture
        where = only.name or only.index
        return only, (f"The points of {where} in {path} are taken for frame {frame.index}.",)
    there = [str(item.index if item.name is None else item.name) for item in content.frames]
    raise LabelError(
        f"{path} has no points of frame {frame.index} ({frame.name}), the first one to label; it "
        f"has those of {_listed(there)}: start at one of them with --frames."
    )


def scaled_points(
    path: str | Path,
    content: KeypointFile,
    found: AnnotatedFrame,
    *,
    size: Size,
    points_size: Size | None = None,
) -> Keypoints:
    """The points of a frame of a file, in pixels of the clip.

    Args:
        path: of the file, for messages.
        content: the file.
        found: one of its frames.
        size: of the clip's pictures, in pixels.
        points_size: see `load_reference_keypoints`.

    Raises:
        LabelError: the size of the pictures that were marked is unknown, or of another shape.
    """
    source = points_size or found.size or (None if content.needs_size else size)
    if source is None:
        raise LabelError(
            f"The points in {path} are places in pictures of a size that the file doesn't tell; "
            "give it as --points-size WIDTHxHEIGHT (1920x1080 for most of BADJA)."
        )
    if source == size:
        return found.keypoints
    points = found.keypoints
    square = source == Size(1, 1)
    if not square and abs(source.width * size.height / (source.height * size.width) - 1) > 0.02:
        raise LabelError(
            f"The points in {path} were marked on pictures of {source}, which is not the shape of "
            f"the clip's {size}; take the file that belongs to this clip."
        )
    return Keypoints(
        points.names, map_points(points.xy, source, size), points.visible, points.confidence
    )


def _inside(path: str | Path, points: Keypoints, size: Size) -> tuple[Keypoints, tuple[str, ...]]:
    """Points beyond the border can't be seen; when most are, the file is for another clip."""
    with np.errstate(invalid="ignore"):
        outside = ((points.xy < 0) | (points.xy > (size.width, size.height))).any(axis=1)
    lost = outside & points.visible
    if not lost.any():
        return points, ()
    names = [str(name) for name, gone in zip(points.names, lost, strict=True) if gone]
    if 2 * len(names) > int(points.visible.sum()):
        x, y = points.xy[int(lost.argmax())]
        raise LabelError(
            f"{names[0]} in {path} is at ({x:.0f}, {y:.0f}), outside the frame of {size}, as are "
            "most points; if they were marked on larger pictures, say --points-size WIDTHxHEIGHT."
        )
    points = Keypoints(points.names, points.xy, points.visible & ~lost, points.confidence)
    return points, (f"Outside the frame, so taken for not visible: {_listed(names)}.",)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
