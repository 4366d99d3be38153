"""Confidence and state of objects."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from propagate.confidence import ObjectConfidence, Signals, estimate, measure_masks
from propagate.config import PropagationSettings, preset
from propagate.errors import InputError
from propagate.features.registry import create_extractor
from propagate.labels.masks import encode_masks
from propagate.propagation import Propagator
from propagate.types import FeatureMap, LabelField, Masks, Size
from propagate.video import open_clip

GRID = Size(24, 36)


def reference(*boxes: tuple[int, int, int, int]) -> LabelField:
    """A box of cells (top, bottom, left, right) per object; ids 3, 6, 9, ..."""
    scores = torch.zeros(len(boxes) + 1, *GRID)
    for channel, (top, bottom, left, right) in enumerate(boxes, start=1):
        scores[channel, top:bottom, left:right] = 1
    scores[0] = 1 - scores.sum(0)
    return LabelField(scores, (0, *range(3, 3 * len(boxes) + 1, 3)))


BOX = reference((5, 17, 6, 22))


def voted(field: LabelField, similarity: float = 0.9) -> LabelField:
    return replace(field, similarity=torch.full(GRID, similarity))


def features(seed: int) -> FeatureMap:
    generator = torch.Generator().manual_seed(seed)
    data = torch.randn(32, *GRID, generator=generator)
    return FeatureMap(data, Size(192, 288), Size(192, 288))


def propagated(seed: int) -> ObjectConfidence:
    """The box carried from a map of seed 0 to another."""
    propagator = Propagator(PropagationSettings())
    propagator.step(features(0), BOX)
    return measure_masks(propagator.step(features(seed)), references=[BOX])[3]


def test_a_copy_is_certain_and_scrambled_features_are_lost() -> None:
    copy, scrambled = propagated(0), propagated(1)
    assert copy.confidence > 0.9
    assert copy.state == "visible"
    assert scrambled.confidence < 0.15
    assert scrambled.state == "lost"


def test_what_a_user_gave_is_certain() -> None:
    field = reference((2, 9, 2, 9), (0, 0, 0, 0))
    assert measure_masks(field, references=[field]) == {
        3: ObjectConfidence(1.0, "visible"),
        6: ObjectConfidence(1.0, "occluded"),
    }


def test_an_object_without_pixels_is_occluded() -> None:
    left = reference((5, 6, 6, 7), (20, 22, 20, 22))
    large = reference((0, 18, 0, 18), (20, 22, 20, 22))
    found = measure_masks(voted(left), references=[large])
    assert found[3].state == "occluded"
    assert found[6].state == "visible"
    # Hardly a score anywhere: it surely is not there.
    faint = LabelField(torch.stack([torch.full(GRID, 0.95), torch.full(GRID, 0.05)]), (0, 3))
    hidden = measure_masks(voted(faint), references=[BOX])[3]
    assert hidden.state == "occluded"
    assert hidden.confidence == pytest.approx(0.95)


def test_objects_do_not_depend_on_each_others_order() -> None:
    field = voted(reference((0, 8, 0, 8), (10, 20, 10, 20)), 0.7)
    order = [2, 0, 1]
    turned = LabelField(field.scores[order], tuple(field.ids[i] for i in order), field.similarity)
    one, other = (measure_masks(item, references=[item]) for item in (field, turned))
    assert one == other
    assert list(one) == [3, 6]


shares = st.floats(0, 1)


@given(shares, shares, shares)
def test_more_certain_and_more_alike_is_never_less_confident(a: float, b: float, c: float) -> None:
    low, high = sorted((a, b))
    certain = [estimate(Signals(value, c, 1.0, 9)) for value in (low, high)]
    alike = [estimate(Signals(c, value, 1.0, 9)) for value in (low, high)]
    assert certain[0] <= certain[1]
    assert alike[0] <= alike[1]
    assert all(0 <= value <= 1 for value in certain + alike)


def test_blurred_scores_lower_the_confidence() -> None:
    sharp = BOX.scores[None]
    found = []
    for cells in (1, 5, 9, 15):
        soft = torch.nn.functional.avg_pool2d(sharp, cells, 1, cells // 2, count_include_pad=False)
        found.append(measure_masks(voted(LabelField(soft[0], (0, 3))), references=[BOX])[3])
    values = [item.confidence for item in found]
    assert values == sorted(values, reverse=True)
    assert len(set(values)) == len(values)


def test_passes_that_disagree_make_a_field_less_certain() -> None:
    one, other = voted(BOX), voted(reference((5, 17, 14, 30)))
    mean = replace(one, scores=(one.scores + other.scores) / 2)
    alone, both = (measure_masks(item, references=[BOX])[3] for item in (one, mean))
    assert both.confidence < alone.confidence


def test_confidence_is_checked() -> None:
    with pytest.raises(InputError, match=r"confidence is 1\.5"):
        ObjectConfidence(1.5, "visible")


def test_real_clip_and_a_cut_out_of_it(shared_dir: Path) -> None:
    """The object is found in its own clip, and isn't in another one."""
    davis = shared_dir / "data/DAVIS"
    extractor = create_extractor("efficientnet-lite0", preset("default").options)

    def frame(clip: str, index: int) -> FeatureMap:
        path = davis / "JPEGImages/480p" / clip
        (read,) = open_clip(str(path), frames=f"{index}:{index + 1}")
        # As frames of one clip, which a cut doesn't end.
        return extractor.extract([replace(read, source="clip")])[0]

    mask = np.array(Image.open(davis / "Annotations/480p/bear/00000.png")) > 0
    start = frame("bear", 0)
    settings = preset("default").video.propagation
    given_labels = encode_masks(Masks(mask.astype(np.uint8)), start.grid.finer(settings.patch))
    found = {}
    for clip, index in (("bear", 10), ("swing", 10)):
        propagator = Propagator(settings)
        propagator.step(start, given_labels)
        field = propagator.step(frame(clip, index))
        found[clip] = measure_masks(field, references=[given_labels])[1]
    assert found["bear"].confidence > 0.8
    assert found["bear"].state == "visible"
    assert found["swing"].confidence < 0.4
    assert found["swing"].state == "lost"
