"""What an annotated frame is worth: J&F after 1, 2, 3 and 5 of them, by how they are chosen.

    python -m benchmarks.annotation --data ../shared/data --plot annotation.png

On the DAVIS-2016 train clips, with the embedded default at a smaller input. The first frame is
always annotated. "suggested" takes one frame at a time, from the confidences of the run before;
"spread" puts all at equal distances, the first at the start and, in "spread to the end", the last
at the end; "random" is the mean of several draws.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence as Listed
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from propagate.benchmarks.davis import Sequence, find_sequences
from propagate.config import ModelOptions, Preset, preset
from propagate.features.base import FeatureExtractor
from propagate.features.registry import create_extractor
from propagate.labels.references import mask_references
from propagate.metrics.sequence import SequenceScorer
from propagate.output.workspace import Workspace
from propagate.pipeline import VideoPropagator
from propagate.suggest import choose_frames
from propagate.types import Masks
from propagate.video import open_clip

COUNTS = (1, 2, 3, 5)


class Clip:
    """A sequence whose features are computed once, and whose annotated frames change."""

    def __init__(
        self, sequence: Sequence, extractor: FeatureExtractor, settings: Preset, folder: Path
    ) -> None:
        self.reader = open_clip(sequence.images)
        self.truth = list(sequence.true_masks())
        self._extractor = extractor
        self._settings = settings
        self._workspace = Workspace(folder=folder, keep=1 << 40)
        self._known: dict[tuple[int, ...], tuple[float, list[float]]] = {}

    def labelled(self, given: Listed[int]) -> tuple[float, list[float]]:
        """J&F over all frames but the first, annotated ones being perfect; and expected errors."""
        key = tuple(sorted(set(given)))
        if key not in self._known:
            self._known[key] = self._label(key)
        return self._known[key]

    def _label(self, given: tuple[int, ...]) -> tuple[float, list[float]]:
        self._workspace.forget_passes()
        scorer = SequenceScorer([1])
        errors = []
        propagator = VideoPropagator(
            self.reader,
            # Frames that the object has left are annotated too.
            mask_references(
                {index: Masks(self.truth[index]) for index in given},
                stated=dict.fromkeys(given, (1,)),
            ),
            extractor=self._extractor,
            settings=self._settings.video,
            workspace=self._workspace,
        )
        for result, true in zip(propagator, self.truth, strict=True):
            scorer.add(result.masks.ids, true)
            errors.append(1 - result.confidence[1].confidence)
        scores = scorer.scores()
        jf = (scores.jaccard[0] + scores.boundary_f[0]) / 2
        return float(np.mean(jf[1:])), errors


def suggested(clip: Clip, count: int) -> list[int]:
    given = [0]
    while len(given) < count:
        _, errors = clip.labelled(given)
        found = choose_frames(errors, given, 1)
        if not found:
            break
        given.append(found[0][0])
    return given


def spread(clip: Clip, count: int) -> list[int]:
    return [len(clip.truth) * part // count for part in range(count)]


def spread_to_the_end(clip: Clip, count: int) -> list[int]:
    return np.linspace(0, len(clip.truth) - 1, count).round().astype(int).tolist()


def drawn(clip: Clip, count: int, seed: int) -> list[int]:
    rng = np.random.default_rng([seed, count])
    others = rng.choice(np.arange(1, len(clip.truth)), count - 1, replace=False)
    return [0, *others.tolist()]


def scores(clip: Clip, draws: int) -> dict[str, list[float]]:
    """J&F by way of choosing, one for each count."""
    ways = {"suggested": suggested, "spread": spread, "spread to the end": spread_to_the_end}
    found = {
        name: [clip.labelled(way(clip, count))[0] for count in COUNTS] for name, way in ways.items()
    }
    random = [
        [clip.labelled(drawn(clip, count, seed))[0] for count in COUNTS] for seed in range(draws)
    ]
    return found | {"random": np.mean(random, axis=0).tolist()}


def plot(path: Path, means: dict[str, list[float]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(5.2, 3.6), dpi=120)
    for (name, values), style in zip(means.items(), ("o-", "s--", "^--", "x:"), strict=True):
        axes.plot(COUNTS, [100 * value for value in values], style, label=name)
    axes.set_xticks(COUNTS)
    axes.set_xlabel("annotated frames")
    axes.set_ylabel("J&F")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds DAVIS")
    parser.add_argument("--sequence", action="append", default=[], help="only this one")
    parser.add_argument("--short-side", type=int, default=240)
    parser.add_argument("--draws", type=int, default=3, help="random choices per count")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()
    settings = preset("default")
    extractor = create_extractor(settings.model, ModelOptions(short_side=options.short_side))
    sequences = find_sequences(
        options.data / "DAVIS", year="2016", split="train", names=tuple(options.sequence)
    )
    rows: dict[str, dict[str, list[float]]] = {}
    print(f"{'':18}{'':20}" + "".join(f"{count:>7}" for count in COUNTS))
    for sequence in sequences:
        with TemporaryDirectory() as folder:
            rows[sequence.name] = scores(
                Clip(sequence, extractor, settings, Path(folder)), options.draws
            )
        for name, values in rows[sequence.name].items():
            numbers = "".join(f"{100 * value:7.1f}" for value in values)
            print(f"{sequence.name:18}{name:20}{numbers}", flush=True)
    means = {
        name: np.mean([clip[name] for clip in rows.values()], axis=0).tolist()
        for name in next(iter(rows.values()))
    }
    for name, values in means.items():
        print(f"{'mean':18}{name:20}" + "".join(f"{100 * value:7.1f}" for value in values))
    if options.plot:
        plot(options.plot, means)
    if options.csv:
        with options.csv.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["sequence", "choice", *COUNTS])
            for sequence_name, clip in rows.items():
                writer.writerows([sequence_name, name, *values] for name, values in clip.items())


if __name__ == "__main__":
    main()
