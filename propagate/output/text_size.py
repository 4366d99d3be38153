"""How large a text of a figure will be, and where to break it, before anything is drawn."""

from __future__ import annotations

import re

from matplotlib.textpath import TextPath

FONT = 9.0
"""Usual size, in points."""
LINE = 0.17
"""Height of a line of that size, in inches."""


def text_width(text: str, size: float = FONT) -> float:
    """Width in inches of the longest line."""
    lines = [line for line in text.split("\n") if line.strip()]
    return max(
        (float(TextPath((0, 0), line, size=size).get_extents().x1) / 72 for line in lines),
        default=0.0,
    )


def text_height(text: str, size: float = FONT) -> float:
    """Height in inches of all lines."""
    return (text.count("\n") + 1) * LINE * size / FONT


def wrapped(text: str, width: float, size: float = FONT) -> str:
    """`text` in lines of up to `width` inches, broken at spaces, or after signs in a long word."""
    words = [piece for word in text.split(" ") for piece in _pieces(word, width, size)]
    lines = [""]
    for piece in words:
        if lines[-1] and text_width((lines[-1] + piece).rstrip(), size) > width:
            lines.append("")
        lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)


def _pieces(word: str, width: float, size: float) -> list[str]:
    if text_width(word, size) <= width:
        return [f"{word} "]
    return re.findall(r"[^+,./_\-]*[+,./_\-]+|[^+,./_\-]+$", word + " ")
