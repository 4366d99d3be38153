"""J and F of masks of DAVIS against a plain re-statement of the official code, in one run.

The re-statement works on whole frames, object by object: a boundary map, dilated by the whole disk
at once with `cv2.dilate`, as davis2017-evaluation does. Both must give the same numbers.

Run: python -m benchmarks.metrics --annotations DAVIS/Annotations/480p [--frames 12]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from propagate.benchmarks.davis import true_ids
from propagate.metrics.boundary import tolerance_radius
from propagate.metrics.sequence import SequenceScorer
from propagate.types import Size

Scores = np.ndarray  # [2, t]: J and F


def plain_boundary(mask: np.ndarray) -> np.ndarray:
    """Pixels that differ from the east, south or south-east neighbour, over the whole frame."""
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    here, east, south, both = padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    boundary = (here ^ east) | (here ^ south) | (here ^ both)
    boundary[-1] = (here ^ east)[-1]
    boundary[:, -1] = (here ^ south)[:, -1]
    boundary[-1, -1] = False
    return boundary


def plain_scores(pred: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    """J and F of one object in one frame."""
    union = np.count_nonzero(pred | true)
    jaccard = np.count_nonzero(pred & true) / union if union else 1.0
    radius = tolerance_radius(Size(*true.shape))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disk = (x * x + y * y <= radius * radius).astype(np.uint8)
    edges = [plain_boundary(mask) for mask in (pred, true)]
    grown = [cv2.dilate(edge.astype(np.uint8), disk) > 0 for edge in edges]
    counts = [np.count_nonzero(edge) for edge in edges]
    if 0 in counts:
        return jaccard, float(counts[0] == counts[1])
    precision = np.count_nonzero(edges[0] & grown[1]) / counts[0]
    recall = np.count_nonzero(edges[1] & grown[0]) / counts[1]
    total = precision + recall
    return jaccard, 2 * precision * recall / total if total else 0.0


def plain(pairs: list[tuple[np.ndarray, np.ndarray]]) -> Scores:
    return np.array([plain_scores(pred == 1, true == 1) for pred, true in pairs]).T


def ours(pairs: list[tuple[np.ndarray, np.ndarray]]) -> Scores:
    scorer = SequenceScorer([1])
    for pred, true in pairs:
        scorer.add(pred, true)
    scores = scorer.scores()
    return np.stack([scores.jaccard[0], scores.boundary_f[0]])


def best_seconds(run: Callable[[], Scores], repeat: int) -> tuple[float, Scores]:
    """Least of several runs, and what came out."""
    seconds, found = [], run()
    for _ in range(repeat):
        start = time.perf_counter()
        found = run()
        seconds.append(time.perf_counter() - start)
    return min(seconds), found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=12, help="of each sequence")
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    pairs = []
    for folder in sorted(path for path in arguments.annotations.iterdir() if path.is_dir()):
        paths = sorted(folder.glob("*.png"))[: arguments.frames + 1]
        masks = [true_ids(path, one_object=True) for path in paths]
        # The mask of the frame before stands in for a prediction: near, but not the same.
        pairs += list(pairwise(masks))
    (slow, expected), (fast, found) = (
        best_seconds(lambda run=run: run(pairs), arguments.repeat) for run in (plain, ours)
    )
    print(f"{len(pairs)} frames, one object each")
    print("| method | ms per frame | times faster | largest difference |")
    print("| --- | --- | --- | --- |")
    for name, seconds, scores in (("official", slow, expected), ("ours", fast, found)):
        off = np.abs(scores - expected).max()
        print(f"| {name} | {1000 * seconds / len(pairs):.2f} | {slow / seconds:.1f} | {off:.0e} |")


if __name__ == "__main__":
    main()
