"""The propagation step on frames of real clips, with the embedded model's features.

Run: python -m benchmarks.real_step --data DIR    (DIR holds DAVIS/JPEGImages/480p)
The published step and ours on the same frames, with the plain channels of two blocks and with the
default's components: under DIFT's windows, and as the default has it, with the reference searched
whole. What bounds leave out depends on the features; noise has no gain.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import islice, product
from pathlib import Path

import torch

from benchmarks.reference import dense_vote
from propagate.affinity import ContextFrame, basis_of, laid_out, vote
from propagate.benchmarks.table import markdown_table
from propagate.config import ModelOptions, PropagationSettings, preset
from propagate.features.base import FittedExtractor
from propagate.features.registry import create_extractor
from propagate.video import open_clip

_CONTEXT = 8
_HEAD = (
    *("clip", "features", "reference"),
    *("published, s", "ours, all products, s", "ours, s", "times faster"),
)
FEATURES = {
    "blocks 4+10": ModelOptions(dtype="fp32"),
    "default": replace(preset("default").options, dtype="fp32"),
}


def features_of(clip: Path, options: ModelOptions) -> list[torch.Tensor]:
    """Unit features [gh, gw, c] of the first frame and of the latest ones before a later frame."""
    extractor = create_extractor("efficientnet-lite0", options)
    frames = list(islice(open_clip(str(clip)), 2 * _CONTEXT + 1))
    if isinstance(extractor, FittedExtractor):
        extractor.fit(frames[: extractor.fit_frames])
    chosen = [frames[0], *frames[-_CONTEXT:]]
    return [
        map_.normalised(torch.float32).data.permute(1, 2, 0)
        for frame in chosen
        for map_ in extractor.extract([frame])
    ]


def measure(maps: list[torch.Tensor], repeat: int, *, whole: bool) -> list[float]:
    """Seconds of the published step, of ours, and of ours with sketches."""
    *keys, query = maps
    settings = PropagationSettings(limit_references=not whole)
    limited = [not whole, *[True] * (len(keys) - 1)]
    generator = torch.Generator().manual_seed(0)
    labels = [torch.rand(query[..., 0].numel(), 2, generator=generator).softmax(1) for _ in keys]
    basis = basis_of(keys[0])
    query, *keys = (laid_out(map_) for map_ in (query, *keys))
    sketches = [basis.sketch(map_) if basis else None for map_ in (query, *keys)]
    plain = [ContextFrame(*one) for one in zip(keys, labels, limited, strict=True)]
    sketched = [ContextFrame(*one) for one in zip(keys, labels, limited, sketches[1:], strict=True)]
    ways: list[Callable[[], object]] = [
        lambda: dense_vote(query, keys, labels, limited, settings),
        lambda: vote(query, plain, settings),
        lambda: vote(query, sketched, settings, sketch=sketches[0]),
    ]
    return [_seconds(way, repeat if number else 1) for number, way in enumerate(ways)]


def _seconds(run: Callable[[], object], repeat: int) -> float:
    run()
    taken = []
    for _ in range(repeat):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--clips", nargs="+", default=["soccerball", "motocross-bumps", "bear"])
    parser.add_argument("--repeat", type=int, default=5)
    arguments = parser.parse_args()
    rows = []
    for clip, name in product(arguments.clips, FEATURES):
        folder = arguments.data / "DAVIS" / "JPEGImages" / "480p" / clip
        maps = features_of(folder, FEATURES[name])
        for whole in (False, True):
            published, plain, sketched = measure(maps, arguments.repeat, whole=whole)
            rows.append(
                [
                    clip,
                    name,
                    "searched whole" if whole else "in its window",
                    *(f"{seconds:.3f}" for seconds in (published, plain, sketched)),
                    f"{published / sketched:.1f}",
                ]
            )
    print(markdown_table(_HEAD, rows))


if __name__ == "__main__":
    main()
