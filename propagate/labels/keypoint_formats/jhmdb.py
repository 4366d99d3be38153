"""JHMDB's joint_positions.mat: pos_img [2, 15, t] as (x, y).

Pixels: MATLAB's, 1 at the centre of the first pixel; 0.5 is taken off. Frame 0 is the first picture
of the clip. Joints beyond the border of the picture are part of the data. Source: the README of
JHMDB's joint positions, for the order of joints.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.io

from propagate.errors import LabelError
from propagate.labels.keypoint_formats.base import (
    AnnotatedFrame,
    KeypointFile,
    KeypointFormat,
    make_keypoints,
)
from propagate.types import PointName

JOINTS = (
    *("neck", "belly", "face", "right_shoulder", "left_shoulder", "right_hip", "left_hip"),
    *("right_elbow", "left_elbow", "right_knee", "left_knee", "right_wrist", "left_wrist"),
    *("right_ankle", "left_ankle"),
)
EDGES = (
    ("face", "neck"),
    ("neck", "belly"),
    *(
        (f"{side}_{a}", f"{side}_{b}")
        for side in ("right", "left")
        for a, b in (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"))
    ),
    *(("neck", f"{side}_shoulder") for side in ("right", "left")),
    *(("belly", f"{side}_hip") for side in ("right", "left")),
)
_FIRST_PIXEL = 1.0
_CENTRE = 0.5


def _read(path: Path) -> KeypointFile:
    try:
        positions = scipy.io.loadmat(path, variable_names=["pos_img"])["pos_img"]
        places = np.asarray(positions, dtype=np.float64).transpose(2, 1, 0)
        if places.shape[1:] != (len(JOINTS), 2):
            raise ValueError(f"pos_img is {list(positions.shape)}")
    except Exception as error:  # scipy reports damage as whatever its parser stumbled on
        raise LabelError(
            f"The keypoint file {path} must hold JHMDB's pos_img [2, {len(JOINTS)}, t], as MATLAB "
            f"saves it up to version 7 ({error}); take a joint_positions.mat as it was published."
        ) from error
    names = [PointName(joint) for joint in JOINTS]
    seen = np.ones(len(JOINTS), dtype=bool)
    frames = tuple(
        AnnotatedFrame(make_keypoints(names, frame - _FIRST_PIXEL + _CENTRE, seen), index=index)
        for index, frame in enumerate(places)
    )
    return KeypointFile(frames, EDGES)


FORMAT = KeypointFormat("jhmdb", (".mat",), lambda _: True, _read)
