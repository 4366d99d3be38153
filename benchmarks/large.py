"""What runs cost that are longer or larger than usual: frames, pixels, objects, context.

Run: python -m benchmarks.large [--frames 10000] [--case NAME]...
Every row is `propagate run` in a process of its own, on a synthetic clip, with the embedded model.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from pathlib import Path

import numpy as np

from benchmarks.memory import cost_of_run, write_clip
from benchmarks.tables import Row, table
from propagate.geometry import resize_rgb
from propagate.labels.mask_files import read_mask, write_mask
from propagate.output.video_writer import VideoWriter
from propagate.types import Size
from propagate.video import open_clip

_SOURCE = 48  # frames of the clip that longer ones go back and forth in


@dataclass(frozen=True, kw_only=True)
class Case:
    """A run: DAVIS's size and the default's context, unless something else is said."""

    name: str
    frames: int = 48
    width: int = 854
    height: int = 480
    objects: int = 3
    context: int = 7
    short_side: int = 480

    @property
    def size(self) -> Size:
        """Of a frame."""
        return Size(self.height, self.width)


def cases(long: int) -> list[Case]:
    """What is measured."""
    base = Case(name="480p")
    return [
        base,
        replace(base, name="4K frames", width=3840, height=2160),
        replace(base, name="64 objects", objects=64),
        replace(base, name="4K frames, 64 objects", width=3840, height=2160, objects=64),
        replace(base, name="context of 100", context=100, frames=148),
        replace(base, name="input of 960", short_side=960),
        replace(base, name="long", frames=long, width=432, height=240, short_side=160),
    ]


def run_case(case: Case, source: tuple[Path, Path], folder: Path) -> Row:
    """Seconds by stage and peak memory of a case."""
    clip, mask, output = folder / "clip.mp4", folder / "first.png", folder / "out"
    # A process's peak starts with what the one that made it had.
    maker = multiprocessing.get_context("spawn").Process(
        target=write_case, args=(case, source, clip, mask)
    )
    maker.start()
    maker.join()
    options = ["--n-last-frames", str(case.context)]
    return {
        "case": case.name,
        "frames": case.frames,
        "size": f"{case.width}x{case.height}",
        "objects": case.objects,
        "context": case.context,
        **cost_of_run(clip, mask, output, str(case.short_side), case.frames, *options),
    }


def write_case(case: Case, source: tuple[Path, Path], clip: Path, mask: Path) -> None:
    """A case's clip, and the mask of its first frame."""
    clip.parent.mkdir()
    with VideoWriter(clip, fps=24, size=case.size) as writer:
        for rgb in islice(_back_and_forth(source[0]), case.frames):
            writer.write(resize_rgb(rgb, case.size))
    write_mask(mask, _objects(source[1], case))


def _back_and_forth(clip: Path) -> Iterator[np.ndarray]:
    pictures = [frame.rgb for frame in open_clip(str(clip))]
    while True:
        yield from pictures
        yield from pictures[-2:0:-1]


def _objects(mask: Path, case: Case) -> np.ndarray:
    """The objects of the clip, or its picture cut into rectangles where there are to be more."""
    if case.objects <= 3:
        rows, columns = (
            np.linspace(0, length - 1, side).round().astype(int)
            for length, side in zip(read_mask(mask).ids.shape, case.size, strict=True)
        )
        return read_mask(mask).ids[np.ix_(rows, columns)]
    ids = np.zeros(case.size, np.uint8)
    side = round(case.objects**0.5)
    rows, columns = (np.linspace(0, length, side + 1).astype(int) for length in case.size)
    for y, (top, bottom) in enumerate(pairwise(rows)):
        for x, (left, right) in enumerate(pairwise(columns)):
            inside = ids[top + 4 : bottom - 4, left + 4 : right - 4]
            inside[:] = 1 + y * side + x
    return ids


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=10_000, help="of the long clip")
    parser.add_argument("--case", action="append", help="Only this one; may be repeated.")
    options = parser.parse_args(arguments)
    wanted = [case for case in cases(options.frames) if case.name in (options.case or [case.name])]
    rows = []
    with tempfile.TemporaryDirectory() as work:
        source = write_clip(Path(work) / "source", _SOURCE, "854x480")
        for number, case in enumerate(wanted):
            rows.append(run_case(case, source, Path(work) / str(number)))
            print(rows[-1], flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
