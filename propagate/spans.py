"""The stretches of a clip that are propagated apart from each other."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from propagate.labels.references import References
from propagate.types import Keypoints, L, Masks


@dataclass(frozen=True)
class Span:
    """The frames from one complete reference up to the next.

    Args:
        left: frame of the complete reference that begins it, None before the first one.
        right: frame of the complete reference it ends before, None after the last one.
    """

    left: int | None
    right: int | None

    def __contains__(self, index: int) -> bool:
        return (self.left is None or index >= self.left) and (
            self.right is None or index < self.right
        )

    def holds(self, references: References[L]) -> tuple[int, ...]:
        """Annotated frames between its ends."""
        return tuple(i for i in references.indices if i in self and i != self.left)


def spans(references: References[Any]) -> list[Span]:
    """The spans of a clip, in its order, the first from its start and the last to its end."""
    ends: list[int | None] = [None, *sorted(references.complete), None]
    return [Span(left, right) for left, right in pairwise(ends)]


def span_key(span: Span, references: References[L]) -> str:
    """Hexadecimal digits that change when any reference in a span or at its ends does."""
    digest = hashlib.blake2b(repr((span.left, span.right)).encode(), digest_size=16)
    indices: set[int] = {*span.holds(references)}
    indices |= {index for index in (span.left, span.right) if index is not None}
    for index in sorted(indices):
        item = references[index]
        digest.update(repr((index, sorted(item.stated), references.ids)).encode())
        digest.update(_content(item.labels))
    return digest.hexdigest()


def _content(labels: Masks | Keypoints) -> bytes:
    if isinstance(labels, Masks):
        return repr((labels.ids.shape, labels.void)).encode() + labels.ids.astype("<i8").tobytes()
    return repr(labels.names).encode() + labels.xy.tobytes() + labels.visible.tobytes()


def backward_start(span: Span, references: References[L]) -> int | None:
    """The annotated frame that a backward pass over a span starts from, or None."""
    if span.right is not None:
        return span.right
    return max(span.holds(references), default=None)
