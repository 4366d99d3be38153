"""VIP: body parts of the first annotated frame carried through each video, scored by mean IoU.

Layout and protocol: VIP_Fine of "Adaptive Temporal Encoding Network for Video Instance-level Human
Parsing" (ACM MM 2018), as TimeCycle and later work score its category ids: one confusion matrix
over all videos, mean of the 20 categories' intersection over union, background included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from propagate.benchmarks.base import ClipBenchmark, Row, UnitScore, chosen, mean, need
from propagate.benchmarks.mask_scores import read_predictions
from propagate.benchmarks.pictures import compared_masks
from propagate.config import Preset
from propagate.errors import InputError
from propagate.features.base import FeatureExtractor
from propagate.labels.mask_files import read_mask, write_mask
from propagate.metrics.categories import category_iou, confusion
from propagate.pipeline import VideoPropagator
from propagate.types import Masks
from propagate.video import open_clip

if TYPE_CHECKING:
    from jaxtyping import Int64, Integer, UInt8

CATEGORIES = (
    *("background", "hat", "hair", "sun-glasses", "upper-clothes", "dress", "coat", "socks"),
    *("pants", "gloves", "scarf", "skirt", "torso-skin", "face", "right-arm", "left-arm"),
    *("right-leg", "left-leg", "right-shoe", "left-shoe"),
)
WHERE = (
    "fetch VIP_Fine from the Look Into Person site (sysu-hcp.net/lip), and name the folder that "
    "holds Images, Annotations and lists"
)
_DATA_SET = "VIP"
_VOID = 255


class VipBenchmark(ClipBenchmark):
    """Videos of VIP.

    Args:
        root: folder with Images, Annotations/Category_ids and lists.
        split: name of the list, as "val".
        names: only these videos, or all.

    Raises:
        InputError: the data set or a video is missing.
    """

    unit_kind = "video"

    def __init__(self, root: Path, *, split: str = "val", names: tuple[str, ...] = ()) -> None:
        listing = need(root / "lists" / f"{split}_videos.txt", _DATA_SET, WHERE)
        listed = [line.strip() for line in listing.read_text().splitlines() if line.strip()]
        self._folders = {
            name: (
                need(root / "Images" / name, _DATA_SET, WHERE),
                need(root / "Annotations" / "Category_ids" / name, _DATA_SET, WHERE),
            )
            for name in chosen(names, listed, listing)
        }
        self._split, self._whole = split, not names
        self.published = None if names else f"vip-{split}"

    @property
    def name(self) -> str:
        """`VIP val`."""
        part = "" if self._whole else f", {len(self._folders)} of its videos"
        return f"VIP {self._split}{part}"

    @property
    def protocol(self) -> str:
        """That of TimeCycle."""
        return (
            "VIP: the category ids of the first annotated frame are given; intersection over union "
            "of each of 20 categories over all frames of all videos, the first included; mean over "
            "categories. (Published numbers have frames stretched to 560x560: --input-size.)"
        )

    @property
    def units(self) -> tuple[str, ...]:
        """Names of the videos."""
        return tuple(self._folders)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Mean IoU, and that of a copy of the first mask."""
        return ("mIoU", "copy mIoU")

    @property
    def options(self) -> Mapping[str, Any]:
        """The split."""
        return {"split": self._split}

    def predict(self, unit: str, settings: Preset, engine: FeatureExtractor, folder: Path) -> int:
        """Write the category ids of every frame as an indexed PNG."""
        images, _ = self._folders[unit]
        propagator = VideoPropagator(
            open_clip(images),
            Masks(self._truth(unit)[0], void=_VOID),
            extractor=engine,
            settings=settings.video,
            device=settings.options.device,
        )
        count = 0
        for result in propagator:
            ids = np.where(result.labels.ids == _VOID, 0, result.labels.ids)
            write_mask(folder / f"{result.frame.name}.png", ids)
            count += 1
        if count != len(self._paths(unit)):
            raise InputError(
                f"{images} has {count} frames and {self._folders[unit][1]} "
                f"{len(self._paths(unit))} masks; {WHERE}."
            )
        return count

    def score(self, unit: str, folder: Path) -> UnitScore:
        """Mean IoU of a video; its confusion goes into that of the data set."""
        truth = self._truth(unit)
        names = [path.name for path in self._paths(unit)]
        first = np.where(truth[0] == _VOID, 0, truth[0])
        frames = [
            [confusion(ids, true, len(CATEGORIES)) for ids in (pred, first)]
            for pred, true in zip(read_predictions(folder, names), truth, strict=True)
        ]
        confused = np.sum(frames, axis=0)
        worst = int(np.argmin([mean(category_iou(pair[0]).tolist()) for pair in frames]))
        row = Row(unit, "", _scores(confused))
        return UnitScore(unit, (row,), data=(confused, worst))

    def summarise(self, scores: Sequence[UnitScore]) -> dict[str, float]:
        """One confusion matrix over all videos, with the IoU of every category."""
        confused = np.sum([score.data[0] for score in scores], axis=0)
        each = zip(CATEGORIES, category_iou(confused[0]), strict=True)
        return _scores(confused) | {f"IoU {name}": 100 * float(value) for name, value in each}

    def picture(
        self, score: UnitScore, folder: Path
    ) -> tuple[UInt8[np.ndarray, "h w 3"], str] | None:
        """The frame with the lowest mean IoU."""
        worst = score.data[1]
        images, _ = self._folders[score.unit]
        path = self._paths(score.unit)[worst]
        frame = next(iter(open_clip(images, frames=f"{worst}:{worst + 1}")))
        drawn = compared_masks(
            frame.rgb, read_mask(folder / path.name).ids, self._truth(score.unit)[worst]
        )
        return drawn, f"{score.unit}: {score.rows[0].scores['mIoU']:.1f}; frame {path.stem}"

    def _paths(self, unit: str) -> list[Path]:
        folder = self._folders[unit][1]
        paths = sorted(folder.glob("*.png"))
        if not paths:
            raise InputError(f"{folder} has no mask, so {_DATA_SET} is incomplete; {WHERE}.")
        return paths

    def _truth(self, unit: str) -> list[Integer[np.ndarray, "h w"]]:
        return [read_mask(path).ids for path in self._paths(unit)]


def _scores(confused: Int64[np.ndarray, "2 true pred"]) -> dict[str, float]:
    names = ("mIoU", "copy mIoU")
    return {
        name: 100 * mean(category_iou(item).tolist())
        for name, item in zip(names, confused, strict=True)
    }
