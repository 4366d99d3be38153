"""What comes of a frame: its labels, decoded from soft ones, and how sure they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic

from propagate.confidence import ObjectConfidence, measure_masks
from propagate.labels.codec import Codec
from propagate.labels.references import References
from propagate.output.checkpoint import Progressed
from propagate.stopwatch import Stopwatch
from propagate.types import Frame, Keypoints, L, LabelField, Masks, Size


@dataclass(frozen=True)
class FrameResult(Generic[L]):
    """One labelled frame.

    Args:
        frame: the picture.
        labels: of the kind of the references; what a reference says is exactly as it was given.
        field: the soft labels they were decoded from, or the reference as such.
        confidence: of each object, where the labels are masks; keypoints have their own.
    """

    frame: Frame
    labels: L
    field: LabelField
    confidence: Mapping[int, ObjectConfidence]

    @property
    def masks(self: FrameResult[Masks]) -> Masks:
        """The labels of a clip with masks."""
        return self.labels

    @property
    def keypoints(self: FrameResult[Keypoints]) -> Keypoints:
        """The labels of a clip with keypoints."""
        return self.labels


@dataclass(frozen=True)
class Pending(Generic[L]):
    """A result that is still to be decoded, which the next frame need not wait for.

    Args:
        finish: gives the result, in any thread.
        reached: what must be saved to continue after it.
    """

    finish: Callable[[], FrameResult[L]]
    reached: Progressed

    def __call__(self) -> tuple[FrameResult[L], Progressed]:
        """Finish."""
        return self.finish(), self.reached


class ResultMaker(Generic[L]):
    """Makes results of soft labels.

    Args:
        references: of the clip.
        codec: of their labels.
        clock: collects the seconds spent in "labels".
    """

    def __init__(self, references: References[L], codec: Codec[L], clock: Stopwatch) -> None:
        self._references: References[L] = references
        self._codec: Codec[L] = codec
        self._clock = clock

    def given(self, frame: Frame, field: LabelField) -> FrameResult[L]:
        """The result of a frame whose reference is complete; `field` are its soft labels."""
        labels = self._references[frame.index].labels
        known = _given_confidence(self._references.ids if isinstance(labels, Masks) else ())
        return FrameResult(frame, labels, field, known)

    def decoded(
        self, frame: Frame, field: LabelField, input_size: Size, near: Sequence[LabelField]
    ) -> FrameResult[L]:
        """The result of a frame that labels were voted for.

        Args:
            frame: the picture.
            field: its soft labels.
            input_size: size that the network saw it at.
            near: soft labels of the complete references around it.
        """
        reference = self._references.get(frame.index)
        with self._clock.measure("labels"):
            seen = field if reference is None else self._codec.without(field, reference.stated)
            labels = self._codec.decode(
                seen, image_size=frame.size, input_size=input_size, rgb=frame.rgb
            )
            if reference is not None:
                labels = self._codec.restore(labels, reference.labels, reference.stated)
            known: dict[int, ObjectConfidence] = {}
            if isinstance(labels, Masks):
                known = measure_masks(field, references=near)
                known |= _given_confidence(reference.stated if reference else ())
        return FrameResult(frame, labels, field, known)


def _given_confidence(ids: Iterable[int]) -> dict[int, ObjectConfidence]:
    return {i: ObjectConfidence(1.0, "given") for i in ids}
