"""`propagate eval` of keypoints, tracks and body parts, on small trees in the official layouts."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.io
from PIL import Image

from propagate.benchmarks.safe_pickle import load_arrays
from propagate.errors import InputError
from propagate.metrics.categories import category_iou, confusion
from propagate.metrics.points import jhmdb_distances, jhmdb_pck, pck, scaled_distances
from propagate.metrics.tracks import track_scores
from tests.test_run import SIZE, call, disc, picture

FRAMES = 5


def pictures(folder: Path, ending: str) -> None:
    folder.mkdir(parents=True)
    for index in range(FRAMES):
        Image.fromarray(picture(4 * index)).save(folder / f"{index + 1:05d}{ending}")


def moving(index: int, count: int = 15) -> np.ndarray:
    """Points in the disc of a frame, (x, y)."""
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([40 + 4 * index + 12 * np.cos(angles), 48 + 12 * np.sin(angles)], 1)


def scores(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, float]:
    code, out, err = call(capsys, "eval", *arguments, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)["scores"]


def test_jhmdb(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("propagate.benchmarks.jhmdb.PUBLISHED_CLIPS", 1)
    pictures(tmp_path / "Rename_Images/catch/clip", ".png")
    joints = tmp_path / "joint_positions/catch/clip/joint_positions.mat"
    joints.parent.mkdir(parents=True)
    places = np.stack([moving(i) + 0.5 for i in range(FRAMES)])
    scipy.io.savemat(joints, {"pos_img": places.transpose(2, 1, 0)})
    listing = tmp_path / "splits/catch_test_split1.txt"
    listing.parent.mkdir()
    listing.write_text("clip.avi 2\nother.avi 1\n")
    found = scores(capsys, "jhmdb", "--root", tmp_path, "-o", tmp_path / "out")
    assert found["PCK@.2"] > found["copy PCK@.2"]
    for name in ("curve.png", "bars.png", "worst.png"):
        assert cv2.imread(str(tmp_path / "out" / name)).shape[1] > 300
    text = (tmp_path / "out/table.md").read_text()
    assert "Spa-then-Temp" in text
    assert "66.4" in text
    joints.unlink()
    code, _, err = call(capsys, "eval", "jhmdb", "--root", tmp_path)
    assert code == 1
    assert "joint_positions.mat is missing" in err
    assert "jhmdb.is.tue.mpg.de" in err


def test_a_list_can_not_lead_out_of_the_data_set(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits/catch_test_split1.txt").write_text("../../x.avi 2\n")
    code, _, err = call(capsys, "eval", "jhmdb", "--root", tmp_path)
    assert code == 1
    assert "which is no name" in err


def test_vip(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pictures(tmp_path / "Images/videos1", ".jpg")
    masks = tmp_path / "Annotations/Category_ids/videos1"
    masks.mkdir(parents=True)
    for index in range(FRAMES):
        Image.fromarray(disc(4 * index)).save(masks / f"{index + 1:05d}.png")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/val_videos.txt").write_text("videos1\n")
    found = scores(capsys, "vip", "--root", tmp_path, "-o", tmp_path / "out")
    assert found["mIoU"] > max(80, found["copy mIoU"])
    assert found["mIoU"] == pytest.approx(
        np.mean([found[f"IoU {name}"] for name in ("background", "sun-glasses", "socks")])
    )
    (tmp_path / "lists/val_videos.txt").unlink()
    code, _, err = call(capsys, "eval", "vip", "--root", tmp_path)
    assert code == 1
    assert "val_videos.txt is missing" in err


def tapvid_root(folder: Path) -> Path:
    video = np.stack([picture(4 * index) for index in range(FRAMES)])
    height, width = SIZE
    tracks = np.stack([moving(i, 6) for i in range(FRAMES)], 1) / (width, height)
    occluded = np.zeros((6, FRAMES), dtype=bool)
    occluded[0, :2] = True
    content = {"clip": {"video": video, "points": tracks, "occluded": occluded}}
    (folder / "tapvid_davis.pkl").write_bytes(pickle.dumps(content))
    return folder


@pytest.mark.parametrize("query", ["first", "strided"])
def test_tapvid(capsys: pytest.CaptureFixture[str], tmp_path: Path, query: str) -> None:
    root = tapvid_root(tmp_path)
    found = scores(capsys, "tapvid", "--root", root, "--query", query, "-o", tmp_path / "out")
    assert found["AJ"] > found["copy AJ"]
    with np.load(tmp_path / "out/predictions/clip/tracks.npz") as tracks:
        assert tracks["points"].shape == (6 if query == "first" else 5, FRAMES, 2)


class _Evil:
    def __init__(self, target: Path) -> None:
        self._target = target

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self._target}",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_runs_nothing(tmp_path: Path, protocol: int) -> None:
    path, trace = tmp_path / "a.pkl", tmp_path / "trace"
    path.write_bytes(pickle.dumps({"clip": [1, _Evil(trace)]}, protocol=protocol))
    with pytest.raises(InputError, match="could run code"):
        load_arrays(path)
    assert not trace.exists()
    path.write_bytes(pickle.dumps(np.array([_Evil(trace)], dtype=object), protocol=protocol))
    with pytest.raises(InputError, match="is not read"):
        load_arrays(path)
    assert not trace.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_arrays_come_out_of_a_pickle(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "a.pkl"
    given = {
        "a": [np.arange(6, dtype=np.uint8).reshape(2, 3), np.asfortranarray(np.eye(3)), 1.5, "x"],
        "b": {"empty": np.zeros((0, 2)), "flags": np.array([True, False]), "n": 3},
    }
    path.write_bytes(pickle.dumps(given, protocol=protocol))
    found = load_arrays(path)
    np.testing.assert_equal(found, given)
    assert found["a"][0].dtype == np.uint8
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="damaged"):
        load_arrays(path)


def test_track_scores_by_hand() -> None:
    true = np.zeros((2, 4, 2))
    pred = np.zeros((2, 4, 2))
    pred[0, 2] = (3, 0)  # right from 4 pixels on
    pred[1, 3] = np.nan
    seen, told = np.ones((2, 4), bool), np.ones((2, 4), bool)
    seen[0, 3] = False  # said to be seen: a false positive
    told[1, 3] = False
    found = track_scores(pred, told, true, seen, np.array([1, 1]), mode="first")
    np.testing.assert_allclose(found.delta, [1 / 3, 1 / 3, 2 / 3, 2 / 3, 2 / 3])
    # Frames 2 and 3: three true points; (0, 3) is false, and so is (0, 2) below 4 pixels.
    np.testing.assert_allclose(found.jaccard, [1 / 5, 1 / 5, 2 / 4, 2 / 4, 2 / 4])
    assert found.occlusion == 0.5
    strided = track_scores(pred, told, true, seen, np.array([1, 1]), mode="strided")
    assert strided.delta[-1] == pytest.approx(4 / 5)


def test_a_place_at_the_threshold_is_wrong_on_tapvid_and_right_in_pck() -> None:
    true, pred = np.zeros((1, 2, 2)), np.zeros((1, 2, 2))
    pred[0, 1] = (0, 4)
    seen = np.ones((1, 2), bool)
    found = track_scores(pred, seen, true, seen, np.array([0]), mode="first")
    np.testing.assert_array_equal(found.delta, [0, 0, 0, 1, 1])
    assert pck(scaled_distances(pred, true, np.array([20.0])), 0.2) == 100


def test_lost_points_are_wrong_in_badja_and_left_out_in_jhmdb() -> None:
    true = np.array([[[0, 0], [10, 0]]] * 3, dtype=float)
    pred = true.copy()
    pred[2, 1] = np.nan
    assert pck(scaled_distances(pred, true, np.ones(3)), 0.1) == pytest.approx(100 * 5 / 6)
    np.testing.assert_array_equal(jhmdb_pck(jhmdb_distances(pred, true), [0.1]), [[100, 100]])


def test_category_iou_counts_pixels() -> None:
    true = np.array([[0, 0, 1, 1, 255]], dtype=np.uint8)
    pred = np.array([[0, 1, 1, 7, 0]], dtype=np.uint8)
    np.testing.assert_allclose(category_iou(confusion(pred, true, 3)), [1 / 2, 1 / 3, np.nan])
