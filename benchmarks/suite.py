"""Speed and memory in one go: the propagation step, how it scales, whole runs, and a GPU's part.

Run: python -m benchmarks.suite -o bench [--quick]
Writes results.json, table.md and scaling.png. Ratios are taken within the one run; the reference is
`benchmarks/reference.py`, which the tests hold to outputs of the published code.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks import gpu
from benchmarks.affinity import METHODS, Case, measure
from benchmarks.memory import cost_of_run, write_clip
from benchmarks.tables import Row, table

# One at a time from DIFT's case; the published step takes gigabytes and is timed where it fits.
SCALING: dict[str, Sequence[int]] = {
    "context": (1, 4, 8, 16, 29),
    "radius": (6, 12, 18, 24),
    "height": (30, 60, 90, 120),
    "objects": (1, 8, 64),
}
MOST_PUBLISHED = 8  # context frames
SIDE = 2048


def matmul_rate(repeat: int) -> float:
    """Best rate of a large float32 product on this machine, in 10^9 operations a second."""
    one, other = torch.randn(SIDE, SIDE), torch.randn(SIDE, SIDE)
    best = 0.0
    for _ in range(3 * repeat):
        start = time.perf_counter()
        torch.mm(one, other)
        best = max(best, 2e-9 * SIDE**3 / (time.perf_counter() - start))
    return best


def steps(repeat: int, peak: float) -> list[Row]:
    """Every method on DIFT's case."""
    case = Case()
    found = {method: measure(case, method, repeat) for method in METHODS}
    published = found["published"]
    return [
        {
            "step": method,
            "seconds": one.seconds,
            "times faster": published.seconds / one.seconds,
            "peak MiB": one.memory,
            "of published": one.memory / published.memory,
            "share of matmul peak": case.products / one.seconds / peak,
            "equal argmax": float((one.labels.argmax(0) == published.labels.argmax(0)).mean()),
            "max difference": float(abs(one.labels - published.labels).max()),
        }
        for method, one in found.items()
    ]


def scaling(repeat: int, peak: float) -> list[Row]:
    """The step in float32 with one number changed at a time."""
    rows = []
    for name, values in SCALING.items():
        for value in values:
            case = replace(Case(), **{name: value})
            if name == "height":
                case = replace(case, width=round(value * 106 / 60))
            one = measure(case, "fp32", repeat)
            row = {
                "changed": name,
                "to": value,
                "seconds": one.seconds,
                "peak MiB": one.memory,
                "share of matmul peak": case.products / one.seconds / peak,
            }
            if name == "context" and value <= MOST_PUBLISHED:
                row["published, seconds"] = measure(case, "published", 1).seconds
            rows.append(row)
    return rows


def runs(frames: Sequence[int], size: str) -> list[Row]:
    """Whole runs of the embedded default, from the file to masks and overlay, with their stages."""
    rows = []
    with tempfile.TemporaryDirectory() as work:
        for count in frames:
            clip, mask = write_clip(Path(work) / str(count), count, size)
            output = Path(work) / f"out{count}"
            cost = cost_of_run(clip, mask, output, size.split("x")[1], count)
            rows.append({"frames": count, **cost})
    return rows


def plot(rows: Sequence[Row], path: Path) -> None:
    """Seconds over each number that was changed."""
    figure = Figure(figsize=(11, 2.8), dpi=120, layout="constrained")
    for position, name in enumerate(SCALING, start=1):
        axes = figure.add_subplot(1, len(SCALING), position)
        part = [row for row in rows if row["changed"] == name]
        across = [row["to"] ** (2 if name in ("radius", "height") else 1) for row in part]
        axes.plot(across, [row["seconds"] for row in part], marker="o", color="#3b6ea5")
        axes.set_xticks(across, [str(row["to"]) for row in part], fontsize=8)
        axes.set_xlabel(
            {"radius": "radius (squared)", "height": "rows of cells (squared)"}.get(name, name)
        )
        axes.set_ylim(bottom=0)
        axes.set_ylabel("seconds" if position == 1 else "")
        axes.spines[["top", "right"]].set_visible(False)
    FigureCanvasAgg(figure)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("bench"))
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--frames", type=int, nargs="+", default=[60, 240])
    parser.add_argument("--size", default="854x480")
    arguments = parser.parse_args()
    peak = matmul_rate(arguments.repeat)
    machine = {
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "matmul, 10^9 operations/s": peak,
    }
    results = {
        "machine": machine,
        "case": asdict(Case()),
        "step": steps(arguments.repeat, peak),
        "scaling": scaling(arguments.repeat, peak),
        "runs": runs(arguments.frames, arguments.size),
        "gpu": gpu.measured(arguments.repeat),
    }
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    plot(results["scaling"], arguments.output / "scaling.png")
    parts = [
        "# Speed and memory",
        ", ".join(f"{name}: {value}" for name, value in machine.items()),
        f"## The propagation step\n\n{Case()}",
        table(results["step"]),
        "## How it scales\n\nIn float32, one number changed at a time.",
        table(results["scaling"]),
        f"![Seconds](scaling.png)\n\n## Whole runs, {arguments.size}, embedded default",
        table(results["runs"]),
        f"## On a GPU\n\n{gpu.report(results['gpu'])}",
    ]
    (arguments.output / "table.md").write_text("\n\n".join(parts) + "\n")
    print((arguments.output / "table.md").read_text())


def _processor() -> str:
    found = subprocess.run(["lscpu"], capture_output=True, text=True, check=False).stdout
    names = [line.split(":", 1)[1].strip() for line in found.splitlines() if "Model name" in line]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    sys.exit(main())
