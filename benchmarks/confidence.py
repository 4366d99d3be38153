"""How good the confidence of masks is, and the fit of its coefficients.

Fits on half of the clips and tests on the other half, both ways; prints the rank correlation with
the true J, the reliability table and how well states match, draws the reliability curve, and prints
the coefficients fitted on all clips, which are those in `propagate/confidence.py`.

Run: python -m benchmarks.confidence --data FOLDER --cache FOLDER [--plot PNG]
FOLDER has DAVIS/JPEGImages/480p and DAVIS/Annotations/480p; the cache keeps the cases between runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import spearmanr

from benchmarks.confidence_cases import KINDS, Case, Clip, cases_of, load, save
from propagate.confidence import ALIKE, LOST
from propagate.config import preset
from propagate.features.registry import create_extractor

# So that frames in which the object isn't don't outweigh the others.
WEIGHTS = {"another clip": 0.5}
RIDGE = 1e-3
BINS = 10


def collect(data: Path, cache: Path, names: Sequence[str], kinds: Sequence[str]) -> list[Case]:
    """The cases of all clips, from the cache where it has them."""
    cache.mkdir(parents=True, exist_ok=True)
    missing = [name for name in names if not (cache / f"{name}.json").exists()]
    if missing:
        extractor = create_extractor(preset("default").model, preset("default").options)
        clips = {name: Clip(data, name, extractor) for name in names}
        for name in missing:
            others = [clip for other, clip in clips.items() if other != name]
            save(cache / f"{name}.json", list(cases_of(clips[name], others, kinds)))
            print(f"{name} done", flush=True)
    return [case for name in names for case in load(cache / f"{name}.json")]


def signals(cases: Sequence[Case]) -> np.ndarray:
    """What the logistic function is of, [n, 2]."""
    return np.array([[case.certainty, min(case.similarity - ALIKE, 0)] for case in cases])


def fit(x: np.ndarray, target: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Bias and coefficients of a logistic regression on soft targets, with a small ridge."""
    mean, scale = x.mean(0), x.std(0) + 1e-9
    z = np.column_stack([np.ones(len(x)), (x - mean) / scale])
    ridge = RIDGE * weight.sum() * np.diag([0.0] + [1.0] * x.shape[1])
    b = np.zeros(z.shape[1])
    for _ in range(50):
        p = sigmoid(z @ b)
        curvature = (z * (weight * p * (1 - p))[:, None]).T @ z + ridge
        b += np.linalg.solve(curvature, z.T @ (weight * (target - p)) - ridge @ b)
    slopes = b[1:] / scale
    return np.array([b[0] - slopes @ mean, *slopes])


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def fitted(cases: Sequence[Case]) -> np.ndarray:
    """Coefficients from cases."""
    weight = np.array([WEIGHTS.get(case.kind, 1.0) for case in cases])
    return fit(signals(cases), truth(cases), weight)


def truth(cases: Sequence[Case]) -> np.ndarray:
    return np.array([case.jaccard for case in cases])


def tested(cases: Sequence[Case]) -> np.ndarray:
    """Estimates for the cases of each half of the clips, fitted on the other half."""
    names = sorted({case.clip for case in cases})
    half = np.array([names.index(case.clip) % 2 for case in cases])
    found = np.zeros(len(cases))
    for side in (0, 1):
        b = fitted([c for c, h in zip(cases, half, strict=True) if h != side])
        x = signals(cases)[half == side]
        found[half == side] = sigmoid(b[0] + x @ b[1:])
    return found


def bins(found: np.ndarray, true: np.ndarray) -> list[tuple[float, float, int]]:
    """Mean estimate, mean J and count of each bin that has cases."""
    place = np.minimum((found * BINS).astype(int), BINS - 1)
    return [
        (float(found[place == b].mean()), float(true[place == b].mean()), int((place == b).sum()))
        for b in range(BINS)
        if (place == b).any()
    ]


def calibration_error(found: np.ndarray, true: np.ndarray) -> float:
    """Mean distance of estimate and J over the bins, by their counts."""
    return sum(abs(p - j) * n for p, j, n in bins(found, true)) / len(found)


def report(name: str, cases: Sequence[Case], found: np.ndarray) -> None:
    """A row of the table."""
    true = truth(cases)
    clips = np.array([case.clip for case in cases])
    varied = [c for c in sorted(set(clips)) if true[clips == c].std()]
    ranks = [spearmanr(found[clips == c], true[clips == c])[0] for c in varied]
    row = [
        f"{spearmanr(found, true)[0]:.2f}" if true.std() else "-",
        f"{np.mean(ranks):.2f}" if true.std() else "-",
        f"{abs(found - true).mean():.3f}",
        f"{calibration_error(found, true):.3f}",
        f"{found.mean():.2f}",
        f"{true.mean():.2f}",
    ]
    print(f"| {name} | {len(cases)} | {' | '.join(row)} |")


def chosen(cases: Sequence[Case], *kinds: str) -> np.ndarray:
    return np.array([case.kind in kinds for case in cases])


def picked(cases: Sequence[Case], mask: np.ndarray) -> list[Case]:
    return [case for case, keep in zip(cases, mask, strict=True) if keep]


def states(cases: Sequence[Case], found: np.ndarray) -> None:
    """How well "lost" tells a J below one half."""
    print("\n| lost | flagged | J < .5 | both | precision | recall |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, mask in (
        ("all", np.ones(len(cases), bool)),
        ("without another clip", ~chosen(cases, "another clip")),
    ):
        lost, bad = found[mask] < LOST, truth(cases)[mask] < 0.5
        both = int((lost & bad).sum())
        print(
            f"| {name} | {lost.sum()} | {bad.sum()} | {both} | {both / max(lost.sum(), 1):.2f} "
            f"| {both / max(bad.sum(), 1):.2f} |"
        )


def draw(path: Path, found: np.ndarray, true: np.ndarray) -> None:
    """The reliability curve."""
    figure, axes = plt.subplots(figsize=(4.2, 4.2), layout="constrained")
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    points = bins(found, true)
    axes.plot([p for p, _, _ in points], [j for _, j, _ in points], marker="o")
    axes.set(xlabel="mean confidence", ylabel="mean J", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables and the coefficients."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--clips", help="comma-separated; all of them by default")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args(arguments)
    davis = options.data / "DAVIS"
    found_names = sorted(path.name for path in (davis / "Annotations/480p").iterdir())
    names = options.clips.split(",") if options.clips else found_names
    cases = collect(davis, options.cache, names, options.kinds.split(","))
    # An object without a cell is occluded, and its confidence is another matter.
    hidden = np.array([case.size == 0 for case in cases])
    gone = picked(cases, hidden)
    right = sum(case.jaccard == 1 for case in gone)
    print(f"{len(gone)} cases without a cell, {right} of them rightly\n")
    cases = picked(cases, ~hidden)
    print("| kind | cases | rank correlation | mean of clips | mean error | ECE | confidence | J |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    found = tested(cases)
    for kind in KINDS:
        mask = chosen(cases, kind)
        if mask.any():
            report(kind, picked(cases, mask), found[mask])
    report("all of these", cases, found)
    states(cases, found)
    print("\n| mean confidence | mean J | cases |\n| --- | --- | --- |")
    for estimate, j, count in bins(found, truth(cases)):
        print(f"| {estimate:.2f} | {j:.2f} | {count} |")
    print("\nbias, certainty, unlike:", np.round(fitted(cases), 3).tolist())
    if options.plot:
        draw(options.plot, found, truth(cases))


if __name__ == "__main__":
    main()
