"""Vision models of transformers: every map against the untouched model's own forward pass."""

from __future__ import annotations

import json
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from propagate.config import ModelOptions
from propagate.errors import InputError, ModelError
from propagate.features import hub, registry
from propagate.features.card import ModelCard, Repository
from propagate.features.families.vision import FAMILY
from propagate.features.fusion import fuse
from propagate.features.quiet import quiet_libraries
from propagate.features.registry import create_extractor
from propagate.features.vision.architecture import describe
from propagate.features.vision.extractor import VisionExtractor
from propagate.features.vision.layers import vision_layers
from propagate.features.vision.loading import read_normalisation
from propagate.features.vision.sizes import LongSideSize
from propagate.types import Frame, Size
from tests import tiny_vision as tiny

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)  # as the tiny models' preprocessor has them
SIZE = (112, 224)  # a multiple of every patch and stride here, and not what any was trained at

# Maker, class, list of blocks, final norm that is applied, tokens before the image's, patch.
COLUMNS = {
    "vit": (tiny.save_tiny_vit, "ViTModel", "layers", "layernorm", 1, 8),
    "deit": (tiny.save_tiny_deit, "DeiTModel", "layers", "layernorm", 2, 8),
    "dinov2": (tiny.save_tiny_dinov2, "Dinov2Model", "encoder.layer", "layernorm", 1, 14),
    "dinov2-reg": (
        tiny.save_tiny_dinov2_registers,
        "Dinov2WithRegistersModel",
        "encoder.layer",
        "layernorm",
        4,
        14,
    ),
    "dinov3": (tiny.save_tiny_dinov3, "DINOv3ViTModel", "model.layer", "norm", 3, 16),
    "clip": (tiny.save_tiny_clip, "CLIPModel", "encoder.layers", None, 1, 16),
    "clip-vision": (
        lambda folder: tiny.save_tiny_clip(folder, vision_only=True),
        "CLIPVisionModel",
        "encoder.layers",
        None,
        1,
        16,
    ),
    "siglip": (tiny.save_tiny_siglip, "SiglipModel", "encoder.layers", None, 0, 16),
}
STAGED_SIZE = (64, 96)
# Maker, class, strides of the stages.
STAGES = {
    "swin": (tiny.save_tiny_swin, "SwinModel", (4, 8, 16)),
    "swinv2": (tiny.save_tiny_swinv2, "Swinv2Model", (4, 8, 16)),
    "convnext": (tiny.save_tiny_convnext, "ConvNextModel", (4, 8, 16)),
    "resnet": (tiny.save_tiny_resnet, "ResNetModel", (4, 8, 16)),
    "dinov3-convnext": (tiny.save_tiny_dinov3_convnext, "DINOv3ConvNextModel", (4, 8, 16, 32)),
}


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("vision")
    with quiet_libraries():
        return {name: row[0](root / name) for name, row in {**COLUMNS, **STAGES}.items()}


@pytest.fixture
def vit(folders, tmp_path) -> Path:
    """A copy of the ViT that a test may spoil."""
    return Path(shutil.copytree(folders["vit"], tmp_path / "vit"))


def frame(index: int = 0, size: tuple[int, int] = SIZE) -> Frame:
    rng = np.random.default_rng(index)
    return Frame("clip", index, rng.integers(0, 256, (*size, 3), dtype=np.uint8), 0.0, str(index))


def extractor(folder: Path, **options) -> VisionExtractor:
    settings = {"input_size": SIZE, "dtype": "fp32", "device": "cpu", **options}
    made = create_extractor(str(folder), ModelOptions(**settings))
    assert isinstance(made, VisionExtractor)
    return made


def files_of(folder: Path) -> hub.ResolvedModel:
    return registry.locate(str(folder)).files


def features(folder: Path, **options) -> torch.Tensor:
    """The map of a frame that has the network's input size."""
    size = options.get("input_size", SIZE)
    return extractor(folder, **options).extract([frame(size=size)])[0].data


def untouched(folder: Path, kind: str) -> torch.nn.Module:
    """The model as transformers loads it; of CLIP and SigLIP the image's half."""
    with quiet_libraries():
        whole = getattr(transformers, kind).from_pretrained(folder, dtype=torch.float32).eval()
    return getattr(whole, "vision_model", whole)


def pixels(size: tuple[int, int] = SIZE) -> torch.Tensor:
    values = torch.from_numpy(frame(size=size).rgb).permute(2, 0, 1)[None].double() / 255
    normalised = (values - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    return normalised.float()


@torch.no_grad()
def run(model: torch.nn.Module, size: tuple[int, int] = SIZE, **options):
    try:
        return model(pixels(size), interpolate_pos_encoding=True, **options)
    except TypeError:
        return model(pixels(size), **options)


def as_map(
    tokens: torch.Tensor, prefix: int, patch: int, size: tuple[int, int] = SIZE
) -> torch.Tensor:
    """Tokens [1, n, c] without the first ones, laid out by hand."""
    grid = size[0] // patch, size[1] // patch
    rows = tokens[0, prefix:].tolist()
    assert len(rows) == grid[0] * grid[1]
    cells = [rows[y * grid[1] : (y + 1) * grid[1]] for y in range(grid[0])]
    return torch.tensor(cells).permute(2, 0, 1)


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    scale = theirs.abs().max()
    torch.testing.assert_close(ours / scale, theirs / scale, atol=1e-5, rtol=1e-5)


# --- transformers of one resolution


@pytest.mark.parametrize("name", COLUMNS)
def test_tokens_are_the_hidden_states_of_the_model(folders, name):
    _, kind, _, norm, prefix, patch = COLUMNS[name]
    model = untouched(folders[name], kind)
    states = run(model, output_hidden_states=True).hidden_states
    assert len(states) == 4
    for block in range(3):
        with torch.no_grad():
            tokens = states[block + 1] if norm is None else getattr(model, norm)(states[block + 1])
        close(features(folders[name], layer=str(block)), as_map(tokens, prefix, patch))


@pytest.mark.parametrize("name", ["vit", "dinov2-reg", "dinov3"])
def test_the_default_is_what_the_model_itself_gives_last(folders, name):
    _, kind, _, _, prefix, patch = COLUMNS[name]
    last = run(untouched(folders[name], kind)).last_hidden_state
    close(features(folders[name]), as_map(last, prefix, patch))


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("facet", ["query", "key", "value"])
def test_facets_are_the_projections_of_a_block(folders, name, facet):
    _, kind, blocks, _, prefix, patch = COLUMNS[name]
    model = untouched(folders[name], kind)
    attention = "self_attn" if blocks == "encoder.layers" else "attention"
    seen = []
    projection = model.get_submodule(f"{blocks}.1.{attention}.{facet[0]}_proj")
    projection.register_forward_hook(lambda module, inputs, output: seen.append(output))
    run(model)
    close(features(folders[name], layer="1", facet=facet), as_map(seen[0], prefix, patch))


def test_positions_are_interpolated_for_other_sizes(folders):
    model = untouched(folders["vit"], "ViTModel")
    table = model.embeddings.position_embeddings[0, 1:].detach()
    grid = SIZE[0] // 8, SIZE[1] // 8
    at_size = torch.nn.functional.interpolate(
        table.T.reshape(1, 16, 4, 4), size=grid, mode="bicubic"
    )
    patches = torch.nn.functional.conv2d(
        pixels(), *model.embeddings.patch_embeddings.projection.parameters(), stride=8
    )
    close(features(folders["vit"], layer="embeddings"), (patches + at_size)[0].detach())


def test_several_layers_are_fused(folders):
    (fused,) = extractor(folders["dinov2"], layer="0+2").extract([frame()])
    parts = [features(folders["dinov2"], layer=layer) for layer in ("0", "2")]
    assert fused.unit
    close(fused.data, fuse([(part, 1.0) for part in parts]))


def test_what_comes_after_the_last_layer_is_given_up(folders):
    for name, blocks, last in (("clip", "encoder.layers", "post_layernorm"), ("vit", "layers", "")):
        network = extractor(folders[name], layer="1")._network
        given_up = [isinstance(b, torch.nn.Identity) for b in network.get_submodule(blocks)]
        assert given_up == [False, False, True]
        assert isinstance(network.get_submodule(last or "layernorm"), torch.nn.Identity)
    network = extractor(folders["swinv2"], layer="0")._network
    assert [
        path for path, _ in network.named_parameters() if path.startswith("encoder.layers.1")
    ] == []


def test_only_the_image_half_of_clip_is_loaded(folders):
    assert type(extractor(folders["clip"])._network).__name__ == "CLIPVisionModel"


def test_a_module_is_taken_as_it_is(folders):
    states = run(untouched(folders["vit"], "ViTModel"), output_hidden_states=True).hidden_states
    close(features(folders["vit"], layer="layers.1"), as_map(states[2], 1, 8))


# --- networks of stages


def stage_maps(model: torch.nn.Module, name: str) -> list[torch.Tensor]:
    """Maps of all stages, each before the step to the next resolution."""
    found = []
    parent = model.model if name == "dinov3-convnext" else model.encoder
    for stage in getattr(parent, "layers", None) or parent.stages:
        ends = stage.blocks[-1] if name.startswith("swin") else stage
        ends.register_forward_hook(lambda module, inputs, output: found.append(output))
    run(model, STAGED_SIZE)
    return [item[0] if isinstance(item, tuple) else item for item in found]


@pytest.mark.parametrize("name", STAGES)
def test_stages_are_numbered_by_resolution(folders, name):
    _, kind, strides = STAGES[name]
    theirs = stage_maps(untouched(folders[name], kind), name)
    for stage, (stride, expected) in enumerate(zip(strides, theirs, strict=True)):
        ours = features(folders[name], layer=str(stage), input_size=STAGED_SIZE)
        assert ours.shape[1:] == (64 // stride, 96 // stride)
        tokens = expected.ndim == 3
        close(ours, as_map(expected, 0, stride, STAGED_SIZE) if tokens else expected[0])
    default = features(folders[name], input_size=STAGED_SIZE)
    last_but_one = str(len(strides) - 2)
    assert torch.equal(default, features(folders[name], input_size=STAGED_SIZE, layer=last_but_one))


# --- what a map depends on


@pytest.mark.parametrize("name", [*COLUMNS, *STAGES])
def test_a_map_depends_on_its_frame_alone(folders, name):
    frames = [frame(index, (60, 100)) for index in range(3)]
    batched = extractor(folders[name], input_size=None, short_side=64, batch_size=3)
    together = [item.data for item in batched.extract(frames)]
    alone = [batched.extract([one])[0].data for one in reversed(frames)][::-1]
    one_by_one = extractor(folders[name], input_size=None, short_side=64, batch_size=1)
    for first, second, third in zip(together, alone, one_by_one.extract(frames), strict=True):
        close(first, second)
        assert torch.equal(second, third.data)
    assert not torch.equal(together[0], together[1])


def test_no_frames_give_no_maps(folders):
    assert extractor(folders["vit"]).extract([]) == []


def test_frames_are_resized_and_normalised(folders):
    small = frame(size=(50, 90))
    (found,) = extractor(folders["vit"], input_size=None, short_side=64).extract([small])
    assert (found.image_size, found.input_size) == (Size(50, 90), Size(64, 112))
    assert found.grid == Size(8, 14)
    assert found.data.dtype == torch.float32


def test_identity_tells_settings_apart(folders, tmp_path):
    vit = folders["vit"]
    copy = Path(shutil.copytree(vit, tmp_path / "copy"))
    settings = [
        {},
        {"layer": "1"},
        {"layer": "layers.2"},  # the default block, without the norm
        {"layer": "1+2"},
        {"facet": "key"},
        {"facet": "query"},
        {"dtype": "bf16"},
        {"input_size": (64, 64)},
        {"input_size": None, "short_side": 64},
    ]
    identities = [extractor(vit, **each).identity for each in settings]
    identities += [extractor(copy).identity, extractor(folders["dinov2"]).identity]
    assert len(set(identities)) == len(identities)
    assert extractor(vit).identity == identities[0]


@pytest.mark.parametrize("name", ["vit", "dinov3", "swinv2", "resnet"])
@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_half_precision_is_near(folders, name, dtype):
    full, half = (features(folders[name], layer="0", dtype=kind) for kind in ("fp32", dtype))
    assert half.dtype == torch.float32
    assert 0 < (full - half).norm() / full.norm() < 0.03


def test_batches_follow_from_the_memory(folders):
    assert extractor(folders["vit"]).batch_size == 1
    assert extractor(folders["vit"], batch_size=5).batch_size == 5
    some = [extractor(folders["vit"], memory=giga).batch_size for giga in (1e-6, 1e-3, 1.0)]
    assert some[0] == 1 < some[1] < some[2]


def test_features_that_are_not_finite_are_refused(vit):
    weights = load_file(vit / "model.safetensors")
    weights["encoder.layer.1.output.dense.weight"][0, 0] = float("inf")
    save_file(weights, vit / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="frame 3 are not finite in fp32; use dtype"):
        extractor(vit).extract([frame(3)])


def test_blocks_are_compiled_and_what_is_tapped_inside_is_not(folders, monkeypatch):
    compiled = []

    def note(forward, **options):
        compiled.append(forward.__self__)
        return forward

    monkeypatch.setattr(torch, "compile", note)
    for name, layer, facet, expected in (
        ("vit", "1", "token", {"layers.0", "layers.1"}),
        ("dinov2", "1", "key", {"encoder.layer.0"}),
        ("clip", "encoder.layers.1.mlp", "token", {"encoder.layers.0"}),
        ("swin", "1", "token", {f"encoder.layers.{b}" for b in ("0.blocks.0", "1.blocks.0")}),
        ("convnext", "1", "token", {"encoder.stages.0", "encoder.stages.1"}),
    ):
        compiled.clear()
        ours = extractor(folders[name], layer=layer, facet=facet, compile=True)
        names = {path for path, module in ours._network.named_modules() if module in compiled}
        assert expected <= names
        assert not any(inner.startswith(f"{outer}.") for outer in names for inner in names)
        assert not any(tapped.module.startswith(f"{n}.") for n in names for tapped in ours._layers)
        plain = features(folders[name], layer=layer, facet=facet)
        assert torch.equal(ours.extract([frame()])[0].data, plain)


# --- what cannot be


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("vit", {"layer": "3"}, "layer is '3'; this vit has blocks 0 to 2"),
        ("vit", {"layer": "-1"}, "layer is '-1'; this vit has blocks 0 to 2"),
        ("convnext", {"layer": "7"}, "layer is '7'; this convnext has stages 0 to 2"),
        ("vit", {"layer": "1+1"}, "layer is '1\\+1', which has one of them twice"),
        ("vit", {"layer": "layers.9"}, "no layer 'layers.9'; closest are"),
        ("swin", {"facet": "key"}, "facet is 'key', and a swin has no key of a whole image"),
        ("resnet", {"facet": "value"}, "facet is 'value', and a resnet has no value"),
        ("vit", {"layer": "layers.1", "facet": "key"}, "layer 'layers.1' is no number of a bl"),
        ("vit", {"input_size": (64, 60)}, "input_size is 60x64; .*multiples of 8"),
        ("resnet", {"layer": "encoder.stages.0.layers.0.nothing"}, "no layer"),
        ("vit", {"t": 5}, "t set for"),
    ],
)
def test_options_that_a_model_does_not_have(folders, name, options, message):
    with pytest.raises(InputError, match=message):
        extractor(folders[name], **options)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        # 16 windows of 16 tokens each, which would be a grid of 4x4.
        ("swin", "encoder.layers.0.blocks.0.attention.q_proj"),
        # Channels last.
        ("convnext", "encoder.stages.0.layers.0.pwconv1"),
        # One cell for the whole image.
        ("siglip", "head.mlp"),
    ],
)
def test_what_is_no_map_of_the_image_is_refused(folders, name, layer):
    with pytest.raises(InputError, match=f"Layer '{layer}' gives .*no map of each; choose"):
        extractor(folders[name], layer=layer, input_size=(64, 64))


def test_images_smaller_than_a_window_are_refused(folders):
    small = extractor(folders["swin"], input_size=(48, 64))
    with pytest.raises(InputError, match="would be 64x48 pixels; both sides must be at least 64"):
        small.extract([frame()])


def other_model(folder: Path, kind: str, **config) -> Path:
    """Any model of transformers, small and random."""
    settings = transformers.AutoConfig.for_model(kind, **config)
    with quiet_libraries():
        transformers.AutoModel.from_config(settings).save_pretrained(folder)
    return folder


def test_a_network_without_numbers_goes_by_names(tmp_path):
    config = {"depth_multiplier": 0.25, "hidden_size": 8}
    folder = other_model(tmp_path / "mobile", "mobilenet_v1", **config)
    with pytest.raises(InputError, match="No layer is known to be good in a mobilenet_v1; .*--lay"):
        extractor(folder, input_size=(96, 96))
    with pytest.raises(InputError, match="layer is '3', and the blocks of a mobilenet_v1 have no"):
        extractor(folder, input_size=(96, 96), layer="3")
    assert "layer.6" in {info.name for info in vision_layers(files_of(folder))}
    (found,) = extractor(folder, input_size=(96, 192), layer="layer.6").extract([frame()])
    assert found.grid == Size(12, 24)


def test_a_network_of_one_size_says_so(tmp_path):
    config = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "mlp_dim": 32}
    config |= {"image_size": 64, "patch_size": 16, "output_channels": 8, "window_size": 2}
    config |= {"global_attn_indexes": [0], "num_pos_feats": 8}
    folder = other_model(tmp_path / "sam", "sam_vision_model", **config)
    # Its blocks have channels last.
    listed = {info.name: (info.channels, info.stride) for info in vision_layers(files_of(folder))}
    assert listed == {"vision_encoder.neck": (8, 16), "vision_encoder": (8, 16)}
    neck = {"layer": "vision_encoder.neck"}
    assert features(folder, input_size=(64, 64), **neck).shape == (8, 4, 4)
    with pytest.raises(InputError, match="can't take an input of 96x64 .*such as the 64x64 it was"):
        features(folder, input_size=(64, 96), **neck)


def test_special_tokens_of_a_head_are_not_counted(tmp_path):
    config = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config |= {"intermediate_size": 16, "image_size": 32, "patch_size": 8}
    folder = other_model(tmp_path / "aim", "aimv2_vision_model", **config)
    assert features(folder, input_size=(32, 32), layer="encoder.layers.0").shape == (16, 4, 4)


# --- loading


def test_pickled_weights_are_read_as_tensors(vit, folders):
    expected = features(folders["vit"])
    assert files_of(tiny.pickle_weights(vit)).layout.files[-1] == "pytorch_model.bin"
    assert torch.equal(features(vit), expected)


class Malicious:
    """Runs a command when it is unpickled without care."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def test_pickles_that_would_run_code_are_refused(vit, tmp_path):
    weights = load_file(vit / "model.safetensors")
    marker = tmp_path / "was-run"
    torch.save({**weights, "extra": Malicious(marker)}, vit / "pytorch_model.bin")
    (vit / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="hold more than tensors, and are refused because .*code"):
        extractor(vit)
    assert not marker.exists()
    pickle.loads(pickle.dumps(Malicious(marker)))
    assert marker.exists()


def test_safetensors_come_before_pickles(vit):
    (vit / "pytorch_model.bin").write_bytes(b"never read")
    assert files_of(vit).layout.files[-1] == "model.safetensors"
    extractor(vit)


def test_half_precision_files_serve_where_there_are_no_others(vit, folders):
    weights = {name: weight.half() for name, weight in load_file(vit / "model.safetensors").items()}
    save_file(weights, vit / "model.fp16.safetensors", {"format": "pt"})
    assert files_of(vit).layout.files[-1] == "model.safetensors"
    (vit / "model.safetensors").unlink()
    assert 0 < (features(vit) - features(folders["vit"])).abs().max() < 0.01


def test_shards_are_put_together(folders, tmp_path):
    with quiet_libraries():
        network = transformers.ViTModel.from_pretrained(folders["vit"])
        network.save_pretrained(tmp_path, max_shard_size="8KB")
    shutil.copy(folders["vit"] / "preprocessor_config.json", tmp_path)
    names = files_of(tmp_path).layout.files
    assert "model.safetensors.index.json" in names
    assert len(names) > 4
    assert torch.equal(features(tmp_path), features(folders["vit"]))


def test_pickled_shards_are_found():
    shards = ("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin")
    present = ["config.json", "pytorch_model.bin.index.json", *shards, "open_clip_model.bin"]
    assert FAMILY.matches(present)
    layout = FAMILY.select(present, "it")
    assert layout.files == ("config.json", "pytorch_model.bin.index.json", *shards)


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        (["config.json", "model.safetensors"], True),
        (["config.json", "model.safetensors.index.json"], True),
        (["config.json", "pytorch_model.bin"], True),
        (["config.json"], False),
        (["model.safetensors"], False),
        (["config.json", "model.safetensors", "model_index.json"], False),
        (["config.json", "model.safetensors", "unet/config.json"], False),
        (["config.json", "model.safetensors", "transformer/config.json"], False),
    ],
)
def test_which_folders_are_vision_models(present, expected):
    assert FAMILY.matches(present) is expected


@pytest.mark.parametrize(
    ("present", "message"),
    [
        (["model.safetensors"], "it is not a complete model: it has no config.json"),
        (["config.json"], "it has no model.safetensors"),
        (["config.json", "flax_model.ckpt"], "flax_model.ckpt only.*run any code"),
    ],
)
def test_files_that_are_missing(present, message):
    with pytest.raises(ModelError, match=message):
        FAMILY.select(present, "it")


def test_weights_that_lack_tensors(vit):
    weights = load_file(vit / "model.safetensors")
    del weights["encoder.layer.2.attention.attention.key.bias"]
    save_file(weights, vit / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="lack 1 tensors that .*layers.2.attention.k_proj.bias"):
        extractor(vit)


def test_weights_that_are_cut_off(vit):
    weights = vit / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ModelError, match="could not be loaded .*damaged"):
        extractor(vit)


def test_weights_of_another_shape(vit):
    edit_json(vit / "config.json", hidden_size=32)
    with pytest.raises(ModelError, match="could not be loaded"):
        extractor(vit)


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "bert"}, "is a bert, which is no vision model"),
        ({"model_type": "vit_mae"}, "is a vit_mae, whose tokens are not in the image's order"),
        ({"model_type": "newer"}, "could not be loaded .*transformers has"),
        ({"model_type": "newer", "auto_map": {"AutoConfig": "x.Y"}}, "could not be loaded"),
        ({"num_channels": 1}, "takes images of 1 channels"),
    ],
)
def test_configurations_of_something_else(vit, changes, message):
    edit_json(vit / "config.json", **changes)
    with pytest.raises(ModelError, match=message):
        extractor(vit)


def test_code_of_a_repository_is_never_run(vit, tmp_path):
    marker = tmp_path / "was-run"
    (vit / "x.py").write_text(f"open({str(marker)!r}, 'w')\nclass Y: pass\n")
    edit_json(vit / "config.json", auto_map={"AutoConfig": "x.Y", "AutoModel": "x.Y"})
    extractor(vit)
    edit_json(vit / "config.json", model_type="newer")
    with pytest.raises(ModelError):
        extractor(vit)
    assert not marker.exists()


def test_a_model_that_wants_more_than_an_image(tmp_path):
    config = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config |= {"intermediate_size": 16, "image_size": 32, "num_frames": 2}
    folder = other_model(tmp_path / "video", "videomae", **config)
    with pytest.raises(ModelError, match="can't be run on an image alone"):
        extractor(folder, layer="encoder.layer.0")


def test_loading_prints_nothing_and_leaves_the_libraries_as_they_were(folders, capfd):
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    extractor(folders["clip"])
    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_quiet_libraries_are_put_back_after_an_error():
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging

    levels = [module.get_verbosity() for module in (logging, diffusers_logging)]

    def fail() -> None:
        assert logging.get_verbosity() == diffusers_logging.get_verbosity() == 40
        assert not logging.is_progress_bar_enabled()
        raise KeyError

    with pytest.raises(KeyError), quiet_libraries():
        fail()
    assert [module.get_verbosity() for module in (logging, diffusers_logging)] == levels
    assert logging.is_progress_bar_enabled()


# --- pixels


def test_without_a_preprocessor_models_get_what_their_kind_is_trained_with(folders, tmp_path):
    means = {}
    for name in ("vit", "clip", "siglip"):
        folder = Path(shutil.copytree(folders[name], tmp_path / name))
        assert read_normalisation(files_of(folder)).mean == MEAN
        (folder / "preprocessor_config.json").unlink()
        means[name] = read_normalisation(files_of(folder)).mean
    assert means["vit"] == (0.485, 0.456, 0.406)
    assert means["clip"] == (0.48145466, 0.4578275, 0.40821073)
    assert means["siglip"] == (0.5, 0.5, 0.5)


def test_a_preprocessor_may_do_less(vit):
    edit_json(vit / "preprocessor_config.json", do_normalize=False, rescale_factor=0.5)
    normalised = read_normalisation(files_of(vit))(torch.full((1, 3, 1, 1), 8.0))
    assert normalised.flatten().tolist() == [4.0, 4.0, 4.0]


@pytest.mark.parametrize(
    "changes", [{"image_mean": [0.5]}, {"image_std": "no"}, {"image_std": [1, 0, 1]}]
)
def test_a_preprocessor_that_makes_no_sense(vit, changes):
    edit_json(vit / "preprocessor_config.json", **changes)
    with pytest.raises(ModelError, match="preprocessor_config.json can't be used .*three numbers"):
        extractor(vit)


# --- DINO's protocol


def dino(folder: Path, **options) -> VisionExtractor:
    card = ModelCard(name="x", repositories=(Repository("facebook/dino-vits8"),))
    made = FAMILY.load(card, files_of(folder), ModelOptions(device="cpu", dtype="fp32", **options))
    assert isinstance(made, VisionExtractor)
    return made


def test_dino_has_the_epsilon_of_its_own_code(folders):
    assert dino(folders["vit"])._network.config.layer_norm_eps == 1e-6
    assert dino(folders["vit"])._norm.eps == 1e-6
    assert extractor(folders["vit"])._norm.eps == 1e-12


def test_dino_sees_480p_as_published(folders):
    """DINO's script: 854x480 becomes 832x480, which is 104x60 cells at patch 8."""
    (found,) = dino(folders["vit"], short_side=480).extract([frame(size=(480, 854))])
    assert (found.input_size, found.grid) == (Size(480, 832), Size(60, 104))
    assert dino(folders["vit"]).identity != extractor(folders["vit"], input_size=None).identity


def dinos_size(height: int, width: int, short: int) -> tuple[int, int]:
    """What `read_frame` of DINO's eval_video_segmentation.py does, said again."""
    if height > width:
        return int((short * height / width) // 64 * 64), short
    return short, int((short * width / height) // 64 * 64)


@given(st.integers(16, 2000), st.integers(16, 2000), st.sampled_from([224, 480, 960]))
def test_sizes_are_those_of_dinos_script(height, width, short):
    expected = dinos_size(height, width, short)
    assert LongSideSize(short_side=short, multiple=8).of(Size(height, width)) == expected


def test_sizes_that_dinos_script_does_not_have():
    assert LongSideSize(short_side=500, multiple=16).of(Size(500, 500)) == (496, 448)
    assert LongSideSize(short_side=None, multiple=8).of(Size(100, 300)) == (96, 256)
    assert LongSideSize(short_side=32, multiple=8).of(Size(100, 100)) == (32, 64)
    exact = LongSideSize(exact=Size(40, 24), multiple=8)
    assert exact.of(Size(480, 854)) == (40, 24)
    assert str(exact) != str(LongSideSize(multiple=8))


# --- what can be tapped


@pytest.mark.parametrize("name", ["vit", "dinov2-reg", "siglip", "swinv2", "swin", "resnet"])
def test_listed_layers_are_what_can_be_tapped(folders, name):
    listed = vision_layers(files_of(folders[name]))
    assert len({info.name for info in listed}) == len(listed) > 5
    for info in listed[::3]:
        channels, rows, _ = features(folders[name], layer=info.name).shape
        assert channels == info.channels
        assert rows == SIZE[0] // info.stride


def test_listed_layers_need_no_weights(vit):
    (vit / "model.safetensors").write_bytes(b"")
    blocks = [
        info for info in vision_layers(files_of(vit)) if re.fullmatch("layers.\\d", info.name)
    ]
    assert [(info.name, info.channels, info.stride) for info in blocks] == [
        (f"layers.{index}", 16, 8) for index in range(3)
    ]


def test_special_tokens_are_counted(folders):
    counts = {
        name: describe(untouched(folders[name], row[1])).prefix for name, row in COLUMNS.items()
    }
    assert counts == {name: row[4] for name, row in COLUMNS.items()}


# --- names


def test_names_lead_to_one_model_each():
    families = registry.all_families().values()
    names = [
        name for family in families for card in family.cards for name in (card.name, *card.aliases)
    ]
    assert len(set(names)) == len(names)
    wanted = {"dino": "dino-b8", "dinov2": "dinov2-b", "dinov3": "dinov3-b"}
    for alias, name in {**wanted, "openclip": "openclip-h14"}.items():
        assert registry.find_card(alias).name == name


@pytest.mark.parametrize("card", FAMILY.cards, ids=lambda card: card.name)
def test_cards_are_well_formed(card):
    assert re.fullmatch(r"(dino|dinov2|dinov3|openclip)-[a-z0-9-]+", card.name)
    assert card.summary
    assert card.licence
    assert card.size_mb > 0
    (repository,) = card.repositories
    assert re.fullmatch(r"(facebook|laion)/[\w.-]+", repository.repo_id)
    assert re.fullmatch("[0-9a-f]{40}|main", repository.revision)
    assert card.knobs.keys() == {"propagation", "semantic", "geometric"}
    assert card.knobs["propagation"].short_side >= 480
    for task in ("semantic", "geometric"):
        assert all(side % card.stride == 0 for side in card.knobs[task].input_size)


def test_cards_load_neither_torch_nor_transformers():
    code = (
        "import sys, propagate.features.families.vision; "
        "print(sorted({'torch', 'transformers', 'numpy'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
