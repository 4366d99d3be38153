"""The published algorithm, number by number: DIFT's own outputs as golden values."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from propagate.affinity import ContextFrame, vote
from propagate.config import PropagationSettings
from propagate.geometry import InputSize, resize_rgb
from propagate.labels.masks import decode_masks, encode_masks, stretch_channels
from propagate.propagation import Propagator
from propagate.types import FeatureMap, LabelField, Masks, Size


def load(folder: Path, name: str) -> dict[str, torch.Tensor]:
    with np.load(folder / name, allow_pickle=False) as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


def unit_cells(features: torch.Tensor) -> torch.Tensor:
    size = Size(*features.shape[1:])
    return FeatureMap(features, size, size).normalised(torch.float32).data.permute(1, 2, 0)


def test_every_label_propagation_case(shared_dir: Path) -> None:
    folder = shared_dir / "oracles" / "label-propagation"
    cases = json.loads((folder / "cases.json").read_text())["cases"]
    assert len(cases) >= 8
    for case in cases:
        data = load(folder, case["data"])
        settings = PropagationSettings(
            radius=case["radius"], topk=case["topk"], temperature=case["temperature"]
        )
        context = [
            ContextFrame(unit_cells(source), labels.flatten(1).T)
            for source, labels in zip(data["sources"], data["labels"], strict=True)
        ][: case["n_sources"]]
        labels = vote(unit_cells(data["target"]), context, settings).scores
        expected = load(folder, case["expected"])["labels"]
        torch.testing.assert_close(labels, expected, atol=2e-5, rtol=0, msg=case["name"])


def test_sequence_with_queue_and_masks(shared_dir: Path) -> None:
    folder = shared_dir / "oracles" / "label-propagation"
    case = json.loads((folder / "cases.json").read_text())["sequence"]
    data, expected = load(folder, case["data"]), load(folder, case["expected"])
    settings = PropagationSettings(
        n_last_frames=case["n_last_frames"],
        limit_references=True,
        radius=case["radius"],
        topk=case["topk"],
        temperature=case["temperature"],
    )
    propagator = Propagator(settings)
    native = Size(case["native_height"], case["native_width"])
    first = data["first_labels"]
    network = Size(*(side * case["scale_factor"] for side in first.shape[1:]))
    ids = tuple(range(first.shape[0]))
    propagator.step(FeatureMap(data["features"][0], native, network), LabelField(first, ids))
    for index, features in enumerate(data["features"][1:]):
        field = propagator.step(FeatureMap(features, native, network))
        torch.testing.assert_close(field.scores, expected["labels"][index], atol=2e-5, rtol=0)
        masks = decode_masks(field, native, input_size=network, method="dift")
        np.testing.assert_array_equal(masks.ids, expected["masks"][index + 1].numpy())


def test_norm_mask(shared_dir: Path) -> None:
    folder = shared_dir / "oracles" / "label-propagation"
    scores = load(folder, "norm_mask.npz")["input"]
    expected = load(folder, "expected_norm_mask.npz")["output"]
    torch.testing.assert_close(stretch_channels(scores), expected, atol=0, rtol=0, equal_nan=True)


def shift_pool(image: torch.Tensor, pool: int) -> torch.Tensor:
    """The stand-in for a network that the oracle was made with."""
    shifts = [(0, 0), (0, 2), (0, -2), (2, 0), (-2, 0)]
    stacked = torch.cat([torch.roll(image, shift, dims=(1, 2)) for shift in shifts])
    return torch.nn.functional.avg_pool2d(stacked[None], pool)[0]


@pytest.mark.parametrize("name", ["one_object", "two_objects"])
def test_davis_protocol_end_to_end(shared_dir: Path, name: str) -> None:
    folder = shared_dir / "oracles" / "davis-protocol"
    case = next(
        case
        for case in json.loads((folder / "cases.json").read_text())["cases"]
        if case["name"] == name
    )
    expected = load(folder, f"expected_{name}.npz")
    frames = sorted((shared_dir / "data/DAVIS/JPEGImages/480p" / case["sequence"]).glob("*.jpg"))
    propagator = Propagator(
        PropagationSettings(
            n_last_frames=case["n_last_frames"],
            limit_references=True,
            radius=case["radius"],
            topk=case["topk"],
            temperature=case["temperature"],
        )
    )
    mask = Masks(np.array(Image.open(folder / name / "first_mask.png")))
    for index, path in enumerate(frames[: case["frames"]]):
        rgb = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        native = Size(*rgb.shape[:2])
        network = InputSize().of(native)
        image = (torch.from_numpy(resize_rgb(rgb, network)).permute(2, 0, 1) / 255 - 0.5) / 0.5
        features = FeatureMap(shift_pool(image, case["pool"]), native, network)
        if index == 0:
            torch.testing.assert_close(
                features.data, expected["frame0_features"], atol=1e-5, rtol=0
            )
            first = encode_masks(mask, features.grid, method="nearest")
            torch.testing.assert_close(first.scores, expected["first_labels"], atol=0, rtol=0)
            propagator.step(features, first)
            continue
        field = propagator.step(features)
        torch.testing.assert_close(field.scores, expected["labels"][index - 1], atol=5e-5, rtol=0)
        ids = decode_masks(field, native, input_size=network, method="dift").ids
        written = np.array(Image.open(folder / name / f"{index:05d}.png"))
        assert np.count_nonzero(ids != written) == 0
