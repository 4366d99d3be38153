"""Reading and writing mask files in every way people store ids."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from propagate.errors import LabelError, OutputError
from propagate.labels.mask_files import read_mask, write_mask
from propagate.labels.palette import DAVIS_PALETTE, VOC_PALETTE, color_of, palette_index

if TYPE_CHECKING:
    from pathlib import Path

IDS = np.array([[0, 0, 1, 1], [0, 3, 3, 1], [7, 7, 0, 0]], dtype=np.uint8)


def test_palette_is_the_voc_colour_map() -> None:
    first = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128)]
    assert [color_of(i) for i in range(6)] == first
    assert color_of(9) == (192, 0, 0)
    assert color_of(255) == (224, 224, 192)
    assert len(np.unique(VOC_PALETTE, axis=0)) == 256
    assert tuple(DAVIS_PALETTE[9]) == (191, 0, 0)
    assert tuple(DAVIS_PALETTE[200]) == (200, 200, 200)


def test_large_ids_reuse_colours_but_never_the_background() -> None:
    ids = np.arange(2000)
    index = palette_index(ids)
    np.testing.assert_array_equal(index[:256], ids[:256])
    assert (index[1:] > 0).all()
    assert index[256] == 1


def test_davis_palette_is_that_of_davis_files(shared_dir: Path) -> None:
    path = shared_dir / "oracles" / "davis-protocol" / "two_objects" / "first_mask.png"
    np.testing.assert_array_equal(read_mask(path).palette, DAVIS_PALETTE)


@given(
    ids=hnp.arrays(
        st.sampled_from([np.uint8, np.int64, np.uint16]),
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=9),
        elements=st.sampled_from([0, 1, 2, 21, 127, 254, 255]),
    )
)
@settings(max_examples=60, deadline=None)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, ids: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("masks") / "mask.png"
    write_mask(path, ids)
    file = read_mask(path)
    assert (file.format, file.encoding, file.ids.dtype) == ("PNG", "indexed", np.uint8)
    np.testing.assert_array_equal(file.ids, ids)
    np.testing.assert_array_equal(file.palette, VOC_PALETTE)


def test_other_programs_see_ids_and_colours(tmp_path: Path) -> None:
    write_mask(tmp_path / "mask.png", IDS)
    with Image.open(tmp_path / "mask.png") as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.array(image), IDS)
        np.testing.assert_array_equal(np.array(image.convert("RGB")), VOC_PALETTE[IDS])


def test_ids_above_255_make_a_16_bit_png(tmp_path: Path) -> None:
    ids = np.array([[0, 256], [65535, 5]])
    write_mask(tmp_path / "mask.png", ids)
    file = read_mask(tmp_path / "mask.png")
    assert (file.encoding, file.ids.dtype, file.palette) == ("grey", np.uint16, None)
    np.testing.assert_array_equal(file.ids, ids)


def test_a_palette_survives(tmp_path: Path) -> None:
    palette = np.array([[0, 0, 0], [9, 8, 7], [1, 2, 3]], dtype=np.uint8)
    write_mask(tmp_path / "a.png", IDS, palette=palette)
    first = read_mask(tmp_path / "a.png")
    write_mask(tmp_path / "b.png", first.ids, palette=first.palette)
    second = read_mask(tmp_path / "b.png")
    assert second.palette is not None
    np.testing.assert_array_equal(second.palette[:3], palette)
    np.testing.assert_array_equal(second.palette[3:], VOC_PALETTE[3:])
    np.testing.assert_array_equal(second.ids, IDS)


@pytest.mark.parametrize(("bad", "named"), [(-1, "-1"), (65536, "65536")])
def test_ids_that_no_png_holds(tmp_path: Path, bad: int, named: str) -> None:
    with pytest.raises(LabelError, match=f"Id {named} does not fit into a PNG; ids must be 0 to"):
        write_mask(tmp_path / "mask.png", np.array([[0, bad]]))
    assert not (tmp_path / "mask.png").exists()


def test_only_png_is_written(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=r"written as \.png files, so mask\.jpg can't"):
        write_mask(tmp_path / "mask.jpg", IDS)
    with pytest.raises(OutputError, match=r"Cannot write the mask .*No such file"):
        write_mask(tmp_path / "absent" / "mask.png", IDS)


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "npy"])
def test_grey_levels_are_ids(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"mask.{suffix}"
    if suffix == "npy":
        np.save(path, IDS.astype(np.int64))
    else:
        Image.fromarray(IDS).save(path)
    file = read_mask(path)
    assert file.encoding == ("array" if suffix == "npy" else "grey")
    assert file.ids.dtype == np.uint8
    np.testing.assert_array_equal(file.ids, IDS)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_instance_ids(tmp_path: Path, suffix: str) -> None:
    ids = IDS.astype(np.uint16) * 1000
    Image.fromarray(ids).save(tmp_path / f"mask.{suffix}")
    np.testing.assert_array_equal(read_mask(tmp_path / f"mask.{suffix}").ids, ids)


def test_32_bit_ids(tmp_path: Path) -> None:
    np.save(tmp_path / "mask.npy", IDS.astype(np.uint64) * 100_000)
    file = read_mask(tmp_path / "mask.npy")
    assert file.ids.dtype == np.int32
    np.testing.assert_array_equal(file.ids, IDS.astype(np.int32) * 100_000)


def test_one_bit(tmp_path: Path) -> None:
    Image.fromarray(IDS > 0).save(tmp_path / "mask.png")
    file = read_mask(tmp_path / "mask.png")
    assert file.ids.dtype == np.uint8
    np.testing.assert_array_equal(file.ids, IDS > 0)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize("bits", [2, 4])
def test_packed_greys_are_not_stretched(tmp_path: Path, bits: int) -> None:
    """Pillow reads the value 3 of a 2-bit grey PNG as 255."""
    ids = np.array([[0, 1, 2, 3], [3, 2, 1, 0]], dtype=np.uint8)
    in_a_byte = 8 // bits
    shifts = np.arange(in_a_byte)[::-1] * bits
    packed = (ids.reshape(2, -1, in_a_byte) << shifts).sum(axis=2).astype(np.uint8)
    rows = b"".join(b"\0" + row.tobytes() for row in packed)
    header = struct.pack(">IIBBBBB", 4, 2, bits, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header)
    data += png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    (tmp_path / "mask.png").write_bytes(data)
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png").ids, ids)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_packed_indices(tmp_path: Path, bits: int) -> None:
    ids = IDS % 2**bits
    image = Image.fromarray(ids)
    image.putpalette(VOC_PALETTE.tobytes())
    image.save(tmp_path / "mask.png", bits=bits)
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png").ids, ids)


@pytest.mark.parametrize("palette", [VOC_PALETTE, DAVIS_PALETTE])
@pytest.mark.parametrize("suffix", ["png", "webp", "gif"])
def test_palette_colours_give_palette_ids(tmp_path: Path, palette: np.ndarray, suffix: str) -> None:
    ids = np.where(IDS == 7, 255, np.where(IDS == 3, 9, IDS))
    path = tmp_path / f"mask.{suffix}"
    Image.fromarray(palette[ids]).save(path, **({"lossless": True} if suffix == "webp" else {}))
    file = read_mask(path)
    np.testing.assert_array_equal(file.ids, ids)
    assert file.encoding == "colour"
    assert dict(file.colors)[9] == tuple(palette[9].tolist())


def test_other_colours_are_numbered_by_value(tmp_path: Path) -> None:
    colors = np.array([[0, 0, 0], [255, 0, 1], [10, 0, 0], [10, 0, 255]], dtype=np.uint8)
    pixels = np.array([[1, 1, 0], [2, 3, 0]])
    Image.fromarray(colors[pixels]).save(tmp_path / "mask.png")
    file = read_mask(tmp_path / "mask.png")
    np.testing.assert_array_equal(file.ids, [[3, 3, 0], [1, 2, 0]])
    assert file.colors == ((1, (10, 0, 0)), (2, (10, 0, 255)), (3, (255, 0, 1)))


def test_without_black_every_colour_is_an_object(tmp_path: Path) -> None:
    pixels = np.array([[[255, 0, 0], [250, 250, 0]]], dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png").ids, [[2, 1]])


def test_grey_rgb_is_read_like_grey(tmp_path: Path) -> None:
    Image.fromarray((IDS > 0) * np.uint8(255)).convert("RGB").save(tmp_path / "mask.png")
    file = read_mask(tmp_path / "mask.png")
    assert file.encoding == "grey"
    np.testing.assert_array_equal(file.ids, (IDS > 0) * 255)


@pytest.mark.parametrize("opacity", [128, 255])
def test_transparent_is_background_and_opacity_is_ignored(tmp_path: Path, opacity: int) -> None:
    rgba = np.zeros((2, 3, 4), dtype=np.uint8)
    rgba[..., 0] = 200
    rgba[0, :2, 3] = opacity
    Image.fromarray(rgba).save(tmp_path / "mask.png")
    file = read_mask(tmp_path / "mask.png")
    np.testing.assert_array_equal(file.ids, [[1, 1, 0], [0, 0, 0]])
    assert file.colors == ((1, (200, 0, 0)),)


def test_an_arbitrary_palette_order_gives_way_to_colours(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[1, 1, 0], [1, 2, 2]], dtype=np.uint8))
    image.putpalette([255, 0, 0, 0, 0, 0, 255, 255, 0])
    image.save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png").ids, [[0, 0, 1], [0, 2, 2]])


def test_the_first_picture_of_several_is_used(tmp_path: Path) -> None:
    pages = [Image.fromarray(IDS), Image.fromarray(IDS * 0)]
    pages[0].save(tmp_path / "mask.tif", save_all=True, append_images=pages[1:])
    file = read_mask(tmp_path / "mask.tif")
    np.testing.assert_array_equal(file.ids, IDS)
    assert file.notes == ("mask.tif holds 2 pictures; the first one is used.",)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "16", "npy"])
def test_binarize(tmp_path: Path, mode: str) -> None:
    soft = np.array([[0, 90, 100], [101, 150, 200]], dtype=np.uint8)
    path = tmp_path / ("mask.npy" if mode == "npy" else "mask.png")
    if mode == "npy":
        np.save(path, soft)
    elif mode == "16":
        Image.fromarray(soft.astype(np.uint16) * 300).save(path)
    elif mode == "P":
        image = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3))
        image.putpalette(soft.repeat(3).tobytes())
        image.save(path)
    else:
        Image.fromarray(soft).convert(mode).save(path)
    file = read_mask(path, binarize=True)
    np.testing.assert_array_equal(file.ids, [[0, 0, 1], [1, 1, 1]])
    assert file.encoding == "binarised"


def test_binarize_keeps_an_empty_mask_empty(tmp_path: Path) -> None:
    Image.fromarray(IDS * 0).save(tmp_path / "mask.png")
    assert not read_mask(tmp_path / "mask.png", binarize=True).ids.any()


def test_repr_shows_no_pixels(tmp_path: Path) -> None:
    write_mask(tmp_path / "mask.png", IDS)
    assert repr(read_mask(tmp_path / "mask.png")).endswith("mask.png', PNG, indexed, (3, 4))")


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=r"absent\.png does not exist; give the path"):
        read_mask(tmp_path / "absent.png")
    with pytest.raises(LabelError, match="is a folder, not a file"):
        read_mask(tmp_path)
    (tmp_path / "text.png").write_text("not a picture")
    with pytest.raises(LabelError, match=r"text\.png is not an image that can be read"):
        read_mask(tmp_path / "text.png")
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 9, (99, 99), dtype=np.uint8)).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LabelError, match=r"cut\.png is not an image that can be read"):
        read_mask(tmp_path / "cut.png")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((2, 2), dtype=np.float32), r"is float32 \[2, 2\]; it must be one integer array"),
        (np.zeros((2, 2, 3), dtype=np.uint8), r"is uint8 \[2, 2, 3\]"),
        (np.array([[-3, 0]]), r"holds the id -3; ids must be 0 or more"),
        (np.array([[2**40, 0]]), r"holds the id 1099511627776"),
        (np.array([[None]]), r"is not a \.npy array of numbers"),
    ],
)
def test_arrays_that_are_no_ids(tmp_path: Path, values: np.ndarray, message: str) -> None:
    np.save(tmp_path / "mask.npy", values, allow_pickle=True)
    with pytest.raises(LabelError, match=message):
        read_mask(tmp_path / "mask.npy")


def test_fractions_are_no_ids(tmp_path: Path) -> None:
    Image.fromarray(IDS.astype(np.float32)).save(tmp_path / "mask.tif")
    with pytest.raises(LabelError, match="holds fractions"):
        read_mask(tmp_path / "mask.tif")
