"""TAP-Vid: position accuracy, occlusion accuracy and Average Jaccard of point tracks.

Source: Doersch et al., "TAP-Vid: A Benchmark for Tracking Any Point in a Video", NeurIPS 2022,
section 3.1 and its evaluation code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np

from propagate.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Float64, Integer

QueryMode = Literal["first", "strided"]
TAPVID_SIDE = 256
"""Tracks count in pixels of a square image of this side."""
TAPVID_PIXELS = (1, 2, 4, 8, 16)
TAPVID_STRIDE = 5


class TrackScores(NamedTuple):
    """Scores of one clip, in [0, 1]; NaN where nothing counts.

    Attributes:
        delta: share of the visible points within each of the pixel thresholds.
        jaccard: true positives over ground-truth positives and false positives, for each.
        occlusion: share of all points whose visibility is right.
    """

    delta: Float64[np.ndarray, " thresholds"]
    jaccard: Float64[np.ndarray, " thresholds"]
    occlusion: float

    @property
    def delta_average(self) -> float:
        """Mean of `delta` over the thresholds."""
        return float(self.delta.mean())

    @property
    def average_jaccard(self) -> float:
        """Mean of `jaccard` over the thresholds."""
        return float(self.jaccard.mean())


def track_scores(
    pred: Float[np.ndarray, "n t 2"],
    pred_visible: Bool[np.ndarray, "n t"],
    true: Float[np.ndarray, "n t 2"],
    true_visible: Bool[np.ndarray, "n t"],
    query_frames: Integer[np.ndarray, " n"],
    *,
    mode: QueryMode,
) -> TrackScores:
    """Score the tracks of one clip.

    A place is right where it is nearer than the threshold. "first" counts the frames after each
    track's query, "strided" all frames but it.

    Args:
        pred: (x, y) in pixels of a 256x256 image; a place that is NaN is wrong.
        pred_visible: whether each point is said to be seen.
        true: (x, y) as `pred`; whatever is said of hidden points does not count.
        true_visible: whether each point is seen.
        query_frames: frame where each track was given.
        mode: see above.

    Raises:
        InputError: the shapes differ, or an unknown mode.
    """
    shape = true.shape[:2]
    if pred.shape != true.shape or pred_visible.shape != shape or true_visible.shape != shape:
        raise InputError(
            f"Tracks of shape {list(pred.shape)} and {list(true.shape)} can't be compared; both "
            "must be [n, t, 2], with a visibility of [n, t] each."
        )
    counts = _counting(shape, np.asarray(query_frames), mode)
    squares = np.square(pred.astype(np.float64) - true).sum(-1)
    positives = int((true_visible & counts).sum())
    delta, jaccard = np.full((2, len(TAPVID_PIXELS)), np.nan)
    for row, pixels in enumerate(TAPVID_PIXELS):
        near = squares < pixels**2
        right = near & true_visible & counts
        false = pred_visible & ~(near & true_visible) & counts
        delta[row] = _share(int(right.sum()), positives)
        jaccard[row] = _share(int((right & pred_visible).sum()), positives + int(false.sum()))
    agree = (pred_visible == true_visible) & counts
    return TrackScores(delta, jaccard, _share(int(agree.sum()), int(counts.sum())))


def _counting(
    shape: tuple[int, ...], query_frames: Integer[np.ndarray, " n"], mode: QueryMode
) -> Bool[np.ndarray, "n t"]:
    if mode not in get_args(QueryMode):
        raise InputError(f"The query mode is {mode!r}; it must be first or strided.")
    frames = np.arange(shape[1])[None]
    queries = query_frames[:, None]
    return frames > queries if mode == "first" else frames != queries


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
