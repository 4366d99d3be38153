"""The choices behind the embedded default, on DAVIS-2016 train sequences.

Run: python -m benchmarks.embedded_ablation --root DAVIS [--variants plain,guided] [--sequence NAME]
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean

from propagate.benchmarks.davis import ObjectScore, Sequence, evaluate_sequence, find_sequences
from propagate.config import Preset, preset
from propagate.features.registry import create_extractor


@dataclass(frozen=True)
class Variant:
    """What a preset is changed by.

    Args:
        preset: its name.
        options: fields of `ModelOptions`.
        propagation: fields of `PropagationSettings`.
        video: fields of `VideoSettings`.
    """

    preset: str = "default"
    options: Mapping[str, object] = field(default_factory=dict)
    propagation: Mapping[str, object] = field(default_factory=dict)
    video: Mapping[str, object] = field(default_factory=dict)

    def settings(self) -> Preset:
        """The changed preset."""
        base = preset(self.preset)
        knobs = replace(base.video.propagation, **self.propagation)  # type: ignore[arg-type]
        video = replace(base.video, propagation=knobs, **self.video)  # type: ignore[arg-type]
        options = replace(base.options, **self.options)  # type: ignore[arg-type]
        return replace(base, options=options, video=video)


_PLAIN = {"layer": "4+10", "pca": None, "whitening": None}
_COARSE = {"patch": 1}
_BILINEAR = {"mask_decoding": "bilinear"}

# Each row of the first group has what the row above it has.
VARIANTS = {
    "plain: DINO protocol, blocks 4+10": Variant("dino"),
    "annotated frame without window": Variant("dino", propagation={"limit_references": False}),
    "averaged first mask, no min-max": Variant(
        options=_PLAIN, propagation=_COARSE, video=_BILINEAR
    ),
    "64 principal components": Variant(
        options=_PLAIN | {"pca": 64}, propagation=_COARSE, video=_BILINEAR
    ),
    "blocks 2 and 14": Variant(options={"whitening": 0.0}, propagation=_COARSE, video=_BILINEAR),
    "whitening": Variant(propagation=_COARSE, video=_BILINEAR),
    "patches": Variant(video=_BILINEAR),
    "guided filter: default": Variant(),
    "best": Variant("best"),
    "default, patches of 4": Variant(propagation={"patch": 4}),
    "default, top-8": Variant(propagation={"topk": 8}),
    "default, temperature 0.15": Variant(propagation={"temperature": 0.15}),
    "default, 10 last frames": Variant(propagation={"n_last_frames": 10}),
}


def score(sequence: Sequence, settings: Preset) -> ObjectScore:
    """J and F of one sequence."""
    extractor = create_extractor(settings.model, settings.options)
    return evaluate_sequence(sequence, extractor, settings)[0]


def main() -> None:
    """Print a row per variant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--variants", help="words of names, separated by commas; default: all")
    parser.add_argument("--sequence", action="append", help="only this one; may be repeated")
    arguments = parser.parse_args()
    words = arguments.variants.split(",") if arguments.variants else [""]
    names = tuple(arguments.sequence or ())
    sequences = find_sequences(arguments.root, year="2016", split="train", names=names)
    print(f"| variant ({len(sequences)} sequences) | J&F | J | F |\n| --- | --- | --- | --- |")
    for name, variant in VARIANTS.items():
        if any(word in name for word in words):
            scores = [score(sequence, variant.settings()) for sequence in sequences]
            values = (
                fmean(item.jf for item in scores),
                fmean(item.jaccard[0] for item in scores),
                fmean(item.boundary[0] for item in scores),
            )
            print(f"| {name} |", " | ".join(f"{100 * value:.1f}" for value in values), "|")


if __name__ == "__main__":
    main()
