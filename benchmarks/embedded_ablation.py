"""The choices behind the embedded default, one at a time, on DAVIS-2016 train sequences.

Run: python -m benchmarks.embedded_ablation --root DAVIS [--variants plain,default] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import torch

from propagate.benchmarks.davis import ObjectScore, evaluate_sequence, find_sequences
from propagate.config import PropagationSettings, preset
from propagate.features.device import resolve_dtype
from propagate.features.efficientnet import EfficientNetExtractor, EfficientNetSettings
from propagate.geometry import InputSize

Layers = tuple[tuple[int, float], ...]
FUSED: Layers = ((4, 1.0), (10, 1.0))
SETTINGS = PropagationSettings()

# name -> (layers, preset, settings changed in it, short side)
VARIANTS: dict[str, tuple[Layers, str, dict[str, object], int]] = {
    "DINO protocol, block 4": (((4, 1.0),), "dino", {}, 480),
    "DINO protocol, block 10 (stride 16, radius 6)": (((10, 1.0),), "dino", {"radius": 6}, 480),
    "DINO protocol, blocks 4+10": (FUSED, "dino", {}, 480),
    "DINO protocol, averaged first mask, no min-max": (
        FUSED,
        "dino",
        {"mask_encoding": "area", "mask_decoding": "bilinear"},
        480,
    ),
    "DINO protocol, reference without window": (FUSED, "dino", {"limit_references": False}, 480),
    "default": (FUSED, "default", {}, 480),
    "default, min-max before the argmax": (FUSED, "default", {"mask_decoding": "dift"}, 480),
    "default, block 4 alone": (((4, 1.0),), "default", {}, 480),
    "default, blocks 4+10+14": (((4, 1.0), (10, 1.0), (14, 0.5)), "default", {}, 480),
    "default, block 4 twice the weight": (((4, 2.0), (10, 1.0)), "default", {}, 480),
    "default, block 10 twice the weight": (((4, 1.0), (10, 2.0)), "default", {}, 480),
    "default, top-10": (FUSED, "default", {"topk": 10}, 480),
    "default, temperature 0.05": (FUSED, "default", {"temperature": 0.05}, 480),
    "default, radius 15": (FUSED, "default", {"radius": 15}, 480),
    "default, radius 9": (FUSED, "default", {"radius": 9}, 480),
    "default, 15 last frames": (FUSED, "default", {"n_last_frames": 15}, 480),
    "default, circular window": (FUSED, "default", {"window": "circle"}, 480),
    "default, short side 384": (FUSED, "default", {"radius": 10}, 384),
}


def score(root: Path, sequence: str, variant: str) -> ObjectScore:
    torch.set_num_threads(1)
    layers, name, changes, short_side = VARIANTS[variant]
    base = preset(name)
    propagation = {name: value for name, value in changes.items() if hasattr(SETTINGS, name)}
    others = {name: value for name, value in changes.items() if name not in propagation}
    knobs = replace(base.video.propagation, **propagation)
    video = replace(base.video, propagation=knobs, **others)
    size = InputSize(short_side=short_side, multiple=16)
    extractor = EfficientNetExtractor(
        EfficientNetSettings(layers=layers, input_size=size),
        dtype=resolve_dtype(base.options.dtype, torch.device("cpu")),
    )
    (found,) = find_sequences(root, year="2016", split="train", names=(sequence,))
    return evaluate_sequence(found, extractor, replace(base, video=video), output=None)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--variants", help="Words of names, separated by commas; default: all.")
    parser.add_argument("--json", type=Path, help="Also write J&F per sequence here.")
    arguments = parser.parse_args()
    words = arguments.variants.split(",") if arguments.variants else [""]
    chosen = [name for word in words for name in VARIANTS if word in name]
    names = [s.name for s in find_sequences(arguments.root, year="2016", split="train", names=())]
    table = {}
    print(f"| variant ({len(names)} sequences) | J&F | J | F | s/frame, 1 thread |", flush=True)
    print("| --- | --- | --- | --- | --- |", flush=True)
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        for variant in chosen:
            jobs = [pool.submit(score, arguments.root, name, variant) for name in names]
            scores = [job.result() for job in jobs]
            table[variant] = {s.sequence: round(100 * s.jf, 2) for s in scores}
            means = [
                sum(values) / len(scores)
                for values in (
                    [100 * s.jf for s in scores],
                    [100 * s.jaccard[0] for s in scores],
                    [100 * s.boundary[0] for s in scores],
                    [s.seconds_per_frame for s in scores],
                )
            ]
            row = (f"{mean:.1f}" for mean in means[:3])
            print("|", variant, "|", " | ".join(row), f"| {means[3]:.2f} |", flush=True)
    floor = sum(100 * s.floor for s in scores) / len(scores)
    print(f"| copy of the first mask | {floor:.1f} | | | |")
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
