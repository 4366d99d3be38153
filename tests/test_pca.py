"""Principal components of features."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from propagate.clip_features import frames_to_fit
from propagate.config import ModelOptions, VideoSettings
from propagate.errors import InputError
from propagate.features.base import FeatureExtractor, FittedExtractor
from propagate.features.pca import PCAExtractor, principal_components
from propagate.features.registry import create_extractor
from propagate.pipeline import VideoPropagator
from propagate.types import FeatureMap, Frame, Masks
from tests.test_propagation import Watched


class Given:
    """An extractor of given maps."""

    identity, batch_size = "given", 1

    def __init__(self, *maps: torch.Tensor) -> None:
        self.maps, self.asked = maps, []

    def extract(self, frames):
        self.asked += [frame.index for frame in frames]
        return [FeatureMap(self.maps[f.index % len(self.maps)], f.size, f.size) for f in frames]


def frame(index: int = 0, source: str = "clip") -> Frame:
    return Frame(source, index, np.zeros((8, 8, 3), np.uint8), 0.0, f"{index}")


def random_map(seed: int, channels: int = 6) -> torch.Tensor:
    return torch.randn(channels, 5, 7, generator=torch.Generator().manual_seed(seed))


def test_components_are_those_of_the_singular_values():
    cells = random_map(0).flatten(1).T * torch.tensor([5.0, 4, 3, 2, 1, 0.5])
    mean, basis, deviations = principal_components([cells[:9], cells[9:]], 3)
    _, _, right = torch.linalg.svd(cells - cells.mean(0), full_matrices=False)
    torch.testing.assert_close(mean, cells.mean(0))
    cosines = (basis * right[:3].T).sum(0).abs()
    torch.testing.assert_close(cosines, torch.ones(3))
    along = ((cells - mean) @ basis).double().std(0, correction=0)
    torch.testing.assert_close(deviations, along, rtol=1e-5, atol=1e-6)
    assert (basis.gather(0, basis.abs().argmax(0, keepdim=True)) > 0).all()


def test_all_components_keep_distances():
    extractor = PCAExtractor(Given(random_map(0)), 6)
    (result,) = extractor.extract([frame()])
    unit = torch.nn.functional.normalize(random_map(0), dim=0).flatten(1)
    torch.testing.assert_close(
        torch.cdist(result.data.flatten(1).T, result.data.flatten(1).T),
        torch.cdist(unit.T, unit.T),
        rtol=1e-3,
        atol=1e-3,
    )


def test_components_come_from_the_first_frames_alone():
    maps = [random_map(seed) for seed in range(9)]
    first = PCAExtractor(Given(*maps), 3, fit_frames=2)
    first.fit([frame(i) for i in range(9)])
    later = first.extract([frame(8)])[0].data
    inner = Given(*maps)
    other = PCAExtractor(inner, 3, fit_frames=2)
    other.fit([frame(0), frame(1)])
    assert inner.asked == [0, 1]
    assert torch.equal(other.extract([frame(8)])[0].data, later)
    other.fit([frame(5)])
    assert inner.asked == [0, 1, 8]


def test_a_fit_on_more_frames_replaces_one_on_fewer():
    maps = [random_map(seed) for seed in range(4)]
    looked_at = PCAExtractor(Given(*maps), 3)
    looked_at.extract([frame()])  # as one does to see what comes
    fresh = PCAExtractor(Given(*maps), 3)
    for extractor in (looked_at, fresh):
        extractor.fit([frame(index) for index in range(4)])
    (one,), (other,) = looked_at.extract([frame()]), fresh.extract([frame()])
    assert torch.equal(one.data, other.data)


@pytest.mark.parametrize("task", ["semantic", "geometric"])
def test_components_of_each_clip_match_nothing(task):
    with pytest.raises(InputError, match="components of its own, which match nothing in another"):
        create_extractor("efficientnet-lite0", ModelOptions(pca=8), task=task)


def test_each_clip_has_its_own_components():
    extractor = PCAExtractor(Given(random_map(0), random_map(1)), 2, fit_frames=1)
    alone = extractor.extract([frame(0, "a")])[0].data
    extractor.extract([frame(1, "b")])
    assert torch.equal(extractor.extract([frame(0, "a")])[0].data, alone)
    both = extractor.extract([frame(0, "a"), frame(1, "b")])
    assert torch.equal(both[0].data, alone)


@pytest.mark.parametrize(("shape", "wanted"), [((6, 5, 7), 6), ((9, 2, 3), 6)])
def test_more_components_than_there_are(shape, wanted):
    maps = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    (result,) = PCAExtractor(Given(maps), 64).extract([frame()])
    assert result.data.shape == (wanted, *shape[1:])
    assert result.data.isfinite().all()


def test_it_is_an_extractor_that_is_fitted():
    extractor = create_extractor("efficientnet-lite0", ModelOptions(pca=16, short_side=96))
    assert isinstance(extractor, FeatureExtractor)
    assert isinstance(extractor, FittedExtractor)
    assert extractor.identity.endswith("pca=16/4")
    assert not isinstance(Given(random_map(0)), FittedExtractor)


def test_a_clip_is_fitted_before_it_is_propagated_and_no_map_computed_twice():
    inner = Given(*(random_map(seed) for seed in range(6)))
    masks = Masks(np.eye(64, 96, dtype=np.uint8))
    extractor = PCAExtractor(inner, 3, fit_frames=2)
    settings = VideoSettings(precision="fp32")
    clip = Watched(6)
    list(VideoPropagator(clip, masks, extractor=extractor, settings=settings, device="cpu"))
    assert inner.asked == [0, 1, 2, 3, 4, 5]


def test_another_picture_at_the_place_of_a_fitted_one_is_looked_at():
    inner = Given(random_map(0), random_map(1))
    extractor = PCAExtractor(inner, 3, fit_frames=2)
    extractor.fit([frame(0), frame(1)])
    changed = replace(frame(1), rgb=255 - frame(1).rgb)
    extractor.extract([frame(0), changed, frame(1)])
    assert inner.asked == [0, 1, 1]


@pytest.mark.parametrize("power", [0.25, 1.0])
def test_whitening_divides_by_the_deviation_to_a_power(power):
    scales = torch.tensor([5.0, 4, 3, 2, 1, 0.5])[:, None, None]
    stretched = Given(random_map(0) * scales)
    (plain,) = PCAExtractor(stretched, 4).extract([frame()])
    (lifted,) = PCAExtractor(stretched, 4, whitening=power).extract([frame()])
    before, after = (item.data.flatten(1).std(1, correction=0) for item in (plain, lifted))
    wanted = before / (before / before[0]) ** power
    torch.testing.assert_close(after, wanted, rtol=1e-4, atol=1e-5)


def test_whitening_of_cells_that_are_all_alike_is_finite():
    flat = Given(torch.ones(6, 5, 7))
    (result,) = PCAExtractor(flat, 4, whitening=1.0).extract([frame()])
    assert result.data.isfinite().all()


def test_whitening_tells_maps_apart_on_disk():
    identities = {
        PCAExtractor(Given(random_map(0)), 4, whitening=power).identity
        for power in (0.0, 0.25, 0.5)
    }
    assert len(identities) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"whitening": 1.5}, "whitening is 1.5; it must be from 0"),
        ({"whitening": -0.1}, "whitening is -0.1; it must be from 0"),
    ],
)
def test_whitening_that_makes_no_sense(options, message):
    with pytest.raises(InputError, match=message):
        ModelOptions(**options)


class Pictures:
    """A clip that begins in black."""

    source, estimated_length = "clip", None

    def __init__(self, black: int, length: int) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        self.frames = [
            replace(frame(i), rgb=np.zeros_like(noise) if i < black else noise)
            for i in range(length)
        ]
        self.decoded = 0

    def __iter__(self):
        for item in self.frames:
            self.decoded += 1
            yield item


@pytest.mark.parametrize(
    ("black", "length", "wanted"),
    [
        (0, 9, [0, 1, 2, 3]),
        (3, 9, [3, 4, 5, 6]),
        (7, 9, [7, 8]),
        (9, 9, [0, 1, 2, 3]),
        (0, 2, [0, 1]),
    ],
)
def test_components_are_fitted_on_pictures_of_something(black, length, wanted):
    clip = Pictures(black, length)
    assert [item.index for item in frames_to_fit(clip, 4)] == wanted
    assert clip.decoded == (4 + black if black + 4 <= length else length)
