"""YOLO segmentation (Ultralytics): a text file per frame, a row `class x y x y ...` per object.

Coordinates are shares of width and height. An object in several pieces, or with holes, is one
polygon joined by lines without an area, as Ultralytics' own converter has it. A row has no id:
objects without a category get a class of their own each, which keeps them apart. `data.yaml` has
the classes, and under `propagate` what the format has no place for: the frames' size, and the id
of the object where a class has only one.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import yaml

from propagate.errors import LabelError
from propagate.labels.clip_labels import ClipLabels, ClipObject, FrameLabels, frame_refs
from propagate.labels.composer import Composer
from propagate.labels.format_base import LabelWriter, MaskFormat, ReadOptions, WriteOptions
from propagate.labels.json_files import Node
from propagate.labels.mask_folders import sorted_files
from propagate.labels.outlines import fill, joined, outlines
from propagate.types import Size

if TYPE_CHECKING:
    from jaxtyping import Float64, UInt8

_DATA, _LABELS, _OURS = "data.yaml", "labels", "propagate"
_NUMBERED = (
    "Several objects of one class are in a frame and YOLO has no ids, so the objects of each "
    "frame are numbered in their order and are not the same from frame to frame."
)


@dataclass
class _Data:
    """What `data.yaml` says."""

    names: dict[int, str] = field(default_factory=dict)
    ids: dict[int, int] = field(default_factory=dict)
    size: Size | None = None


def _folder(path: Path) -> Path:
    return path / _LABELS if (path / _LABELS).is_dir() else path


def _detect(path: Path) -> bool:
    if not path.is_dir():
        return False
    for file in sorted_files(_folder(path), ".txt"):
        words = file.read_text(encoding="utf-8", errors="replace").split("\n", 1)[0].split()
        if words:
            return len(words) >= 7 and len(words) % 2 == 1 and words[0].isdigit()
    return (path / _DATA).is_file()


def _read_data(path: Path) -> _Data:
    file = path / _DATA
    data = _Data()
    if not file.is_file():
        return data
    try:
        root = Node(yaml.safe_load(file.read_text(encoding="utf-8")), file)
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise LabelError(f"{file} is not valid YAML ({reason}).") from error
    names = root.get("names").value or {}
    listed = enumerate(names) if isinstance(names, list) else root["names"].as_(dict).items()
    data.names = {_whole(number, root): str(name) for number, name in listed}
    if root.get(_OURS).value is not None:
        ours = root[_OURS]
        ids = ours["ids"].as_(dict)
        data.ids = {_whole(kind, ours): _whole(ids[kind], ours) for kind in ids}
        height, width = (ours.size(ours[key].as_(int)) for key in ("height", "width"))
        data.size = Size(height, width)
    return data


def _whole(value: object, node: Node) -> int:
    return Node(value, node.path, node.place).as_(int)


def _rows(file: Path) -> Iterator[tuple[int, Float64[np.ndarray, "n 2"]]]:
    """Class and polygon, in shares, of every row.

    Raises:
        LabelError: a row is malformed.
    """
    text = file.read_text(encoding="utf-8", errors="replace")
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        try:
            kind, values = int(words[0]), np.array(words[1:], dtype=np.float64)
        except ValueError:
            kind, values = -1, np.zeros(0)
        if kind < 0 or len(values) < 6 or len(values) % 2 or not np.isfinite(values).all():
            raise LabelError(f"{file}: line {number} is not a class and x y of 3 points or more.")
        yield kind, values.reshape(-1, 2)


def _read(path: Path, options: ReadOptions) -> ClipLabels:
    folder = _folder(path)
    files = sorted_files(folder, ".txt") if folder.is_dir() else []
    if not files:
        raise LabelError(f"{folder} holds no .txt file; give a folder with one per frame.")
    data = _read_data(path)
    size = options.size or data.size
    if size is None:
        raise LabelError(f"{path} does not say how large its frames are; give --size or --clip.")
    frames = frame_refs([file.stem for file in files])
    by_stem = {file.stem: file for file in files}
    single = all(
        count == 1 for file in files for count in Counter(k for k, _ in _rows(file)).values()
    )

    def stream() -> Iterator[FrameLabels]:
        for frame in frames:
            composer = Composer(size)
            for position, (kind, ring) in enumerate(_rows(by_stem[frame.name]), start=1):
                object_id = data.ids.get(kind, kind + 1) if single else position
                composer.add(object_id, fill([ring * (size.width, size.height)], size))
            masks, overlap = composer.compose()
            yield FrameLabels(frame.index, frame.name, masks, overlap=overlap)

    objects: tuple[ClipObject, ...] = ()
    if single:
        kinds = sorted({kind for file in files for kind, _ in _rows(file)})
        ids = [data.ids.get(kind, kind + 1) for kind in kinds]
        objects = tuple(
            ClipObject.labelled(i, data.names.get(kind, ""))
            for i, kind in zip(ids, kinds, strict=True)
        )
    notes = () if single else (_NUMBERED,)
    name = path.absolute().name
    return ClipLabels(name, size, frames, stream, objects, notes=notes)


class _Writer(LabelWriter):
    def __init__(self, path: Path, clip: ClipLabels, options: WriteOptions) -> None:
        super().__init__(path, clip, options)
        self._folder = path / _LABELS
        self._folder.mkdir()
        self._classes: dict[str, int] = {}
        self._members: dict[int, set[int]] = defaultdict(set)

    def add(self, frame: FrameLabels, rgb: UInt8[np.ndarray, "h w 3"] | None) -> None:
        del rgb
        rows = [self._row(frame, object_id) for object_id in frame.masks.object_ids]
        (self._folder / f"{frame.name}.txt").write_text("".join(rows), encoding="utf-8")

    def _row(self, frame: FrameLabels, object_id: int) -> str:
        label = self.clip.object(object_id).label
        kind = self._classes.setdefault(label, len(self._classes))
        self._members[kind].add(object_id)
        mask = frame.masks.ids == object_id
        pieces = outlines(mask, tolerance=self.options.tolerance)
        rings = [ring for piece in pieces for ring in (piece.ring, *piece.holes)]
        height, width = self.clip.size
        shares = joined(rings) / (width, height)
        return f"{kind} {' '.join(f'{value:.7g}' for value in shares.ravel())}\n"

    def finish(self) -> None:
        height, width = self.clip.size
        names = "".join(
            f"  {kind}: {json.dumps(label, ensure_ascii=False)}\n"
            for label, kind in self._classes.items()
        )
        ids = {kind: min(found) for kind, found in self._members.items() if len(found) == 1}
        listed = ", ".join(f"{kind}: {object_id}" for kind, object_id in sorted(ids.items()))
        (self.path / _DATA).write_text(
            f"path: .\ntrain: images\nval: images\nnames:\n{names or '  {}'}\n"
            f"{_OURS}:\n  width: {width}\n  height: {height}\n  ids: {{{listed}}}\n",
            encoding="utf-8",
        )

    @property
    def notes(self) -> list[str]:
        shared = [k for k, members in self._members.items() if len(members) > 1]
        if not shared:
            return []
        names = {kind: label for label, kind in self._classes.items()}
        listed = ", ".join(f"{len(self._members[k])} of class {names[k]}" for k in shared)
        return [f"Which object is which is lost where objects share a class: {listed}."]


FORMAT = MaskFormat(
    name="yolo",
    summary="YOLO-seg (Ultralytics): a text file per frame, `class x y x y ...` per object",
    loses=frozenset(
        {
            "states",
            "identities",
            "ids",
            "names",
            "confidence",
            "occlusion",
            "absent objects",
            "void",
            "soft",
            "frame numbers",
        }
    ),
    suffixes=(".txt", ".yaml"),
    folder=True,
    detect=_detect,
    read=_read,
    write=_Writer,
)
