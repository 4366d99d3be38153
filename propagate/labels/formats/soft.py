"""Soft scores: a safetensors file per frame with `scores`, fp16 [labels, height, width].

Its metadata has the label of each channel (0 is background), the frame's index, and confidence
and occlusion as JSON; `soft.json` has the clip's size and objects.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from propagate.errors import LabelError
from propagate.labels.clip_labels import (
    ClipLabels,
    ClipObject,
    FrameLabels,
    FrameRef,
    SoftScores,
)
from propagate.labels.format_base import LabelWriter, MaskFormat, ReadOptions, WriteOptions
from propagate.labels.json_files import Node, read_json
from propagate.labels.mask_folders import sorted_files
from propagate.types import Masks, Size

if TYPE_CHECKING:
    from jaxtyping import UInt8

_RECORD, _TENSOR = "soft.json", "scores"


def _detect(path: Path) -> bool:
    return (path / _RECORD).is_file() and bool(sorted_files(path, ".safetensors"))


def _open(path: Path, *, scores: bool) -> tuple[Node, np.ndarray]:
    """What the metadata of a file says, and its scores if they are wanted, else nothing."""
    try:
        with safe_open(path, framework="np") as file:
            facts = Node(json.loads((file.metadata() or {})["labels"]), path, "labels")
            return facts, file.get_tensor(_TENSOR) if scores else np.zeros(0)
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise LabelError(f"{path} does not hold soft scores ({error!r}).") from error


def _read(path: Path, options: ReadOptions) -> ClipLabels:
    del options
    files = sorted_files(path, ".safetensors") if path.is_dir() else []
    if not files:
        raise LabelError(f"{path} holds no .safetensors file; give a folder with one per frame.")
    root = read_json(path / _RECORD)
    size = Size(*(root.size(root[key].as_(int)) for key in ("height", "width")))
    objects = tuple(
        ClipObject(node["id"].as_(int), node["name"].as_(str), node["category"].as_(str))
        for node in root["objects"].items()
    )
    indices = [_open(file, scores=False)[0]["index"].as_(int) for file in files]
    frames = sorted(
        (FrameRef(index, file.stem), file) for index, file in zip(indices, files, strict=True)
    )

    def stream() -> Iterator[FrameLabels]:
        for frame, file in frames:
            yield _frame(frame, file, size)

    name = path.absolute().name
    return ClipLabels(name, size, tuple(frame for frame, _ in frames), stream, objects)


def _frame(frame: FrameRef, path: Path, size: Size) -> FrameLabels:
    root, values = _open(path, scores=True)
    ids = tuple(node.as_(int) for node in root["ids"].items())
    if values.dtype != np.float16 or values.shape != (len(ids), *size) or len(set(ids)) < len(ids):
        raise LabelError(
            f"{path}: scores are {values.dtype} {list(values.shape)}; they must be float16 "
            f"{[len(ids), *size]}, a channel for each of {list(ids)}."
        )
    if min(ids, default=0) < 0 or not np.isfinite(values).all():
        raise LabelError(f"{path}: ids must be 0 or more and scores finite.")
    scores = SoftScores(ids, values)
    confidence = {int(key): node.as_(float) for key, node in root["confidence"].members()}
    occluded = frozenset(node.as_(int) for node in root["occluded"].items())
    masks = scores.masks()
    void = root.get("void").value
    if void is not None:
        masks = Masks(masks.ids, void=root["void"].as_(int))
    return FrameLabels(frame.index, frame.name, masks, confidence, occluded, scores)


class _Writer(LabelWriter):
    def __init__(self, path: Path, clip: ClipLabels, options: WriteOptions) -> None:
        super().__init__(path, clip, options)
        self._objects: set[int] = set()

    def add(self, frame: FrameLabels, rgb: UInt8[np.ndarray, "h w 3"] | None) -> None:
        del rgb
        scores = frame.scores or _hard(frame.masks)
        facts = {
            "index": frame.index,
            "ids": scores.ids,
            "confidence": dict(frame.confidence),
            "occluded": sorted(frame.occluded),
            "void": frame.masks.void,
        }
        self._objects.update(frame.masks.object_ids, frame.confidence, frame.occluded)
        values = np.ascontiguousarray(scores.values)
        file = self.path / f"{frame.name}.safetensors"
        file.write_bytes(save({_TENSOR: values}, metadata={"labels": json.dumps(facts)}))

    def finish(self) -> None:
        known = [self.clip.object(object_id) for object_id in sorted(self._objects)]
        record = {
            "width": self.clip.size.width,
            "height": self.clip.size.height,
            "objects": [{"id": o.id, "name": o.name, "category": o.category} for o in known],
        }
        (self.path / _RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")


def _hard(masks: Masks) -> SoftScores:
    """Scores of 1 for each pixel's own label."""
    labels = np.unique(masks.ids).tolist()
    ids = (0, *(label for label in labels if label))
    values = np.stack([masks.ids == label for label in ids]).astype(np.float16)
    return SoftScores(ids, values)


FORMAT = MaskFormat(
    name="soft",
    summary="soft scores: a safetensors file per frame, fp16 [labels, height, width]",
    loses=frozenset({"states"}),
    suffixes=(".safetensors", ".json"),
    folder=True,
    detect=_detect,
    read=_read,
    write=_Writer,
)
