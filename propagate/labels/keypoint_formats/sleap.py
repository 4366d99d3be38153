"""SLEAP's labels (.slp), read with h5py in the documented layout; nothing in it is executed.

Pixels: 0 at the centre of the first pixel since format 1.1, so 0.5 is added; older files count from
its corner. Frames count from 0. Points that a user placed win over predicted ones. Source: the SLP
page of the documentation of sleap-io, and its handling of old files.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from propagate.errors import LabelError
from propagate.labels.keypoint_formats.base import (
    PIXEL_CENTRE,
    AnnotatedFrame,
    Edge,
    KeypointFile,
    KeypointFormat,
    make_keypoints,
)
from propagate.types import PointName

if TYPE_CHECKING:
    from jaxtyping import Float

_FORMAT_OF_CENTRES = 1.1
_USER, _SYMMETRY = 0, 2


class _Labels:
    """The tables of a file that tell about points."""

    def __init__(self, file: Any) -> None:
        metadata = file["metadata"]
        self.shift = (
            PIXEL_CENTRE if float(metadata.attrs["format_id"]) >= _FORMAT_OF_CENTRES else 0.0
        )
        content = json.loads(metadata.attrs["json"])
        nodes = [str(node["name"]) for node in content["nodes"]]
        self.parts = [
            [nodes[node["id"]] for node in skeleton["nodes"]] for skeleton in content["skeletons"]
        ]
        self.edges = [edge for item in content["skeletons"] for edge in _edges(item, nodes)]
        self.tracks = [str(json.loads(track)[1]) for track in file["tracks_json"][:]]
        self.frames = file["frames"][:]
        self.instances = file["instances"][:]
        self.points = {True: file["points"][:], False: file["pred_points"][:]}

    def frame(self, row: np.void) -> AnnotatedFrame:
        """The points of one labelled frame."""
        found = self.instances[int(row["instance_id_start"]) : int(row["instance_id_end"])]
        replaced = {int(item["from_predicted"]) for item in found}
        kept = [item for item in found if int(item["instance_id"]) not in replaced]
        names: list[PointName] = []
        places, visible, sure = [], [], []
        for number, item in enumerate(self._one_per_track(kept), start=1):
            parts = self.parts[int(item["skeleton"])]
            points = self._points(item)
            names += [PointName(part, self._individual(item, number, len(kept))) for part in parts]
            places.append(np.stack([points["x"], points["y"]], axis=1) + self.shift)
            visible.append(points["visible"])
            sure.append(_scores(points))
        index = int(row["frame_idx"])
        if not names:
            return AnnotatedFrame(make_keypoints([], np.zeros((0, 2)), np.zeros(0)), index)
        confidence = np.concatenate(sure)
        known = None if np.isnan(confidence).all() else confidence
        keypoints = make_keypoints(names, np.concatenate(places), np.concatenate(visible), known)
        return AnnotatedFrame(keypoints, index)

    def _points(self, item: np.void) -> np.ndarray:
        table = self.points[int(item["instance_type"]) == _USER]
        return np.asarray(table[int(item["point_id_start"]) : int(item["point_id_end"])])

    def _one_per_track(self, items: list[np.void]) -> list[np.void]:
        placed = {int(i["track"]) for i in items if int(i["instance_type"]) == _USER}
        return [
            item
            for item in items
            if int(item["instance_type"]) == _USER
            or int(item["track"]) < 0
            or int(item["track"]) not in placed
        ]

    def _individual(self, item: np.void, number: int, count: int) -> str:
        track = int(item["track"])
        if 0 <= track < len(self.tracks):
            return self.tracks[track]
        return str(number) if count > 1 else ""


def _scores(points: np.ndarray) -> Float[np.ndarray, " k"]:
    if "score" in (points.dtype.names or ()):
        return np.asarray(points["score"], dtype=np.float64)
    return np.full(len(points), np.nan)


def _edges(skeleton: dict[str, Any], nodes: list[str]) -> list[Edge]:
    """Edges of the body; those that only say which parts are left and right of each other don't."""
    kinds: list[int] = []
    edges = []
    for link in skeleton["links"]:
        kind = link["type"]
        if "py/reduce" in kind:
            # jsonpickle spells a value out once, and numbers it for later.
            kinds.append(int(kind["py/reduce"][1]["py/tuple"][0]))
            value = kinds[-1]
        else:
            value = kinds[int(kind["py/id"]) - 1]
        if value != _SYMMETRY:
            edges.append((nodes[link["source"]], nodes[link["target"]]))
    return edges


def _read(path: Path) -> KeypointFile:
    try:
        import h5py
    except ImportError:
        raise LabelError(
            f"Reading {path} takes h5py, which is absent; pip install 'dift-propagate[sleap]'."
        ) from None
    try:
        with h5py.File(path, "r") as file:
            labels = _Labels(file)
        videos = sorted({int(row["video"]) for row in labels.frames})
        frames = [labels.frame(row) for row in labels.frames]
    except (OSError, KeyError, ValueError, TypeError, IndexError) as error:
        raise LabelError(
            f"The keypoint file {path} does not have the layout of SLEAP labels ({error}); "
            "save it again with SLEAP."
        ) from error
    if len(videos) > 1:
        raise LabelError(
            f"The keypoint file {path} labels {len(videos)} videos; save one of them by itself."
        )
    frames = [frame for frame in frames if frame.keypoints.names]
    return KeypointFile(tuple(frames), tuple(dict.fromkeys(labels.edges)))


FORMAT = KeypointFormat("sleap", (".slp",), lambda _: True, _read)
