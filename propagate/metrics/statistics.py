"""Mean, recall and decay of a metric over the frames of one object.

Source: Perazzi et al., CVPR 2016, section 5.2; numbers as `db_statistics` of
davis2017-evaluation, which however wraps its bin indices at 256 frames; here they don't.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from propagate.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Float

RECALL_THRESHOLD = 0.5
N_BINS = 4


class Statistics(NamedTuple):
    """Summary of a metric over time.

    Args:
        mean: over all frames.
        recall: share of frames whose value exceeds 0.5.
        decay: mean of the first quarter minus mean of the last; negative where it improves.
    """

    mean: float
    recall: float
    decay: float


def statistics(values: Float[np.ndarray, " t"]) -> Statistics:
    """Summary of `values`, one per frame.

    A NaN is left out of mean and decay and counts as a miss in recall; a quarter of nothing but
    NaNs makes the decay NaN.

    Raises:
        InputError: there is no frame, or not one axis.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise InputError(
            f"Statistics need one value per frame and at least one frame, "
            f"not an array of shape {list(values.shape)}."
        )
    # The 1e-10 makes exact halves round up, and neighbouring bins share their border frame.
    edges = np.round(np.linspace(1, values.size, N_BINS + 1) + 1e-10).astype(np.int64) - 1
    first, last = values[edges[0] : edges[1] + 1], values[edges[-2] : edges[-1] + 1]
    return Statistics(
        mean=_mean_of_numbers(values),
        recall=float(np.mean(values > RECALL_THRESHOLD)),
        decay=_mean_of_numbers(first) - _mean_of_numbers(last),
    )


def _mean_of_numbers(values: Float[np.ndarray, " t"]) -> float:
    """Mean without the NaNs; NaN where nothing is left."""
    numbers = values[~np.isnan(values)]
    return float(numbers.mean()) if numbers.size else float("nan")
