"""Pictures and labels of single frames, small enough for a page."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from propagate.errors import OutputError
from propagate.geometry import map_points, resize_ids
from propagate.labels.clip_labels import id_dtype
from propagate.output.labelled_clip import MaskedFrame, PointedFrame
from propagate.types import Keypoints, Masks, Size

if TYPE_CHECKING:
    from jaxtyping import Integer, UInt8

_JPEG_QUALITY = 80
_BITS = 7


def shown_size(size: Size, width: int) -> Size:
    """Size of embedded pictures: `width` pixels wide, or as wide as the clip if that is less."""
    if width >= size.width:
        return size
    return Size(max(1, round(size.height * width / size.width)), width)


def encode_frame(
    item: MaskedFrame | PointedFrame, track_ids: Sequence[int], size: Size
) -> dict[str, Any]:
    """What the page needs to show a frame: `jpeg`, and `runs` of masks or `points`.

    Args:
        item: the frame.
        track_ids: all objects of the clip, ascending; of keypoints their positions, from 1.
        size: of the embedded picture, in pixels.
    """
    encoded: dict[str, Any] = {"jpeg": encode_jpeg(item.frame.rgb, size)}
    if isinstance(item, MaskedFrame):
        labels = label_positions(item.labels.masks, track_ids)
        encoded["runs"] = base64.b64encode(encode_runs(resize_ids(labels, size))).decode()
    else:
        points = _points(item.labels, item.frame.size, size)
        encoded["points"] = [points[track_id - 1] for track_id in track_ids]
    return encoded


def encode_jpeg(rgb: UInt8[np.ndarray, "h w 3"], size: Size) -> str:
    """A picture, resized, as base64.

    Raises:
        OutputError: it can't be encoded.
    """
    if rgb.shape[:2] != tuple(size):
        rgb = np.asarray(cv2.resize(rgb, (size.width, size.height), interpolation=cv2.INTER_AREA))
    done, data = cv2.imencode(
        ".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    )
    if not done:
        raise OutputError(f"A picture of {size} can't be made a JPEG; choose another --width.")
    return base64.b64encode(data.tobytes()).decode()


def label_positions(masks: Masks, track_ids: Sequence[int]) -> Integer[np.ndarray, "h w"]:
    """Each pixel's object as its position in `track_ids`, from 1; 0 for all else."""
    known = np.array(track_ids, dtype=np.int64)
    if not len(known):
        return np.zeros(masks.size, dtype=np.uint8)
    places = np.minimum(np.searchsorted(known, masks.ids), len(known) - 1)
    positions = np.where(known[places] == masks.ids, places + 1, 0)
    return positions.astype(id_dtype(len(known)))


def encode_runs(labels: Integer[np.ndarray, "h w"]) -> bytes:
    """Run lengths along the rows: label and length in turn.

    Each number has 7 bits a byte, lowest first; the highest bit says that more follow.
    """
    flat = labels.ravel()
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    lengths = np.diff(np.concatenate([starts, [flat.size]]))
    encoded = bytearray()
    for value in np.stack([flat[starts].astype(np.int64), lengths], axis=1).ravel().tolist():
        while value >= 1 << _BITS:
            encoded.append(value & ((1 << _BITS) - 1) | 1 << _BITS)
            value >>= _BITS
        encoded.append(value)
    return bytes(encoded)


def _points(points: Keypoints, source: Size, target: Size) -> list[list[float] | None]:
    """[x, y, visible] of each point in the embedded picture; None without a place."""
    places = map_points(points.xy.astype(np.float64), source, target).tolist()
    return [
        [round(x, 2), round(y, 2), int(visible)] if np.isfinite(x) else None
        for (x, y), visible in zip(places, points.visible, strict=True)
    ]
