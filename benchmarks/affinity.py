"""The propagation step against the published one: seconds, memory, agreement.

Run: python -m benchmarks.affinity [--height 60 --width 106 --channels 640 --context 8]
"""

from __future__ import annotations

import argparse
import ctypes
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.reference import dense_vote
from propagate.affinity import ContextFrame, laid_out, vote
from propagate.config import PropagationSettings


def clip(arguments: argparse.Namespace) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Features of related frames, and soft labels of two objects for all but the first."""
    generator = torch.Generator().manual_seed(0)
    shape = (arguments.height, arguments.width, arguments.channels)
    scene = torch.randn(shape, generator=generator)
    frames = [
        torch.nn.functional.normalize(scene + 0.7 * torch.randn(shape, generator=generator), dim=2)
        for _ in range(arguments.context + 1)
    ]
    cells = arguments.height * arguments.width
    where = torch.linspace(0, 3, cells)[:, None]
    labels = [
        torch.softmax(-4 * (where - torch.arange(3)).abs() + 0.1 * i, 1)
        for i in range(arguments.context)
    ]
    return frames, labels


def step(arguments: argparse.Namespace, method: str) -> Callable[[], torch.Tensor]:
    frames, labels = clip(arguments)
    settings = PropagationSettings(radius=arguments.radius, topk=arguments.topk)
    if method == "published":
        limited = [True] * arguments.context
        return lambda: dense_vote(frames[0], frames[1:], labels, limited, settings)
    dtype = torch.bfloat16 if method == "bf16 in tiles" else torch.float32
    if method == "fp32 in tiles":
        os.environ["PROPAGATE_NATIVE"] = "0"
    query = frames[0].to(dtype)
    context = [
        ContextFrame(laid_out(frame.to(dtype)), label)
        for frame, label in zip(frames[1:], labels, strict=True)
    ]
    return lambda: vote(query, context, settings).scores


def resident(field: str) -> float:
    """A memory figure of this process, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 2**10 for line in lines if line.startswith(field))


def measure(arguments: argparse.Namespace, method: str, queue: multiprocessing.Queue) -> None:
    """Median seconds and the growth of peak memory, in a process of its own."""
    run = step(arguments, method)
    # Linux with glibc: give free memory back and forget the peak so far, so that neither what
    # making the clip left behind nor what it took counts.
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    result = run()
    peak = resident("VmHWM") - before
    seconds = []
    for _ in range(arguments.repeat):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    queue.put((statistics.median(seconds), peak, result.numpy()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    sizes = {"height": 60, "width": 106, "channels": 640, "context": 8, "radius": 12, "topk": 5}
    for name, value in (sizes | {"repeat": 3}).items():
        parser.add_argument(f"--{name}", type=int, default=value)
    arguments = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    results = {}
    for method in ("published", "fp32", "fp32 in tiles", "bf16 in tiles"):
        queue = spawn.Queue()
        process = spawn.Process(target=measure, args=(arguments, method, queue))
        process.start()
        results[method] = queue.get()
        process.join()
    seconds, memory, labels = results["published"]
    print({name: getattr(arguments, name) for name in sizes}, f"threads={torch.get_num_threads()}")
    print("| step | s | times faster | peak MiB | of published | equal argmax | max difference |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for method, (s, m, found) in results.items():
        equal = (found.argmax(0) == labels.argmax(0)).mean()
        print(
            f"| {method} | {s:.3f} | {seconds / s:.1f} | {m:.0f} | {m / memory:.3f} "
            f"| {equal:.4%} | {abs(found - labels).max():.1e} |"
        )


if __name__ == "__main__":
    main()
