"""Keypoints of two flies with the preset `keypoints`, against leaving them where they were.

The points of a frame carried for 200 frames, error in pixels against the tracks that come with the
clip. Run `python -m benchmarks.flies --data FOLDER`, where FOLDER has flies.mp4 and flies.slp.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from propagate.config import Preset, preset
from propagate.features.registry import create_extractor
from propagate.labels.keypoint_files import read_keypoints
from propagate.pipeline import VideoPropagator
from propagate.types import Keypoints
from propagate.video import open_clip

FRAMES = 200
SHOWN = (20, 50, FRAMES)
# They stand still for the first 1000 frames, and then run.
STARTS = (0, 1000)


def follow(clip: Path, truth: dict[int, Keypoints], settings: Preset) -> dict[int, Keypoints]:
    """Carry the points of the first frame of `truth` to the others."""
    start = min(truth)
    propagator = VideoPropagator(
        open_clip(str(clip), frames=f"{start}:{max(truth) + 1}"),
        truth[start],
        extractor=create_extractor(settings.model, settings.options),
        settings=settings.video,
    )
    return {result.frame.index: result.keypoints for result in propagator}


def distances(found: dict[int, Keypoints], truth: dict[int, Keypoints]) -> dict[int, np.ndarray]:
    """Pixels to the true place by frame after the first, for points visible in both; NaN: lost."""
    first = truth[min(truth)]
    result = {}
    for index in sorted(truth)[1:]:
        there = dict(zip(truth[index].names, truth[index].xy, strict=True))
        seen = dict(zip(truth[index].names, truth[index].visible, strict=True))
        rows = [
            row
            for row, name in enumerate(first.names)
            if first.visible[row] and seen.get(name, False)
        ]
        places = np.array([there[first.names[row]] for row in rows]).reshape(-1, 2)
        result[index] = np.linalg.norm(found[index].xy[rows] - places, axis=1)
    return result


def statistics(values: np.ndarray) -> str:
    """The cells of a row: pixels of the points that have a place, shares of all."""
    known = values[np.isfinite(values)]
    middle, high = np.quantile(known, [0.5, 0.95])
    near, further = (100 * (values <= most).mean() for most in (10, 20))
    pixels = f"{known.mean():.2f} | {middle:.2f} | {high:.2f}"
    return f"{len(values)} | {pixels} | {near:.1f} % | {further:.1f} %"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    data = parser.parse_args().data
    tracks = read_keypoints(data / "flies.slp")
    print("| carried | points | mean | median | 95 % | within 10 px | within 20 px |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for start in STARTS:
        truth = {
            frame.index: frame.keypoints
            for frame in tracks.frames
            if frame.index is not None and start <= frame.index <= start + FRAMES
        }
        found = follow(data / "flies.mp4", truth, preset("keypoints"))
        copied = dict.fromkeys(truth, truth[start])
        for name, it in (("propagated", found), ("copied", copied)):
            far = distances(it, truth)
            for upto in SHOWN:
                values = np.concatenate([v for index, v in far.items() if index <= start + upto])
                print(f"| {upto} frames from {start}, {name} | {statistics(values)} |", flush=True)


if __name__ == "__main__":
    main()
