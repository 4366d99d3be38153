"""SuperPoint through transformers, with a few random weights, against the network's own run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from propagate.benchmarks.hpatches_scenes import KeypointSource
from propagate.config import ModelOptions
from propagate.errors import InputError, ModelError
from propagate.features.registry import create_extractor, locate
from propagate.features.superpoint import SuperPoint, load_superpoint
from propagate.matching.detectors import detect
from propagate.matching.geometric import descriptors_at
from propagate.metrics.homography import corner_errors
from propagate.types import FeatureMap, Frame, Size
from tests.test_run import call
from tests.tiny_vision import save_tiny_vit

COMMIT = "5" * 40
CPU = torch.device("cpu")
ASSETS = Path(__file__).resolve().parent.parent / "examples/assets"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that give every pixel a score of its own."""
    config = transformers.SuperPointConfig(
        encoder_hidden_sizes=[8, 8, 16, 16], decoder_hidden_size=16, descriptor_decoder_dim=16
    )
    network = transformers.SuperPointForKeypointDetection(config)
    generator = torch.Generator().manual_seed(3)
    for name, weight in network.named_parameters():
        fan = weight[0].numel() if weight.ndim > 1 else 1
        scale = (2 / fan) ** 0.5 if name.endswith("weight") else 0.1
        weight.data = torch.randn(weight.shape, generator=generator) * scale
    path = tmp_path_factory.mktemp("superpoint")
    network.save_pretrained(path)
    return path


@pytest.fixture
def cache(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The cache of the hub's client, which has the weights; nothing is loaded yet."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--magic-leap-community--superpoint"
    shutil.copytree(folder, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(COMMIT)
    load_superpoint.cache_clear()
    yield repository
    load_superpoint.cache_clear()


@pytest.fixture(scope="module")
def rgb() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (100, 131, 3), dtype=np.uint8)


def own_run(folder: Path, rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels, scores and descriptors as the whole network gives them for a greyscale picture."""
    network = transformers.SuperPointForKeypointDetection.from_pretrained(folder).eval()
    grey = torch.from_numpy(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)).float() / 255
    with torch.inference_mode():
        found = network(grey[None, None].repeat(1, 3, 1, 1))
    places = found.keypoints[0].numpy().astype(np.float64) * (rgb.shape[1], rgb.shape[0])
    return places, found.scores[0].numpy(), found.descriptors[0].numpy()


def test_keypoints_are_the_best_of_the_networks_own(folder: Path, rgb: np.ndarray) -> None:
    places, scores, _ = own_run(folder, rgb)
    inside = ((places >= 3.5) & (places < np.array([131, 100]) - 4.5)).all(axis=1)
    assert 100 < inside.sum() < len(places), "some are at the border"
    expected = places[inside][np.argsort(-scores[inside])]
    network = SuperPoint(locate(str(folder)).files, device=CPU)
    np.testing.assert_allclose(network.keypoints(rgb, 10**6) - 0.5, expected, atol=1e-3)
    np.testing.assert_allclose(network.keypoints(rgb, 20) - 0.5, expected[:20], atol=1e-3)


def test_the_map_holds_the_networks_own_descriptors(folder: Path, rgb: np.ndarray) -> None:
    """Its code scales places by (8 w - 8) / (8 w - 4.5): 3.5 pixels too little at the far end."""
    picture = rgb[:96, :128]
    places, _, expected = own_run(folder, picture)
    far = np.array([128, 96])
    read_at = (places - 3.5) * (far - 8) / (far - 4.5) + 3.5
    # Outside the centres of the outer cells nothing is to be interpolated.
    inside = (read_at >= 3.5).all(axis=1)
    size = Size(96, 128)
    data = SuperPoint(locate(str(folder)).files, device=CPU).descriptors(picture)
    read = descriptors_at(FeatureMap(data, size, size), read_at[inside] + 0.5)
    assert len(read) > 100
    np.testing.assert_allclose(read.numpy(), expected[inside], atol=1e-4)


def test_by_its_name_it_comes_from_the_hubs_cache(cache: Path, rgb: np.ndarray) -> None:
    found = detect(rgb, "superpoint", count=30, device="cpu", offline=True)
    assert found.shape == (30, 2)
    assert (np.lexsort((found[:, 1], found[:, 0])) == np.arange(30)).all()
    assert (load_superpoint("superpoint", device="cpu", offline=True).identity).startswith(
        f"superpoint magic-leap-community/superpoint@{COMMIT[:12]}"
    )


def test_as_features_it_has_cells_of_eight_pixels(cache: Path, rgb: np.ndarray) -> None:
    options = ModelOptions(short_side=64, device="cpu", dtype="fp32", offline=True)
    extractor = create_extractor("superpoint", options, task="geometric")
    frame = Frame("a", 0, rgb, 0.0, "a")
    (features,) = extractor.extract([frame])
    assert features.data.shape == (16, 8, 10)
    torch.testing.assert_close(features.data.norm(dim=0), torch.ones(8, 10))
    assert f"superpoint@{COMMIT[:12]}" in extractor.identity
    larger = create_extractor("superpoint", ModelOptions(**{**vars(options), "short_side": 96}))
    assert larger.identity != extractor.identity


def test_pictures_without_a_cell_have_no_keypoint(folder: Path) -> None:
    sliver = np.zeros((7, 40, 3), dtype=np.uint8)
    assert detect(sliver, "superpoint", weights=str(folder), device="cpu").shape == (0, 2)


def test_a_scene_that_moved_is_matched(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    """Everything 16 to the right and 32 down: the network sees the same in other cells."""
    with Image.open(ASSETS / "coffee.jpg") as picture:
        whole = picture.convert("RGB").resize((368, 288))
    whole.crop((32, 48, 352, 272)).save(tmp_path / "a.png")
    whole.crop((16, 16, 336, 240)).save(tmp_path / "b.png")
    pair = ("match", tmp_path / "a.png", tmp_path / "b.png", "--short-side", 192)
    weights = ("--keypoints", "superpoint", "--keypoint-weights", folder, "--device", "cpu")
    arguments = (*pair, *weights, "--count", 300, "--method", "geometric", "--json")
    code, out, err = call(capsys, *arguments)
    assert (code, err) == (0, "")
    facts = json.loads(out)
    assert facts["points"] == 300
    truth = np.array([[1, 0, 16], [0, 1, 32], [0, 0, 1.0]])
    assert corner_errors(np.array(facts["matrix"]), truth, Size(224, 320)).max() < 2


def test_without_weights_or_a_network_the_way_to_get_them_is_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "none"))
    load_superpoint.cache_clear()
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    pair = ("match", tmp_path / "a.png", tmp_path / "a.png")
    code, out, err = call(capsys, *pair, "--keypoints", "superpoint", "--offline")
    assert (code, out) == (1, "")
    assert "propagate models download superpoint" in err
    code, _, err = call(capsys, *pair, "--keypoints", "sift", "--keypoint-weights", tmp_path)
    assert code == 1
    assert "--keypoint-weights goes with --keypoints superpoint only" in err


def test_another_model_is_refused(tmp_path: Path, rgb: np.ndarray) -> None:
    vit = save_tiny_vit(tmp_path / "vit")
    with pytest.raises(ModelError, match="is a vit, not a superpoint"):
        detect(rgb, "superpoint", weights=str(vit), device="cpu")


def test_pickled_and_incomplete_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    state = transformers.SuperPointForKeypointDetection.from_pretrained(folder).state_dict()
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    shutil.copy(folder / "config.json", pickled)
    torch.save(state, pickled / "pytorch_model.bin")
    with pytest.raises(ModelError, match="pickled weights only"):
        load_superpoint(str(pickled), device="cpu")
    del state["keypoint_decoder.conv_score_b.weight"]
    transformers.SuperPointForKeypointDetection.from_pretrained(folder).save_pretrained(
        tmp_path / "less", state_dict=state
    )
    with pytest.raises(ModelError, match="lack 1 tensors.*conv_score_b"):
        load_superpoint(str(tmp_path / "less"), device="cpu")


def test_hpatches_may_choose_it() -> None:
    assert KeypointSource(detector="superpoint").count == 1000
    with pytest.raises(InputError, match="sift, orb, gftt, superpoint"):
        KeypointSource(detector="surf")  # type: ignore[arg-type]
