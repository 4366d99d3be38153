"""The published aggregation network, number by number."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from propagate.features.hyper.loss import LOGIT_SCALE, cells_of, cosines, symmetric_loss
from propagate.features.hyper.network import Accumulator, AggregationNetwork
from propagate.matching.semantic import PUBLISHED, match_points
from propagate.metrics.pck import box_side, correct_points
from propagate.types import FeatureMap, Size

CLOSE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(scope="module")
def oracle(shared_dir):
    return shared_dir / "oracles/hyperfeatures"


@pytest.fixture(scope="module")
def config(oracle):
    return json.loads((oracle / "config.json").read_text())


@pytest.fixture
def network(oracle, config) -> AggregationNetwork:
    network = AggregationNetwork(
        config["feature_dims"],
        steps=len(config["save_timestep"]),
        width=config["projection_dim"],
        groups=config["num_norm_groups"],
    )
    network.load_state_dict(load_file(oracle / "aggregation_network.safetensors"))
    return network


def read(oracle, name: str) -> dict[str, np.ndarray]:
    with np.load(oracle / f"{name}.npz") as stored:
        return dict(stored)


def parts(batch: np.ndarray, config) -> list[tuple[int, int, torch.Tensor]]:
    """The oracle's stack of maps, step by step, as single maps."""
    sizes = config["feature_dims"] * len(config["save_timestep"])
    layers = len(config["feature_dims"])
    maps = torch.split(torch.from_numpy(batch), sizes, dim=1)
    return [(i % layers, i // layers, one) for i, one in enumerate(maps)]


def pixels(yx: np.ndarray) -> np.ndarray:
    """(row, column) of pixels to (x, y) from the outer corner."""
    return yx[:, ::-1] + 0.5


@pytest.mark.parametrize("suffix", ["", "_uneven"])
def test_aggregation(oracle, config, network, suffix):
    expected = read(oracle, "expected_aggregation")
    maps = parts(read(oracle, "features")[f"batch{suffix}"], config)
    wanted = torch.from_numpy(expected[f"output{suffix}"])
    torch.testing.assert_close(network(maps), wanted, **CLOSE)
    streamed = Accumulator(network, len(maps))
    for layer, step, one in maps:
        streamed.take(layer, step, one)
    torch.testing.assert_close(streamed.result(), wanted, **CLOSE)


def test_mixing_weights_are_step_by_step(oracle, network):
    mixing = torch.from_numpy(read(oracle, "expected_aggregation")["mixing"])
    torch.testing.assert_close(network.mixing(), mixing.reshape(2, 3))


def test_each_bottleneck(oracle, config, network):
    expected = read(oracle, "expected_aggregation")
    for i, (layer, step, one) in enumerate(parts(read(oracle, "features")["batch"], config)):
        part = network.part(layer, step, one) / network.mixing()[step, layer]
        torch.testing.assert_close(part, torch.from_numpy(expected[f"bottleneck_{i}"]), **CLOSE)


def loss_of(oracle, config, network) -> tuple[torch.Tensor, torch.Tensor]:
    points = read(oracle, "points")
    grid = Size(*config["output_size"])
    cells = [
        torch.from_numpy(cells_of(pixels(points[f"{side}_points"]), grid, grid, "published"))
        for side in ("source", "target")
    ]
    output = network(parts(read(oracle, "features")["batch"], config))
    output.retain_grad()
    return symmetric_loss(output[0], output[1], *cells), output


def test_loss_and_gradients(oracle, config, network):
    expected = read(oracle, "expected_loss")
    loss, output = loss_of(oracle, config, network)
    assert loss.item() == pytest.approx(float(expected["loss"]), rel=1e-5)
    assert pytest.approx(float(expected["logit_scale_exp"])) == LOGIT_SCALE
    loss.backward()
    torch.testing.assert_close(output.grad, torch.from_numpy(expected["grad_output"]), **CLOSE)
    gradients = load_file(oracle / "expected_gradients.safetensors")
    found = {name: value.grad for name, value in network.named_parameters()}
    assert set(found) == set(gradients)
    for name, gradient in gradients.items():
        torch.testing.assert_close(found[name], gradient, **CLOSE)


def test_cells_of_points(oracle, config):
    points, expected = read(oracle, "points"), read(oracle, "expected_loss")
    grid = Size(*config["output_size"])
    for side in ("source", "target"):
        found = cells_of(pixels(points[f"{side}_points"]), grid, grid, "published")
        np.testing.assert_array_equal(found, expected[f"{side}_idx"])


def test_training_steps(oracle, config, network):
    expected = read(oracle, "expected_training")
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config["lr"], weight_decay=config["weight_decay"]
    )
    losses = []
    for _ in range(config["train_steps"]):
        optimizer.zero_grad()
        loss, _ = loss_of(oracle, config, network)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    loss, output = loss_of(oracle, config, network)
    np.testing.assert_allclose([*losses, loss.item()], expected["losses"], rtol=1e-4)
    after = torch.from_numpy(expected["output_after"])
    torch.testing.assert_close(output.detach(), after, rtol=1e-3, atol=1e-3)
    weights = torch.from_numpy(expected["mixing_weights"])
    torch.testing.assert_close(network.mixing_weights.detach(), weights, rtol=1e-3, atol=1e-4)


def test_correspondences(oracle):
    expected = read(oracle, "expected_correspondence")
    first, second = torch.from_numpy(read(oracle, "expected_aggregation")["output"])
    cosine = cosines(first, second)
    torch.testing.assert_close(cosine, torch.from_numpy(expected["cosine"])[0], **CLOSE)
    best = cosine.argmax(1).numpy()
    np.testing.assert_array_equal(
        np.stack(np.divmod(best, 12), axis=1), expected["nn_all_target"][0]
    )


def test_the_published_search_on_upsampled_maps(oracle, config):
    """The program's search, for the pixels that the oracle rounds points to."""
    expected = read(oracle, "expected_correspondence")
    maps = torch.from_numpy(read(oracle, "expected_aggregation")["output"])
    image = Size(*config["load_size"])
    source, target = (FeatureMap(one, image, image) for one in maps)
    asked = np.round(np.clip(expected["nn_source_points"], 0, np.array(image) - 1))
    found = match_points(source, target, pixels(asked), PUBLISHED)
    np.testing.assert_array_equal(np.floor(found.target_xy[:, ::-1]), expected["nn_predicted"])


def test_pck(oracle):
    expected, points = read(oracle, "expected_correspondence"), read(oracle, "points")
    predicted, true = points["pck_predicted"], points["pck_target"]
    image = correct_points(predicted, true, side=float(max(points["pck_load_size"])))
    np.testing.assert_array_equal(image, expected["pck_image"])
    box = correct_points(predicted, true, side=box_side(points["pck_box"]))
    np.testing.assert_array_equal(box, expected["pck_box"])
