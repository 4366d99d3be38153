"""Peak memory of whole runs of growing length: it must not grow with the clip.

Run: python -m benchmarks.memory [--frames 100 1000 3000] [--size 432x240]
Each length runs in a process of its own, through the command that users run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def write_clip(folder: Path, frames: int, size: str) -> tuple[Path, Path]:
    """A synthetic clip of any length, and the mask of its first frame."""
    script = ROOT / "examples" / "synthetic_clip.py"
    options = ["--frames-count", str(frames), "--size", size]
    subprocess.run([sys.executable, str(script), str(folder), *options], check=True)
    return folder / "clip.mp4", folder / "first.png"


def peak_of_run(
    clip: Path, mask: Path, output: Path, short_side: str, *options: str
) -> tuple[float, float]:
    """Peak resident memory in MiB and CPU seconds of `propagate run`."""
    program = [sys.executable, str(ROOT / "cli.py"), "run"]
    paths = [str(clip), str(mask), "-o", str(output)]
    command = [*program, *paths, "--short-side", short_side, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed")
    return usage.ru_maxrss / 2**10, usage.ru_utime + usage.ru_stime


def cost_of_run(
    clip: Path, mask: Path, output: Path, short_side: str, frames: int, *options: str
) -> dict[str, float]:
    """Seconds a frame of `propagate run`, in all and by stage, and its peak memory in MiB."""
    start = time.perf_counter()
    peak, _ = peak_of_run(clip, mask, output, short_side, *options)
    wall = time.perf_counter() - start
    seconds = json.loads((output / "run.json").read_text())["seconds"]
    stages = {f"{name}, s": spent / frames for name, spent in seconds.items()}
    return {"s a frame": wall / frames, **stages, "peak MiB": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, nargs="+", default=[100, 1000, 3000])
    parser.add_argument("--size", default="432x240")
    parser.add_argument("--short-side", default="160", help="size that the network sees")
    arguments = parser.parse_args()
    print("| frames | peak MiB | of the first | CPU s per frame |")
    print("| --- | --- | --- | --- |")
    first = None
    with tempfile.TemporaryDirectory() as folder:
        for frames in arguments.frames:
            clip, mask = write_clip(Path(folder) / str(frames), frames, arguments.size)
            peak, seconds = peak_of_run(
                clip, mask, Path(folder) / f"out{frames}", arguments.short_side
            )
            first = first or peak
            print(f"| {frames} | {peak:.0f} | {peak / first:.3f} | {seconds / frames:.3f} |")


if __name__ == "__main__":
    main()
