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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from benchmarks.reference import dense_vote
from propagate.affinity import ContextFrame, laid_out, vote
from propagate.config import PropagationSettings

METHODS = ("published", "fp32", "fp32 in tiles", "bf16 in tiles")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One step: DIFT's grid at 480p and channels, unless something else is said."""

    height: int = 60
    width: int = 106
    channels: int = 640
    context: int = 8
    radius: int = 12
    topk: int = 5
    objects: int = 2

    @property
    def products(self) -> float:
        """Multiplications and additions that the windows hold, in units of 10^9."""
        rows, columns = (
            sum(
                min(at + self.radius, side - 1) - max(at - self.radius, 0) + 1 for at in range(side)
            )
            for side in (self.height, self.width)
        )
        return 2e-9 * rows * columns * self.channels * self.context


class Measured(NamedTuple):
    """Median seconds, growth of peak memory in MiB, and the soft labels."""

    seconds: float
    memory: float
    labels: np.ndarray


def clip(case: Case) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Features of related frames, and soft labels of the objects for all but the first."""
    generator = torch.Generator().manual_seed(0)
    shape = (case.height, case.width, case.channels)
    scene = torch.randn(shape, generator=generator)
    frames = [
        torch.nn.functional.normalize(scene + 0.7 * torch.randn(shape, generator=generator), dim=2)
        for _ in range(case.context + 1)
    ]
    where = torch.linspace(0, case.objects + 1, case.height * case.width)[:, None]
    labels = [
        torch.softmax(-4 * (where - torch.arange(case.objects + 1)).abs() + 0.1 * i, 1)
        for i in range(case.context)
    ]
    return frames, labels


def step(case: Case, method: str) -> Callable[[], torch.Tensor]:
    """The step by a method, ready to be timed."""
    frames, labels = clip(case)
    settings = PropagationSettings(radius=case.radius, topk=case.topk)
    if method == "published":
        limited = [True] * case.context
        return lambda: dense_vote(frames[0], frames[1:], labels, limited, settings)
    if method == "fp32 in tiles":
        os.environ["PROPAGATE_NATIVE"] = "0"
    dtype = torch.bfloat16 if method == "bf16 in tiles" else torch.float32
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


def measure(case: Case, method: str, repeat: int) -> Measured:
    """Time a method in a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    queue = spawn.Queue()
    process = spawn.Process(target=_measure, args=(case, method, repeat, queue))
    process.start()
    result = Measured(*queue.get())
    process.join()
    return result


def _measure(case: Case, method: str, repeat: int, queue: multiprocessing.Queue) -> None:
    run = step(case, method)
    # Linux with glibc: give free memory back and forget the peak so far, so that neither what
    # making the clip left behind nor what it took counts.
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    result = run()
    peak = resident("VmHWM") - before
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    queue.put((statistics.median(seconds), peak, result.numpy()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in asdict(Case()).items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--repeat", type=int, default=3)
    values = vars(parser.parse_args())
    repeat = values.pop("repeat")
    case = Case(**values)
    results = {method: measure(case, method, repeat) for method in METHODS}
    published = results["published"]
    print(case, f"threads={torch.get_num_threads()}")
    print("| step | s | times faster | peak MiB | of published | equal argmax | max difference |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for method, found in results.items():
        equal = (found.labels.argmax(0) == published.labels.argmax(0)).mean()
        print(
            f"| {method} | {found.seconds:.3f} | {published.seconds / found.seconds:.1f} "
            f"| {found.memory:.0f} | {found.memory / published.memory:.3f} "
            f"| {equal:.4%} | {abs(found.labels - published.labels).max():.1e} |"
        )


if __name__ == "__main__":
    main()
