"""Masks to soft labels on a feature grid, and back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812, the field's usual name

from propagate.config import MaskDecoding, MaskEncoding
from propagate.geometry import resize_area, resize_ids
from propagate.labels.guided import Guide, GuideSettings, Part
from propagate.types import LabelField, Masks, Size

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Float32, Integer, UInt8
    from torch import Tensor

# Of the best score of a cell: an object with less of it is not what the pixels there will be.
_CONTENDS = 0.5


def encode_masks(
    masks: Masks, grid: Size, *, method: MaskEncoding = "area", ids: tuple[int, ...] | None = None
) -> LabelField:
    """Soft labels of a mask: one channel for background and one per object.

    Args:
        masks: ids at image size; void pixels vote for nothing.
        grid: feature grid, in cells.
        method: "area" gives each cell the share of its known pixels that an object covers;
            "nearest" takes the pixel under the cell's centre alone, as DIFT and DINO do.
        ids: of the channels, from 0 for background on; None for the objects there are. Pixels of
            any other id vote for nothing.

    Returns:
        Scores that sum to 1 in every cell that has a known pixel and to 0 elsewhere.
    """
    ids = (0, *masks.object_ids) if ids is None else ids
    if method == "nearest":
        cells = resize_ids(masks.ids, grid)
        scores = np.stack([cells == i for i in ids]).astype(np.float32)
    else:
        scores = np.stack([resize_area(masks.ids == i, grid) for i in ids])
        known = scores.sum(0)
        scores /= np.maximum(known, 1e-6)
    return LabelField(torch.from_numpy(scores), ids)


def decode_masks(
    field: LabelField,
    image_size: Size,
    *,
    input_size: Size,
    method: MaskDecoding = "bilinear",
    rgb: UInt8[np.ndarray, "h w 3"] | None = None,
) -> Masks:
    """The id with the highest score at every pixel of the image.

    Args:
        field: soft labels.
        image_size: size of the result.
        input_size: network input size, which the "dift" method decodes at.
        method: "bilinear" interpolates the scores to the image. "guided" then filters them so that
            they change where the image's colours do (see `guided`). "dift" is the published
            protocol: interpolation to the network's input size, each channel stretched to [0, 1]
            (`norm_mask`), and a nearest resize of the ids to the image.
        rgb: the image; without it "guided" is "bilinear".

    Returns:
        Ids as uint8, or uint16 or int32 where an id needs it. Equal scores give the earlier id.
    """
    if method == "dift":
        scores = F.interpolate(field.scores[None].float(), size=tuple(input_size), mode="bilinear")
        channels = stretch_channels(scores[0]).argmax(0).cpu().numpy()
        return Masks(resize_ids(_id_table(field.ids)[channels], image_size))
    if method == "guided" and rgb is not None:
        return Masks(_argmax_guided(field, rgb))
    return Masks(_argmax_bilinear(field, image_size))


def stretch_channels(scores: Float[Tensor, "k h w"]) -> Float[Tensor, "k h w"]:
    """Min-max normalisation of each channel whose maximum is above 0 (`norm_mask` in DIFT).

    A constant positive channel gives NaN, which wins the argmax: the published behaviour.
    """
    lowest = scores.amin((1, 2), keepdim=True)
    highest = scores.amax((1, 2), keepdim=True)
    return torch.where(highest > 0, (scores - lowest) / (highest - lowest), scores)


def _id_table(ids: tuple[int, ...]) -> Integer[np.ndarray, " k"]:
    dtype = np.uint8 if max(ids) < 2**8 else np.uint16 if max(ids) < 2**16 else np.int32
    return np.array(ids, dtype)


def _argmax_bilinear(field: LabelField, size: Size) -> Integer[np.ndarray, "h w"]:
    """Running argmax over the channels; an object is interpolated around its own cells only."""
    scores = field.scores.float().cpu().numpy()
    ids = _id_table(field.ids)
    result = np.full(size, ids[0])
    best = _interpolate(scores[0], size)
    for channel, label in zip(scores[1:], ids[1:], strict=True):
        occupied = np.nonzero(channel)
        if not occupied[0].size:
            continue
        box = [
            _pixels_around(cells, n, m)
            for cells, n, m in zip(occupied, channel.shape, size, strict=True)
        ]
        part = (box[0], box[1])
        values = _interpolate(channel, size, part)
        wins = values > best[part]
        np.copyto(best[part], values, where=wins)
        result[part][wins] = label
    return result


def _argmax_guided(
    field: LabelField, rgb: UInt8[np.ndarray, "h w 3"]
) -> Integer[np.ndarray, "h w"]:
    """Argmax of the filtered channels, an object only where it may win; the rest is background."""
    size = Size(*rgb.shape[:2])
    scores = field.scores.float().cpu().numpy()
    ids = _id_table(field.ids)
    result = np.full(size, ids[0])
    settings = GuideSettings.of(size)
    contends = (scores[1:] > _CONTENDS * scores.max(0)) & (scores[1:] > 0)
    if not contends.any():
        return result
    picture = _pixels_of(_widened(contends.any(0), size, settings), size, settings)
    guide = Guide(_cut(rgb, picture), settings)
    best = guide.refine(_interpolate(scores[0], size, picture))
    found = np.full(best.shape, ids[0])
    for label, channel, cells in zip(ids[1:], scores[1:], contends, strict=True):
        for piece in _pieces(_widened(cells, size, settings)):
            part = _pixels_of(piece, size, settings)
            here = _within(part, picture)
            values = guide.refine(_interpolate(np.where(piece, channel, 0), size, part), here)
            wins = values > best[here]
            np.copyto(best[here], values, where=wins)
            found[here][wins] = label
    kept = result[picture]
    kept[:] = found[: kept.shape[0], : kept.shape[1]]
    return result


def _widened(
    cells: Bool[np.ndarray, "gh gw"], size: Size, settings: GuideSettings
) -> Bool[np.ndarray, "gh gw"]:
    """Cells that have a say in the filtered scores of some cells, and one more all around."""
    height, width = (
        2 * (-(-settings.reach * count // length) + 1) + 1
        for count, length in zip(cells.shape, size, strict=True)
    )
    return np.asarray(cv2.dilate(cells.astype(np.uint8), np.ones((height, width), np.uint8)) > 0)


def _pieces(cells: Bool[np.ndarray, "gh gw"]) -> Iterator[Bool[np.ndarray, "gh gw"]]:
    """The connected parts: islands far from one another are small, what lies between is not."""
    count, labels = cv2.connectedComponents(cells.astype(np.uint8))
    return (labels == number for number in range(1, count))


def _pixels_of(cells: Bool[np.ndarray, "gh gw"], size: Size, settings: GuideSettings) -> Part:
    """The pixels of some cells, in whole steps of the filter.

    At the right and the lower border it may go on behind the picture.
    """
    step, around = settings.step, []
    for places, count, length in zip(np.nonzero(cells), cells.shape, size, strict=True):
        pixels = _pixels_around(places, count, length, margin=0)
        around.append(slice(pixels.start // step * step, -(-pixels.stop // step) * step))
    return around[0], around[1]


def _within(part: Part, whole: Part) -> Part:
    """The part as seen from the beginning of the whole."""
    rows, columns = (
        slice(inner.start - outer.start, inner.stop - outer.start)
        for inner, outer in zip(part, whole, strict=True)
    )
    return rows, columns


def _cut(rgb: UInt8[np.ndarray, "h w 3"], part: Part) -> UInt8[np.ndarray, "h2 w2 3"]:
    """A part of the picture, which is mirrored behind its borders."""
    inside = rgb[part]
    missing = [side.stop - side.start - n for side, n in zip(part, inside.shape[:2], strict=True)]
    if not any(missing):
        return inside
    return np.asarray(
        cv2.copyMakeBorder(inside, 0, missing[0], 0, missing[1], borderType=cv2.BORDER_REFLECT)
    )


def _pixels_around(cells: np.ndarray, count: int, length: int, margin: int = 1) -> slice:
    """Pixels of an axis that cells lie on; those that interpolation spreads them to lie around."""
    first = max(int(cells.min()) - margin, 0)
    last = min(int(cells.max()) + margin + 1, count)
    return slice(first * length // count, -(-last * length // count))


def _interpolate(
    channel: Float32[np.ndarray, "gh gw"], size: Size, part: tuple[slice, slice] | None = None
) -> Float32[np.ndarray, "h w"]:
    """Bilinear values of a grid at the pixel centres of an image, or of a part of it."""
    if part is None:
        return np.asarray(cv2.resize(channel, (size.width, size.height)))
    # OpenCV can't resize to a part of the result, and its warps round positions to 1/32 cell.
    (above, below, down), (left, right, along) = (
        _neighbours(count, length, pixels)
        for count, length, pixels in zip(channel.shape, size, part, strict=True)
    )
    rows = channel[above] + (channel[below] - channel[above]) * down[:, None]
    start = np.take(rows, left, axis=1)
    return np.asarray(start + (np.take(rows, right, axis=1) - start) * along)


def _neighbours(
    count: int, length: int, pixels: slice
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two cells around each pixel centre of an axis, and the weight of the second."""
    position = (np.arange(pixels.start, pixels.stop) + 0.5) * (count / length) - 0.5
    position = np.clip(position, 0, count - 1)
    first = position.astype(np.int64)
    weight = (position - first).astype(np.float32)
    return first, np.minimum(first + 1, count - 1), weight
