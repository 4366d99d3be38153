"""Frames with known truth on which the confidence is fitted and tested.

Four kinds, from the embedded default on DAVIS-2016 train, every second frame of a clip (every frame
of short ones):

- propagated: the first frame given, the usual pass;
- both ends: first and last frame given, both passes, mean of the two by distance;
- reference alone: the first frame given and no others to vote, as after a cut;
- another clip: the same, but the frame is of another clip, so that the object isn't there.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from propagate.confidence import mask_signals
from propagate.config import preset
from propagate.features.base import FeatureExtractor, FittedExtractor
from propagate.labels.mask_files import read_mask
from propagate.labels.masks import decode_masks, encode_masks
from propagate.metrics.region import jaccard
from propagate.pipeline import first_frames
from propagate.propagation import Propagator
from propagate.types import FeatureMap, Frame, LabelField, Masks
from propagate.video import open_clip

SETTINGS = preset("default").video
SHORT = 40
KINDS = ("propagated", "both ends", "reference alone", "another clip")
ALONE, ELSEWHERE = 6, 4


@dataclass(frozen=True)
class Case:
    """One frame: what the confidence is made of, and the truth.

    Args:
        clip: whose object it is.
        kind: one of `KINDS`.
        index: of the frame.
        certainty: see `propagate.confidence.Signals`.
        similarity: the same.
        peak: the same.
        size: the same.
        jaccard: J of the frame's mask.
    """

    clip: str
    kind: str
    index: int
    certainty: float
    similarity: float
    peak: float
    size: int
    jaccard: float


class Clip:
    """The frames of a clip that are used, their maps and true masks."""

    def __init__(self, data: Path, name: str, extractor: FeatureExtractor) -> None:
        self.name = name
        paths = sorted((data / "Annotations/480p" / name).glob("*.png"))
        self.step = 1 if len(paths) < SHORT else 2
        reader = open_clip(str(data / "JPEGImages/480p" / name))
        if isinstance(extractor, FittedExtractor):
            extractor.fit(first_frames(reader, extractor.fit_frames))
        self.extractor = extractor
        self.frames = list(islice(reader, 0, None, self.step))
        self.maps = [self.features_of(frame) for frame in self.frames]
        self.truth = [
            Masks((read_mask(path).ids > 0).astype(np.uint8)) for path in paths[:: self.step]
        ]

    def features_of(self, frame: Frame) -> FeatureMap:
        """The map of a frame, of any clip, as if it were in this one."""
        own = replace(frame, source=self.frames[0].source)
        return self.extractor.extract([own])[0].normalised(torch.float32)

    def labels(self, position: int) -> LabelField:
        """The true soft labels of a frame, with a channel for the object even if it has gone."""
        grid = self.maps[position].grid.finer(SETTINGS.propagation.patch)
        field = encode_masks(self.truth[position], grid)
        if len(field.ids) == 2:
            return field
        return LabelField(torch.cat([field.scores, torch.zeros_like(field.scores)]), (0, 1))


def case(
    clip: str,
    kind: str,
    index: int,
    field: LabelField,
    frame: Frame,
    truth: Masks | None,
) -> Case:
    """The case of a frame's soft labels; no truth: the object isn't there."""
    signals = mask_signals(field)[1]
    how = SETTINGS.mask_decoding
    decoded = decode_masks(field, frame.size, input_size=frame.size, method=how, rgb=frame.rgb).ids
    true = np.zeros_like(decoded) if truth is None else truth.ids
    return Case(clip, kind, index, *signals, float(jaccard(decoded, true)))


def one_way(clip: Clip, given: Sequence[int], order: Sequence[int]) -> dict[int, LabelField]:
    """Soft labels of the frames in `order`, with some frames given from the start."""
    propagator = Propagator(SETTINGS.propagation)
    for position in given:
        propagator.step(clip.maps[position], clip.labels(position), index=position)
    return {position: propagator.step(clip.maps[position], index=position) for position in order}


def cases_of(clip: Clip, others: Sequence[Clip], kinds: Sequence[str]) -> Iterator[Case]:
    """All cases of a clip; `others` lend frames in which its object isn't."""
    last = len(clip.maps) - 1
    inner = range(1, last)
    if "propagated" in kinds:
        for position, field in one_way(clip, [0], range(1, last + 1)).items():
            yield _own(clip, "propagated", position, field)
    if "both ends" in kinds:
        forward, backward = (one_way(clip, [0, last], order) for order in (inner, inner[::-1]))
        for position in inner:
            field = mixed(forward[position], backward[position], (last - position) / last)
            yield _own(clip, "both ends", position, field)
    if "reference alone" in kinds:
        for position in np.linspace(1, last, ALONE).astype(int).tolist():
            field = one_way(clip, [0], [position])[position]
            yield _own(clip, "reference alone", position, field)
    if "another clip" in kinds:
        chance = random.Random(clip.name)
        for other in chance.sample(list(others), min(ELSEWHERE, len(others))):
            propagator = Propagator(SETTINGS.propagation)
            propagator.step(clip.maps[0], clip.labels(0))
            position = chance.randrange(len(other.maps))
            frame = other.frames[position]
            field = propagator.step(clip.features_of(frame))
            yield case(clip.name, "another clip", position * other.step, field, frame, None)


def mixed(forward: LabelField, backward: LabelField, share: float) -> LabelField:
    """Both passes in one; `share` is what the forward pass counts."""
    assert forward.similarity is not None
    assert backward.similarity is not None
    return LabelField(
        share * forward.scores + (1 - share) * backward.scores,
        forward.ids,
        share * forward.similarity + (1 - share) * backward.similarity,
    )


def _own(
    clip: Clip,
    kind: str,
    position: int,
    field: LabelField,
) -> Case:
    frame, truth = clip.frames[position], clip.truth[position]
    return case(clip.name, kind, position * clip.step, field, frame, truth)


def load(path: Path) -> list[Case]:
    """Cases that were saved."""
    return [Case(**item) for item in json.loads(path.read_text())]


def save(path: Path, cases: Sequence[Case]) -> None:
    """Save cases as JSON."""
    path.write_text(json.dumps([asdict(item) for item in cases]))
