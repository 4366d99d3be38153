"""TAP-Vid's arrays in an .npz file: points [n, t, 2] as (x, y), occluded [n, t].

Pixels: from the outer corner of the top-left pixel. Places go from 0 to 1 across the picture; where
any is above 1.5 they are taken for pixels. Points are called 0, 1, ... unless there are `names`
[n]; `frame_indices` [t] says which frames they are of, else 0, 1, ... The original pickles are
refused, since they could run code. Source: the notes on coordinates of TAP-Vid's repository.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from propagate.errors import LabelError
from propagate.geometry import map_points
from propagate.labels.keypoint_formats.base import (
    AnnotatedFrame,
    KeypointFile,
    KeypointFormat,
    make_keypoints,
)
from propagate.types import PointName, Size

if TYPE_CHECKING:
    from jaxtyping import Float

UNIT = Size(1, 1)
_SURELY_PIXELS = 1.5
# NotImplementedError is a RuntimeError; so is what zipfile says of encrypted files.
_DAMAGE = (
    *(OSError, EOFError, KeyError, ValueError, TypeError, IndexError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error),
)


def _read(path: Path) -> KeypointFile:
    try:
        # The pictures themselves may be in the file too, and are large: they are left alone.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return _content(path, arrays)
    except _DAMAGE as error:
        raise LabelError(
            f"The keypoint file {path} must hold 'points' [n, t, 2] and 'occluded' [n, t] without "
            f"pickled objects ({error}); save it with numpy.savez."
        ) from error


def _content(path: Path, arrays: Mapping[str, np.ndarray]) -> KeypointFile:
    points = np.asarray(arrays["points"], dtype=np.float64)
    count, length, _ = points.shape
    occluded = np.asarray(arrays["occluded"], dtype=bool).reshape(count, length)
    names = arrays["names"].tolist() if "names" in arrays else range(count)
    indices = arrays["frame_indices"].tolist() if "frame_indices" in arrays else range(length)
    called = [_name(str(name)) for name in names]
    size = None if np.nanmax(points, initial=0) > _SURELY_PIXELS else UNIT
    frames = tuple(
        AnnotatedFrame(
            make_keypoints(called, points[:, position], ~occluded[:, position]),
            index=int(index),
            size=size,
        )
        for position, index in zip(range(length), indices, strict=True)
    )
    note = f"The places in {path} are taken for pixels, since some are above 1."
    return KeypointFile(frames, notes=(note,) if size is None else ())


def _name(text: str) -> PointName:
    individual, _, part = text.rpartition("/")
    return PointName(part, individual)


def _write(path: Path, content: KeypointFile) -> None:
    names = list(dict.fromkeys(name for f in content.frames for name in f.keypoints.names))
    points = np.full((len(names), len(content.frames), 2), np.nan, dtype=np.float32)
    occluded = np.ones(points.shape[:2], dtype=bool)
    for position, frame in enumerate(content.frames):
        rows = [names.index(name) for name in frame.keypoints.names]
        points[rows, position] = _normalised(path, frame)
        occluded[rows, position] = ~frame.keypoints.visible
    indices = [p if f.index is None else f.index for p, f in enumerate(content.frames)]
    called = np.array([str(name) for name in names])
    np.savez(path, points=points, occluded=occluded, names=called, frame_indices=np.array(indices))


def _normalised(path: Path, frame: AnnotatedFrame) -> Float[np.ndarray, "k 2"]:
    if frame.size is None:
        raise LabelError(f"Writing {path} takes the size of the pictures; give each frame its own.")
    return map_points(frame.keypoints.xy.astype(np.float64), frame.size, UNIT)


def _refuse(path: Path) -> KeypointFile:
    raise LabelError(
        f"The keypoint file {path} is a Python pickle, which could run code, so it is not read; "
        "save its arrays with numpy.savez(path, points=..., occluded=...)."
    )


FORMAT = KeypointFormat("tapvid", (".npz",), lambda _: True, _read, _write)
PICKLES = KeypointFormat("pickle", (".pkl", ".pickle"), lambda _: True, _refuse)
