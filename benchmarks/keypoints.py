"""Keypoints with the embedded default, against leaving them where they were.

BADJA: PCK@0.2 of its clips, threshold 0.2 x sqrt(area of the mask), visible points that the first
annotated frame has, all annotated frames but that one. Flies: the points of a frame carried for 200
frames, error in pixels against the tracks that come with the clip.

Run `python -m benchmarks.keypoints --data FOLDER`, where FOLDER has BADJA/joint_annotations,
DAVIS/JPEGImages/480p and DAVIS/Annotations/480p, and videos/flies.mp4 with flies.slp.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.confidence import bins, fit
from propagate.config import KeypointSettings, Preset, preset
from propagate.features.registry import create_extractor
from propagate.geometry import map_points
from propagate.labels.keypoint_files import read_keypoints
from propagate.labels.mask_files import read_mask
from propagate.pipeline import VideoPropagator, first_frame
from propagate.types import Keypoints, Size
from propagate.video import open_clip

FULL_RESOLUTION = Size(1080, 1920)
FRAMES_OF_FLIES = 200
# They stand still for the first 1000 frames, and then run.
STARTS_OF_FLIES = (0, 1000)


def points_at(path: Path, source: Size | None, size: Size) -> dict[int, Keypoints]:
    """The annotated frames of a file, in pixels of the clip."""
    return {
        frame.index: Keypoints(
            frame.keypoints.names,
            frame.keypoints.xy if source is None else map_points(frame.keypoints.xy, source, size),
            frame.keypoints.visible,
        )
        for frame in read_keypoints(path).frames
        if frame.index is not None
    }


def follow(
    clip: Path, frames: str, truth: dict[int, Keypoints], settings: Preset
) -> dict[int, Keypoints]:
    """Carry the points of the first annotated frame; results for the annotated frames."""
    reader = open_clip(str(clip), frames=frames)
    propagator = VideoPropagator(
        reader,
        truth[min(truth)],
        extractor=create_extractor(settings.model, settings.options),
        settings=settings.video,
    )
    return {
        result.frame.index: result.keypoints for result in propagator if result.frame.index in truth
    }


def distances(found: dict[int, Keypoints], truth: dict[int, Keypoints]) -> dict[int, np.ndarray]:
    """Pixels to the true place by frame after the first, for points visible in both; NaN: lost."""
    first = truth[min(truth)]
    result = {}
    for index in sorted(set(found) & set(truth))[1:]:
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


def badja(data: Path, settings: Preset) -> None:
    """Print the table of BADJA."""
    print("| clip | annotated frames | points | PCK@.2 | PCK@.1 | copy of the first, PCK@.2 |")
    print("| --- | --- | --- | --- | --- | --- |")
    rows = []
    for path in sorted((data / "BADJA/joint_annotations").glob("*.json")):
        clip = data / "DAVIS/JPEGImages/480p" / path.stem
        if not clip.is_dir():
            continue
        truth = points_at(path, FULL_RESOLUTION, first_frame(open_clip(str(clip))).size)
        found = follow(clip, f"{min(truth)}:", truth, settings)
        copied = dict.fromkeys(truth, truth[min(truth)])
        radius = {
            index: 0.2 * np.sqrt((read_mask(mask_path(clip, index)).ids > 0).sum())
            for index in truth
        }
        ratios = [
            np.concatenate([far / radius[index] for index, far in distances(it, truth).items()])
            for it in (found, copied)
        ]
        row = (share(ratios[0], 1), share(ratios[0], 0.5), share(ratios[1], 1))
        rows.append(row)
        numbers = " | ".join(f"{value:.1f}" for value in row)
        print(f"| {path.stem} | {len(truth)} | {len(ratios[0])} | {numbers} |", flush=True)
    means = " | ".join(f"**{value:.1f}**" for value in np.mean(rows, axis=0))
    print(f"| **mean of the clips** | | | {means} |")


def reliability(data: Path, settings: Preset) -> None:
    """Print how often points are right by their confidence, and the line through the log-odds.

    A point that is hidden in truth is never right. Bias 0 and slope 1 mean that the confidence
    needs no other calibration than it has.
    """
    rows = []
    for path in sorted((data / "BADJA/joint_annotations").glob("*.json")):
        clip = data / "DAVIS/JPEGImages/480p" / path.stem
        if clip.is_dir():
            rows += judged(path, clip, settings)
    confidence, right = np.array(rows, float).T
    print("| mean confidence | right | points |\n| --- | --- | --- |")
    for mean, share_right, count in bins(confidence, right):
        print(f"| {mean:.2f} | {share_right:.2f} | {count} |")
    low, high = 1e-4, 1 - 1e-4
    odds = np.clip(confidence, low, high)
    line = fit(np.log(odds / (1 - odds))[:, None], right, np.ones(len(right)))
    print(f"\nbias {line[0]:.3f}, slope {line[1]:.3f}")


def judged(path: Path, clip: Path, settings: Preset) -> list[tuple[float, bool]]:
    """Confidence of each point of a clip, and whether it is where it should be."""
    truth = points_at(path, FULL_RESOLUTION, first_frame(open_clip(str(clip))).size)
    found = follow(clip, f"{min(truth)}:", truth, settings)
    first = truth[min(truth)]
    rows = []
    for index in sorted(set(found) & set(truth))[1:]:
        points, true = found[index], truth[index]
        most = 0.2 * np.sqrt((read_mask(mask_path(clip, index)).ids > 0).sum())
        for row, name in enumerate(first.names):
            if not first.visible[row] or points.confidence is None:
                continue
            at = true.names.index(name) if name in true.names else None
            there = at is not None and bool(true.visible[at])
            far = np.linalg.norm(points.xy[row] - true.xy[at]) if there else np.inf
            rows.append((float(points.confidence[row]), bool(far <= most)))
    return rows


def mask_path(clip: Path, index: int) -> Path:
    """The mask of a frame of DAVIS."""
    return clip.parents[2] / "Annotations/480p" / clip.name / f"{index:05d}.png"


def share(ratios: np.ndarray, most: float) -> float:
    """Percentage of `ratios` of at most `most`; NaN is too far."""
    return 100 * float((ratios <= most).mean())


def flies(data: Path, settings: Preset) -> None:
    """Print the table of the two flies."""
    tracks = read_keypoints(data / "videos/flies.slp")
    print("| carried | points | mean | median | 95 % | within 10 px | within 20 px |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for start in STARTS_OF_FLIES:
        truth = {
            frame.index: frame.keypoints
            for frame in tracks.frames
            if frame.index is not None and start <= frame.index <= start + FRAMES_OF_FLIES
        }
        frames = f"{start}:{start + FRAMES_OF_FLIES + 1}"
        found = follow(data / "videos/flies.mp4", frames, truth, settings)
        copied = dict.fromkeys(truth, truth[start])
        for name, it in (("propagated", found), ("copied", copied)):
            far = distances(it, truth)
            for upto in (20, 50, FRAMES_OF_FLIES):
                values = np.concatenate([v for index, v in far.items() if index <= start + upto])
                print(f"| {upto} frames from {start}, {name} | {statistics(values)} |", flush=True)


def statistics(values: np.ndarray) -> str:
    """The cells of a row: pixels of the points that have a place, shares of all."""
    known = values[np.isfinite(values)]
    middle, high = np.quantile(known, [0.5, 0.95])
    near, further = share(values, 10), share(values, 20)
    pixels = f"{known.mean():.2f} | {middle:.2f} | {high:.2f}"
    return f"{len(values)} | {pixels} | {near:.1f} % | {further:.1f} %"


def variants(settings: Preset) -> dict[str, Preset]:
    """The default, and one change at a time."""
    video = settings.video

    def decoded(**changes: object) -> Preset:
        points = replace(video.keypoints, **changes)
        return replace(settings, video=replace(video, keypoints=points))

    def voted(**changes: object) -> Preset:
        knobs = replace(video.propagation, **changes)
        return replace(settings, video=replace(video, propagation=knobs))

    crw = KeypointSettings(sigma=0.5, decoding="weighted")
    return {
        "default": settings,
        "sigma 0.5 cells": decoded(sigma=0.5),
        "the 3 best cells (CRW)": decoded(decoding="weighted"),
        "both": replace(settings, video=replace(video, keypoints=crw)),
        "settings of masks": replace(
            settings, video=replace(video, propagation=preset("default").video.propagation)
        ),
        "window limits the first frame too": voted(limit_references=True),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", choices=["badja", "flies"])
    parser.add_argument("--confidence", action="store_true", help="how good it is, on BADJA")
    parser.add_argument("--variants", action="store_true", help="one change at a time, on BADJA")
    options = parser.parse_args(arguments)
    settings = preset("keypoints")
    if options.confidence:
        reliability(options.data, settings)
        return
    if options.variants:
        for name, changed in variants(settings).items():
            print(f"\n{name}\n")
            badja(options.data, changed)
        return
    if options.only != "flies":
        badja(options.data, settings)
        print()
    if options.only != "badja":
        flies(options.data, settings)


if __name__ == "__main__":
    main()
