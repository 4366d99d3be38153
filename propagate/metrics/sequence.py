"""J and F of every object of a sequence, frame by frame, in memory independent of its length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from propagate.errors import InputError
from propagate.metrics.boundary import (
    DAVIS_BOUND_TH,
    crop_to_objects,
    frame_boundary_f,
    tolerance_radius,
)
from propagate.metrics.region import jaccard
from propagate.types import Size

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jaxtyping import Float64, Integer, Shaped


@dataclass(frozen=True, repr=False)
class SequenceScores:
    """J and F per object and frame.

    Args:
        object_ids: the object of each row.
        jaccard: float64 [o, t].
        boundary_f: float64 [o, t].
    """

    object_ids: tuple[int, ...]
    jaccard: Float64[np.ndarray, "o t"]
    boundary_f: Float64[np.ndarray, "o t"]

    def without_ends(self) -> SequenceScores:
        """Without first and last frame, which the semi-supervised DAVIS protocol leaves out."""
        return SequenceScores(self.object_ids, self.jaccard[:, 1:-1], self.boundary_f[:, 1:-1])

    def __repr__(self) -> str:
        return f"SequenceScores(objects={list(self.object_ids)}, frames={self.jaccard.shape[1]})"


class SequenceScorer:
    """Scores one sequence as its frames come; keeps two numbers per object and frame.

    An object that is missing from a prediction is an empty mask. Ids outside `object_ids` are
    background, as 255 is in the official semi-supervised evaluation.

    Args:
        object_ids: the objects to score; the protocol takes 1 to the highest id of the first
            true mask.
        bound_th: tolerance of F; see `tolerance_radius`.

    Raises:
        InputError: there is no object, or an id appears twice.
    """

    def __init__(self, object_ids: Sequence[int], *, bound_th: float = DAVIS_BOUND_TH) -> None:
        if not object_ids or len(set(object_ids)) != len(object_ids):
            raise InputError(
                f"object_ids is {list(object_ids)}; it must name at least one object, each once."
            )
        self._object_ids = tuple(object_ids)
        self._bound_th = bound_th
        self._frames: list[list[tuple[float, float]]] = []

    def add(
        self,
        pred_ids: Integer[np.ndarray, "h w"],
        gt_ids: Integer[np.ndarray, "h w"],
        *,
        void: Shaped[np.ndarray, "h w"] | None = None,
    ) -> None:
        """Score the next frame.

        Args:
            pred_ids: predicted id of each pixel.
            gt_ids: true id of each pixel.
            void: non-zero where a pixel is unknown; see `jaccard` and `boundary_f`.

        Raises:
            InputError: the shapes differ.
        """
        for name, other in (("predicted", pred_ids), ("void", void)):
            if other is not None and (other.shape != gt_ids.shape or other.ndim != 2):
                raise InputError(
                    f"Frame {len(self._frames)}: the {name} mask has shape {list(other.shape)} "
                    f"and the true mask {list(gt_ids.shape)}; both must be the same [h, w]."
                )
        if void is not None:
            known = void == 0
            pred_ids, gt_ids = np.where(known, pred_ids, 0), np.where(known, gt_ids, 0)
        radius = tolerance_radius(Size(*gt_ids.shape), self._bound_th)
        # Once for all objects, then again for each: most of a frame is background.
        pred_ids, gt_ids = crop_to_objects(pred_ids, gt_ids)
        self._frames.append(
            [_score_object(pred_ids == i, gt_ids == i, radius) for i in self._object_ids]
        )

    def scores(self) -> SequenceScores:
        """The scores of all frames added so far.

        Raises:
            InputError: no frame was added.
        """
        if not self._frames:
            raise InputError("No frame was scored; add at least one frame first.")
        values = np.array(self._frames, dtype=np.float64)
        return SequenceScores(self._object_ids, values[..., 0].T.copy(), values[..., 1].T.copy())


def _score_object(pred: np.ndarray, gt: np.ndarray, radius: int) -> tuple[float, float]:
    pred, gt = crop_to_objects(pred, gt)
    return float(jaccard(pred, gt)), frame_boundary_f(pred, gt, radius=radius)


def evaluate_sequence(
    pred_ids: Iterable[Integer[np.ndarray, "h w"]],
    gt_ids: Iterable[Integer[np.ndarray, "h w"]],
    object_ids: Sequence[int],
    *,
    bound_th: float = DAVIS_BOUND_TH,
) -> SequenceScores:
    """J and F of `object_ids` over a whole sequence, every frame included.

    Args:
        pred_ids: predicted ids, [t, h, w] or any stream of frames.
        gt_ids: true ids, as many frames.
        object_ids: the objects to score.
        bound_th: tolerance of F; see `tolerance_radius`.

    Raises:
        InputError: the numbers of frames or the shapes differ.
    """
    scorer = SequenceScorer(object_ids, bound_th=bound_th)
    predictions = iter(pred_ids)
    for index, gt in enumerate(gt_ids):
        pred = next(predictions, None)
        if pred is None:
            raise InputError(f"There is no prediction for frame {index}; every frame needs one.")
        scorer.add(pred, gt)
    if next(predictions, None) is not None:
        raise InputError("There are more predictions than true masks; every frame needs both.")
    return scorer.scores()
