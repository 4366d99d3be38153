"""JHMDB: 15 joints of the first frame carried through each test clip of split 1, scored by PCK.

Protocol and pitfalls: `test.py` and `eval_pck.py` of videowalk (CRW). The preset `crw` has the
propagation: 320x320, the first frame repeated in the context, points drawn on whole cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from propagate.benchmarks.base import (
    ClipBenchmark,
    Curve,
    Row,
    UnitScore,
    chosen,
    mean,
    need,
    short,
)
from propagate.benchmarks.pictures import compared_points
from propagate.benchmarks.point_files import point_of, predict_points, read_points
from propagate.config import Preset
from propagate.errors import InputError
from propagate.features.base import FeatureExtractor
from propagate.labels.keypoint_files import read_keypoints
from propagate.metrics.points import jhmdb_distances, jhmdb_pck
from propagate.types import Keypoints
from propagate.video import open_clip

if TYPE_CHECKING:
    from jaxtyping import Float64, UInt8

WHERE = (
    "fetch Rename_Images, joint_positions and splits from jhmdb.is.tue.mpg.de, and name the folder "
    "that holds all three"
)
PUBLISHED_CLIPS = 268
"""Test clips of split 1."""
_DATA_SET = "JHMDB"
_THRESHOLDS = (0.1, 0.2)
_CURVE = tuple(np.round(np.arange(0.02, 0.51, 0.02), 2).tolist())
_TEST = "2"  # what the split files call clips of the test set


@dataclass(frozen=True)
class JhmdbClip:
    """One clip.

    Args:
        images: folder of frames.
        joints: the .mat file.
    """

    images: Path
    joints: Path

    def truth(self) -> list[Keypoints]:
        """Joints of every frame, in pixels."""
        return [frame.keypoints for frame in read_keypoints(self.joints).frames]


def find_clips(root: Path, *, split: int, names: tuple[str, ...]) -> dict[str, JhmdbClip]:
    """The test clips of a split as `class/clip`, or those of them that are named.

    Raises:
        InputError: naming the file or folder that is missing.
    """
    splits = need(root / "splits", _DATA_SET, WHERE)
    files = sorted(splits.glob(f"*_test_split{split}.txt"))
    if not files:
        raise InputError(f"{splits} has no *_test_split{split}.txt; {WHERE}.")
    listed = [
        f"{path.name.rsplit('_test_split', 1)[0]}/{words[0].removesuffix('.avi')}"
        for path in files
        for words in map(str.split, path.read_text().splitlines())
        if words[1:2] == [_TEST]
    ]
    return {name: _clip(root, name) for name in chosen(names, listed, splits)}


def _clip(root: Path, name: str) -> JhmdbClip:
    return JhmdbClip(
        need(root / "Rename_Images" / name, _DATA_SET, WHERE),
        need(root / "joint_positions" / name / "joint_positions.mat", _DATA_SET, WHERE),
    )


class JhmdbBenchmark(ClipBenchmark):
    """Test clips of JHMDB.

    Args:
        root: folder with Rename_Images, joint_positions and splits.
        split: number of the split; 1 is published.
        names: only these clips (`class/clip`), or all.

    Raises:
        InputError: the data set or a clip is missing.
    """

    def __init__(self, root: Path, *, split: int = 1, names: tuple[str, ...] = ()) -> None:
        self._clips = find_clips(root, split=split, names=names)
        self._split = split
        # A listing of a part of the clips is not what published numbers are for.
        self.published = f"jhmdb-split{split}" if len(self._clips) == PUBLISHED_CLIPS else None

    @property
    def name(self) -> str:
        """`JHMDB split 1, 268 test clips`."""
        return f"JHMDB split {self._split}, {len(self._clips)} test clips"

    @property
    def protocol(self) -> str:
        """That of videowalk."""
        return (
            "JHMDB as CRW scores it: the joints of the first frame are given; a joint is right "
            "within the threshold x 0.6 x the diagonal of the box around the true joints of its "
            "frame; clips pooled, mean over the 15 joints; the first frame and joints without a "
            "predicted place are left out."
        )

    @property
    def units(self) -> tuple[str, ...]:
        """Names of the clips."""
        return tuple(self._clips)

    @property
    def metrics(self) -> tuple[str, ...]:
        """PCK at two thresholds, and that of leaving the joints where they were."""
        return ("PCK@.1", "PCK@.2", "copy PCK@.1", "copy PCK@.2")

    @property
    def options(self) -> Mapping[str, Any]:
        """The split."""
        return {"split": self._split}

    def predict(self, unit: str, settings: Preset, engine: FeatureExtractor, folder: Path) -> int:
        """Write the joints of every frame."""
        clip = self._clips[unit]
        truth = clip.truth()
        reader = open_clip(clip.images, frames=f":{len(truth)}")
        frames = predict_points(reader, truth[0], settings, engine, folder)
        if frames != len(truth):
            raise InputError(
                f"{clip.images} has {frames} frames and {clip.joints} {len(truth)}; {WHERE}."
            )
        return frames

    def score(self, unit: str, folder: Path) -> UnitScore:
        """PCK of a clip; its distances go into that of the data set."""
        truth = self._clips[unit].truth()
        found = read_points(folder)
        pred = np.stack([point_of(found, index, folder).xy for index in range(len(truth))])
        true = np.stack([points.xy for points in truth])
        copied = np.repeat(true[:1], len(true), axis=0)
        distances = [jhmdb_distances(places, true) for places in (pred, copied)]
        return UnitScore(unit, (Row(unit, "", _scores(*distances)),), data=distances)

    def summarise(self, scores: Sequence[UnitScore]) -> dict[str, float]:
        """Distances of all clips pooled by joint."""
        return _scores(*_pooled(scores))

    def curve(self, scores: Sequence[UnitScore]) -> Curve:
        """PCK over the threshold."""
        names = ("propagated", "first frame copied")
        lines = {
            name: [mean(row.tolist()) for row in jhmdb_pck(pooled, _CURVE)]
            for name, pooled in zip(names, _pooled(scores), strict=True)
        }
        return Curve("threshold", "PCK", _CURVE, lines)

    def picture(
        self, score: UnitScore, folder: Path
    ) -> tuple[UInt8[np.ndarray, "h w 3"], str] | None:
        """The frame with the largest mean distance."""
        distances = score.data[0]
        counted = np.isfinite(distances)
        means = np.where(counted, distances, 0).sum(1) / np.maximum(counted.sum(1), 1)
        worst = int(means.argmax())
        clip = self._clips[score.unit]
        frame = next(iter(open_clip(clip.images, frames=f"{worst}:{worst + 1}")))
        pred = read_points(folder)[worst].xy
        drawn = compared_points(frame.rgb, pred, clip.truth()[worst].xy, counted[worst])
        return drawn, f"{score.unit}: {score.rows[0].scores['PCK@.1']:.1f}; frame {frame.name}"


def _pooled(scores: Sequence[UnitScore]) -> list[Float64[np.ndarray, "n k"]]:
    return [np.concatenate([score.data[which] for score in scores]) for which in (0, 1)]


def _scores(
    distances: Float64[np.ndarray, "n k"], copied: Float64[np.ndarray, "n k"]
) -> dict[str, float]:
    return {
        f"{prefix}PCK@{short(threshold)}": mean(row.tolist())
        for prefix, these in (("", distances), ("copy ", copied))
        for threshold, row in zip(_THRESHOLDS, jhmdb_pck(these, _THRESHOLDS), strict=True)
    }
