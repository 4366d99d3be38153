"""Speed on a GPU: the propagation step by Triton and by torch, and DIFT_sd features.

Run: python -m benchmarks.gpu [--repeat 10 --json]
The step has the grid of a 480p clip at stride 8. Features come from networks of the size of Stable
Diffusion 2.1 with random weights, at 480x854. `benchmarks.suite` writes the same on a GPU.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.affinity import Case, clip
from benchmarks.extraction import STABLE_DIFFUSION_21, Networks, extractor_of, picture
from benchmarks.tables import Row, table
from propagate import affinity
from propagate.affinity import ContextFrame, laid_out, vote
from propagate.config import PropagationSettings
from propagate.features.device import dtype_name
from propagate.kernels.search import search_for

NO_GPU = "There is no GPU here, so its part was left out."
DTYPES = (torch.float32, torch.bfloat16)
# DINO's settings and DIFT's, each with the context of both.
CASES = tuple(
    Case(width=107, context=context, radius=radius, topk=topk)
    for radius, topk in ((12, 5), (15, 15))
    for context in (7, 28)
)


def steps(cases: Sequence[Case], device: torch.device, repeat: int) -> list[Row]:
    """Every case in both precisions, by the compiled search where there is one, and by torch."""
    return [_step(case, dtype, device, repeat) for case in cases for dtype in DTYPES]


def _step(case: Case, dtype: torch.dtype, device: torch.device, repeat: int) -> Row:
    frames, labels = clip(case)
    query, *keys = (laid_out(frame.to(device, dtype)) for frame in frames)
    context = [ContextFrame(key, one.to(device)) for key, one in zip(keys, labels, strict=True)]
    settings = PropagationSettings(radius=case.radius, topk=case.topk)

    def run() -> torch.Tensor:
        return vote(query, context, settings).scores

    row: Row = {
        "context": case.context,
        "radius": case.radius,
        "top-k": case.topk,
        "precision": dtype_name(dtype),
    }
    with patch.object(affinity, "search_for", lambda *_: None):
        by_torch = _timed(run, device, repeat, row, "torch")
    if search_for(query, case.topk + 1) is None:
        return row
    by_search = _timed(run, device, repeat, row, "one pass")
    row["times faster"] = row["torch, ms"] / row["one pass, ms"]
    row["one pass, 10^12 operations/s"] = case.products / row["one pass, ms"]
    row["equal argmax"] = float((by_torch.argmax(0) == by_search.argmax(0)).float().mean())
    row["max difference"] = float((by_torch - by_search).abs().max())
    return row


def _timed(
    run: Callable[[], torch.Tensor], device: torch.device, repeat: int, row: Row, name: str
) -> torch.Tensor:
    """The result; the row gets the median time, and on a GPU how much its peak memory grew."""
    run()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    took = []
    for _ in range(repeat):
        start = _now(device)
        result = run()
        took.append(_now(device) - start)
    row[f"{name}, ms"] = 1e3 * statistics.median(took)
    if device.type == "cuda":
        grown = torch.cuda.max_memory_allocated(device) - before
        row[f"{name}, peak MiB"] = grown / 2**20
    return result


def features(
    device: torch.device,
    *,
    ensembles: Sequence[int] = (1, 8),
    frames: int = 16,
    short_side: int = 480,
    networks: Networks = STABLE_DIFFUSION_21,
    dtype: torch.dtype = torch.bfloat16,
) -> list[Row]:
    """Frames a second by DIFT_sd, batches as the program chooses them for the memory there is."""
    pictures = [replace(picture(), index=index) for index in range(frames)]
    rows = []
    for ensemble in ensembles:
        extractor = extractor_of(
            networks, device=device, dtype=dtype, ensemble=ensemble, short_side=short_side
        )
        extractor.extract(pictures[: extractor.batch_size])
        start = _now(device)
        for first in range(0, frames, extractor.batch_size):
            extractor.extract(pictures[first : first + extractor.batch_size])
        seconds = _now(device) - start
        rows.append(
            {
                "ensemble": ensemble,
                "precision": dtype_name(dtype),
                "frames at once": extractor.batch_size,
                "frames/s": frames / seconds,
            }
        )
    return rows


def _now(device: torch.device) -> float:
    """The time, with all work on the device done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def measured(repeat: int) -> dict[str, Any]:
    """All of it on the first GPU, or nothing where there is none."""
    if not torch.cuda.is_available():
        return {}
    device = torch.device("cuda", 0)
    return {
        "device": torch.cuda.get_device_name(device),
        "step": steps(CASES, device, repeat),
        "features": features(device),
    }


def report(results: dict[str, Any]) -> str:
    """Markdown of what `measured` gave."""
    if not results:
        return NO_GPU
    return "\n\n".join(
        (
            f"{results['device']}. The propagation step at 60 x 107 x 640:",
            table(results["step"]),
            "DIFT_sd features at 480 x 854, random weights:",
            table(results["features"]),
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    results = measured(arguments.repeat)
    print(json.dumps(results, indent=2) if arguments.json else report(results))


if __name__ == "__main__":
    main()
