"""Shapes of CVAT's XML: a polygon or mask of one object in one frame.

Source: CVAT's documentation of its XML format.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import numpy as np

from propagate.errors import LabelError
from propagate.labels.outlines import fill
from propagate.labels.rle import runs_to_mask
from propagate.types import Size

if TYPE_CHECKING:
    from jaxtyping import Bool, Float64

OBJECT_ATTRIBUTE = "object"
NAME_ATTRIBUTE = "name"
CONFIDENCE_ATTRIBUTE = "confidence"


@dataclass(frozen=True)
class Shape:
    """A polygon or mask in one frame.

    Args:
        object_id: of the object.
        element: as the file has it.
        place: for messages.
    """

    object_id: int
    element: ET.Element
    place: str

    @property
    def occluded(self) -> bool:
        """Whether something hides a part of it."""
        return self.element.get("occluded") == "1"

    @property
    def outside(self) -> bool:
        """Whether the object is not in this frame."""
        return self.element.get("outside") == "1"

    @property
    def layer(self) -> int:
        """Its z order; the higher is on top."""
        return whole_number(self.element, "z_order", self.place, default=0)

    @property
    def confidence(self) -> float | None:
        """What its attribute says, if it has one."""
        text = attribute_of(self.element, CONFIDENCE_ATTRIBUTE)
        try:
            return float(text) if text else None
        except ValueError as error:
            raise LabelError(f"{self.place}: confidence {text!r} is no number.") from error

    def decode(self, size: Size) -> Bool[np.ndarray, "h w"]:
        """Its pixels.

        Raises:
            LabelError: it is malformed.
        """
        if self.element.tag == "mask":
            return self._decode_mask(size)
        return fill([self._points()], size)

    def _points(self) -> Float64[np.ndarray, "n 2"]:
        text = self.element.get("points", "")
        try:
            points = [[float(value) for value in pair.split(",")] for pair in text.split(";")]
        except ValueError:
            points = []
        finite = all(len(pair) == 2 and all(map(math.isfinite, pair)) for pair in points)
        if len(points) < 3 or not finite:
            shown = text if len(text) <= 40 else f"{text[:37]}..."
            raise LabelError(
                f"{self.place}: the points {shown!r} are not x,y;x,y;... of 3 points or more."
            )
        return np.array(points)

    def _decode_mask(self, size: Size) -> Bool[np.ndarray, "h w"]:
        left, top, width, height = (
            whole_number(self.element, key, self.place)
            for key in ("left", "top", "width", "height")
        )
        fits = width > 0 and height > 0 and left >= 0 and top >= 0
        if not fits or left + width > size.width or top + height > size.height:
            raise LabelError(f"{self.place}: the mask does not lie within its frame of {size}.")
        try:
            runs = [int(run) for run in self.element.get("rle", "").split(",")]
            # CVAT's runs go along the rows, those of COCO down the columns.
            part = runs_to_mask(runs, Size(width, height)).T
        except (ValueError, LabelError) as error:
            raise LabelError(f"{self.place}: rle is malformed: {error}.") from error
        mask = np.zeros(size, dtype=bool)
        mask[top : top + height, left : left + width] = part
        return mask


def attribute_of(element: ET.Element, name: str) -> str:
    """Text of a shape's attribute; empty if it has none of that name."""
    for attribute in element.findall("attribute"):
        if attribute.get("name") == name:
            return (attribute.text or "").strip()
    return ""


def whole_number(element: ET.Element, key: str, place: str, *, default: int | None = None) -> int:
    """A whole number of an XML attribute; `default` if it is absent.

    Raises:
        LabelError: it is none, or absent without a default.
    """
    text = element.get(key)
    if text is None and default is not None:
        return default
    try:
        return int(text or "")
    except ValueError as error:
        raise LabelError(f"{place}: {key} {text!r} is no whole number.") from error
