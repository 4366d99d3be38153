"""Every kind of model by its name, folder or expression, through one door."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from propagate.config import PRESETS, ModelOptions
from propagate.errors import InputError, ModelError
from propagate.features.base import FeatureExtractor
from propagate.features.fusion import fuse
from propagate.features.registry import (
    all_families,
    cards,
    create_extractor,
    create_layered,
    find_card,
    locate,
)
from propagate.types import Frame, Size
from tests.tiny_pipeline import save_tiny_pipeline
from tests.tiny_vision import save_tiny_dinov2

CPU = {"device": "cpu", "dtype": "fp32"}
EMBEDDED = "efficientnet-lite0"


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory) -> Path:
    return save_tiny_pipeline(tmp_path_factory.mktemp("tiny"))


def frame(index: int = 0) -> Frame:
    pixels = np.random.default_rng(index).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    return Frame("clip", index, pixels, 0.0, f"{index}")


def extract(model: str, **options) -> torch.Tensor:
    extractor = create_extractor(model, ModelOptions(short_side=96, **CPU, **options))
    assert isinstance(extractor, FeatureExtractor)
    return extractor.extract([frame()])[0].data


def test_a_family_is_found_by_being_there():
    assert {"adm", "cleandift", "diffusers", "efficientnet"} <= all_families().keys()
    for name, family in all_families().items():
        assert family.name == name
        assert {card.name for card in family.cards} <= cards().keys()


def test_every_option_of_a_card_is_one_that_its_family_knows():
    common = {"short_side", "input_size", "resizing"}
    for family in all_families().values():
        for card in family.cards:
            for options in card.knobs.values():
                given = {n for n, v in vars(options).items() if v != getattr(ModelOptions(), n)}
                assert given <= family.options | common, card.name


def test_every_preset_names_a_model_and_options_that_it_has():
    for name, preset in PRESETS.items():
        card = find_card(preset.model)
        family = next(f for f in all_families().values() if card in f.cards)
        given = {n for n, v in vars(preset.options).items() if v != getattr(ModelOptions(), n)}
        shared = {"short_side", "input_size", "dtype", "pca", "whitening"}
        assert given <= family.options | shared, name


def test_what_is_set_goes_over_the_cards_own_knobs():
    own = cards()["dift-sd21"].knobs["semantic"]
    assert own.input_size == (768, 768)
    chosen = ModelOptions(t=7, short_side=320).over(own)
    assert (chosen.t, chosen.short_side, chosen.input_size) == (7, 320, None)
    assert (chosen.up_ft_index, chosen.ensemble_size) == (own.up_ft_index, own.ensemble_size)
    named = ModelOptions(layer="mid_block").over(own)
    assert (named.layer, named.up_ft_index) == ("mid_block", None)
    assert ModelOptions().over(own) == own


def test_the_task_decides_the_defaults(pipeline):
    steps = {
        task: create_extractor(str(pipeline), ModelOptions(**CPU), task=task).identity
        for task in ("propagation", "semantic", "geometric")
    }
    assert [text.split(" t=")[1].split()[0] for text in steps.values()] == ["51", "261", "0"]


def test_models_are_fused_by_weight(pipeline):
    model = f"{pipeline}[t=101]:2+{EMBEDDED}[layer=4]:.5"
    expected = fuse([(extract(str(pipeline), t=101), 2.0), (extract(EMBEDDED, layer="4"), 0.5)])
    torch.testing.assert_close(extract(model), expected)


def test_fused_models_share_the_options_that_they_know(pipeline):
    fused = create_extractor(
        f"{pipeline}+{EMBEDDED}", ModelOptions(t=101, ensemble_size=1, short_side=96, **CPU)
    )
    assert "t=101" in fused.identity
    assert "n=1" in fused.identity
    assert fused.identity.count("short96") == 2
    assert fused.batch_size == 1


def test_a_fused_map_does_not_depend_on_the_other_frames(pipeline):
    options = ModelOptions(short_side=96, ensemble_size=1, **CPU)
    fused = create_extractor(f"{pipeline}+{EMBEDDED}", options)
    frames = [frame(i) for i in range(3)]
    together = fused.extract(frames)
    for i in (2, 0, 1):
        alone = fused.extract([frames[i]])[0]
        assert torch.equal(alone.data, together[i].data)
        assert (alone.grid, alone.image_size) == (Size(12, 16), Size(96, 128))


def test_components_of_a_fused_map(pipeline):
    data = extract(f"{pipeline}+{EMBEDDED}", ensemble_size=1, pca=5)
    assert data.shape == (5, 12, 16)


@pytest.mark.parametrize(
    ("make", "layers"),
    [(None, ("4", "10")), (save_tiny_dinov2, ("0", "1"))],
    ids=["embedded", "vision"],
)
def test_layers_of_one_pass_are_those_of_single_ones(tmp_path, make, layers):
    model = EMBEDDED if make is None else str(make(tmp_path))
    options = ModelOptions(short_side=96, **CPU)
    together = create_layered(model, options, layers)
    (found,) = together.extract_layers([frame()])
    for index, (layer, item) in enumerate(zip(layers, found, strict=True)):
        alone = create_extractor(model, replace(options, layer=layer))
        assert together.layer_identity(index) == alone.identity
        assert torch.equal(alone.extract([frame()])[0].data, item.data)


@pytest.mark.parametrize(
    ("model", "layers", "pca"),
    [
        (f"{EMBEDDED}+{EMBEDDED}", ("4", "10"), None),
        (f"{EMBEDDED}[layer=4]", ("4", "10"), None),
        (EMBEDDED, ("4", "4+10"), None),
        (EMBEDDED, ("4", "10"), 8),
    ],
)
def test_what_one_pass_can_not_give(model, layers, pca):
    assert create_layered(model, ModelOptions(pca=pca), layers) is None


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (EMBEDDED, {"t": 51}, "t set for efficientnet-lite0, which has no such option; leave it"),
        (f"{EMBEDDED}[t=51]", {}, "t set for efficientnet-lite0"),
        (f"{EMBEDDED}+{EMBEDDED}", {"prompt": "a"}, "prompt set for efficientnet-lite0.efficient"),
        (EMBEDDED, {"layer": "up"}, "layer is 'up'; for efficientnet-lite0 it must be a block"),
        (EMBEDDED, {"layer": "16"}, "EfficientNet has no block 16; choose from 0 to 15"),
    ],
)
def test_options_that_do_not_fit_are_refused(model, options, message):
    with pytest.raises(InputError, match=message):
        extract(model, **options)


def test_an_empty_folder_is_no_model(tmp_path):
    with pytest.raises(ModelError, match=r"holds no model that is known here \(it has no files\)"):
        locate(str(tmp_path))
