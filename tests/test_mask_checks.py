"""Masks that must pass, masks that must be refused, and the sentences that say why."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from PIL import Image

from propagate.errors import InputError, LabelError
from propagate.labels.mask_checks import load_reference_mask
from propagate.labels.mask_files import write_mask
from propagate.types import Size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SIZE = Size(120, 214)


def blob(seed: int, *, size: Size = SIZE) -> np.ndarray:
    """A wavy 0/1 object that covers a good part of the frame."""
    rng = np.random.default_rng(seed)
    angles = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    waves = sum(rng.uniform(0, 0.15) * np.sin(k * angles + rng.uniform(0, 6)) for k in range(1, 7))
    radius = min(size) * rng.uniform(0.15, 0.4) * (1 + waves)
    centre = np.array([size.width, size.height]) * rng.uniform(0.4, 0.6, 2)
    points = centre + radius[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    mask = np.zeros(size, dtype=np.uint8)
    cv2.fillPoly(mask, [points.astype(np.int32)], 1)
    return mask


def split(mask: np.ndarray, n: int, seed: int = 0) -> np.ndarray:
    """The object as n Voronoi cells, ids 1 to n."""
    ys, xs = np.nonzero(mask)
    seeds = np.random.default_rng(seed).choice(len(ys), n, replace=False)
    distances = (ys[:, None] - ys[seeds]) ** 2 + (xs[:, None] - xs[seeds]) ** 2
    ids = np.zeros_like(mask, dtype=np.uint8)
    ids[ys, xs] = 1 + distances.argmin(axis=1)
    return ids


def resized(mask: np.ndarray, factor: float, interpolation: int) -> np.ndarray:
    return cv2.resize(mask, None, fx=factor, fy=factor, interpolation=interpolation)


def compressed(mask: np.ndarray, **options: Any) -> np.ndarray:
    """What a lossy format makes of a mask."""
    buffer = BytesIO()
    Image.fromarray(mask).save(buffer, **options)
    return np.array(Image.open(buffer).convert("L" if mask.ndim == 2 else "RGB"))


def save(folder: Path, pixels: np.ndarray, name: str = "mask.png") -> Path:
    Image.fromarray(pixels).save(folder / name)
    return folder / name


def check(path: Path, size: Size = SIZE, **options: Any) -> tuple[tuple[int, ...], str]:
    """Object ids and all notes of a mask that must pass."""
    loaded = load_reference_mask(path, frame_size=size, **options)
    return loaded.masks.object_ids, " ".join(loaded.notes)


COLORS = np.array([[0, 0, 0], [255, 0, 0], [0, 200, 0], [0, 0, 255], [250, 240, 10]], np.uint8)


@pytest.mark.parametrize("n", [1, 2, 5, 20])
@pytest.mark.parametrize("shrink", [1, 2, 4])
def test_split_objects_pass(tmp_path: Path, n: int, shrink: int) -> None:
    for seed in range(4):
        ids = split(blob(seed), n)[::shrink, ::shrink]
        write_mask(tmp_path / "mask.png", ids)
        expected = tuple(int(i) for i in np.unique(ids) if i)
        assert check(tmp_path / "mask.png", Size(*ids.shape))[0] == expected


def thin_lines() -> Iterator[np.ndarray]:
    for seed in range(6):
        rng = np.random.default_rng(seed)
        for n, thickness in ((2, 1), (5, 1), (5, 2), (20, 3)):
            mask = np.zeros(SIZE, dtype=np.uint8)
            for i in range(n):
                start, end = rng.integers(0, [SIZE.width, SIZE.height], (2, 2)).tolist()
                cv2.line(mask, start, end, i + 1, thickness)
            yield mask


def crowds() -> Iterator[np.ndarray]:
    for seed, (n, radius) in enumerate([(5, 1), (40, 1), (60, 2), (100, 4), (250, 8)]):
        rng = np.random.default_rng(seed)
        mask = np.zeros(SIZE, dtype=np.uint16)
        for i in range(n):
            centre = rng.integers(0, [SIZE.width, SIZE.height]).tolist()
            cv2.circle(mask, centre, int(rng.integers(0, radius + 1)), i + 1, -1)
        yield mask
        yield np.where(mask > 0, mask, blob(seed) * np.uint16(300))


def behind_a_fence() -> Iterator[np.ndarray]:
    for seed in range(3):
        for spacing in (3, 4):
            mask = split(blob(seed), 3)
            mask[::spacing] = 0
            mask[:, ::spacing] = 0
            yield mask


def with_a_void_ring() -> Iterator[np.ndarray]:
    for seed in range(3):
        mask = split(blob(seed), 3)
        square = np.ones((3, 3), dtype=np.uint8)
        yield np.where(cv2.dilate(mask, square) != cv2.erode(mask, square), np.uint8(255), mask)


@pytest.mark.parametrize("masks", [thin_lines, crowds, behind_a_fence, with_a_void_ring])
def test_thin_small_and_broken_objects_pass(
    tmp_path: Path, masks: Callable[[], Iterator[np.ndarray]]
) -> None:
    for mask in masks():
        write_mask(tmp_path / "mask.png", mask)
        loaded = load_reference_mask(tmp_path / "mask.png", frame_size=SIZE)
        np.testing.assert_array_equal(loaded.masks.ids, mask)


@pytest.mark.parametrize("interpolation", [cv2.INTER_LINEAR, cv2.INTER_AREA, cv2.INTER_CUBIC])
@pytest.mark.parametrize("factor", [0.5, 0.66, 0.9, 1.5, 2, 4])
def test_resized_masks_are_refused(tmp_path: Path, factor: float, interpolation: int) -> None:
    if interpolation == cv2.INTER_AREA and factor > 1:
        interpolation = cv2.INTER_LANCZOS4
    for seed in range(4):
        for mask in (blob(seed) * np.uint8(255), COLORS[split(blob(seed), 3)]):
            soft = resized(mask, factor, interpolation)
            with pytest.raises(LabelError, match="as antialiasing or lossy|like a photo"):
                check(save(tmp_path, soft), Size(*soft.shape[:2]))


def test_straight_soft_edges_are_refused(tmp_path: Path) -> None:
    box = np.zeros((60, 80), dtype=np.uint8)
    box[11:40, 17:52] = 255
    for factor in (0.66, 0.9, 1.5, 2, 4):
        soft = resized(box, factor, cv2.INTER_LINEAR)
        with pytest.raises(LabelError, match="occur only along edges"):
            check(save(tmp_path, soft), Size(*soft.shape))


def test_soft_brushes_are_refused(tmp_path: Path) -> None:
    for radius in (6, 15, 40):
        mask = np.zeros(SIZE, dtype=np.uint8)
        cv2.circle(mask, (100, 60), radius, 255, -1, cv2.LINE_AA)
        with pytest.raises(LabelError, match="occur only along edges"):
            check(save(tmp_path, mask))
        rgba = np.full((*SIZE, 4), 255, dtype=np.uint8)
        rgba[..., 3] = mask
        with pytest.raises(LabelError, match="occur only along edges"):
            check(save(tmp_path, rgba))


@pytest.mark.parametrize("quality", [30, 50, 75, 90, 95, 98, 100])
@pytest.mark.parametrize("format_", ["JPEG", "WEBP"])
def test_lossy_noise_is_refused_even_in_a_png(tmp_path: Path, quality: int, format_: str) -> None:
    for seed in range(3):
        noisy = compressed(blob(seed) * np.uint8(255), format=format_, quality=quality)
        with pytest.raises(LabelError, match="occur only along edges"):
            check(save(tmp_path, noisy))


def test_real_masks(tmp_path: Path, shared_dir: Path) -> None:
    folders = sorted((shared_dir / "data" / "DAVIS" / "Annotations" / "480p").iterdir())
    for first in (min(folder.glob("*.png")) for folder in folders):
        mask = np.array(Image.open(first))
        size = Size(*mask.shape)
        assert check(first, size)[0] == (255,)
        write_mask(tmp_path / "mask.png", split(mask[::2, ::2], 20))
        assert len(check(tmp_path / "mask.png", Size(240, 427))[0]) == 20
        soft = resized(mask, 0.66, cv2.INTER_LINEAR)
        for bad in (soft, resized(mask, 0.5, cv2.INTER_AREA), compressed(mask, format="JPEG")):
            with pytest.raises(LabelError, match="occur only along edges"):
                check(save(tmp_path, bad), Size(*bad.shape))


def test_the_refusal_names_ids_and_ways_out(tmp_path: Path) -> None:
    soft = resized(blob(0) * np.uint8(255), 2, cv2.INTER_LINEAR)
    size = Size(*soft.shape)
    path = save(tmp_path, soft)
    with pytest.raises(LabelError, match=r"holds 1\d ids, of which \d+ \(\d+, .* occur only"):
        check(path, size)
    with pytest.raises(LabelError, match="without antialiasing, or pass --binarize .* --trust-ids"):
        check(path, size)
    ids, notes = check(path, size, binarize=True)
    assert ids == (1,)
    assert "mask.png was binarised: object 1 covers" in notes
    assert len(check(path, size, trust_ids=True)[0]) >= 8


def test_jpeg(tmp_path: Path) -> None:
    path = save(tmp_path, blob(0) * np.uint8(255), "mask.jpg")
    with pytest.raises(
        LabelError, match=r"mask\.jpg is a JPEG.*save it as PNG, or pass --binarize"
    ):
        check(path)
    loaded = load_reference_mask(path, frame_size=SIZE, binarize=True)
    np.testing.assert_array_equal(loaded.masks.ids, blob(0))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_photo(tmp_path: Path, channels: int) -> None:
    noise = np.random.default_rng(0).random((*SIZE, channels))
    photo = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX)
    photo = photo.astype(np.uint8).reshape(noise.shape).squeeze()
    with pytest.raises(LabelError, match=r"holds \d+ (colours|grey levels .*), like a photo"):
        check(save(tmp_path, photo))


def test_many_tiny_objects_can_be_vouched_for(tmp_path: Path) -> None:
    rows, columns = np.indices(SIZE) // 2
    mask = (1 + rows * 107 + columns).astype(np.uint16)
    with pytest.raises(LabelError, match="like a photo"):
        check(save(tmp_path, mask))
    assert len(check(save(tmp_path, mask), trust_ids=True)[0]) == 60 * 107


@pytest.mark.parametrize(
    ("frame", "advice"),
    [
        (Size(214, 120), "it looks rotated, so turn it by 90 degrees"),
        (Size(240, 428), "resize it to 428x240 with nearest-neighbour interpolation"),
        (Size(480, 854), "resize it to 854x480 with nearest-neighbour interpolation"),
        (Size(120, 200), "its aspect ratio differs too"),
    ],
)
def test_wrong_size(tmp_path: Path, frame: Size, advice: str) -> None:
    path = save(tmp_path, blob(0))
    with pytest.raises(LabelError, match=rf"is 214x120 but its frame {frame}; {advice}"):
        check(path, frame)


def test_empty(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=r"holds nothing but background \(0\); paint at least"):
        check(save(tmp_path, np.zeros(SIZE, dtype=np.uint8)))
    only_void = save(tmp_path, blob(0) * np.uint8(255))
    with pytest.raises(LabelError, match=r"nothing but background \(0\) and void \(255\)"):
        check(only_void, void=255)


def test_id_255_alone_is_an_object(tmp_path: Path) -> None:
    path = save(tmp_path, blob(0) * np.uint8(255))
    ids, notes = check(path)
    assert ids == (255,)
    assert "Id 255 is the only one, so it is taken as an object; pass --void 255" in notes
    assert check(path, void=None) == ((255,), "")


def test_id_255_beside_others_is_void(tmp_path: Path) -> None:
    mask = blob(0)
    mask[:10] = 255
    path = save(tmp_path, mask)
    ids, notes = check(path)
    assert ids == (1,)
    assert "its pixels count as unknown; pass --void none if it is an object" in notes
    assert check(path, void=None)[0] == (1, 255)
    assert check(path, void=1)[0] == (255,)


def test_id_255_among_many_instances_is_an_object(tmp_path: Path) -> None:
    mask = blob(0).astype(np.uint16) * 300
    mask[:10] = 255
    ids, notes = check(save(tmp_path, mask))
    assert ids == (255, 300)
    assert "There are ids above 255" in notes


def test_background_cannot_be_void(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="void is 0; it must be an id of 1 or more"):
        check(save(tmp_path, blob(0)), void=0)


def test_notes_on_odd_content(tmp_path: Path) -> None:
    mask = np.full(SIZE, 3, dtype=np.uint8)
    mask[0, :5] = 8
    ids, notes = check(save(tmp_path, mask))
    assert ids == (3, 8)
    assert "No pixel is background (0)" in notes
    assert "so small that they may get lost: 8 (5 px)." in notes


def test_colours_are_reported(tmp_path: Path) -> None:
    ids, notes = check(save(tmp_path, COLORS[split(blob(0), 4)]))
    assert ids == (1, 2, 3, 4)
    assert "read as one id: (0, 0, 255) is 1, (0, 200, 0) is 2" in notes


def test_the_palette_is_kept_for_writing(tmp_path: Path) -> None:
    palette = np.array([[0, 0, 0], [1, 2, 3]], dtype=np.uint8)
    write_mask(tmp_path / "mask.png", blob(0), palette=palette)
    loaded = load_reference_mask(tmp_path / "mask.png", frame_size=SIZE)
    assert loaded.palette is not None
    np.testing.assert_array_equal(loaded.palette[:2], palette)
    assert repr(loaded).startswith("ReferenceMask(Masks(214x120, objects=[1]")
