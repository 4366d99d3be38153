"""Peak memory of whole runs of growing length: it must not grow with the clip.

Run: python -m benchmarks.memory [--frames 100 1000 3000] [--size 160 288]
Each length runs in a process of its own, through the command that users run.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from examples.synthetic_clip import SyntheticClip
from propagate.labels.mask_files import write_mask
from propagate.output.video_writer import VideoWriter
from propagate.types import Size

ROOT = Path(__file__).resolve().parent.parent


def write_clip(folder: Path, frames: int, size: Size) -> tuple[Path, Path]:
    """A clip of any length: 60 synthetic frames to and fro, and the mask of the first."""
    scene = list(SyntheticClip(frames=60, size=size))
    order = np.concatenate([np.arange(60), np.arange(60)[::-1]])
    clip, mask = folder / f"{frames}.mp4", folder / "first.png"
    with VideoWriter(clip, fps=24.0, size=size) as writer:
        for index in range(frames):
            writer.write(scene[order[index % len(order)]][0])
    write_mask(mask, scene[0][1])
    return clip, mask


def peak_of_run(clip: Path, mask: Path, output: Path) -> tuple[float, float]:
    """Peak resident memory in MiB and wall-clock seconds of `propagate run`."""
    command = [sys.executable, str(ROOT / "cli.py"), "run", str(clip), str(mask), "-o", str(output)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed")
    return usage.ru_maxrss / 2**10, usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, nargs="+", default=[100, 1000, 3000])
    parser.add_argument("--size", type=int, nargs=2, default=[240, 432])
    arguments = parser.parse_args()
    print("| frames | peak MiB | of the first | CPU s per frame |")
    print("| --- | --- | --- | --- |")
    first = None
    with tempfile.TemporaryDirectory() as folder:
        for frames in arguments.frames:
            clip, mask = write_clip(Path(folder), frames, Size(*arguments.size))
            peak, seconds = peak_of_run(clip, mask, Path(folder) / f"out{frames}")
            first = first or peak
            print(f"| {frames} | {peak:.0f} | {peak / first:.3f} | {seconds / frames:.3f} |")


if __name__ == "__main__":
    main()
