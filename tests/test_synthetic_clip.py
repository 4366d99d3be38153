"""The synthetic clip: the same every time, and its masks say what the picture shows."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from propagate.benchmarks.davis import find_sequences
from propagate.labels.mask_files import read_mask
from propagate.metrics.region import jaccard
from propagate.metrics.sequence import evaluate_sequence
from propagate.video import open_clip

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SMALL = (120, 214)
IDS = (1, 2, 3)


@pytest.fixture(scope="module")
def synthetic() -> Iterator[ModuleType]:
    sys.path.insert(0, str(EXAMPLES))
    yield import_module("synthetic_clip")
    sys.path.remove(str(EXAMPLES))


@pytest.fixture(scope="module")
def masks(synthetic: ModuleType) -> np.ndarray:
    return np.stack([ids for _, ids in synthetic.SyntheticClip(60, SMALL)])


def test_same_every_time(synthetic: ModuleType) -> None:
    clip = synthetic.SyntheticClip(4, SMALL)
    again = synthetic.SyntheticClip(4, SMALL)
    other = synthetic.SyntheticClip(4, SMALL, seed=1)
    assert len(list(clip)) == len(clip) == 4
    for index, (first, second) in enumerate(zip(clip, again, strict=True)):
        for kind in range(2):
            np.testing.assert_array_equal(first[kind], second[kind])
            np.testing.assert_array_equal(first[kind], again.frame(index)[kind])
            assert (first[kind] != other.frame(index)[kind]).any()


def test_motion_does_not_depend_on_length(synthetic: ModuleType) -> None:
    short, long = synthetic.SyntheticClip(2, SMALL), synthetic.SyntheticClip(500, SMALL)
    for kind in range(2):
        np.testing.assert_array_equal(short.frame(1)[kind], long.frame(1)[kind])


@pytest.mark.parametrize("size", [(120, 214), (97, 131)])
def test_shapes_types_and_ids(synthetic: ModuleType, size: tuple[int, int]) -> None:
    rgb, ids = synthetic.SyntheticClip(1, size).frame(0)
    assert (rgb.shape, rgb.dtype) == ((*size, 3), np.uint8)
    assert (ids.shape, ids.dtype) == (size, np.uint8)
    assert np.unique(ids).tolist() == [0, *IDS]


@pytest.mark.parametrize("index", [0, 28, 45])
def test_masks_are_what_is_drawn(
    synthetic: ModuleType, monkeypatch: pytest.MonkeyPatch, index: int
) -> None:
    """With red, green and blue objects on black, without shadows, the brightest channel tells."""
    colors = {actor.asset: 255 * np.eye(3)[i] for i, actor in enumerate(synthetic.ACTORS)}

    def plain(name: str) -> np.ndarray:
        with Image.open(EXAMPLES / "assets" / name) as image:
            picture = np.array(image)
        color = colors.get(Path(name).stem)
        return picture if color is None else np.full_like(picture, color.astype(np.uint8))

    black = np.zeros((8, 8, 3), np.uint8), np.eye(3)
    monkeypatch.setattr(sys.modules["sprites"], "read_image", plain)
    monkeypatch.setattr(synthetic, "ground_picture", lambda *_: black)
    monkeypatch.setattr(synthetic, "blend_shadow", lambda *_: None)
    rgb, ids = synthetic.SyntheticClip(60, (240, 426)).frame(index)
    shares = np.concatenate([255 - rgb.sum(axis=2, keepdims=True, dtype=int), rgb], axis=2)
    for object_id in IDS:
        assert jaccard(shares.argmax(axis=2) == object_id, ids == object_id) > 0.98


@pytest.mark.parametrize("index", [0, 28, 45])
def test_masks_agree_with_four_times_the_resolution(synthetic: ModuleType, index: int) -> None:
    """The scene does not depend on resolution, so many small pixels tell a large one's majority."""
    height, width = SMALL
    _, ids = synthetic.SyntheticClip(60, SMALL).frame(index)
    _, fine = synthetic.SyntheticClip(60, (4 * height, 4 * width)).frame(index)
    votes = [(fine == i).reshape(height, 4, width, 4).sum(axis=(1, 3)) for i in (0, *IDS)]
    majority = np.argmax(votes, axis=0)
    for object_id in IDS:
        assert jaccard(majority == object_id, ids == object_id) > 0.98


def test_keeping_the_first_mask_scores_badly(masks: np.ndarray) -> None:
    kept = np.broadcast_to(masks[0], masks.shape)
    scores = evaluate_sequence(kept, masks, IDS).without_ends()
    assert (scores.jaccard.mean() + scores.boundary_f.mean()) / 2 < 0.4
    assert (scores.jaccard.mean(axis=1) < 0.5).all()


def test_objects_are_covered_in_part_and_come_back(masks: np.ndarray) -> None:
    areas = np.stack([(masks == i).mean(axis=(1, 2)) for i in IDS])
    assert (areas.min(axis=1) > 0.01).all()
    for area in areas[:2]:
        lowest = int(area.argmin())
        assert area[lowest] < 0.6 * area[:lowest].max()
        assert area[lowest] < 0.8 * area[lowest:].max()


def test_video_and_truth(synthetic: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "truth").mkdir()
    (tmp_path / "truth" / "00009.png").write_bytes(b"of an earlier, longer clip")
    clip = synthetic.SyntheticClip(3, SMALL)
    synthetic.write_clip(clip, tmp_path)
    decoded = [frame.rgb for frame in open_clip(tmp_path / "clip.mp4")]
    truth = sorted((tmp_path / "truth").glob("*.png"))
    for (rgb, ids), seen, path in zip(clip, decoded, truth, strict=True):
        assert np.abs(seen.astype(int) - rgb).mean() < 8
        np.testing.assert_array_equal(read_mask(path).ids, ids)
    np.testing.assert_array_equal(read_mask(tmp_path / "first.png").ids, clip.frame(0)[1])


def test_davis_tree(synthetic: ModuleType, tmp_path: Path) -> None:
    clip = synthetic.SyntheticClip(2, SMALL)
    for name in ("path", "again", "path"):
        synthetic.write_davis(clip, tmp_path, name)
    sequences = find_sequences(tmp_path, year="2017", split="val", names=())
    assert [sequence.name for sequence in sequences] == ["again", "path"]
    frames = list(open_clip(sequences[1].images))
    assert [frame.name for frame in frames] == ["00000", "00001"]
    for (rgb, ids), frame, true in zip(clip, frames, sequences[1].true_masks(), strict=True):
        assert np.abs(frame.rgb.astype(int) - rgb).mean() < 8
        np.testing.assert_array_equal(true, ids)
