"""Labels of any frames and objects: what they mean, and what two passes make of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from propagate.config import PropagationSettings, VideoSettings
from propagate.errors import ClipError, InputError
from propagate.labels.codec import MaskCodec, codec_for
from propagate.labels.references import (
    Reference,
    References,
    keypoint_references,
    mask_references,
)
from propagate.output.workspace import Workspace
from propagate.pipeline import VideoPropagator
from propagate.propagation import ContextEntry, Propagator
from propagate.results import FrameResult
from propagate.spans import Span, span_key, spans
from propagate.two_way import fuse
from propagate.types import FeatureMap, LabelField, Masks, Size
from tests.moving_clip import Colours, MovingClip, jaccard, true_ids, true_masks, true_points

SETTINGS = VideoSettings(
    propagation=PropagationSettings(n_last_frames=3, radius=5), precision="fp32"
)


def propagated(references: Any, **options: Any) -> list[FrameResult[Any]]:
    options = {"extractor": Colours(), "settings": SETTINGS, "device": "cpu"} | options
    return list(VideoPropagator(MovingClip(), references, **options))


def blank(*present: int) -> Masks:
    """A mask with a pixel of each object."""
    ids = np.zeros((4, 8), np.uint8)
    ids[0, : len(present)] = present
    return Masks(ids)


@pytest.mark.parametrize(
    ("masks", "complete"),
    [
        ({0: (1, 2)}, {0}),
        ({0: (1, 2), 9: (1, 2)}, {0, 9}),
        ({0: (1, 2), 9: (1,)}, {0}),
        ({0: (1,), 9: (1, 2)}, {0, 9}),
        ({0: (1,), 9: (2,)}, {0}),
        ({5: (2,), 2: (1,), 9: (1, 2)}, {2, 9}),
    ],
)
def test_a_reference_is_complete_when_it_states_all_that_is_known_by_then(
    masks: dict[int, tuple[int, ...]], complete: set[int]
) -> None:
    found = mask_references({index: blank(*ids) for index, ids in masks.items()})
    assert found.complete == complete
    assert found.indices == tuple(sorted(masks))


def test_an_object_that_is_said_to_be_gone_is_stated() -> None:
    found = mask_references({0: blank(1, 2), 9: blank(1)}, stated={9: (1, 2)})
    assert found.complete == {0, 9}
    assert found.ids == (1, 2)


def test_spans_lie_between_complete_references() -> None:
    found = mask_references({2: blank(1, 2), 5: blank(1), 9: blank(1, 2)})
    assert spans(found) == [Span(None, 2), Span(2, 9), Span(9, None)]
    assert Span(2, 9).holds(found) == (5,)
    assert [1 in span for span in spans(found)] == [True, False, False]
    assert [9 in span for span in spans(found)] == [False, False, True]


def test_the_key_of_a_span_changes_with_its_own_references_alone() -> None:
    def keys(masks: dict[int, Masks]) -> list[str]:
        found = mask_references(masks)
        return [span_key(span, found) for span in spans(found)]

    before = {0: blank(1, 2), 4: blank(1, 2), 9: blank(2, 1)}
    changed = keys(before | {4: blank(2, 1)})
    assert [a == b for a, b in zip(keys(before), changed, strict=True)] == [
        True,
        False,
        False,
        True,
    ]
    partly = keys(before | {6: blank(1)})
    assert [a == b for a, b in zip(keys(before), partly, strict=True)] == [True, True, False, True]


def test_nonsense_is_refused() -> None:
    with pytest.raises(InputError, match="no reference"):
        mask_references({})
    with pytest.raises(InputError, match="Frame 3 has two references"):
        References([Reference(3, blank(1), frozenset({1}))] * 2)
    with pytest.raises(InputError, match="says nothing about any object"):
        mask_references({0: blank()})
    with pytest.raises(InputError, match="The mask of frame 5 is 8x4 and the clip 72x48"):
        propagated({0: true_masks(0), 5: blank(1)})
    with pytest.raises(ClipError, match="no frame 40"):
        propagated({0: true_masks(0), 40: true_masks(0)})


MASK_CASES: dict[str, dict[int, Masks]] = {
    "the last frame alone": {11: true_masks(11)},
    "one in the middle": {6: true_masks(6)},
    "both ends": {0: true_masks(0), 11: true_masks(11)},
    "a new object": {0: true_masks(0), 8: true_masks(8)},
    "a new object alone": {0: true_masks(0), 8: true_masks(8, 2)},
    "a correction of one object": {5: true_masks(5), 9: true_masks(9, 1)},
}


@pytest.mark.parametrize("case", MASK_CASES)
def test_every_frame_is_labelled_and_references_come_back_exactly(case: str) -> None:
    masks = MASK_CASES[case]
    results = propagated(masks)
    assert [result.frame.index for result in results] == list(range(12))
    references = mask_references(masks)
    for result in results:
        index, ids = result.frame.index, result.masks.ids
        if index in references.complete:
            np.testing.assert_array_equal(ids, masks[index].ids)
        elif index in references:
            for i in references[index].stated:
                np.testing.assert_array_equal(ids == i, masks[index].ids == i)
        for i in (1, 2):
            true = true_ids(index) == i
            # A thin slice of the square is less than a cell of the grid.
            if true.sum() > 80:
                assert jaccard(ids == i, true) > 0.45, (index, i)


def test_keypoints_of_any_frame_and_any_of_the_points() -> None:
    points = {0: true_points(0, "disc"), 6: true_points(6), 10: true_points(10, "square")}
    results = propagated(points)
    assert [str(name) for name in results[0].keypoints.names] == ["disc", "square"]
    for result in results:
        index, found = result.frame.index, result.keypoints
        true = true_points(index)
        for row in range(2):
            if true.visible[row] and (row == 0 or index >= 5):
                assert np.abs(found.xy[row] - true.xy[row]).max() < 4, (index, row)
    np.testing.assert_array_equal(results[6].keypoints.xy, points[6].xy)
    np.testing.assert_array_equal(results[10].keypoints.xy[1], points[10].xy[0])
    np.testing.assert_array_equal(results[0].keypoints.xy[0], points[0].xy[0])
    assert not results[0].keypoints.visible[1]


def test_directions_end_where_they_are_told() -> None:
    masks = {4: true_masks(4), 8: true_masks(8)}
    for direction, frames in (("forward", range(4, 12)), ("backward", range(9))):
        results = propagated(masks, settings=replace(SETTINGS, direction=direction))
        assert [result.frame.index for result in results] == list(frames), direction
        np.testing.assert_array_equal(results[frames.index(8)].masks.ids, true_ids(8))


def maps_and_codec(references: References[Masks]) -> tuple[list[FeatureMap], Any]:
    maps = [Colours().extract([frame])[0].normalised(torch.float32) for frame in MovingClip()]
    return maps, codec_for(references, SETTINGS)


def plain_pass(
    order: Iterable[int], references: References[Masks], maps: list[FeatureMap], codec: Any
) -> dict[int, LabelField]:
    """Soft labels of a stretch, voted by all references and its own latest results."""
    going = Propagator(SETTINGS.propagation)
    for item in references:
        size = maps[item.index].image_size
        field = codec.encode(item.labels, maps[item.index].grid, image_size=size)
        going.add(ContextEntry(item.index, maps[item.index], field, pinned=True))
    return {index: going.step(maps[index], index=index) for index in order}


def test_two_passes_are_what_the_words_say() -> None:
    """Between complete references, against both passes written out and held in memory."""
    references = mask_references({0: true_masks(0), 9: true_masks(9)})
    results = propagated(references)
    maps, codec = maps_and_codec(references)
    ahead = plain_pass(range(1, 9), references, maps, codec)
    back = plain_pass(range(8, 0, -1), references, maps, codec)
    for index in range(1, 9):
        share = (9 - index) / 9
        field = fuse(ahead[index], back[index], [share] * 3)
        torch.testing.assert_close(results[index].field.scores, field.scores, atol=1e-6, rtol=0)
    for index, field in plain_pass(range(10, 12), references, maps, codec).items():
        torch.testing.assert_close(results[index].field.scores, field.scores, atol=1e-6, rtol=0)


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_fusing_stays_between_both_and_goes_with_the_surer(data: st.DataObject) -> None:
    seed = data.draw(st.integers(0, 99))
    a, b = torch.rand(2, 2, 3, 4, generator=torch.Generator().manual_seed(seed))
    shares = data.draw(st.lists(st.floats(0, 1), min_size=2, max_size=2))
    fused = fuse(LabelField(a, (0, 1)), LabelField(b, (0, 1)), shares).scores
    assert (fused >= torch.minimum(a, b) - 1e-6).all()
    assert (fused <= torch.maximum(a, b) + 1e-6).all()
    for scores, one in ((a, 1.0), (b, 0.0)):
        only = fuse(LabelField(a, (0, 1)), LabelField(b, (0, 1)), [one, one])
        torch.testing.assert_close(only.scores, scores)
    sharp = torch.zeros(2, 3, 4)
    sharp[0] = 1
    mixed = fuse(LabelField(sharp, (0, 1)), LabelField(a, (0, 1)), [0.5, 0.5]).scores
    assert (mixed[0] - sharp[0]).abs().sum() <= (mixed[0] - a[0]).abs().sum() + 1e-5


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 99), st.sets(st.sampled_from([1, 2, 3]), min_size=1))
def test_amended_soft_labels_are_as_given_and_sum_to_one(seed: int, stated: set[int]) -> None:
    rng = np.random.default_rng(seed)
    codec = MaskCodec((1, 2, 3))
    scores = torch.from_numpy(rng.dirichlet([0.3] * 4, (5, 6)).astype(np.float32)).permute(2, 0, 1)
    masks = Masks(rng.integers(0, 4, (10, 12)).astype(np.uint8))
    said = codec.encode(masks, Size(5, 6), image_size=masks.size)
    field = codec.amend(LabelField(scores, (0, 1, 2, 3)), said, stated)
    torch.testing.assert_close(field.scores.sum(0), torch.ones(5, 6))
    for i in stated:
        assert torch.equal(field.scores[i], said.scores[i])
    free = codec.without(field, stated)
    decoded = codec.decode(free, image_size=masks.size, input_size=masks.size)
    restored = codec.restore(decoded, masks, stated).ids
    for i in stated:
        np.testing.assert_array_equal(restored == i, masks.ids == i)


class CutShortError(Exception):
    """Stands for a process that is killed."""


class Fuse(Colours):
    """An extractor that fails at the n-th frame."""

    def __init__(self, frames: int) -> None:
        super().__init__()
        self.left = frames

    def extract(self, frames: Any) -> list[FeatureMap]:
        self.left -= len(frames)
        if self.left < 0:
            raise CutShortError
        return super().extract(frames)


def burning(at: str, after: int) -> Callable[[str, int | None, Iterable[Any]], Iterable[Any]]:
    """A progress that fails in a stage, after some of its frames."""

    def progress(title: str, total: int | None, items: Iterable[Any]) -> Iterable[Any]:
        for number, item in enumerate(items):
            if title == at and number == after:
                raise CutShortError
            yield item

    return progress


@pytest.mark.parametrize("stage", ["extracting", "forward", "backward"])
@pytest.mark.parametrize("after", [0, 3])
def test_what_passes_left_is_not_computed_again(tmp_path: Path, stage: str, after: int) -> None:
    masks = {2: true_masks(2), 7: true_masks(7, 1), 9: true_masks(9)}
    whole = propagated(masks)
    workspace = Workspace(folder=tmp_path / "cache")
    with pytest.raises(CutShortError):
        propagated(masks, workspace=workspace, progress=burning(stage, after))
    extractor = Colours()
    resumed = propagated(masks, workspace=workspace, extractor=extractor)
    for one, other in zip(whole, resumed, strict=True):
        np.testing.assert_array_equal(one.masks.ids, other.masks.ids)
        assert torch.equal(one.field.scores, other.field.scores)
    if stage != "extracting":
        assert min(extractor.seen) >= 8


@pytest.mark.parametrize("stop", [1, 4, 9, 11])
@pytest.mark.parametrize("direction", ["auto", "forward"])
def test_a_cut_stream_goes_on_with_the_same_bits(tmp_path: Path, stop: int, direction: str) -> None:
    masks = {0: true_masks(0), 5: true_masks(5), 8: true_masks(8, 1)}
    settings = replace(SETTINGS, direction=direction)
    workspace = Workspace(folder=tmp_path / "cache")
    options: dict[str, Any] = {"extractor": Colours(), "settings": settings, "device": "cpu"}
    whole = list(VideoPropagator(MovingClip(), masks, **options))
    begun = VideoPropagator(MovingClip(), masks, workspace=workspace, **options)
    for _ in zip(range(stop), begun, strict=False):
        pass
    going = VideoPropagator(
        MovingClip(), masks, workspace=workspace, resume=begun.checkpoint(), **options
    )
    rest = list(going)
    assert [result.frame.index for result in rest] == list(range(stop, 12))
    for one, other in zip(whole[stop:], rest, strict=True):
        assert torch.equal(one.field.scores, other.field.scores)


def test_spans_that_are_skipped_cost_nothing(tmp_path: Path) -> None:
    masks = {0: true_masks(0), 4: true_masks(4), 8: true_masks(8)}
    whole = propagated(masks)
    extractor = Colours()
    some = propagated(masks, extractor=extractor, skip=[Span(0, 4), Span(8, None)])
    assert [result.frame.index for result in some] == [4, 5, 6, 7]
    for result in some:
        expected = whole[result.frame.index]
        assert torch.equal(result.field.scores, expected.field.scores)
    assert len(extractor.seen) < 12 + 1


def test_names_of_keypoints_are_joined_in_the_order_they_appear() -> None:
    found = keypoint_references({5: true_points(5, "square"), 1: true_points(1, "disc")})
    assert [str(name) for name in found[5].labels.names] == ["disc", "square"]
    assert found[5].stated == {2}
    assert np.isnan(found[5].labels.xy[0]).all()
    assert found.complete == {1}
