"""Is this file the mask its owner meant? Everything that can be told before any long work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from propagate.errors import InputError, LabelError
from propagate.labels.mask_files import MaskFile, read_mask
from propagate.labels.soft_edges import is_photo, made_up_ids
from propagate.types import Masks, Size

if TYPE_CHECKING:
    from pathlib import Path

    from jaxtyping import UInt8

Void = int | Literal["auto"] | None

MAX_COLORS = 64
SMALL_OBJECT = 16
VOID_ID = 255
BINARIZE_HINT = (
    "or pass --binarize to turn all that is at least half as bright as the brightest pixel into "
    "one object"
)


@dataclass(frozen=True, repr=False)
class ReferenceMask:
    """A mask that passed the checks.

    Args:
        masks: the ids, with void decided.
        notes: sentences for the user about what was assumed or looks odd.
        palette: uint8 [n, 3], the colours of an indexed file, for writing results alike.
    """

    masks: Masks
    notes: tuple[str, ...]
    palette: UInt8[np.ndarray, "n 3"] | None

    def __repr__(self) -> str:
        return f"ReferenceMask({self.masks!r}, notes={list(self.notes)})"


def load_reference_mask(
    path: str | Path,
    *,
    frame_size: Size,
    void: Void = "auto",
    binarize: bool = False,
    trust_ids: bool = False,
    may_be_empty: bool = False,
) -> ReferenceMask:
    """Read a mask and check that it fits its frame and holds ids, not shades.

    Args:
        path: any file that `read_mask` reads.
        frame_size: size of the annotated frame in pixels.
        void: id whose pixels are unknown; None for none; "auto" takes 255 where it occurs beside
            other ids (DAVIS 2017, VOC), but not where it is the only object (DAVIS 2016) or where
            there are ids above it.
        binarize: make everything bright object 1, see `read_mask`; for soft or compressed masks.
        trust_ids: leave out the search for shades, for real objects that look like some.
        may_be_empty: accept a mask without any object, which says that they are gone.

    Raises:
        LabelError: the file is missing, no image, a JPEG or a photo, has soft edges, does not
            have the size of the frame, or holds no object.
        InputError: `void` is no id.
    """
    if void is not None and void != "auto" and void < 1:
        raise InputError(f"void is {void}; it must be an id of 1 or more, 'auto' or None.")
    file = read_mask(path, binarize=binarize)
    if not binarize:
        _check_format(file)
    _check_size(file, frame_size)
    if not binarize:
        _check_shades(file, trust_ids=trust_ids)
    void_id, void_notes = _choose_void(file, void)
    masks = Masks(file.ids, void=void_id)
    if not may_be_empty:
        _check_not_empty(file, masks)
    notes = (*file.notes, *_reading_notes(file), *void_notes, *_content_notes(masks))
    return ReferenceMask(masks, notes, file.palette)


def _check_format(file: MaskFile) -> None:
    # MPO is what many cameras and phones call their JPEGs.
    if file.format in ("JPEG", "MPO", "JPEG2000"):
        raise LabelError(
            f"The mask {file.path} is a JPEG, whose compression changes the ids along every edge; "
            f"save it as PNG, {BINARIZE_HINT}."
        )


def _check_size(file: MaskFile, frame: Size) -> None:
    height, width = file.ids.shape
    if (height, width) == tuple(frame):
        return
    if (width, height) == tuple(frame):
        fix = "it looks rotated, so turn it by 90 degrees"
    elif abs(height * frame.width - width * frame.height) <= max(frame):
        # Rounding a resized side to whole pixels moves the ratio by up to half a pixel.
        fix = f"resize it to {frame} with nearest-neighbour interpolation"
    else:
        fix = "its aspect ratio differs too, so it may belong to another clip or be cropped"
    raise LabelError(f"The mask {file.path} is {Size(height, width)} but its frame {frame}; {fix}.")


def _check_shades(file: MaskFile, *, trust_ids: bool) -> None:
    if len(file.colors) > MAX_COLORS:
        raise LabelError(
            f"The mask {file.path} holds {len(file.colors)} colours, like a photo or a blurred "
            f"mask; give each object one flat colour, at most {MAX_COLORS}, {BINARIZE_HINT}."
        )
    if trust_ids:
        return
    n_ids = len(np.unique(file.ids))
    if is_photo(file):
        raise LabelError(
            f"The mask {file.path} holds {n_ids} grey levels that change from pixel to pixel, like "
            f"a photo; give each object one flat level, {BINARIZE_HINT}, or pass --trust-ids if "
            "they are real ids."
        )
    made_up = made_up_ids(file)
    if made_up:
        raise LabelError(
            f"The mask {file.path} holds {n_ids} ids, of which {len(made_up)} "
            f"({_listed(made_up)}) occur only along edges, as antialiasing or lossy compression "
            f"leaves them; save it as PNG without antialiasing, {BINARIZE_HINT}, or pass "
            "--trust-ids if they are real ids."
        )


def _choose_void(file: MaskFile, void: Void) -> tuple[int | None, tuple[str, ...]]:
    if void != "auto":
        return void, ()
    present = set(Masks(file.ids).object_ids)
    if VOID_ID not in present:
        return None, ()
    if present == {VOID_ID}:
        note = "Id 255 is the only one, so it is taken as an object; pass --void 255 if it is not."
        return None, (note,)
    if max(present) > VOID_ID:
        note = "There are ids above 255, so 255 is an object too; pass --void 255 if it is not."
        return None, (note,)
    note = "Id 255 occurs beside other ids, so its pixels count as unknown; pass --void none if "
    return VOID_ID, (f"{note}it is an object.",)


def _check_not_empty(file: MaskFile, masks: Masks) -> None:
    if not masks.object_ids:
        only = "background (0)" if masks.void is None else f"background (0) and void ({masks.void})"
        raise LabelError(
            f"The mask {file.path} holds nothing but {only}; paint at least one object, or add "
            ":all to the file's name in --ref if all are gone from the frame."
        )


def _reading_notes(file: MaskFile) -> tuple[str, ...]:
    if file.encoding == "binarised":
        return (f"{file.path.name} was binarised: object 1 covers {file.ids.mean():.1%} of it.",)
    if not file.colors:
        return ()
    pairs = [f"{color} is {object_id}" for object_id, color in file.colors]
    return (f"Each colour of {file.path.name} was read as one id: {_listed(pairs)}.",)


def _content_notes(masks: Masks) -> tuple[str, ...]:
    notes = []
    ids, areas = np.unique(masks.ids, return_counts=True)
    if ids[0] != 0:
        notes.append("No pixel is background (0); every pixel belongs to an object or is void.")
    small = [
        f"{i} ({area} px)"
        for i, area in zip(ids.tolist(), areas.tolist(), strict=True)
        if area < SMALL_OBJECT and i not in (0, masks.void)
    ]
    if small:
        notes.append(f"These objects are so small that they may get lost: {_listed(small)}.")
    return tuple(notes)


def _listed(items: tuple[int, ...] | list[str], limit: int = 8) -> str:
    """The first items, and how many more there are."""
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(str(item) for item in items[:limit]) + more
