"""Small finished runs to look at, made without a model."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from propagate.labels.mask_files import write_mask
from propagate.types import Size

SIZE = Size(96, 128)
COUNT = 16
LOST = (8, 9, 10)
EVIL = "</script><img src=x onerror=alert(1)>"


def write_clip(folder: Path, count: int = COUNT) -> Path:
    """Frames whose grey level tells their number."""
    clip = folder / "clip"
    clip.mkdir()
    for index in range(count):
        rgb = np.full((*SIZE, 3), 60 + 4 * index, dtype=np.uint8)
        rgb[:, :, 2] += 40
        Image.fromarray(rgb).save(clip / f"img{index}.png")
    return clip


def mask(index: int) -> np.ndarray:
    """Object 1 moves to the right, object 2 stays and is lost for three frames."""
    ids = np.zeros(SIZE, dtype=np.uint8)
    ids[20:50, 20 + index : 50 + index] = 1
    if index not in LOST:
        ids[60:84, 80:110] = 2
    return ids


def write_mask_run(folder: Path) -> Path:
    """A run with `tracks.csv`, whose first object has a name that is markup."""
    run = folder / "out"
    (run / "masks").mkdir(parents=True)
    write_record(run, write_clip(folder))
    columns = "frame,name,object,confidence,occluded,object_name,category,state"
    with (run / "tracks.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(columns.split(","))
        for index in range(COUNT):
            write_mask(run / "masks" / f"img{index}.png", mask(index))
            for number, name in ((1, EVIL), (2, "other")):
                lost = number == 2 and index in LOST
                state = "given" if index == 0 else "lost" if lost else "visible"
                confidence = 1.0 if index == 0 else 0.02 if lost else 0.9
                table.writerow([index, f"img{index}", number, confidence, 0, name, "", state])
    return run


def write_keypoint_run(folder: Path) -> Path:
    """A run with two points, of which one is hidden after two frames."""
    run = folder / "out"
    run.mkdir(parents=True)
    write_record(run, write_clip(folder, 8), skeleton=[["nose", "tail"]])
    with (run / "keypoints.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["frame", "name", "x", "y", "visible", "confidence"])
        for index in range(8):
            table.writerow([index, "nose", 20 + index, 20, 1, 0.8])
            hidden = index > 1
            table.writerow([index, "tail", 70, 50, int(not hidden), 0.1 if hidden else 0.7])
    return run


def write_record(run: Path, clip: Path, **more: Any) -> None:
    """`run.json` of a run over a whole clip."""
    config = {
        "clip": str(clip),
        "mask": "first.png",
        "frames": None,
        "reader": "auto",
        "void": "auto",
        "video": {"propagation": {"topk": 5}},
    }
    record = {"status": "complete", "config": config, "model": "a-model/layer", **more}
    (run / "run.json").write_text(json.dumps(record))
