"""The format of stored features, and the extractor that reads them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from propagate.config import ModelOptions
from propagate.errors import InputError, ModelError
from propagate.features.base import FeatureExtractor
from propagate.features.cache import FeatureCache
from propagate.features.fusion import FusedExtractor
from propagate.features.registry import create_extractor
from propagate.features.stored import (
    MapName,
    StoredExtractor,
    compact,
    fingerprint,
    list_maps,
    pack_map,
    read_map,
)
from propagate.types import FeatureMap, Frame, Size

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


def frame(picture: int, *, index: int | None = None, source: str = "clip") -> Frame:
    rgb = np.random.default_rng(picture).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    index = picture if index is None else index
    return Frame(source, index, rgb, 0.0, f"img{index}")


def features(seed: int, shape: tuple[int, int, int] = (8, 3, 4)) -> FeatureMap:
    data = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return FeatureMap(data, Size(12, 16), Size(24, 32))


def clip_facts(folder: str, source: str) -> dict[str, object]:
    return {"folder": folder, "path": f"/{source}", "source": source, "complete": True}


def store(
    folder: Path, clips: dict[str, list[tuple[Frame, FeatureMap]]] | None = None, **config: object
) -> Path:
    """A folder of stored features, written as the how-to describes it."""
    clips = clips or {"clip": [(frame(i), features(i)) for i in range(3)]}
    for name, maps in clips.items():
        (folder / "maps" / name).mkdir(parents=True)
        for item, stored in maps:
            key = MapName.of(item)
            path = folder / "maps" / name / f"{item.index:06d}-{fingerprint(item.rgb)}.safetensors"
            path.write_bytes(pack_map(stored.normalised(torch.float32), item, key))
    record = {
        "format": 1,
        "status": "complete",
        "config": {"store_dtype": "fp32", "raw": False, "pca": None, **config},
        "extractor": "net@1",
        "clips": [clip_facts(name, maps[0][0].source) for name, maps in clips.items()],
    }
    (folder / "features.json").write_text(json.dumps(record))
    return folder


def load(*folders: Path, **options: object) -> FeatureExtractor:
    return create_extractor("+".join(map(str, folders)), ModelOptions(device="cpu", **options))


@given(
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    dtype=st.sampled_from(list(DTYPES.values())),
    unit=st.booleans(),
    seed=st.integers(0, 99),
)
def test_a_map_comes_back_bit_by_bit(
    tmp_path_factory: pytest.TempPathFactory,
    shape: tuple[int, int, int],
    dtype: torch.dtype,
    unit: bool,
    seed: int,
) -> None:
    path = tmp_path_factory.getbasetemp() / "one.safetensors"
    data = features(seed, shape).data.to(dtype)
    item, name = FeatureMap(data, Size(7, 9), Size(32, 48), unit=unit), MapName.of(frame(seed))
    path.write_bytes(pack_map(item, frame(seed), name))
    back = read_map(path, name)
    assert torch.equal(back.data, data)
    assert back.data.dtype == dtype
    assert (back.image_size, back.input_size, back.unit) == (Size(7, 9), Size(32, 48), unit)


def test_a_file_can_be_read_without_this_program(tmp_path: Path) -> None:
    (path,) = (store(tmp_path, {"clip": [(frame(5), features(5))]}) / "maps/clip").iterdir()
    cells = load_file(path)["cells"]
    assert cells.shape == (3, 4, 8)
    torch.testing.assert_close(
        cells, torch.nn.functional.normalize(features(5).data, dim=0).permute(1, 2, 0)
    )


def test_the_same_map_gives_the_same_bytes() -> None:
    code = (
        "import sys, torch; from tests.test_stored_features import *; "
        "sys.stdout.buffer.write(pack_map(features(1), frame(1), MapName.of(frame(1))))"
    )
    root = Path(__file__).resolve().parent.parent
    command = [sys.executable, "-c", code]
    other = subprocess.run(command, capture_output=True, check=True, cwd=root).stdout
    assert other == pack_map(features(1), frame(1), MapName.of(frame(1)))


@pytest.mark.parametrize(("name", "tolerance"), [("fp16", 5e-4), ("bf16", 4e-3), ("fp32", 1e-6)])
def test_what_is_stored_is_the_unit_map(name: str, tolerance: float) -> None:
    large = FeatureMap(features(0).data * 1e6, Size(12, 16), Size(24, 32))
    stored = compact(large, frame(0), dtype=DTYPES[name], raw=False)
    expected = large.data.double() / large.data.double().norm(dim=0)
    assert stored.unit
    assert stored.data.dtype == DTYPES[name]
    torch.testing.assert_close(stored.data.double(), expected, atol=tolerance, rtol=0)


def test_raw_maps_are_stored_as_they_come() -> None:
    stored = compact(features(0), frame(0), dtype=torch.bfloat16, raw=True)
    assert not stored.unit
    assert torch.equal(stored.data, features(0).data.bfloat16())


def test_raw_maps_must_fit_their_type() -> None:
    large = FeatureMap(features(0).data * 1e6, Size(12, 16), Size(24, 32))
    with pytest.raises(InputError, match=r"reach .*e\+06, which is too much .* use --store-dtype"):
        compact(large, frame(0), dtype=torch.float16, raw=True)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_maps_must_be_finite(value: float) -> None:
    broken = features(0)
    broken.data[1, 2, 3] = value
    with pytest.raises(ModelError, match="frame 4 of clip are not finite; compute them with"):
        compact(broken, frame(4), dtype=torch.float16, raw=False)


def test_a_fingerprint_tells_pixels_and_shapes_apart() -> None:
    rgb = frame(0).rgb
    one_off = rgb.copy()
    one_off[11, 15, 2] ^= 1
    prints = [fingerprint(picture) for picture in (rgb, one_off, rgb.reshape(16, 12, 3))]
    assert len(set(prints)) == 3
    assert fingerprint(np.asfortranarray(rgb)) == prints[0]


def test_maps_are_found_by_the_picture(tmp_path: Path) -> None:
    stored = load(store(tmp_path))
    moved = [frame(i, source="the same clip, moved") for i in (2, 0, 1)]
    for item, found in zip(moved, stored.extract(moved), strict=True):
        assert torch.equal(found.data, features(item.index).normalised(torch.float32).data)


def test_a_picture_that_was_not_stored(tmp_path: Path) -> None:
    stored = load(store(tmp_path))
    with pytest.raises(
        InputError,
        match=rf"Frame 1 \(img1\) of clip has no stored features in {tmp_path}; store them with "
        rf"`propagate extract CLIP -o {tmp_path} --resume`.* --frames that covers it",
    ):
        stored.extract([frame(9, index=1)])


def test_of_identical_pictures_each_index_has_its_own_map(tmp_path: Path) -> None:
    """The noise of a diffusion model depends on the index."""
    still = [(frame(0, index=i), features(i)) for i in (3, 4, 12)]
    stored = load(store(tmp_path, {"clip": still}))
    for item, expected in still:
        (found,) = stored.extract([item])
        assert torch.equal(found.data, expected.normalised(torch.float32).data)
    (other,) = stored.extract([frame(0, index=7)])
    assert torch.equal(other.data, features(3).normalised(torch.float32).data)


def two_clips_with_one_picture(folder: Path, **config: object) -> FeatureExtractor:
    clips = {
        name: [(frame(i, source=name), features(seed)) for i in (0, seed)]
        for name, seed in (("one", 1), ("two", 2))
    }
    return load(store(folder, clips, **config))


def test_of_identical_pictures_the_map_of_the_own_clip_is_taken(tmp_path: Path) -> None:
    stored = two_clips_with_one_picture(tmp_path)
    for name, seed in (("one", 1), ("two", 2), ("elsewhere", 1)):
        (found,) = stored.extract([frame(0, source=name)])
        assert torch.equal(found.data, features(seed).normalised(torch.float32).data)


def test_principal_components_of_different_clips_are_not_mixed(tmp_path: Path) -> None:
    stored = two_clips_with_one_picture(tmp_path, pca=8)
    assert stored.extract([frame(0, source="two")])
    with pytest.raises(InputError, match="Frame 0 of elsewhere is also in the clips one, two of"):
        stored.extract([frame(0, source="elsewhere")])


def test_the_identity_tells_what_made_the_maps(tmp_path: Path) -> None:
    folders = [
        store(tmp_path / f"{dtype}{raw}", store_dtype=dtype, raw=raw)
        for dtype in ("fp16", "fp32")
        for raw in (False, True)
    ]
    identities = [load(folder).identity for folder in folders]
    assert len(set(identities)) == 4
    assert all("net@1" in identity for identity in identities)
    assert "fp16" in identities[0]


def test_stored_maps_need_no_conversion(tmp_path: Path) -> None:
    stored = load(store(tmp_path))
    (found,) = stored.extract([frame(0)])
    assert found.normalised(torch.float32) is found
    (cached,) = FeatureCache(stored, capacity=1, dtype=torch.float16).extract([frame(0)])
    torch.testing.assert_close(cached.data.float(), found.data, atol=1e-3, rtol=0)


def test_it_is_an_extractor(tmp_path: Path) -> None:
    assert isinstance(load(store(tmp_path)), StoredExtractor)
    assert isinstance(load(store(tmp_path / "again")), FeatureExtractor)


def test_only_the_maps_asked_for_are_opened(tmp_path: Path) -> None:
    store(tmp_path)
    for i in range(3, 2000):
        (tmp_path / f"maps/clip/{MapName(i, f'{i:032x}').file}").touch()
    (found,) = load(tmp_path).extract([frame(2)])
    assert torch.equal(found.data, features(2).normalised(torch.float32).data)


def test_strange_files_are_no_maps(tmp_path: Path) -> None:
    folder = store(tmp_path) / "maps/clip"
    for name in (".000009-ab.0123abcd.safetensors", "notes.txt", "000009-XYZ.safetensors"):
        (folder / name).touch()
    assert [name.frame for name in list_maps(folder)] == [0, 1, 2]
    assert list_maps(tmp_path / "nothing") == []


def flip_a_bit(data: bytes) -> bytes:
    return data[:-3] + bytes([data[-3] ^ 4]) + data[-2:]


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda data: data[:-5], "incomplete metadata|not fully covered"),
        (lambda data: b"", "header"),
        (lambda data: b"\x80\x04" + data, "header"),
        (flip_a_bit, "its checksum is wrong"),
        (lambda data: data.replace(b'"map"', b'"nap"'), "'map'"),
        (lambda data: data.replace(b'"cells"', b'"bells"'), "cells"),
    ],
)
def test_a_damaged_map(tmp_path: Path, damage, why: str) -> None:
    path = store(tmp_path) / "maps/clip" / MapName.of(frame(1)).file
    path.write_bytes(damage(path.read_bytes()))
    stored = load(tmp_path)
    assert stored.extract([frame(0)])
    with pytest.raises(ModelError, match=why) as caught:
        stored.extract([frame(1)])
    assert f"{path} is damaged (" in str(caught.value)
    assert "delete it and run the command that made it again" in str(caught.value)


def test_a_map_under_the_name_of_another(tmp_path: Path) -> None:
    folder = store(tmp_path) / "maps/clip"
    one, two = (folder / MapName.of(frame(i)).file for i in (1, 2))
    two.replace(one)
    with pytest.raises(ModelError, match="it was written for another picture"):
        load(tmp_path).extract([frame(1)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no record of stored features, or damaged"),
        ("[1]", "is no record of stored features, or damaged"),
        ('{"format": 1}', "is no record of stored features, or damaged"),
        ('{"format": 9}', "has format 9 and this program reads format 1; update"),
    ],
)
def test_a_damaged_record(tmp_path: Path, text: str, message: str) -> None:
    (store(tmp_path) / "features.json").write_text(text)
    with pytest.raises(ModelError, match=f"features.json {message}"):
        load(tmp_path)


@pytest.mark.parametrize("folder", ["../clip", "/tmp", "", ".hidden", "a/b"])
def test_a_record_cannot_lead_elsewhere(tmp_path: Path, folder: str) -> None:
    path = store(tmp_path) / "features.json"
    record = json.loads(path.read_text())
    record["clips"][0]["folder"] = folder
    path.write_text(json.dumps(record))
    with pytest.raises(ModelError, match="is no name of a folder of stored maps"):
        load(tmp_path)


def test_the_folder_or_its_record_can_be_named(tmp_path: Path) -> None:
    store(tmp_path)
    for name in (f"{tmp_path}/", f"{tmp_path}/features.json"):
        assert create_extractor(name, ModelOptions()).identity == "stored fp32 (net@1)"


def test_options_of_networks_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="layer set for .*, which has no such option"):
        load(store(tmp_path), layer="4")


def test_two_folders_are_fused(tmp_path: Path) -> None:
    one = store(tmp_path / "one", {"clip": [(frame(0), features(1))]})
    two = store(tmp_path / "two", {"clip": [(frame(0), features(2, (5, 6, 8)))]})
    (fused,) = create_extractor(f"{one}:3+{two}/", ModelOptions(device="cpu")).extract([frame(0)])
    parts = [load(one), load(two)]
    (expected,) = FusedExtractor(parts, [3.0, 1.0]).extract([frame(0)])
    assert fused.data.shape == (13, 6, 8)
    assert torch.equal(fused.data, expected.data)


def test_principal_components_of_stored_maps(tmp_path: Path) -> None:
    (found,) = load(store(tmp_path), pca=3).extract([frame(0)])
    assert found.data.shape == (3, 3, 4)


def test_the_family_is_light() -> None:
    code = (
        "import sys, propagate.features.families.stored; "
        "print(sorted({'torch', 'numpy', 'safetensors'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
