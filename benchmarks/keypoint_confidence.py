"""How often keypoints are right by their confidence, and the line through the log-odds.

Bias 0 and slope 1 mean that the confidence needs no other calibration than it has (those of
`propagate/labels/keypoints.py`). A point is right within 0.2 x sqrt(area of the mask); one that is
hidden in truth is never right.

Run after `propagate eval badja --root BADJA --davis DAVIS -o OUT`:
python -m benchmarks.keypoint_confidence --root BADJA --davis DAVIS --results OUT
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from benchmarks.confidence import bins, calibration_error, fit, sigmoid
from propagate.benchmarks.badja import BadjaClip
from propagate.benchmarks.point_files import read_points
from propagate.metrics.points import scaled_distances

THRESHOLD = 0.2
# Log-odds of certain points are kept finite.
LOW, HIGH = 1e-4, 1 - 1e-4


def judged(clip: BadjaClip, folder: Path) -> np.ndarray:
    """Confidence of each point of the annotated frames but the first, and whether it is right."""
    truth, found = clip.truth(), read_points(folder)
    first = truth[min(truth)]
    rows = []
    for index in sorted(truth)[1:]:
        points, true = found[index], truth[index]
        places = np.where(true.visible[:, None], true.xy, np.inf)
        with np.errstate(invalid="ignore"):
            far = scaled_distances(points.xy, places, np.array(clip.scale(index)))
        counted = first.visible
        rows.append(np.column_stack([points.confidence, far <= THRESHOLD])[counted])
    return np.concatenate(rows).astype(float)


def odds(confidence: np.ndarray) -> np.ndarray:
    """Log-odds [n, 1]."""
    inside = np.clip(confidence, LOW, HIGH)
    return np.log(inside / (1 - inside))[:, None]


def area_under_roc(confidence: np.ndarray, right: np.ndarray) -> float:
    """How probable it is that a right point has more confidence than a wrong one."""
    good, bad = confidence[right == 1][:, None], confidence[right == 0]
    return float(((good > bad) + 0.5 * (good == bad)).mean())


def held_out(clips: list[np.ndarray]) -> np.ndarray:
    """Confidence of all points, each clip's by the line that was fitted on the others."""
    found = []
    for i, rows in enumerate(clips):
        others = np.concatenate(clips[:i] + clips[i + 1 :])
        bias, slope = fit(odds(others[:, 0]), others[:, 1], np.ones(len(others)))
        found.append(sigmoid(bias + slope * odds(rows[:, 0])[:, 0]))
    return np.concatenate(found)


def main() -> None:
    """Print the tables and the line."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("root", "davis", "results"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    given = parser.parse_args()
    names = sorted(path.name for path in (given.results / "predictions").iterdir())
    clips = [
        judged(
            BadjaClip(
                given.davis / "JPEGImages/480p" / name,
                given.davis / "Annotations/480p" / name,
                given.root / f"joint_annotations/{name}.json",
            ),
            given.results / "predictions" / name,
        )
        for name in names
    ]
    confidence, right = np.concatenate(clips).T
    print("| mean confidence | right | points |\n| --- | --- | --- |")
    for mean, share, count in bins(confidence, right):
        print(f"| {mean:.2f} | {share:.2f} | {count} |")
    print("\n| clip | points | mean confidence | right | area under ROC |")
    print("| --- | --- | --- | --- | --- |")
    for name, rows in zip((*names, "all"), (*clips, np.concatenate(clips)), strict=True):
        means = " | ".join(f"{value:.2f}" for value in rows.mean(0))
        print(f"| {name} | {len(rows)} | {means} | {area_under_roc(*rows.T):.2f} |")
    line = fit(odds(confidence), right, np.ones(len(right)))
    print(f"\nbias {line[0]:.3f}, slope {line[1]:.3f}")
    errors = calibration_error(confidence, right), calibration_error(held_out(clips), right)
    print(f"calibration error {errors[0]:.3f}, fitted on the other clips {errors[1]:.3f}")
    for level in (0.3, 0.4, 0.5):
        hidden = confidence < level
        shares = (hidden[right == 1].mean(), hidden[right == 0].mean())
        print(f"below {level}: {shares[0]:.0%} of the right places, {shares[1]:.0%} of the wrong")


if __name__ == "__main__":
    main()
