"""BADJA's joint annotations (JSON): a list of frames with joints as (row, column).

Pixels: indices into the full-resolution pictures of DAVIS, 0 at the centre of the first one; 0.5 is
added. The size of those pictures is not in the file, and must be told unless the clip has it.
Frames go by the number in the picture's name. Of 37 joints the 20 annotated ones are read. Source:
`joint_catalog.py` of BADJA.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from propagate.errors import LabelError
from propagate.labels.keypoint_formats.base import (
    PIXEL_CENTRE,
    AnnotatedFrame,
    KeypointFile,
    KeypointFormat,
    make_keypoints,
    number_at_end,
    read_json,
    stem,
)
from propagate.types import PointName

JOINTS = {
    8: "upper_right_1",
    9: "upper_right_2",
    10: "upper_right_3",
    12: "upper_left_1",
    13: "upper_left_2",
    14: "upper_left_3",
    15: "neck_lower",
    18: "lower_right_1",
    19: "lower_right_2",
    20: "lower_right_3",
    22: "lower_left_1",
    23: "lower_left_2",
    24: "lower_left_3",
    25: "tail_0",
    28: "tail_3",
    31: "tail_6",
    32: "jaw",
    33: "nose",
    35: "right_ear",
    36: "left_ear",
}
EDGES = (
    *(
        (f"{leg}_{number}", f"{leg}_{number + 1}")
        for leg in ("upper_right", "upper_left", "lower_right", "lower_left")
        for number in (1, 2)
    ),
    *(("tail_0", "tail_3"), ("tail_3", "tail_6"), ("neck_lower", "jaw"), ("jaw", "nose")),
    *(("neck_lower", "upper_right_1"), ("neck_lower", "upper_left_1"), ("neck_lower", "tail_0")),
    *(("tail_0", "lower_right_1"), ("tail_0", "lower_left_1")),
)


def _read(path: Path) -> KeypointFile:
    names = [PointName(joint) for joint in JOINTS.values()]
    rows = list(JOINTS)
    frames = []
    try:
        for item in read_json(path):
            name = stem(item["image_path"])
            joints = np.array(item["joints"], dtype=np.float64)[rows, ::-1]
            seen = np.array(item["visibility"], dtype=bool)[rows]
            # Joints nobody marked are at (0, 0).
            places = np.where(seen[:, None] | joints.any(axis=1, keepdims=True), joints, np.nan)
            points = make_keypoints(names, places + PIXEL_CENTRE, seen)
            frames.append(AnnotatedFrame(points, number_at_end(name), name))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise LabelError(
            f"The keypoint file {path} does not have the layout of BADJA ({error}); "
            "take it as it was published."
        ) from error
    return KeypointFile(tuple(frames), EDGES, needs_size=True)


def _matches(path: Path) -> bool:
    content = read_json(path)
    first = content[0] if isinstance(content, list) and content else None
    return isinstance(first, dict) and {"image_path", "joints", "visibility"} <= first.keys()


FORMAT = KeypointFormat("badja", (".json",), _matches, _read)
