"""Small stray pieces of a transferred mask."""

from __future__ import annotations

import cv2
import numpy as np

from propagate.types import Masks


def without_flecks(masks: Masks, least: float) -> Masks:
    """The masks without pieces of an object that are small beside its largest one.

    Another thing in the picture that looks a little alike gets such pieces, and propagation would
    carry them on.

    Args:
        masks: ids; pieces are what hangs together, corners included.
        least: area of the smallest piece that stays, as a share of the largest one's.
    """
    ids = masks.ids.copy()
    for label in masks.object_ids:
        _, pieces, facts, _ = cv2.connectedComponentsWithStats(
            (masks.ids == label).astype(np.uint8)
        )
        areas = facts[:, cv2.CC_STAT_AREA]
        areas[0] = 0  # what is not the object
        small = areas < least * areas.max()
        ids[small[pieces] & (masks.ids == label)] = 0
    return Masks(ids, masks.void)
