"""COCO keypoint annotations (JSON).

Pixels: indices, 0 at the centre of the first pixel; 0.5 is added. Visibility 0 is a point without a
place, 1 one that is hidden, 2 one that is seen. Skeletons count parts from 1. Source: the COCO data
format page, and Detectron2's loader for the half pixel.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from propagate.errors import LabelError
from propagate.labels.keypoint_formats.base import (
    PIXEL_CENTRE,
    AnnotatedFrame,
    KeypointFile,
    KeypointFormat,
    edges_of,
    make_keypoints,
    number_at_end,
    read_json,
    stem,
)
from propagate.types import Keypoints, PointName, Size

_DAMAGE = (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError)


def _read(path: Path) -> KeypointFile:
    content = read_json(path)
    try:
        categories = {category["id"]: category for category in content["categories"]}
        labelled = [item for item in content["annotations"] if item.get("keypoints")]
        images = {image["id"]: image for image in content["images"]}
        frames = tuple(
            _frame(image, [a for a in labelled if a["image_id"] == image_id], categories, labelled)
            for image_id, image in images.items()
        )
        edges = [
            edge
            for category in categories.values()
            for edge in edges_of(
                category.get("skeleton") or (), category.get("keypoints") or (), first=1
            )
        ]
    except _DAMAGE as error:
        raise LabelError(
            f"The keypoint file {path} does not have the layout of COCO keypoints "
            f"({type(error).__name__}: {error}); export it again."
        ) from error
    return KeypointFile(tuple(f for f in frames if f.keypoints.names), tuple(dict.fromkeys(edges)))


def _frame(
    image: dict[str, Any],
    annotations: list[dict[str, Any]],
    categories: dict[Any, dict[str, Any]],
    everything: list[dict[str, Any]],
) -> AnnotatedFrame:
    alone = max(Counter(item["image_id"] for item in everything).values(), default=0) < 2
    tracked = any("track_id" in item for item in everything)
    names: list[PointName] = []
    values: list[list[float]] = []
    confidence: list[float] = []
    for number, item in enumerate(annotations, start=1):
        category = categories[item["category_id"]]
        who = item.get("track_id", number)
        individual = "" if alone and not tracked else _individual(category, who)
        names += [PointName(str(part), individual) for part in category["keypoints"]]
        values += np.array(item["keypoints"], dtype=np.float64).reshape(-1, 3).tolist()
        confidence += item.get("keypoint_confidence", [np.nan] * len(category["keypoints"]))
    table = np.array(values).reshape(-1, 3)
    places = np.where(table[:, 2:] > 0, table[:, :2] + PIXEL_CENTRE, np.nan)
    sure = np.array(confidence, dtype=np.float64)
    known = None if np.isnan(sure).all() else sure
    name = stem(str(image["file_name"]))
    index = int(image["frame_index"]) if "frame_index" in image else number_at_end(name)
    height, width = (int(image.get(side) or 0) for side in ("height", "width"))
    size = Size(height, width) if min(height, width) > 0 else None
    return AnnotatedFrame(
        make_keypoints(names, places, table[:, 2] >= 2, known), index=index, name=name, size=size
    )


def _individual(category: dict[str, Any], who: Any) -> str:
    return who if isinstance(who, str) else f"{category.get('name', '')}{who}"


def _write(path: Path, content: KeypointFile) -> None:
    everyone = [name for frame in content.frames for name in frame.keypoints.names]
    parts = list(dict.fromkeys(name.part for name in everyone))
    individuals = list(dict.fromkeys(name.individual for name in everyone))
    skeleton = [[parts.index(a) + 1, parts.index(b) + 1] for a, b in content.edges]
    images = []
    annotations: list[dict[str, Any]] = []
    for position, frame in enumerate(content.frames):
        index = position if frame.index is None else frame.index
        name = frame.name or f"{index:05d}"
        image = {"id": position + 1, "file_name": f"{name}.png", "frame_index": index}
        size = {} if frame.size is None else dict(zip(("height", "width"), frame.size, strict=True))
        images.append(image | size)
        for individual in dict.fromkeys(name.individual for name in frame.keypoints.names):
            item = {"id": len(annotations) + 1, "image_id": position + 1, "category_id": 1}
            track = {"track_id": individual} if individuals != [""] else {}
            annotations.append(item | track | _annotation(frame.keypoints, parts, individual))
    category = {"id": 1, "name": "instance", "keypoints": parts, "skeleton": skeleton}
    whole = {"images": images, "annotations": annotations, "categories": [category]}
    path.write_text(json.dumps(whole), encoding="utf-8")


def _annotation(points: Keypoints, parts: list[str], individual: str) -> dict[str, Any]:
    flat: list[float] = []
    confidence: list[float] = []
    at = {name.part: i for i, name in enumerate(points.names) if name.individual == individual}
    for part in parts:
        index = at.get(part)
        placed = index is not None and bool(np.isfinite(points.xy[index, 0]))
        if index is None or not placed:
            flat += [0, 0, 0]
        else:
            x, y = (float(v) - PIXEL_CENTRE for v in points.xy[index])
            flat += [x, y, 2 if points.visible[index] else 1]
        sure = points.confidence
        confidence.append(0.0 if sure is None or index is None else float(sure[index]))
    facts: dict[str, Any] = {"keypoints": flat, "num_keypoints": _count(flat[2::3])}
    return facts if points.confidence is None else facts | {"keypoint_confidence": confidence}


def _count(visibility: Iterable[float]) -> int:
    return sum(value > 0 for value in visibility)


def _matches(path: Path) -> bool:
    content = read_json(path)
    return isinstance(content, dict) and {"images", "annotations", "categories"} <= content.keys()


FORMAT = KeypointFormat("coco", (".json",), _matches, _read, _write)
