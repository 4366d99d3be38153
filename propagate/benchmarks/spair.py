"""SPair-71k: pairs of 18 categories with very different poses (Min et al., 2019).

Layout: `PairAnnotation/<split>/<number>-<source>-<target>:<category>.json` and
`JPEGImages/<category>/<name>.jpg`. DIFT takes the target's box and `<=`; LDM_correspondences takes
the source's box, GeoAware a strict `<`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from propagate.benchmarks.pairs import KeypointPair, require_file
from propagate.errors import InputError
from propagate.labels.json_files import Node, read_json

WHERE = "https://cvlab.postech.ac.kr/research/SPair-71k"


def find_pairs(root: Path, split: str = "test") -> list[KeypointPair]:
    """The pairs of a split.

    Args:
        root: the folder SPair-71k.
        split: trn, val or test.

    Raises:
        InputError: a folder or image is missing; says which, and where to get it.
        LabelError: an annotation is damaged.
    """
    folder = root / "PairAnnotation" / split
    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise InputError(
            f"There is no pair in {folder}, so {root} is no SPair-71k with the split {split!r}; "
            f"get it from {WHERE}, and name the folder with PairAnnotation and JPEGImages as "
            "--root."
        )
    return [_pair(root, path) for path in paths]


def _pair(root: Path, path: Path) -> KeypointPair:
    content = read_json(path)
    category = content["category"].as_(str)
    images = [_image(root, category, content[f"{side}_imname"]) for side in ("src", "trg")]
    source_xy, target_xy = (_points(content[f"{side}_kps"]) for side in ("src", "trg"))
    if len(source_xy) != len(target_xy):
        raise content.error(
            f"has {len(source_xy)} points in one image, {len(target_xy)} in the other"
        )
    source_box, target_box = (_box(content[f"{side}_bndbox"]) for side in ("src", "trg"))
    return KeypointPair(
        path.stem, category, images[0], images[1], source_xy, target_xy, source_box, target_box
    )


def _image(root: Path, category: str, name: Node) -> Path:
    text = name.as_(str)
    # Names in a file must not lead out of the data set.
    if Path(text).name != text or Path(category).name != category:
        raise name.error(f"is {text!r} of {category!r}, not a file name")
    return require_file(root / "JPEGImages" / category / text, "SPair-71k", WHERE)


def _points(node: Node) -> np.ndarray:
    """Places of pixels, whose centres are half a pixel further."""
    values = [[item.as_(float) for item in pair.items()] for pair in node.items()]
    if any(len(pair) != 2 for pair in values):
        raise node.error("has a point that isn't [x, y]")
    return np.array(values, dtype=np.float64).reshape(-1, 2) + 0.5


def _box(node: Node) -> tuple[float, float, float, float]:
    values = [item.as_(float) for item in node.items()]
    if len(values) != 4:
        raise node.error("is not [left, top, right, bottom]")
    return values[0], values[1], values[2], values[3]
