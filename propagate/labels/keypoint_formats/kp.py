"""Keypoints of a detector (.kp): x and y a line, as HPatches evaluations exchange them.

Pixels: 0 at the centre of the first one; 0.5 is added. What follows on a line (a score, a scale) is
left out, and so are empty lines. The points have no names and belong to whatever picture they are
given for; the numbers of their lines, from 0, tell them apart. Source: `eval_hpatches.py` of DIFT.
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
)
from propagate.types import PointName


def _read(path: Path) -> KeypointFile:
    try:
        lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
        places = [[float(x), float(y)] for x, y, *_ in filter(None, lines)]
        if not np.isfinite(places).all():
            raise ValueError("a place is not finite")
    except ValueError as error:
        raise LabelError(
            f"The keypoint file {path} is damaged ({error}): a .kp file has x and y a line, "
            "with a space between."
        ) from error
    if not places:
        return KeypointFile(())
    names = [PointName(str(number)) for number in range(len(places))]
    xy = np.array(places) + PIXEL_CENTRE
    return KeypointFile((AnnotatedFrame(make_keypoints(names, xy, np.ones(len(xy), dtype=bool))),))


def _matches(path: Path) -> bool:
    del path
    return True


FORMAT = KeypointFormat("kp", (".kp",), _matches, _read)
