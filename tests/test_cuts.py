"""Scene cuts from feature maps, and what the propagation does at one."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from propagate.config import PRESETS, PropagationSettings, preset
from propagate.cuts import continuity
from propagate.errors import InputError
from propagate.features.registry import create_extractor
from propagate.propagation import ContextEntry, Propagator
from propagate.types import FeatureMap, LabelField, Size
from propagate.video import open_clip

GRID = (24, 36)
CUT_BELOW = preset("keypoints").video.propagation.cut_below
WATCHFUL = PropagationSettings(n_last_frames=3, radius=4, cut_below=CUT_BELOW)


def shot(scene: int, frame: int = 0, *, shift: int = 0) -> FeatureMap:
    """A frame of a scene: blobs of some cells, and noise of its own."""
    generator = torch.Generator().manual_seed(scene)
    blobs = torch.randn(1, 16, 8, 12, generator=generator)
    data = torch.nn.functional.interpolate(blobs, size=GRID, mode="bilinear")[0]
    generator.manual_seed(1000 * scene + frame)
    noisy = data.roll(shift, dims=2) + 0.3 * torch.randn(data.shape, generator=generator)
    # What all cells have in common, as maps of networks do.
    return FeatureMap(noisy + 2, Size(96, 144), Size(96, 144)).normalised(torch.float32)


def labels() -> LabelField:
    inside = torch.zeros(GRID)
    inside[6:15, 8:20] = 1
    return LabelField(torch.stack([1 - inside, inside]), (0, 1))


@given(scene=st.integers(0, 50), frame=st.integers(1, 50), shift=st.integers(-3, 3))
def test_frames_of_a_shot_go_on_and_frames_of_two_shots_do_not(
    scene: int, frame: int, shift: int
) -> None:
    first, next_one, other = shot(scene), shot(scene, frame, shift=shift), shot(scene + 1, frame)
    assert continuity(first, next_one) > CUT_BELOW > continuity(first, other)
    assert continuity(first, next_one) == pytest.approx(continuity(next_one, first), abs=1e-5)


def test_a_copy_goes_on_and_so_does_a_picture_of_one_colour() -> None:
    assert continuity(shot(0), shot(0)) == pytest.approx(1, abs=1e-5)
    black = FeatureMap(torch.ones(16, *GRID), Size(96, 144), Size(96, 144)).normalised(
        torch.float32
    )
    assert continuity(black, black) == 1
    assert continuity(black, shot(0)) < CUT_BELOW


@pytest.mark.parametrize("grid", [(1, 1), (1, 9), (5, 3), (100, 20)])
def test_any_grid_will_do(grid: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    maps = [
        FeatureMap(torch.randn(8, *grid, generator=generator), Size(8, 8), Size(8, 8)).normalised(
            torch.bfloat16
        )
        for _ in range(2)
    ]
    assert -1.01 <= continuity(*maps) <= continuity(maps[0], maps[0]) + 0.01


def test_maps_must_fit() -> None:
    small = FeatureMap(torch.ones(16, 4, 4), Size(8, 8), Size(8, 8))
    with pytest.raises(InputError, match="one extractor at one size"):
        continuity(shot(0), small)


def run(clip: list[tuple[int, FeatureMap]], settings: PropagationSettings) -> Propagator:
    propagator = Propagator(settings)
    for position, (index, features) in enumerate(clip):
        propagator.step(features, labels() if position == 0 else None, index=index)
    return propagator


@pytest.mark.parametrize("backward", [False, True])
def test_no_recent_frame_votes_across_a_cut(backward: bool) -> None:
    scenes = [0, 0, 0, 0, 1, 1, 1]
    clip = [(index, shot(scene, index)) for index, scene in enumerate(scenes)]
    if backward:
        clip = [(len(clip) - 1 - index, features) for index, features in clip]
    indices = [index for index, _ in clip]
    before = run(clip[:4], WATCHFUL)
    assert [entry.index for entry in before.context] == indices[:4]
    result = before.step(clip[4][1], index=clip[4][0])
    alone = run(clip[:1], WATCHFUL)
    assert torch.equal(result.scores, alone.step(clip[4][1]).scores)
    assert [entry.index for entry in run(clip, WATCHFUL).context] == [indices[0], *indices[4:]]


def test_a_clip_without_cuts_is_labelled_the_same() -> None:
    both = [Propagator(WATCHFUL), Propagator(replace(WATCHFUL, cut_below=0))]
    for index in range(7):
        features = shot(3, index, shift=index)
        one, other = (
            propagator.step(features, labels() if index == 0 else None) for propagator in both
        )
        assert torch.equal(one.scores, other.scores)


def test_a_run_restored_at_a_cut_goes_on_identically() -> None:
    clip = [(index, shot(int(index >= 4), index)) for index in range(8)]
    for stop in (4, 5, 6):
        whole = run(clip[:stop], WATCHFUL)
        restored = Propagator(WATCHFUL)
        for entry in whole.context:
            restored.add(ContextEntry(entry.index, entry.features, entry.labels, entry.pinned))
        for index, features in clip[stop:]:
            one, other = (each.step(features, index=index) for each in (whole, restored))
            assert torch.equal(one.scores, other.scores)


def test_a_cut_without_recent_frames_is_none() -> None:
    propagator = Propagator(replace(WATCHFUL, n_last_frames=0))
    propagator.step(shot(0), labels())
    assert propagator.step(shot(1)).ids == (0, 1)


def test_published_presets_have_no_cuts() -> None:
    watchful = {name for name, item in PRESETS.items() if item.video.propagation.cut_below}
    assert watchful == {"default", "best", "fast", "keypoints"}


def test_cut_below_is_checked() -> None:
    with pytest.raises(InputError, match="cut_below is 2; it must be from 0"):
        PropagationSettings(cut_below=2)


@pytest.mark.parametrize("name", ["default", "keypoints"])
def test_real_clips(name: str, shared_dir: Path) -> None:
    folder = shared_dir / "data/DAVIS/JPEGImages/480p"
    settings = preset(name)
    extractor = create_extractor(settings.model, replace(settings.options, short_side=240))
    cut_below = settings.video.propagation.cut_below
    clips = [
        list(open_clip(str(folder / clip), frames="40:43"))
        for clip in ("motocross-bumps", "elephant")
    ]
    for frames in clips:
        for one, other in pairwise(extractor.extract(frames)):
            assert continuity(one, other) > cut_below
    joined = [replace(frames[0], source="clip") for frames in clips]
    assert continuity(*extractor.extract(joined)) < cut_below
