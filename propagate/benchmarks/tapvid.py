"""TAP-Vid DAVIS: tracks of any point, from the pickle as it was published.

Protocol: Doersch et al., "TAP-Vid", NeurIPS 2022: videos and places at 256x256; "first" queries a
point where it is first seen and scores the frames after, "strided" queries every point that is seen
in every fifth frame and scores all other frames; scores are means over videos.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from propagate.benchmarks.base import ClipBenchmark, Row, UnitScore, chosen, need
from propagate.benchmarks.pictures import compared_points
from propagate.benchmarks.safe_pickle import load_arrays
from propagate.config import Preset
from propagate.errors import InputError, LabelError
from propagate.features.base import FeatureExtractor
from propagate.geometry import resize_rgb
from propagate.metrics.tracks import (
    TAPVID_PIXELS,
    TAPVID_SIDE,
    TAPVID_STRIDE,
    QueryMode,
    TrackScores,
    track_scores,
)
from propagate.output.workspace import Workspace
from propagate.pipeline import VideoPropagator
from propagate.types import ClipLosses, Frame, Keypoints, PointName, Size

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int64, UInt8

FILE = "tapvid_davis.pkl"
WHERE = (
    "fetch tapvid_davis.zip from the TAP-Vid page (github.com/google-deepmind/tapnet), unpack it, "
    "and name the folder that holds it"
)
_TRACKS = "tracks.npz"
_KEEP = 2**40  # of features, while one video is worked on


@dataclass(frozen=True, repr=False)
class TapvidClip:
    """One video.

    Args:
        video: frames.
        points: (x, y) of every point, 0 to 1 across the picture.
        visible: whether it is seen.
    """

    video: UInt8[np.ndarray, "t h w 3"]
    points: Float[np.ndarray, "n t 2"]
    visible: Bool[np.ndarray, "n t"]

    def queries(self, mode: QueryMode) -> list[tuple[int, int]]:
        """Point and frame of every query."""
        if mode == "first":
            seen = np.flatnonzero(self.visible.any(1))
            return [(int(n), int(self.visible[n].argmax())) for n in seen]
        frames = range(0, self.visible.shape[1], TAPVID_STRIDE)
        return [(int(n), frame) for frame in frames for n in np.flatnonzero(self.visible[:, frame])]


@dataclass(frozen=True, repr=False)
class ArrayReader:
    """Frames in memory as a clip.

    Args:
        source: identity of the clip.
        video: uint8 [t, h, w, 3].
        start: the frame to begin with.
    """

    source: str
    video: UInt8[np.ndarray, "t h w 3"]
    start: int = 0
    fps: float = 24.0
    losses: ClipLosses = field(default_factory=ClipLosses)

    @property
    def estimated_length(self) -> int:
        """How many frames there are."""
        return len(self.video) - self.start

    def __iter__(self) -> Iterator[Frame]:
        """From the first of them."""
        for index in range(self.start, len(self.video)):
            yield Frame(self.source, index, self.video[index], index / self.fps, f"{index:05d}")


class TapvidBenchmark(ClipBenchmark):
    """Videos of TAP-Vid DAVIS.

    Args:
        root: folder with tapvid_davis.pkl.
        mode: which points are queried; see above.
        side: videos are resized to this square, 256 by the protocol; None for their own size.
        names: only these videos, or all.

    Raises:
        InputError: the file is missing, damaged, or holds anything but arrays.
    """

    unit_kind = "video"

    def __init__(
        self,
        root: Path,
        *,
        mode: QueryMode = "first",
        side: int | None = TAPVID_SIDE,
        names: tuple[str, ...] = (),
    ) -> None:
        path = need(root / FILE, "TAP-Vid DAVIS", WHERE)
        content = load_arrays(path)
        if not isinstance(content, dict):
            raise InputError(f"{path} does not have a video by name; {WHERE}.")
        self._made_of = (root, mode, side, names)
        self._clips = {
            name: _clip(path, name, content[name])
            for name in chosen(names, sorted(map(str, content)), path)
        }
        self._mode: QueryMode = mode
        self._side = side
        self.published = None if names else f"tapvid-davis-{mode}"

    def __reduce__(self) -> Any:
        """Another process reads the file itself, instead of getting all videos."""
        return _again, self._made_of

    @property
    def name(self) -> str:
        """`TAP-Vid DAVIS, query first, 30 videos`."""
        return f"TAP-Vid DAVIS, query {self._mode}, {len(self._clips)} videos"

    @property
    def protocol(self) -> str:
        """The official one, and how points are queried."""
        size = "their own size" if self._side is None else f"{self._side}x{self._side}"
        counted = "frames after the query" if self._mode == "first" else "all frames but the query"
        return (
            f"TAP-Vid: query {self._mode}, scored on {counted}, places at 256x256, "
            f"thresholds {', '.join(map(str, TAPVID_PIXELS))} px; mean over videos. Videos are "
            f"given at {size}; the queries of each frame are carried through together."
        )

    @property
    def units(self) -> tuple[str, ...]:
        """Names of the videos."""
        return tuple(self._clips)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Average Jaccard, position accuracy, occlusion accuracy, and leaving points alone."""
        return ("AJ", "delta_avg", "OA", "copy AJ")

    @property
    def options(self) -> Mapping[str, Any]:
        """Query mode and size."""
        return {"mode": self._mode, "side": self._side}

    def predict(self, unit: str, settings: Preset, engine: FeatureExtractor, folder: Path) -> int:
        """Write places (0 to 1) and visibility of every query."""
        clip = self._clips[unit]
        video = clip.video
        if self._side is not None:
            size = Size(self._side, self._side)
            video = np.stack([resize_rgb(frame, size) for frame in video])
        queries = clip.queries(self._mode)
        tracks = np.full((len(queries), len(video), 2), np.nan)
        visible = np.zeros(tracks.shape[:2], dtype=bool)
        with tempfile.TemporaryDirectory(prefix="propagate-tapvid-") as work:
            workspace = Workspace(folder=Path(work), keep=_KEEP)
            for start in sorted({frame for _, frame in queries}):
                rows = [row for row, (_, frame) in enumerate(queries) if frame == start]
                begin = start if self._mode == "first" else 0
                results = VideoPropagator(
                    ArrayReader(unit, video, begin),
                    {start: _query(clip, [queries[row][0] for row in rows], start, video)},
                    extractor=engine,
                    settings=settings.video,
                    device=settings.options.device,
                    workspace=workspace,
                )
                for result in results:
                    tracks[rows, result.frame.index] = result.labels.xy / video.shape[2:0:-1]
                    visible[rows, result.frame.index] = result.labels.visible
                workspace.forget_passes()
        np.savez(folder / _TRACKS, points=tracks, occluded=~visible)
        return len(video)

    def score(self, unit: str, folder: Path) -> UnitScore:
        """Scores of a video."""
        clip = self._clips[unit]
        queries = clip.queries(self._mode)
        points = np.array([point for point, _ in queries], dtype=np.int64)
        frames = np.array([frame for _, frame in queries], dtype=np.int64)
        pred, pred_visible = _read(folder / _TRACKS, (len(queries), clip.visible.shape[1]))
        true, true_visible = clip.points[points] * TAPVID_SIDE, clip.visible[points]
        copied = np.repeat(true[np.arange(len(points)), frames][:, None], true.shape[1], axis=1)
        found, floor = (
            track_scores(places * 1.0, seen, true, true_visible, frames, mode=self._mode)
            for places, seen in (
                (pred * TAPVID_SIDE, pred_visible),
                (copied, np.ones_like(pred_visible)),
            )
        )
        return UnitScore(unit, (Row(unit, "", _metrics(found, floor)),), data=(points, frames))

    def picture(
        self, score: UnitScore, folder: Path
    ) -> tuple[UInt8[np.ndarray, "h w 3"], str] | None:
        """The frame with the largest mean distance of points that are seen."""
        clip = self._clips[score.unit]
        points, frames = score.data
        shape = (len(points), clip.visible.shape[1])
        pred, _ = _read(folder / _TRACKS, shape)
        counted = _counted(clip, points, frames, self._mode)
        far = np.nan_to_num(np.linalg.norm(pred - clip.points[points], axis=2), nan=1.0)
        means = np.where(counted, far, 0).sum(0) / np.maximum(counted.sum(0), 1)
        worst = int(means.argmax())
        scale = clip.video.shape[2:0:-1]
        drawn = compared_points(
            np.ascontiguousarray(clip.video[worst]),
            pred[:, worst] * scale,
            clip.points[points][:, worst] * scale,
            counted[:, worst],
        )
        return drawn, f"{score.unit}: AJ {score.rows[0].scores['AJ']:.1f}; frame {worst}"


def _again(
    root: Path, mode: QueryMode, side: int | None, names: tuple[str, ...]
) -> TapvidBenchmark:
    return TapvidBenchmark(root, mode=mode, side=side, names=names)


def _clip(path: Path, name: str, item: Any) -> TapvidClip:
    try:
        video, points, occluded = (item[key] for key in ("video", "points", "occluded"))
        clip = TapvidClip(video, np.asarray(points, np.float64), ~np.asarray(occluded, bool))
        count, length, two = clip.points.shape
        fits = two == 2 and clip.visible.shape == (count, length) and len(video) == length
        if not fits or video.dtype != np.uint8 or video.ndim != 4 or video.shape[3] != 3:
            raise ValueError("shapes don't fit")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path} does not have video [t, h, w, 3], points [n, t, 2] and occluded [n, t] of "
            f"{name} ({error}); {WHERE}."
        ) from error
    return clip


def _query(
    clip: TapvidClip, points: list[int], frame: int, video: UInt8[np.ndarray, "t h w 3"]
) -> Keypoints:
    names = tuple(PointName(str(point)) for point in points)
    xy = (clip.points[points, frame] * video.shape[2:0:-1]).astype(np.float32)
    return Keypoints(names, xy, np.ones(len(names), dtype=bool))


def _counted(
    clip: TapvidClip,
    points: Int64[np.ndarray, " n"],
    frames: Int64[np.ndarray, " n"],
    mode: QueryMode,
) -> Bool[np.ndarray, "n t"]:
    when = np.arange(clip.visible.shape[1])[None]
    after = when > frames[:, None] if mode == "first" else when != frames[:, None]
    return np.asarray(clip.visible[points] & after)


def _read(
    path: Path, shape: tuple[int, int]
) -> tuple[Float[np.ndarray, "n t 2"], Bool[np.ndarray, "n t"]]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            points, occluded = arrays["points"], arrays["occluded"]
        if points.shape != (*shape, 2) or occluded.shape != shape:
            raise ValueError(f"the shape is {list(points.shape)}, not {[*shape, 2]}")
    except (OSError, KeyError, ValueError) as error:
        raise LabelError(f"The predicted tracks {path} can't be used ({error}).") from error
    return points, ~occluded


def _metrics(found: TrackScores, floor: TrackScores) -> dict[str, float]:
    each = {
        f"{name}@{pixels}": value
        for name, values in (("delta", found.delta), ("jaccard", found.jaccard))
        for pixels, value in zip(TAPVID_PIXELS, values.tolist(), strict=True)
    }
    scores = {
        "AJ": found.average_jaccard,
        "delta_avg": found.delta_average,
        "OA": found.occlusion,
        "copy AJ": floor.average_jaccard,
        **each,
    }
    return {name: 100 * value for name, value in scores.items()}
