"""CRW's protocol on JHMDB, number by number: videowalk's own outputs as golden values."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from propagate.affinity import ContextFrame, vote
from propagate.config import preset
from propagate.labels.keypoint_files import read_keypoints
from propagate.labels.keypoints_crw import decode_crw, encode_crw
from propagate.metrics.points import jhmdb_distances, jhmdb_pck
from propagate.pipeline import VideoPropagator
from propagate.types import FeatureMap, Frame, Keypoints, LabelField, PointName, Size
from propagate.video import open_clip
from tests.test_propagation_oracle import shift_pool, unit_cells

NATIVE = Size(240, 320)
MEAN, STD = (
    np.array(values, dtype=np.float32) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
)


@pytest.fixture(scope="module")
def oracle(shared_dir: Path) -> Path:
    return shared_dir / "oracles" / "jhmdb"


@pytest.fixture(scope="module")
def config(oracle: Path) -> dict:
    return json.loads((oracle / "config.json").read_text())


@pytest.fixture(scope="module")
def truth(shared_dir: Path, config: dict) -> list[Keypoints]:
    return [f.keypoints for f in read_keypoints(shared_dir / "data" / config["joints"]).frames]


def test_joints_on_the_grid(oracle: Path, truth: list[Keypoints]) -> None:
    expected = np.load(oracle / "expected_labels.npz")["labels"]
    assert len(expected) == len(truth)
    for labels, points in zip(expected, truth, strict=True):
        field = encode_crw(points, Size(40, 40), image_size=NATIVE)
        np.testing.assert_allclose(field.scores.permute(1, 2, 0), labels[..., 1:], atol=1e-6)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
def test_drawn_points(oracle: Path, sigma: float) -> None:
    places = np.load(oracle / "inputs.npz")["draw_points_xy"]
    expected = np.load(oracle / "expected_draw.npz")[f"sigma_{sigma}".replace(".", "_")]
    names = tuple(PointName(str(i)) for i in range(len(places)))
    points = Keypoints(names, (places + 0.5).astype(np.float32), np.ones(len(names), bool))
    grid = Size(*expected.shape[1:])
    field = encode_crw(points, grid, image_size=grid, sigma=sigma)
    np.testing.assert_allclose(field.scores, expected, atol=1e-6)


def test_decoded_pose(oracle: Path) -> None:
    maps = torch.from_numpy(np.load(oracle / "inputs.npz")["pose_maps"]).permute(2, 0, 1)[1:]
    expected = np.load(oracle / "expected_pose.npz")["coordinates_xy"]
    names = tuple(PointName(str(i)) for i in range(len(maps)))
    grid = Size(*maps.shape[1:])
    points = decode_crw(LabelField(maps, tuple(range(len(maps)))), grid, names=names)
    found = np.where(np.isnan(points.xy), -1, points.xy - 0.5).T
    certain = [i for i in range(len(names)) if i != 6]  # constant: any 3 cells are its highest
    assert (expected == -1).any()
    np.testing.assert_allclose(found[:, certain], expected[:, certain], atol=1e-4)


def test_votes(oracle: Path, config: dict) -> None:
    case = config["affinity"]
    features = torch.from_numpy(np.load(oracle / "inputs.npz")["affinity_features"])
    expected = np.load(oracle / "expected_affinity.npz")
    settings = replace(
        preset("crw").video.propagation,
        radius=int(case["radius"]),
        topk=case["topk"],
        temperature=case["temperature"],
    )
    cells = features[0, 0].numel()
    for target in range(case["frames"]):
        bank = expected["context"][target]
        # The label of a cell is which cell of which frame it is, so that votes come out as such.
        labels = torch.eye(len(bank) * cells).view(len(bank), cells, -1)
        context = [
            ContextFrame(unit_cells(features[:, index]), label, limited=position > 0)
            for position, (index, label) in enumerate(zip(bank, labels, strict=True))
        ]
        query = unit_cells(features[:, target + case["n_context"]])
        votes = vote(query, context, settings).scores.flatten(1).numpy()
        wanted = np.zeros_like(votes)
        np.put_along_axis(wanted, expected["indices"][target], expected["weights"][target], 0)
        # Copies of the first frame tie; which of them votes is open.
        sums = [
            np.stack([v[bank.repeat(cells) == index].reshape(-1, cells, cells).sum(0)])
            for v in (votes, wanted)
            for index in np.unique(bank)
        ]
        half = len(sums) // 2
        np.testing.assert_allclose(sums[:half], sums[half:], atol=1e-5)


def test_pck(oracle: Path, config: dict, truth: list[Keypoints]) -> None:
    cells = np.load(oracle / "inputs.npz")["pck_predictions"].transpose(2, 1, 0)
    expected = np.load(oracle / "expected_pck.npz")
    resolution = config["pck"]["feature_resolution"]
    pixels = cells * (NATIVE.width / resolution, NATIVE.height / resolution)
    pred = np.where((cells < 0).any(2, keepdims=True), np.nan, pixels)
    # The joints of the file as they are there, in float64.
    true = joints(oracle, config)
    distances = jhmdb_distances(pred, true)
    for joint, wanted in zip(distances.T, expected["normalised_distances"], strict=True):
        found = joint[~np.isnan(joint)]
        np.testing.assert_allclose(found, wanted[~np.isnan(wanted)], rtol=0, atol=1e-12)
    found = jhmdb_pck(distances, config["pck"]["thresholds"])
    np.testing.assert_array_equal(found, expected["pck"][:, :-1])
    np.testing.assert_allclose(found.mean(1), expected["pck"][:, -1], rtol=0, atol=1e-12)


def joints(oracle: Path, config: dict) -> np.ndarray:
    import scipy.io

    path = oracle.parent.parent / "data" / config["joints"]
    return scipy.io.loadmat(path)["pos_img"].transpose(2, 1, 0).astype(np.float64) - 1


class FakeEncoder:
    """The stand-in for a network that the oracle was made with."""

    identity = "fake"
    batch_size = 1

    def __init__(self, side: int, pool: int) -> None:
        self._side, self._pool = side, pool

    def extract(self, frames: Sequence[Frame]) -> list[FeatureMap]:
        return [self._extract(frame) for frame in frames]

    def _extract(self, frame: Frame) -> FeatureMap:
        rgb = cv2.resize(frame.rgb.astype(np.float32) / 255, (self._side, self._side))
        image = torch.from_numpy((rgb - MEAN) / STD).permute(2, 0, 1)
        side = Size(self._side, self._side)
        return FeatureMap(shift_pool(image, self._pool), frame.size, side)


def test_the_whole_loop(
    shared_dir: Path, oracle: Path, config: dict, truth: list[Keypoints]
) -> None:
    case, expected = config["loop"], np.load(oracle / "expected_loop.npz")
    crw = preset("crw").video
    settings = replace(
        crw,
        propagation=replace(
            crw.propagation,
            n_last_frames=case["n_context"],
            radius=case["radius"],
            topk=case["topk"],
            temperature=case["temperature"],
        ),
    )
    propagator = VideoPropagator(
        open_clip(shared_dir / "data" / config["clip"], frames=f":{case['frames']}"),
        truth[0],
        extractor=FakeEncoder(case["img_size"], case["pool"]),
        settings=settings,
    )
    results = list(propagator)
    assert len(results) == case["frames"]
    for result, labels in zip((results[1], results[-1]), expected["labels"], strict=True):
        scores = result.field.scores.permute(1, 2, 0)
        np.testing.assert_allclose(scores, labels[..., 1:], atol=1e-4)
    cells = case["img_size"] / case["pool"]
    scale = (NATIVE.width / cells, NATIVE.height / cells)
    found = np.stack([(r.keypoints.xy - 0.5) / scale for r in results[1:]])
    wanted = expected["keypoints_xy"].transpose(2, 1, 0)[1:]
    np.testing.assert_allclose(found, wanted, atol=1e-3)
    pred = np.stack([r.keypoints.xy for r in results])
    true = np.stack([points.xy for points in truth[: len(pred)]])
    distances = jhmdb_distances(pred, true)
    found = jhmdb_pck(distances, config["pck"]["thresholds"])
    np.testing.assert_allclose(found, expected["pck_pck"][:, :-1], atol=1e-9)
