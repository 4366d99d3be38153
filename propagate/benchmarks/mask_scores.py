"""J and F of a clip's predicted masks, whoever made them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from propagate.errors import LabelError
from propagate.labels.mask_files import read_mask
from propagate.metrics.sequence import SequenceScorer, SequenceScores
from propagate.metrics.statistics import statistics

if TYPE_CHECKING:
    from jaxtyping import Float64, Integer

PROTOCOL = (
    "DAVIS semi-supervised: the first mask is given, first and last frame are left out, "
    "boundary tolerance is 0.008 of the diagonal, scores are means over objects."
)


@dataclass(frozen=True)
class ObjectScore:
    """Scores of one object: mean, recall and decay of J and F over the frames, in [0, 1].

    Args:
        sequence: name of the clip.
        object_id: of the object.
        jaccard: statistics of J.
        boundary: statistics of F.
        floor: J&F of a copy of the first mask.
        frames: J&F of each frame that is scored.
    """

    sequence: str
    object_id: int
    jaccard: tuple[float, float, float]
    boundary: tuple[float, float, float]
    floor: float
    frames: Float64[np.ndarray, " t"] = field(repr=False, compare=False)

    @property
    def jf(self) -> float:
        """Mean of J and F, in [0, 1]."""
        return (self.jaccard[0] + self.boundary[0]) / 2

    @property
    def metrics(self) -> Mapping[str, float]:
        """All of it in per cent, under the official names."""
        values = {"J&F": self.jf}
        for name, three in (("J", self.jaccard), ("F", self.boundary)):
            values |= dict(zip((name, f"{name} recall", f"{name} decay"), three, strict=True))
        return {name: 100 * value for name, value in values.items()} | {
            "copy J&F": 100 * self.floor
        }


def score_masks(
    name: str,
    truth: Iterable[Integer[np.ndarray, "h w"]],
    predictions: Iterable[Integer[np.ndarray, "h w"]],
) -> list[ObjectScore] | None:
    """Score a clip by the official protocol of DAVIS, beside a copy of the first true mask.

    Objects are 1 to the highest id of the first true mask, as the official code has it, which
    counts an id that the mask skips.

    Args:
        name: of the clip.
        truth: true ids of every frame, void as background.
        predictions: predicted ids; those beyond the truth are not looked at.

    Returns:
        None where there are fewer predictions than true masks.

    Raises:
        LabelError: the first true mask has no object, or there are fewer than three frames.
        InputError: sizes differ.
    """
    scorers: list[SequenceScorer] = []
    first: np.ndarray | None = None
    kept, frames = iter(predictions), 0
    for true in truth:
        if first is None:
            first = true
            if not first.any():
                raise LabelError(f"The first mask of {name} has no object; leave the clip out.")
            scorers = [SequenceScorer(range(1, int(first.max()) + 1)) for _ in range(2)]
        pred = next(kept, None)
        if pred is None:
            return None
        for scorer, ids in zip(scorers, (pred, first), strict=True):
            scorer.add(ids, true)
        frames += 1
    if frames < 3:
        raise LabelError(
            f"{name} has {frames} true masks; without first and last, none is left to score."
        )
    scores, floor = (scorer.scores().without_ends() for scorer in scorers)
    return [_object_score(name, row, scores, floor) for row in range(len(scores.object_ids))]


def _object_score(
    name: str, row: int, scores: SequenceScores, floor: SequenceScores
) -> ObjectScore:
    jaccard, boundary = scores.jaccard[row], scores.boundary_f[row]
    return ObjectScore(
        sequence=name,
        object_id=scores.object_ids[row],
        jaccard=statistics(jaccard),
        boundary=statistics(boundary),
        floor=float((floor.jaccard[row].mean() + floor.boundary_f[row].mean()) / 2),
        frames=(jaccard + boundary) / 2,
    )


def read_predictions(folder: Path, names: Sequence[str]) -> Iterator[Integer[np.ndarray, "h w"]]:
    """Predicted ids of the named frames.

    Raises:
        LabelError: a file is missing.
    """
    for name in names:
        path = folder / name
        if not path.is_file():
            raise LabelError(f"The prediction {path} is missing; every true mask needs one.")
        yield read_mask(path).ids
