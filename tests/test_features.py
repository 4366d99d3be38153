"""Extractors that need no download, the cache around them, and fusion."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from propagate.config import ModelOptions
from propagate.errors import InputError
from propagate.features import efficientnet
from propagate.features.base import FeatureExtractor
from propagate.features.cache import FeatureCache
from propagate.features.efficientnet import EfficientNetExtractor, EfficientNetSettings
from propagate.features.fusion import fuse
from propagate.features.registry import create_extractor
from propagate.types import FeatureMap, Frame, Size


def frame(index: int = 0, size: tuple[int, int] = (96, 128), source: str = "clip") -> Frame:
    rng = np.random.default_rng(index)
    return Frame(source, index, rng.integers(0, 256, (*size, 3), dtype=np.uint8), 0.0, str(index))


class Counting:
    """An extractor that counts what it computes."""

    identity = "counting"
    batch_size = 2

    def __init__(self) -> None:
        self.computed: list[int] = []

    def extract(self, frames: Sequence[Frame]) -> list[FeatureMap]:
        self.computed += [f.index for f in frames]
        return [
            FeatureMap(torch.randn(4, 3, 5, generator=_seeded(f.index)), f.size, f.size)
            for f in frames
        ]


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def embedded() -> FeatureExtractor:
    return create_extractor("efficientnet-lite0", ModelOptions(short_side=96))


def test_embedded_model_gives_unit_vectors_at_stride_8(embedded: FeatureExtractor) -> None:
    (features,) = embedded.extract([frame()])
    assert features.grid == Size(12, 16)
    torch.testing.assert_close(features.data.norm(dim=0), torch.ones(12, 16))


def test_embedded_model_is_independent_of_batch_and_order(embedded: FeatureExtractor) -> None:
    frames = [frame(i) for i in range(3)]
    together = embedded.extract(frames)
    for i in (2, 0, 1):
        assert torch.equal(embedded.extract([frames[i]])[0].data, together[i].data)


@pytest.mark.parametrize("groups", [1, 6])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (3, 2), (5, 2)])
def test_same_padding_is_as_defined(kernel: int, stride: int, groups: int) -> None:
    conv = efficientnet._SameConv(6, 6, kernel, stride, groups=groups)
    for height, width in itertools.product((7, 8, 9, 12), (10, 11)):
        x = torch.randn(2, 6, height, width)
        total = [max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in (width, height)]
        pads = [part for pad in total for part in (pad // 2, pad - pad // 2)]
        padded = torch.nn.functional.pad(x, pads)
        expected = torch.nn.functional.conv2d(padded, conv.weight, conv.bias, stride, groups=groups)
        torch.testing.assert_close(conv(x), expected)


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("groups", [1, 6])
def test_a_clipped_convolution_ends_with_a_relu6(
    monkeypatch: pytest.MonkeyPatch, groups: int, at_once: bool
) -> None:
    if not at_once:
        monkeypatch.setattr(efficientnet, "_clips_at_once", lambda _: False)
    conv = efficientnet._SameConv(6, 6, 3, 2, groups=groups).requires_grad_(False)
    x = 20 * torch.randn(2, 6, 9, 12, generator=torch.Generator().manual_seed(0))
    plain = conv(x)
    conv.clipped = True
    torch.testing.assert_close(conv(x), torch.nn.functional.relu6(plain))
    assert plain.min() < 0
    assert plain.max() > 6


def test_embedded_model_recognises_a_flipped_image_cell_by_cell(embedded: FeatureExtractor) -> None:
    """Features describe content: a mirrored picture's best matches are mirrored too."""
    y, x = np.mgrid[:96, :128]
    blob = (255 * np.exp(-((y - 40) ** 2 + (x - 30) ** 2) / 300)).astype(np.uint8)
    rgb = np.stack([blob, 255 - blob, np.full_like(blob, 90)], -1)
    plain, mirrored = (
        embedded.extract([Frame("c", i, np.ascontiguousarray(image), 0.0, "x")])[0].data
        for i, image in enumerate((rgb, rgb[:, ::-1]))
    )
    best = (plain[:, 5, 4] @ mirrored.flatten(1)).argmax().item()
    assert abs(best % 16 - (15 - 4)) <= 1
    assert abs(best // 16 - 5) <= 1


def test_layer_weights_are_shares_of_the_cosine() -> None:
    one, two = torch.randn(2, 3, 4, 4, generator=_seeded(0))
    fused = fuse([(one, 3.0), (two, 1.0)])
    cosine = [torch.nn.functional.normalize(m, dim=0)[:, 0] for m in (one, two)]
    expected = 0.75 * cosine[0].T @ cosine[0] + 0.25 * cosine[1].T @ cosine[1]
    torch.testing.assert_close(fused[:, 0].T @ fused[:, 0], expected)


def test_fusion_takes_the_finest_grid() -> None:
    fused = fuse([(torch.ones(2, 3, 4), 1.0), (torch.ones(5, 6, 8), 1.0)])
    assert fused.shape == (7, 6, 8)


def test_fusion_on_a_coarser_grid_takes_the_mean_over_each_cell() -> None:
    fine, coarse = torch.randn(4, 6, 8), torch.randn(3, 3, 4)
    fused = fuse([(fine, 1.0), (coarse, 3.0)], (3, 4))
    unit = [torch.nn.functional.normalize(part, dim=0) for part in (fine, coarse)]
    means = unit[0].unfold(1, 2, 2).unfold(2, 2, 2).mean((3, 4))
    wanted = torch.cat([means * 0.25**0.5, unit[1] * 0.75**0.5])
    torch.testing.assert_close(fused, torch.nn.functional.normalize(wanted, dim=0))


def test_a_layer_of_stride_4_goes_to_the_grid_of_stride_8() -> None:
    options = {
        layer: ModelOptions(short_side=96, layer=layer) for layer in ("2", "1+2", "2:.5+4+10")
    }
    grids = {
        layer: create_extractor("efficientnet-lite0", how).extract([frame(0)])[0].grid
        for layer, how in options.items()
    }
    assert grids == {"2": Size(24, 32), "1+2": Size(24, 32), "2:.5+4+10": Size(12, 16)}


def test_layers_with_weights_are_read_from_text() -> None:
    known = create_extractor("efficientnet-lite0", ModelOptions(layer="2:0.5+4+10:2")).identity
    assert "/blocks2x0.5+4x1+10x2/" in known
    with pytest.raises(InputError, match="each with its weight as 2:0.5"):
        create_extractor("efficientnet-lite0", ModelOptions(layer="4:"))


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((), "at least one layer"),
        (((16, 1.0),), "no block 16; choose from 0 to 15"),
        (((4, 0.0),), "weight 0.0; it must be greater than 0"),
    ],
)
def test_impossible_layers(layers: tuple[tuple[int, float], ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        EfficientNetSettings(layers=layers)


def test_identity_tells_settings_apart() -> None:
    settings = (EfficientNetSettings(), EfficientNetSettings(layers=((4, 1.0),)))
    first, second = (EfficientNetExtractor(s).identity for s in settings)
    assert first != second


def test_diffusion_options_do_not_fit_the_embedded_model() -> None:
    with pytest.raises(
        InputError, match=r"ensemble_size, t set for efficientnet-lite0, which has no such option"
    ):
        create_extractor("efficientnet-lite0", ModelOptions(t=51, ensemble_size=4))


def test_cache_computes_each_frame_once() -> None:
    counting = Counting()
    cache = FeatureCache(counting, capacity=4, dtype=torch.bfloat16)
    cache.extract([frame(0), frame(1)])
    again = cache.extract([frame(1), frame(2), frame(0)])
    assert counting.computed == [0, 1, 2]
    assert all(m.unit and m.data.dtype == torch.bfloat16 for m in again)


def test_cache_is_bounded_and_drops_the_oldest() -> None:
    counting = Counting()
    cache = FeatureCache(counting, capacity=3, dtype=torch.float32)
    for i in range(10):
        cache.extract([frame(i)])
        assert len(cache) <= 3
    assert cache.nbytes == 3 * 4 * 3 * 5 * 4
    cache.extract([frame(9), frame(7)])
    assert counting.computed == list(range(10))
    cache.extract([frame(0)])
    assert counting.computed[-1] == 0


def test_cache_tells_clips_apart() -> None:
    counting = Counting()
    cache = FeatureCache(counting, capacity=4, dtype=torch.float32)
    cache.extract([frame(0, source="a")])
    cache.extract([frame(0, source="b")])
    assert counting.computed == [0, 0]


def test_cached_map_shares_memory_with_its_users() -> None:
    cache = FeatureCache(Counting(), capacity=2, dtype=torch.float32)
    (first,), (second,) = cache.extract([frame(0)]), cache.extract([frame(0)])
    assert first.data.data_ptr() == second.data.data_ptr()
    assert first.normalised(torch.float32) is first


def test_cache_capacity() -> None:
    with pytest.raises(InputError, match="capacity is 0 maps; it must be 1 or more"):
        FeatureCache(Counting(), capacity=0, dtype=torch.float32)


def test_cache_is_an_extractor() -> None:
    assert isinstance(FeatureCache(Counting(), capacity=1, dtype=torch.float32), FeatureExtractor)


def test_embedded_network_equals_the_reference_package() -> None:
    """Every block, against values made by tests/golden/make_efficientnet.py."""
    golden = json.loads((Path(__file__).parent / "golden/efficientnet_lite0.json").read_text())
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(224.0), indexing="ij")
    waves = [(y * a + x * b).sin() * 127 + 128 for a, b in ((0.1, 0.03), (0.02, 0.2), (0.3, 0.1))]
    network = EfficientNetExtractor(EfficientNetSettings(layers=((15, 1.0),)))._network
    outputs = network(torch.stack(waves)[None].to(torch.uint8))
    assert len(outputs) == len(golden) == 16
    for output, expected in zip(outputs, golden, strict=True):
        assert list(output.shape[1:]) == expected["shape"]
        assert output.double().abs().mean().item() == pytest.approx(expected["mean_abs"], rel=1e-5)
        flat = output.flatten()
        values = flat[:: max(len(flat) // 7, 1)][:7].tolist()
        assert values == pytest.approx(expected["values"], abs=2e-3, rel=1e-4)
