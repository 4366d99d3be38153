"""HPatches: homographies between six photos of a scene (Balntas et al., 2017).

Layout: `hpatches-sequences-release` with a folder per scene, `i_*` under other light and `v_*` from
other viewpoints: `1.ppm` to `6.ppm`, `H_1_2` to `H_1_6`. As d2-net has it, 8 scenes with large
images are left out, so 108 remain. Places count from the centre of the first pixel here, as in the
data set's own files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np

from propagate.benchmarks.pairs import picture, require_file
from propagate.errors import InputError, LabelError
from propagate.labels.keypoint_files import read_keypoints
from propagate.matching.detectors import SUPERPOINT, Detector, detect

if TYPE_CHECKING:
    from jaxtyping import Float64

WHERE = "https://github.com/hpatches/hpatches-dataset (the full image sequences)"
LEFT_OUT = frozenset(
    (
        "i_contruction",
        "i_crownnight",
        "i_dc",
        "i_pencils",
        "i_whitebuilding",
        "v_artisans",
        "v_astronautis",
        "v_talent",
    )
)
IMAGES = 6


@dataclass(frozen=True, eq=False)
class Scene:
    """One scene.

    Args:
        name: of its folder.
        images: six of them; the first one is matched with each other one.
        homographies: five, float64 [3, 3], from the first image to each other one.
    """

    name: str
    images: tuple[Path, ...]
    homographies: tuple[Float64[np.ndarray, "3 3"], ...]


@dataclass(frozen=True, kw_only=True)
class KeypointSource:
    """Where the keypoints of the images come from.

    Args:
        detector: which finds them, where there are no files.
        count: the most of them.
        folder: with `<scene>-<image>.kp` (x and y a line), as DIFT reads them; None to detect.
        weights: of the detector superpoint; see `detect`.
        device: where it runs.
        offline: never download its weights.

    Raises:
        InputError: a value is out of range.
    """

    detector: Detector = "sift"
    count: int = 1000
    folder: Path | None = None
    weights: str = SUPERPOINT
    device: str = "auto"
    offline: bool = False

    def __post_init__(self) -> None:
        if self.detector not in get_args(Detector) or self.count < 1:
            raise InputError(
                f"{self.count} keypoints of {self.detector!r} can't be; take 1 or more of "
                f"{', '.join(get_args(Detector))}."
            )

    def of(self, scene: Scene, image: int) -> Float64[np.ndarray, "n 2"]:
        """Different keypoints of an image (0 to 5), from the outer corner of the first pixel.

        Raises:
            InputError: the file is missing.
            LabelError: it is damaged.
        """
        if self.folder is None:
            return detect(
                picture(scene.images[image]).rgb,
                self.detector,
                count=self.count,
                weights=self.weights,
                device=self.device,
                offline=self.offline,
            )
        path = self.folder / f"{scene.name}-{image + 1}.kp"
        if not path.is_file():
            raise InputError(f"{path} is missing; give the keypoints of every image, x y a line.")
        return np.unique(read_keypoints(path).frames[0].keypoints.xy.astype(np.float64), axis=0)


def find_scenes(root: Path, names: Sequence[str] = (), *, every: bool = False) -> list[Scene]:
    """The scenes that are there.

    Args:
        root: the folder hpatches-sequences-release.
        names: only these; none for all.
        every: whether to take the 8 large scenes too.

    Raises:
        InputError: a file is missing; says which, and where to get it.
        LabelError: a homography is damaged.
    """
    there = sorted(p.name for p in root.glob("[iv]_*") if p.is_dir()) if root.is_dir() else []
    if not there:
        raise InputError(
            f"{root} has no scene (i_* or v_*), so it is no HPatches; get it from {WHERE}, and "
            "name the folder hpatches-sequences-release as --root."
        )
    unknown = [name for name in names if name not in there]
    if unknown:
        raise InputError(f"There is no scene {unknown[0]!r} in {root}.")
    chosen = names or [name for name in there if every or name not in LEFT_OUT]
    return [_scene(root / name) for name in chosen]


def _scene(folder: Path) -> Scene:
    images = tuple(
        require_file(folder / f"{i}.ppm", "HPatches", WHERE) for i in range(1, IMAGES + 1)
    )
    paths = [require_file(folder / f"H_1_{i}", "HPatches", WHERE) for i in range(2, IMAGES + 1)]
    return Scene(folder.name, images, tuple(_homography(path) for path in paths))


def _homography(path: Path) -> Float64[np.ndarray, "3 3"]:
    try:
        return np.array(path.read_text().split(), dtype=np.float64).reshape(3, 3)
    except ValueError as error:
        raise LabelError(f"{path} is damaged: it must have 3 x 3 numbers.") from error
