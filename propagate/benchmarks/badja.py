"""BADJA: joints of animals from the first annotated frame on, scored by PCK in sqrt(mask area).

Protocol: Biggs et al., "Creatures Great and SMAL", ACCV 2018: a joint is right within 0.2 times the
square root of the area of the animal's mask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from propagate.benchmarks.base import ClipBenchmark, Curve, Row, UnitScore, chosen, need, short
from propagate.benchmarks.pictures import compared_points
from propagate.benchmarks.point_files import point_of, predict_points, read_points
from propagate.config import Preset
from propagate.errors import InputError
from propagate.features.base import FeatureExtractor
from propagate.geometry import map_points
from propagate.labels.keypoint_files import read_keypoints
from propagate.labels.mask_files import read_mask
from propagate.metrics.points import mask_scale, pck, scaled_distances
from propagate.pipeline import first_frame
from propagate.types import Keypoints, Size
from propagate.video import open_clip

if TYPE_CHECKING:
    from jaxtyping import Float64, UInt8

Resolution = Literal["480p", "Full-Resolution"]
MARKED_ON = Size(1080, 1920)
"""Size of the pictures that joints were marked on, DAVIS in full resolution."""
WHERE = (
    "fetch joint_annotations from BADJA's repository (github.com/benjiebob/BADJA), and DAVIS from "
    "davischallenge.org as the folder DAVIS in it, or name that with --davis"
)
_DATA_SET = "BADJA"
_THRESHOLDS = (0.1, 0.2)
_CURVE = tuple(np.round(np.arange(0.02, 0.51, 0.02), 2).tolist())


@dataclass(frozen=True)
class BadjaClip:
    """One clip.

    Args:
        images: folder of frames.
        masks: folder of the animal's masks, under the names of the frames.
        joints: the annotations.
    """

    images: Path
    masks: Path
    joints: Path

    def truth(self) -> dict[int, Keypoints]:
        """Joints of the annotated frames, in pixels of the clip."""
        size = first_frame(open_clip(self.images)).size
        return {
            frame.index: Keypoints(
                frame.keypoints.names,
                map_points(frame.keypoints.xy, MARKED_ON, size),
                frame.keypoints.visible,
            )
            for frame in read_keypoints(self.joints).frames
            if frame.index is not None
        }

    def scale(self, index: int) -> float:
        """Unit of distance in a frame, in pixels.

        Raises:
            InputError: its mask is missing.
        """
        path = need(self.masks / f"{index:05d}.png", _DATA_SET, WHERE)
        return mask_scale(read_mask(path).ids)


class BadjaBenchmark(ClipBenchmark):
    """Clips of BADJA that are in DAVIS.

    Args:
        root: folder with joint_annotations.
        davis: folder with JPEGImages and Annotations; None for `DAVIS` in `root`.
        resolution: of the pictures, the name of DAVIS' folders.
        names: only these clips, or all.

    Raises:
        InputError: the data set or a clip is missing.
    """

    def __init__(
        self,
        root: Path,
        *,
        davis: Path | None = None,
        resolution: Resolution = "480p",
        names: tuple[str, ...] = (),
    ) -> None:
        davis = davis or root / "DAVIS"
        folder = need(root / "joint_annotations", _DATA_SET, WHERE)
        # Clips of the extra set, which are no part of DAVIS, are published without masks.
        listed = [
            path.stem
            for path in sorted(folder.glob("*.json"))
            if path.stem in names or not path.stem.startswith(("rs_", "impala"))
        ]
        self._clips = {
            name: BadjaClip(
                need(davis / "JPEGImages" / resolution / name, _DATA_SET, WHERE),
                need(davis / "Annotations" / resolution / name, _DATA_SET, WHERE),
                folder / f"{name}.json",
            )
            for name in chosen(names, listed, folder)
        }
        self._resolution = resolution
        self.published = None if names else "badja"

    @property
    def name(self) -> str:
        """`BADJA, 7 clips at 480p`."""
        return f"BADJA, {len(self._clips)} clips at {self._resolution}"

    @property
    def protocol(self) -> str:
        """That of the paper, and which points count."""
        return (
            "BADJA: the joints of the first annotated frame are given; a joint is right within the "
            "threshold x sqrt(area of the mask) of its frame; visible joints that were visible in "
            "the first annotated frame, in all annotated frames after it; mean over clips."
        )

    @property
    def units(self) -> tuple[str, ...]:
        """Names of the clips."""
        return tuple(self._clips)

    @property
    def metrics(self) -> tuple[str, ...]:
        """PCK at two thresholds, the better known first, and that of leaving the joints alone."""
        return ("PCK@.2", "PCK@.1", "copy PCK@.2", "copy PCK@.1")

    @property
    def options(self) -> Mapping[str, Any]:
        """The resolution."""
        return {"resolution": self._resolution}

    def predict(self, unit: str, settings: Preset, engine: FeatureExtractor, folder: Path) -> int:
        """Write the joints of every frame from the first annotated one on."""
        clip = self._clips[unit]
        truth = clip.truth()
        first, last = min(truth), max(truth)
        reader = open_clip(clip.images, frames=f"{first}:{last + 1}")
        return predict_points(reader, truth[first], settings, engine, folder)

    def score(self, unit: str, folder: Path) -> UnitScore:
        """PCK of a clip."""
        clip = self._clips[unit]
        truth, found = clip.truth(), read_points(folder)
        first = truth[min(truth)]
        later = sorted(truth)[1:]
        true = np.stack([_counting(truth[index], first) for index in later])
        pred = np.stack([point_of(found, index, folder).xy for index in later])
        scale = np.array([clip.scale(index) for index in later])
        copied = np.repeat(first.xy[None], len(later), axis=0)
        distances, floor = (scaled_distances(places, true, scale) for places in (pred, copied))
        if np.isnan(distances).all():
            raise InputError(f"{clip.joints} has no joint to score after its first frame; {WHERE}.")
        scores = {
            f"{prefix}PCK@{short(threshold)}": pck(these, threshold)
            for prefix, these in (("", distances), ("copy ", floor))
            for threshold in _THRESHOLDS
        }
        points = float(np.count_nonzero(~np.isnan(distances)))
        row = Row(unit, "", {**scores, "points": points})
        return UnitScore(unit, (row,), data=(later, distances, floor))

    def curve(self, scores: Sequence[UnitScore]) -> Curve:
        """PCK over the threshold, mean over clips."""
        lines = {
            name: [
                float(np.mean([pck(score.data[which], threshold) for score in scores]))
                for threshold in _CURVE
            ]
            for which, name in ((1, "propagated"), (2, "first frame copied"))
        }
        return Curve("threshold, in sqrt(mask area)", "PCK", _CURVE, lines)

    def picture(
        self, score: UnitScore, folder: Path
    ) -> tuple[UInt8[np.ndarray, "h w 3"], str] | None:
        """The annotated frame with the largest mean distance; a lost joint counts as 1."""
        later, distances, _ = score.data
        clip = self._clips[score.unit]
        truth = clip.truth()
        counted = ~np.isnan(distances)
        far = np.where(counted, np.minimum(distances, 1.0), 0.0).sum(1) / np.maximum(
            counted.sum(1), 1
        )
        row = int(far.argmax())
        index = later[row]
        frame = next(iter(open_clip(clip.images, frames=f"{index}:{index + 1}")))
        pred = read_points(folder)[index].xy
        first = truth[min(truth)]
        true = _counting(truth[index], first)
        drawn = compared_points(frame.rgb, pred, true, counted[row])
        right = pck(distances[row], 0.2) if counted[row].any() else float("nan")
        whole = score.rows[0].scores["PCK@.2"]
        return drawn, f"{score.unit}: {whole:.1f}; frame {frame.name}: {right:.1f}"


def _counting(points: Keypoints, first: Keypoints) -> Float64[np.ndarray, "k 2"]:
    """Places of the first frame's joints in a later one; NaN for those that don't count."""
    seen = points.visible & first.visible
    return np.where(seen[:, None], points.xy.astype(np.float64), np.nan)
