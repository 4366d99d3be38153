"""The context window and its bookkeeping."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import pytest
import torch

from propagate import affinity, pipeline
from propagate.clip_features import ClipFeatures
from propagate.config import ModelOptions, PropagationSettings, VideoSettings
from propagate.errors import InputError
from propagate.features.registry import create_extractor
from propagate.output.checkpoint import Progressed
from propagate.pipeline import VideoPropagator
from propagate.propagation import ContextEntry, Propagator, similarity_dtype
from propagate.types import ClipLosses, FeatureMap, Frame, LabelField, Masks, Size

GRID = (7, 9)


def features(seed: int) -> FeatureMap:
    generator = torch.Generator().manual_seed(seed)
    data = torch.randn(5, *GRID, generator=generator)
    return FeatureMap(data, Size(70, 90), Size(56, 72))


def labels(ids: tuple[int, ...] = (0, 4), seed: int = 0) -> LabelField:
    generator = torch.Generator().manual_seed(seed)
    return LabelField(torch.rand(len(ids), *GRID, generator=generator).softmax(0), ids)


def test_first_step_returns_the_reference_itself() -> None:
    reference = labels()
    assert Propagator(PropagationSettings()).step(features(0), reference) is reference


def test_context_is_the_reference_and_the_latest_frames() -> None:
    propagator = Propagator(PropagationSettings(n_last_frames=3))
    propagator.step(features(0), labels())
    for i in range(1, 8):
        propagator.step(features(i))
    assert [entry.index for entry in propagator.context] == [0, 5, 6, 7]
    assert [entry.pinned for entry in propagator.context] == [True, False, False, False]


def test_scores_of_a_frame_sum_to_one() -> None:
    propagator = Propagator(PropagationSettings())
    propagator.step(features(0), labels())
    torch.testing.assert_close(propagator.step(features(1)).scores.sum(0), torch.ones(GRID))


def test_a_later_reference_brings_a_new_object_and_keeps_the_old_ids() -> None:
    propagator = Propagator(PropagationSettings(n_last_frames=2))
    propagator.step(features(0), labels((0, 4)))
    propagator.step(features(1))
    propagator.step(features(2), labels((0, 9)))
    result = propagator.step(features(3))
    assert result.ids == (0, 4, 9)
    torch.testing.assert_close(result.scores.sum(0), torch.ones(GRID))
    assert result.scores[2].max() > 0


def test_a_restored_propagator_goes_on_identically() -> None:
    settings = PropagationSettings(n_last_frames=3)
    whole = Propagator(settings)
    whole.step(features(0), labels())
    for i in range(1, 5):
        whole.step(features(i))
    continued = Propagator(settings)
    for entry in whole.context:
        continued.add(ContextEntry(entry.index, features(entry.index), entry.labels, entry.pinned))
    for i in range(5, 9):
        assert torch.equal(whole.step(features(i)).scores, continued.step(features(i)).scores)
    assert [e.index for e in whole.context] == [e.index for e in continued.context]


def test_leaving_products_out_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(2)
    scene, directions = torch.randn(12, 30, 5, generator=generator), torch.randn(5, 32)
    clip = [
        FeatureMap(
            (scene.roll(i, 1) @ directions + 0.1 * torch.randn(12, 30, 32, generator=generator))
            .permute(2, 0, 1)
            .contiguous(),
            Size(96, 240),
            Size(96, 240),
        )
        for i in range(6)
    ]
    first = LabelField(torch.rand(3, 12, 30, generator=generator).softmax(0), (0, 1, 2))

    def found() -> tuple[Propagator, list[torch.Tensor]]:
        propagator = Propagator(PropagationSettings(n_last_frames=3, radius=4))
        propagator.step(clip[0], first)
        return propagator, [propagator.step(frame).scores for frame in clip[1:]]

    propagator, sketched = found()
    if affinity.available(clip[0].data.permute(1, 2, 0)):
        assert all(entry.sketch is not None for entry in propagator.context)
    monkeypatch.setattr("propagate.propagation.basis_of", lambda _: None)
    assert all(torch.equal(a, b) for a, b in zip(sketched, found()[1], strict=True))


def test_first_frame_without_labels() -> None:
    with pytest.raises(InputError, match="The first frame needs labels"):
        Propagator(PropagationSettings()).step(features(0))


def test_labels_on_another_grid() -> None:
    field = LabelField(torch.zeros(1, 3, 3), (0,))
    with pytest.raises(InputError, match="grid of 3x3 cells and the features on 9x7"):
        Propagator(PropagationSettings()).step(features(0), field)


class Still:
    """A clip of three noise pictures."""

    source = "still"
    fps = 24.0
    estimated_length = 3
    losses = ClipLosses()

    def __iter__(self) -> Iterator[Frame]:
        for index in range(3):
            rgb = np.random.default_rng(index).integers(0, 256, (64, 96, 3), dtype=np.uint8)
            yield Frame("still", index, rgb, 0.0, str(index))


def test_a_video_propagator_can_be_iterated_again() -> None:
    ids = np.zeros((64, 96), np.uint8)
    ids[16:40, 24:64] = 1
    options = ModelOptions(short_side=64)
    propagator = VideoPropagator(
        Still(),
        Masks(ids),
        extractor=create_extractor("efficientnet-lite0", options),
        settings=VideoSettings(),
    )
    first, second = ([result.masks.ids for result in propagator] for _ in range(2))
    assert len(first) == len(second) == 3
    np.testing.assert_array_equal(first[0], ids)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def test_features_extracted_ahead_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = np.zeros((64, 96), np.uint8)
    ids[16:40, 24:64] = 1
    clip = Watched(11)

    def found() -> list[torch.Tensor]:
        propagator = VideoPropagator(
            clip, Masks(ids), extractor=Batched(), settings=VideoSettings(precision="fp32")
        )
        return [
            result.field.scores for result in propagator if clip.alive <= 4 * Batched.batch_size
        ]

    plain = found()
    monkeypatch.setattr(pipeline, "ClipFeatures", partial(ahead_of_use, pipeline.ClipFeatures))
    assert len(plain) == 11
    assert all(torch.equal(one, other) for one, other in zip(plain, found(), strict=True))


def ahead_of_use(make: type[ClipFeatures], *args: object, **options: object) -> ClipFeatures:
    """As on a device of its own."""
    return make(*args, **options | {"extract_ahead": True})


class Watched(Still):
    """A longer clip that knows how many of its pictures are still in use."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.frames: list[weakref.ref[Frame]] = []

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self.count):
            rgb = np.full((64, 96, 3), index, np.uint8)
            frame = Frame("watched", index, rgb, 0.0, str(index))
            self.frames.append(weakref.ref(frame))
            yield frame

    @property
    def alive(self) -> int:
        return sum(reference() is not None for reference in self.frames)


def test_no_more_than_a_few_frames_are_held_however_long_the_clip() -> None:
    ids = np.zeros((64, 96), np.uint8)
    ids[16:40, 24:64] = 1
    clip = Watched(40)
    propagator = VideoPropagator(
        clip,
        Masks(ids),
        extractor=create_extractor("efficientnet-lite0", ModelOptions(short_side=64)),
        settings=VideoSettings(propagation=PropagationSettings(n_last_frames=4)),
    )
    for _ in propagator:
        assert clip.alive <= 3
        assert len(propagator.checkpoint().context) <= 5
    assert len(clip.frames) == 1 + 40  # the first one is looked at beforehand


class Batched:
    """An extractor whose maps betray which frames went through it together."""

    identity = "batched"
    batch_size = 4

    def extract(self, frames: Sequence[Frame]) -> list[FeatureMap]:
        shift = sum(10**frame.index % 7919 for frame in frames)
        return [
            FeatureMap(features(frame.index).data + shift % 11, frame.size, frame.size)
            for frame in frames
        ]


@pytest.mark.parametrize("stop", [1, 3, 5, 8])
def test_a_resumed_clip_goes_through_the_network_in_the_same_batches(stop: int) -> None:
    ids = np.zeros((64, 96), np.uint8)
    ids[16:40, 24:64] = 1
    settings = VideoSettings(propagation=PropagationSettings(n_last_frames=2), precision="fp32")

    def propagator(resume: Progressed | None = None) -> VideoPropagator:
        return VideoPropagator(
            Watched(10), Masks(ids), extractor=Batched(), settings=settings, resume=resume
        )

    whole = [result.field.scores for result in propagator()]
    begun = propagator()
    for _ in zip(range(stop), begun, strict=False):
        pass
    resumed = [result.field.scores for result in propagator(begun.checkpoint())]
    assert len(resumed) == 10 - stop
    for one, other in zip(whole[stop:], resumed, strict=True):
        assert torch.equal(one, other)


def test_the_first_frame_stands_in_for_frames_to_come() -> None:
    settings = PropagationSettings(n_last_frames=3, repeat_first=True)
    propagator = Propagator(settings)
    size = Size(4, 4)
    features = FeatureMap(torch.ones(2, 4, 4), size, size)
    propagator.step(features, LabelField(torch.ones(1, 4, 4), (0,)))
    for done in range(5):
        kept = [(entry.index, entry.pinned) for entry in propagator.context]
        latest = [(0, False)] * max(3 - done, 0) + [(i, False) for i in range(1, done + 1)][-3:]
        assert kept == [(0, True), *latest]
        propagator.step(features)


@pytest.mark.parametrize(("has", "expected"), [(True, torch.float32), (False, torch.bfloat16)])
def test_the_compiled_search_goes_before_bf16(
    monkeypatch: pytest.MonkeyPatch, has: bool, expected: torch.dtype
) -> None:
    monkeypatch.setattr("propagate.features.device._cpu_has_bf16", lambda: True)
    monkeypatch.setattr("propagate.propagation.compiled", lambda: has)
    assert similarity_dtype("auto", torch.device("cpu")) is expected
    assert similarity_dtype("bf16", torch.device("cpu")) is torch.bfloat16
