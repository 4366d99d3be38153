"""HPatches: homographies between six photos of a scene (Balntas et al., 2017).

Layout: `hpatches-sequences-release` with a folder per scene, `i_*` under other light and `v_*` from
other viewpoints: `1.ppm` to `6.ppm`, `H_1_2` to `H_1_6`. As d2-net has it, 8 scenes with large
images are left out, so 108 remain. Places count from the centre of the first pixel here, as in the
data set's own files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import cv2
import numpy as np
import torch

from propagate.benchmarks.pairs import EvalFolder, MapStore, picture, picture_size, require_file
from propagate.errors import InputError, LabelError
from propagate.features.base import FeatureExtractor
from propagate.matching.detectors import Detector, detect
from propagate.matching.geometric import (
    GeometricSettings,
    fit_transform,
    match_keypoints,
    mutual_nearest,
)
from propagate.metrics.homography import THRESHOLDS, accuracy, area_under_curve, corner_errors

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
_IMAGES = 6


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

    Raises:
        InputError: a value is out of range.
    """

    detector: Detector = "sift"
    count: int = 1000
    folder: Path | None = None

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
            return detect(picture(scene.images[image]).rgb, self.detector, count=self.count)
        path = self.folder / f"{scene.name}-{image + 1}.kp"
        if not path.is_file():
            raise InputError(f"{path} is missing; give the keypoints of every image, x y a line.")
        try:
            rows = [
                [float(word) for word in line.split()[:2]]
                for line in path.read_text(encoding="utf-8").splitlines()
                if line.strip()
            ]
            return np.unique(np.array(rows, dtype=np.float64).reshape(-1, 2), axis=0) + 0.5
        except ValueError as error:
            raise LabelError(f"{path} is damaged: it must have x and y a line.") from error


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
        require_file(folder / f"{i}.ppm", "HPatches", WHERE) for i in range(1, _IMAGES + 1)
    )
    paths = [require_file(folder / f"H_1_{i}", "HPatches", WHERE) for i in range(2, _IMAGES + 1)]
    return Scene(folder.name, images, tuple(_homography(path) for path in paths))


def _homography(path: Path) -> Float64[np.ndarray, "3 3"]:
    try:
        return np.array(path.read_text().split(), dtype=np.float64).reshape(3, 3)
    except ValueError as error:
        raise LabelError(f"{path} is damaged: it must have 3 x 3 numbers.") from error


def evaluate_scenes(
    scenes: Sequence[Scene],
    extractor: FeatureExtractor,
    folder: EvalFolder,
    *,
    keypoints: KeypointSource,
    settings: GeometricSettings,
    progress: Any,
) -> dict[str, Any]:
    """Estimate the homographies that are not there yet, score all, and write table and summary.

    Beside the features' homographies there are those of SIFT's own keypoints and descriptors.

    Args:
        scenes: to score.
        extractor: of features.
        folder: to write.
        keypoints: where they come from.
        settings: of matcher and estimator; the model must be a homography.
        progress: wraps the pairs.

    Returns:
        The record that was written.

    Raises:
        OutputError: the folder's predictions are by another model.
    """
    if settings.model != "homography":
        raise InputError("HPatches has homographies only; leave out --transform.")
    folder.check_same("model", extractor.identity)
    folder.prepare()
    folder.write_record("running", model=extractor.identity)
    maps = MapStore(extractor, scenes[0].images[:2])
    pairs = {f"{scene.name}-1-{i + 1}": (scene, i) for scene in scenes for i in range(1, _IMAGES)}
    predicted = folder.predict(
        list(pairs), lambda name: _predict(*pairs[name], maps, keypoints, settings), progress
    )
    rows = []
    for name, (scene, image) in pairs.items():
        size, truth = picture_size(scene.images[0]), scene.homographies[image - 1]
        row: dict[str, Any] = {"pair": name, "kind": scene.name[0]}
        for way in ("features", "sift"):
            found = predicted[name][way]
            matrix = None if found["matrix"] is None else np.array(found["matrix"])
            row[f"{way}_matches"] = found["matches"]
            row[f"{way}_inliers"] = found["inliers"]
            row[f"{way}_error"] = float(corner_errors(matrix, truth, size).mean())
        rows.append(row)
    folder.write_table(rows)
    protocol = {"text": "mean error of 4 corners <= threshold, pixels", "thresholds": THRESHOLDS}
    return folder.write_record(
        "complete",
        model=extractor.identity,
        protocol=protocol | asdict(settings),
        scores={way: _scores(rows, way) for way in ("features", "sift")},
    )


def _predict(
    scene: Scene, image: int, maps: MapStore, keypoints: KeypointSource, settings: GeometricSettings
) -> dict[str, Any]:
    source_xy, target_xy = (keypoints.of(scene, i) for i in (0, image))
    source, target = (maps[scene.images[i]] for i in (0, image))
    matches = match_keypoints(source, target, source_xy, target_xy, settings)
    first, second = (_sift(scene.images[i], keypoints.count) for i in (0, image))
    pairs, _ = mutual_nearest(torch.from_numpy(first[1]), torch.from_numpy(second[1]), metric="l2")
    return {
        "features": _fitted(matches.source_xy - 0.5, matches.target_xy - 0.5, settings),
        "sift": _fitted(first[0][pairs[:, 0]], second[0][pairs[:, 1]], settings),
    }


def _fitted(
    source: Float64[np.ndarray, "n 2"],
    target: Float64[np.ndarray, "n 2"],
    settings: GeometricSettings,
) -> dict[str, Any]:
    found = fit_transform(source, target, settings)
    return {
        "matches": len(source),
        "inliers": int(found.inliers.sum()),
        "matrix": None if found.matrix is None else found.matrix.tolist(),
    }


def _sift(path: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints (from the centre of the first pixel) and descriptors of OpenCV's SIFT."""
    vision: Any = cv2  # its stubs lack it
    grey = cv2.cvtColor(picture(path).rgb, cv2.COLOR_RGB2GRAY)
    found, descriptors = vision.SIFT_create(count).detectAndCompute(grey, None)
    if descriptors is None:
        return np.zeros((0, 2)), np.zeros((0, 128), dtype=np.float32)
    places = np.array([point.pt for point in found], dtype=np.float64)
    unique, rows = np.unique(places, axis=0, return_index=True)
    return unique, descriptors[rows]


def _scores(rows: Sequence[dict[str, Any]], way: str) -> dict[str, Any]:
    """Accuracy and area by threshold, of all pairs and of each kind."""
    kinds = {"all": rows} | {
        name: [row for row in rows if row["kind"] == kind]
        for kind, name in (("i", "illumination"), ("v", "viewpoint"))
    }
    found = {}
    for name, part in kinds.items():
        if part:
            errors = np.array([row[f"{way}_error"] for row in part])
            found[name] = {
                "pairs": len(part),
                "accuracy": dict(zip(map(str, THRESHOLDS), accuracy(errors).tolist(), strict=True)),
                "auc": dict(
                    zip(map(str, THRESHOLDS), area_under_curve(errors).tolist(), strict=True)
                ),
            }
    return found
