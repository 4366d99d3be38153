"""Folders, patterns and pages of still pictures: their order, names and colours."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from propagate.errors import ClipError
from propagate.video import open_clip
from propagate.video.image_reader import IMAGE_ENDINGS, ImageReader, natural_key
from propagate.video.multipage import MultipageReader
from propagate.video.still import UNREADABLE, decode_still
from tests.video_factory import number_of, numbered_picture, truncate

RNG = np.random.default_rng(0)
COLOUR = cv2.GaussianBlur(RNG.integers(0, 256, (24, 32, 3), dtype=np.uint8), (0, 0), 1.5)
DEEP = RNG.integers(0, 65536, (24, 32, 3), dtype=np.uint16)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def by_opencv(kind: str, rgb: np.ndarray) -> bytes:
    """`rgb` with 1, 3 or 4 channels in the order that people say them."""
    order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[rgb.shape[2]]
    return cv2.imencode(kind, rgb[..., order])[1].tobytes()


def rounded(values: np.ndarray) -> np.ndarray:
    return np.round(values).astype(np.uint8)


def save(folder: Path, *names: str) -> Path:
    """Numbered pictures under `names`."""
    for index, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(numbered_picture(index)).save(path)
    return folder


def test_numbers_sort_by_value(tmp_path: Path) -> None:
    save(tmp_path, "img2.png", "img10.png", "img1.png", "img1b.png", "Img3.png", "a 7.png")
    reader = ImageReader(tmp_path)
    frames = list(reader)
    assert [frame.name for frame in frames] == ["a 7", "img1", "img1b", "img2", "Img3", "img10"]
    assert [number_of(frame.rgb) for frame in frames] == [5, 2, 3, 0, 4, 1]
    assert [frame.index for frame in frames] == list(range(6))
    assert {frame.pts for frame in frames} == {0.0}


@given(st.lists(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]))))
def test_any_names_can_be_sorted(names: list[str]) -> None:
    paths = [Path("folder") / (name + ".png") for name in names]
    backwards = paths[::-1]
    assert sorted(paths, key=natural_key) == sorted(backwards, key=natural_key)


@given(st.integers(0, 10**30), st.integers(0, 10**30))
def test_sorting_numbers_is_sorting_values(one: int, other: int) -> None:
    keys = [natural_key(Path(f"f/img_{number}.png")) for number in (one, other)]
    assert (keys[0] < keys[1]) == (one < other)


def test_only_visible_pictures_count(tmp_path: Path) -> None:
    save(tmp_path, "1.png", "2.JPG", "3.TiFf", "4.webp", "5.bmp", "6.ppm", "7.jpeg", "8.tif")
    save(tmp_path, ".hidden.png", "._1.png")
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "folder.png").mkdir()
    assert [frame.name for frame in ImageReader(tmp_path)] == list("12345678")


def test_stems_that_collide_give_whole_names(tmp_path: Path) -> None:
    save(tmp_path, "a.jpg", "a.png", "b.png")
    assert [frame.name for frame in ImageReader(tmp_path)] == ["a.jpg", "a.png", "b"]
    save(tmp_path, "a.png.png")
    names = [frame.name for frame in ImageReader(tmp_path)]
    assert names == ["a.jpg", "a.png", "a.png.png", "b.png"]


def test_foreign_names_and_symbolic_links_work(tmp_path: Path) -> None:
    save(tmp_path / "store", "blob.png")
    folder = save(tmp_path / "帧 [1]", "кадр 1.png", "é 2.png")
    try:
        (folder / "frame 3.png").symlink_to(tmp_path / "store" / "blob.png")
    except OSError:
        pytest.skip("this account may not make symbolic links")
    assert [frame.name for frame in ImageReader(folder)] == ["frame 3", "é 2", "кадр 1"]


def test_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, "l/1.png", "l/2.png", "l/10.png", "r/1.png", "l/2.txt.png")
    for pattern in (tmp_path / "l" / "[0-9]*.png", str(tmp_path / "**" / "l" / "?*.png")):
        assert [frame.name for frame in open_clip(pattern)] == ["1", "2", "2.txt", "10"]
    monkeypatch.chdir(tmp_path)
    reader = open_clip("l/?.png")
    assert [frame.name for frame in reader] == ["1", "2"]
    assert reader.source == f"{tmp_path / 'l' / '?.png'} (2 images)"
    with pytest.raises(ClipError, match=r"2 files that match are named 1\.png, in different"):
        open_clip("*/1.png")
    with pytest.raises(ClipError, match=r"l/\*\.jpg matches no image file \(\.jpg, \.jpeg, \.png"):
        open_clip("l/*.jpg")


def test_a_folder_named_like_a_pattern_is_a_folder(tmp_path: Path) -> None:
    folder = save(tmp_path / "take [2]", "1.png", "2.png")
    assert [frame.name for frame in open_clip(folder)] == ["1", "2"]


def test_one_picture_is_a_clip_of_one_frame(tmp_path: Path) -> None:
    save(tmp_path, "still.png", "other.png")
    reader = open_clip(tmp_path / "still.png")
    (frame,) = reader
    assert (frame.index, frame.name, reader.fps, reader.estimated_length) == (0, "still", 24, 1)
    assert "bytes, mtime" in reader.source


def test_a_broken_file_is_skipped_and_told(tmp_path: Path) -> None:
    save(tmp_path, "1.png", "2.png", "3.jpg", "4.jpg", "5.png", "6.png")
    (tmp_path / "1.png").write_bytes(b"no picture")
    truncate(tmp_path / "2.png")
    truncate(tmp_path / "3.jpg")
    (tmp_path / "5.png").write_bytes(b"")
    reader = ImageReader(tmp_path)
    for _ in range(2):
        frames = list(reader)
        assert [(frame.index, frame.name) for frame in frames] == [(0, "4"), (1, "6")]
        assert len(reader.losses.messages) == 4
        assert reader.losses.messages[0] == (
            "1.png cannot be read and was skipped (it is in no image format that Pillow knows)."
        )
        assert reader.losses.messages[2].startswith("3.jpg cannot be read and was skipped (")
    assert reader.estimated_length == 6


def test_nothing_but_broken_files_is_no_clip(tmp_path: Path) -> None:
    save(tmp_path, "1.png", "2.png")
    for path in tmp_path.iterdir():
        path.write_bytes(b"no picture")
    with pytest.raises(ClipError, match=r"None of the 2 image files .* first loss: 1\.png cannot"):
        ImageReader(tmp_path)


def test_a_folder_without_pictures_is_no_clip(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(ClipError, match=r"holds no image file \(\.jpg, .*\.ppm\); give the folder"):
        ImageReader(tmp_path)


def test_another_size_is_refused_by_name(tmp_path: Path) -> None:
    save(tmp_path, "1.png", "2.png")
    Image.fromarray(COLOUR).save(tmp_path / "3.png")
    frames = iter(ImageReader(tmp_path))
    next(frames), next(frames)
    with pytest.raises(
        ClipError, match=r"^3\.png is 32x24 but the first picture, 1\.png, is 128x96; resize the"
    ):
        next(frames)


def test_jpeg_is_what_opencv_reads(tmp_path: Path) -> None:
    for options in ({}, {"subsampling": 0, "quality": 60}, {"progressive": True}):
        path = tmp_path / "x.jpg"
        path.write_bytes(encoded(Image.fromarray(COLOUR), "JPEG", **options))
        expected = cv2.imread(str(path), cv2.IMREAD_COLOR)[..., ::-1]
        assert np.array_equal(decode_still(path.read_bytes()), expected)


def test_davis_is_what_opencv_reads(shared_dir: Path) -> None:
    folder = shared_dir / "data" / "DAVIS" / "JPEGImages" / "480p" / "bear"
    reader = open_clip(folder, frames=":3")
    frames = list(reader)
    assert [frame.name for frame in frames] == ["00000", "00001", "00002"]
    for frame in frames:
        bgr = cv2.imread(str(folder / f"{frame.name}.jpg"), cv2.IMREAD_COLOR)
        assert np.array_equal(frame.rgb, bgr[..., ::-1])


EXACT = ["PNG", "BMP", "TIFF", "PPM"]


@pytest.mark.parametrize("kind", EXACT)
def test_colour_is_exact(kind: str) -> None:
    assert np.array_equal(decode_still(encoded(Image.fromarray(COLOUR), kind)), COLOUR)


@pytest.mark.parametrize("kind", [*EXACT, "JPEG"])
def test_grey_becomes_three_equal_channels(kind: str) -> None:
    grey = decode_still(encoded(Image.fromarray(COLOUR).convert("L"), kind))
    assert grey.shape == COLOUR.shape
    assert (grey == grey[..., :1]).all()
    exact = np.asarray(Image.fromarray(COLOUR).convert("L")).astype(int)
    assert np.abs(grey[..., 0] - exact).max() <= (8 if kind == "JPEG" else 0)


def test_one_bit_is_black_and_white() -> None:
    bits = COLOUR[..., 0] > 127
    for kind in ("PNG", "TIFF", "BMP"):
        rgb = decode_still(encoded(Image.fromarray(bits), kind))
        assert np.array_equal(rgb, np.repeat(255 * bits[..., None], 3, axis=2))


def test_palettes_are_looked_up() -> None:
    image = Image.fromarray(COLOUR).quantize(16)
    expected = np.asarray(image.convert("RGB"))
    for kind in ("PNG", "BMP", "GIF", "TIFF"):
        assert np.array_equal(decode_still(encoded(image, kind)), expected)


def test_a_transparent_palette_entry_becomes_black() -> None:
    image = Image.fromarray(COLOUR).quantize(16)
    index = np.asarray(image)
    expected = np.where((index == 3)[..., None], 0, np.asarray(image.convert("RGB")))
    assert np.array_equal(decode_still(encoded(image, "PNG", transparency=3)), expected)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_opaque_alpha_is_dropped(kind: str) -> None:
    rgba = np.dstack([COLOUR, np.full((24, 32), 255, np.uint8)])
    assert np.array_equal(decode_still(encoded(Image.fromarray(rgba), kind)), COLOUR)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_alpha_that_matters_is_laid_on_black(kind: str) -> None:
    alpha = RNG.integers(0, 256, (24, 32, 1), dtype=np.uint8)
    data = encoded(Image.fromarray(np.dstack([COLOUR, alpha])), kind)
    assert np.array_equal(decode_still(data), rounded(COLOUR * (alpha / 255)))


def test_grey_with_alpha_is_laid_on_black() -> None:
    alpha = RNG.integers(0, 256, (24, 32), dtype=np.uint8)
    data = encoded(Image.fromarray(np.dstack([COLOUR[..., 0], alpha]), "LA"), "PNG")
    grey = rounded(COLOUR[..., 0] * (alpha / 255))
    assert np.array_equal(decode_still(data), np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize("kind", [".png", ".tiff", ".ppm"])
def test_16_bits_are_scaled_by_the_full_range(kind: str) -> None:
    assert np.array_equal(decode_still(by_opencv(kind, DEEP)), rounded(DEEP / 257))


@pytest.mark.parametrize("kind", [".png", ".tiff"])
def test_16_bits_of_grey_are_scaled_by_the_full_range(kind: str) -> None:
    grey = decode_still(by_opencv(kind, DEEP[..., :1]))
    assert np.array_equal(grey, np.repeat(rounded(DEEP[..., :1] / 257), 3, axis=2))


@pytest.mark.parametrize("kind", [".png", ".tiff"])
def test_16_bits_with_alpha(kind: str) -> None:
    alpha = np.full((24, 32, 1), 65535, np.uint16)
    assert np.array_equal(
        decode_still(by_opencv(kind, np.dstack([DEEP, alpha]))), rounded(DEEP / 257)
    )
    alpha[:12] = 0
    half = decode_still(by_opencv(kind, np.dstack([DEEP, alpha])))
    assert not half[:12].any()
    assert np.array_equal(half[12:], rounded(DEEP / 257)[12:])


def test_cmyk_jpeg() -> None:
    image = Image.fromarray(COLOUR).convert("CMYK")
    rgb = decode_still(encoded(image, "JPEG", quality=100, subsampling=0))
    assert np.abs(rgb.astype(int) - np.asarray(image.convert("RGB"))).max() <= 6


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(Image.fromarray(COLOUR), kind, exif=exif, **options)
    stored = decode_still(encoded(Image.fromarray(COLOUR), kind, **options))
    assert np.array_equal(decode_still(data), _by_orientation(stored, orientation))


def _by_orientation(image: np.ndarray, orientation: int) -> np.ndarray:
    """EXIF 2.3, tag 274: where row 0 and column 0 of the stored picture are shown."""
    turned = image.transpose(1, 0, 2) if orientation > 4 else image
    flip_rows = orientation in (3, 4, 7, 8)
    flip_columns = orientation in (2, 3, 6, 7)
    return turned[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]


def test_exif_orientation_of_16_bit_colour() -> None:
    exif = Image.Exif()
    exif[274] = 6
    payload = exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(payload)) + b"eXIf" + payload
    chunk += struct.pack(">I", zlib.crc32(b"eXIf" + payload))
    data = by_opencv(".png", DEEP)
    after_header = 33
    turned = decode_still(data[:after_header] + chunk + data[after_header:])
    assert np.array_equal(turned, np.rot90(rounded(DEEP / 257), -1))


def test_floating_point_is_refused() -> None:
    data = encoded(Image.fromarray(COLOUR[..., 0].astype(np.float32)), "TIFF")
    with pytest.raises(UNREADABLE, match="32-bit numbers of unknown range"):
        decode_still(data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM"])
def test_truncated_files_are_refused(kind: str) -> None:
    data = encoded(Image.fromarray(COLOUR), kind)
    with pytest.raises(UNREADABLE):
        decode_still(data[: len(data) * 2 // 3])


def test_every_ending_is_of_a_format_that_is_read(tmp_path: Path) -> None:
    for ending in IMAGE_ENDINGS:
        path = tmp_path / f"x{ending}"
        Image.fromarray(COLOUR).save(path)
        assert decode_still(path.read_bytes()).shape == COLOUR.shape


def paged(path: Path, count: int = 5, **options: object) -> Path:
    first, *rest = (Image.fromarray(numbered_picture(index)) for index in range(count))
    first.save(path, save_all=True, append_images=rest, **options)
    return path


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.apng"])
def test_animations_have_a_clock(tmp_path: Path, name: str) -> None:
    reader = open_clip(paged(tmp_path / name, duration=[50, 100, 50, 200, 40]))
    assert isinstance(reader, MultipageReader)
    frames = list(reader)
    assert [frame.pts for frame in frames] == pytest.approx([0, 0.05, 0.15, 0.2, 0.4])
    assert reader.fps == pytest.approx(20)
    assert reader.estimated_length == 5


def test_pages_have_no_clock(tmp_path: Path) -> None:
    reader = open_clip(paged(tmp_path / "a.tif"))
    assert isinstance(reader, MultipageReader)
    assert [frame.pts for frame in reader] == [0.0] * 5
    assert reader.fps == 24


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.tif", "a.png"])
def test_one_page_is_a_still_picture(tmp_path: Path, name: str) -> None:
    Image.fromarray(numbered_picture(3)).save(tmp_path / name)
    reader = open_clip(tmp_path / name)
    assert isinstance(reader, ImageReader)
    assert [(frame.name, number_of(frame.rgb)) for frame in reader] == [("a", 3)]
    (page,) = MultipageReader(tmp_path / name)
    assert number_of(page.rgb) == 3


def test_animations_are_composed(tmp_path: Path) -> None:
    """A GIF page stores only what changes, here a small square."""
    pages = [np.full((32, 32, 3), 90, np.uint8)]
    for index in range(3):
        pages.append(pages[-1].copy())
        pages[-1][8 * index : 8 * index + 8, :8] = 255
    path = tmp_path / "a.gif"
    first, *rest = map(Image.fromarray, pages)
    first.save(path, save_all=True, append_images=rest, duration=40)
    for frame, page in zip(MultipageReader(path), pages, strict=True):
        assert np.array_equal(frame.rgb, page)


def test_a_truncated_animation_gives_its_start(tmp_path: Path) -> None:
    path = truncate(paged(tmp_path / "a.gif", duration=40))
    reader = MultipageReader(path)
    frames = list(reader)
    assert [number_of(frame.rgb) for frame in frames] == list(range(len(frames)))
    assert 2 <= len(frames) <= 4
    assert f"Page {len(frames)} cannot be read and was skipped (" in reader.losses.messages[0]


def test_a_broken_page_is_skipped(tmp_path: Path) -> None:
    path = paged(tmp_path / "a.tif", compression="tiff_deflate")
    with Image.open(path) as image:
        image.seek(2)
        start = image.tag_v2[273][0]
    data = bytearray(path.read_bytes())
    data[start : start + 40] = bytes(40)
    path.write_bytes(data)
    reader = MultipageReader(path)
    frames = list(reader)
    assert [number_of(frame.rgb) for frame in frames] == [0, 1, 3, 4]
    assert [frame.index for frame in frames] == [0, 1, 2, 3]
    (message,) = reader.losses.messages
    assert message.startswith("Page 2 cannot be read and was skipped (")


def test_pages_of_another_size_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    pages = [Image.new("RGB", size) for size in ((20, 10), (20, 10), (30, 10))]
    pages[0].save(path, save_all=True, append_images=pages[1:])
    with pytest.raises(
        ClipError, match=r"^Page 2 of .*a\.tif is 30x10 but the first picture, page 0, is 20x10"
    ):
        list(MultipageReader(path))


def test_no_page_at_all_is_no_clip(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    path.write_bytes(b"GIF89a and nothing else that would make sense")
    with pytest.raises(ClipError, match=r"a\.gif (cannot be opened as an image|can be read)"):
        MultipageReader(path)
    Image.fromarray(COLOUR).save(tmp_path / "b.png")
    truncate(tmp_path / "b.png", keep=0.3)
    with pytest.raises(ClipError, match=r"No page of .*b\.png can be read; check that the file"):
        MultipageReader(tmp_path / "b.png")


def test_upright_pages_agree_with_pillow(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(COLOUR).save(tmp_path / "a.tif", exif=exif)
    (frame,) = MultipageReader(tmp_path / "a.tif")
    with Image.open(tmp_path / "a.tif") as image:
        assert np.array_equal(frame.rgb, np.asarray(ImageOps.exif_transpose(image)))
