"""Tells ids that somebody painted from ids that antialiasing or lossy compression made up.

Made-up ids live along outlines: none has a pixel all of whose neighbours agree with it, few have
neighbours of their own kind, and they are shades between what lies on both sides (antialiasing)
or are strewn about (compression). Small or thin real objects share the first trait only.
The thresholds are set so that DAVIS first frames, split into 2 to 20 objects and shrunk up to 8
times, pass, and blurred, resized (0.25 to 4 times) or JPEG- and WebP-compressed ones don't.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Bool, Integer, UInt16

    from propagate.labels.mask_files import MaskFile

MAX_COUNTED_IDS = 16
PHOTO_IDS = 64


def is_photo(file: MaskFile) -> bool:
    """Whether most pixels differ from a neighbour and more ids occur than anybody paints."""
    ranks, ids = _ranks_by_brightness(file)
    lowest, highest = _neighbourhood_range(ranks)
    return len(ids) > PHOTO_IDS and float(np.mean(lowest != highest)) > 0.5


def made_up_ids(file: MaskFile) -> tuple[int, ...]:
    """Ids of `file` that antialiasing or compression made up, ascending; empty for a clean mask.

    Straight soft edges give long thin runs of a shade, which count only if they line a large part
    of the outlines of larger objects. One lone shade could be a thin object and is let through.
    """
    ranks, ids = _ranks_by_brightness(file)
    fringe = _Fringe.of(ranks, ids)
    return tuple(sorted(int(i) for i in ids[fringe.members])) if fringe.made_up else ()


@dataclass(frozen=True)
class _Fringe:
    """The ids without a pixel surrounded by its own kind, and what tells them from thin objects.

    Args:
        members: bool [n], which ids these are.
        n_blended: how many of them lie, nearly everywhere, between a darker and a brighter pixel.
        blended_share: share of all outline pixels that those cover.
        cohesion: 4-neighbour pairs of equal id per pixel; 0.5 where half the pixels have one.
        pieces: mean number of connected pieces of an id.
        area_share: share of all object pixels that belong to these ids.
    """

    members: Bool[np.ndarray, " n"]
    n_blended: int
    blended_share: float
    cohesion: float
    pieces: float
    area_share: float

    @property
    def made_up(self) -> bool:
        count = int(np.count_nonzero(self.members))
        if count < 2:
            return False
        loose = self.cohesion < 0.6
        antialiased = (
            2 * self.n_blended >= count
            and self.blended_share >= 0.02
            and (self.pieces >= 2 or count >= 16)
        )
        compressed = self.pieces >= 10 and self.area_share <= 0.8
        straight = (
            self.n_blended >= 0.8 * count and self.blended_share >= 0.15 and self.area_share <= 0.5
        )
        return (loose and (antialiased or compressed)) or straight

    @classmethod
    def of(cls, ranks: UInt16[np.ndarray, "h w"], ids: Integer[np.ndarray, " n"]) -> _Fringe:
        n = len(ids)
        lowest, highest = _neighbourhood_range(ranks)
        outline = lowest != highest
        area = _count(ranks, n)
        members = (_count(ranks[~outline], n) == 0) & (ids != 0)
        between = _count(ranks[(lowest < ranks) & (ranks < highest)], n)
        blended = members & (between >= 0.8 * area)
        pairs = _count(ranks[:, 1:][ranks[:, 1:] == ranks[:, :-1]], n)
        pairs += _count(ranks[1:][ranks[1:] == ranks[:-1]], n)
        fringe_area = max(int(area[members].sum()), 1)
        return cls(
            members=members,
            n_blended=int(np.count_nonzero(blended)),
            blended_share=float(area[blended].sum() / max(np.count_nonzero(outline), 1)),
            cohesion=float(pairs[members].sum() / fringe_area),
            pieces=_mean_pieces(ranks, np.flatnonzero(members), area),
            area_share=float(fringe_area / max(area[ids != 0].sum(), 1)),
        )


def _ranks_by_brightness(
    file: MaskFile,
) -> tuple[UInt16[np.ndarray, "h w"], Integer[np.ndarray, " n"]]:
    """Each pixel's place among the ids from dark to bright, and the ids in that order."""
    ids, inverse = np.unique(file.ids, return_inverse=True)
    order = np.lexsort((ids, file.brightness_of(ids)))
    rank_of = np.empty(len(ids), dtype=np.uint16)
    # Beyond 65535 ids (a photo read as colours) the last ones share a rank.
    rank_of[order] = np.minimum(np.arange(len(ids)), np.iinfo(np.uint16).max)
    return rank_of[inverse.reshape(file.ids.shape)], ids[order]


def _neighbourhood_range(
    ranks: UInt16[np.ndarray, "h w"],
) -> tuple[UInt16[np.ndarray, "h w"], UInt16[np.ndarray, "h w"]]:
    """Lowest and highest value of each 3x3 neighbourhood, cut off at the frame."""
    square = np.ones((3, 3), dtype=np.uint8)
    return cv2.erode(ranks, square), cv2.dilate(ranks, square)


def _count(ranks: UInt16[np.ndarray, "*n"], n: int) -> Integer[np.ndarray, " n"]:
    return np.bincount(ranks.ravel(), minlength=n)


def _mean_pieces(
    ranks: UInt16[np.ndarray, "h w"],
    members: Integer[np.ndarray, " m"],
    area: Integer[np.ndarray, " n"],
) -> float:
    """Mean number of 8-connected pieces over the largest few members."""
    largest = members[np.argsort(-area[members], kind="stable")][:MAX_COUNTED_IDS]
    if not largest.size:
        return 0.0
    pieces = [
        cv2.connectedComponents((ranks == rank).astype(np.uint8), connectivity=8)[0] - 1
        for rank in largest
    ]
    return float(np.mean(pieces))
