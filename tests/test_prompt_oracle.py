"""Prompt-optimised matching against golden values of the paper's own program."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from safetensors.torch import load_file

from propagate.features.diffusion.denoisers import ConditionalUNet
from propagate.features.diffusion.model import DiffusionModel, NoiseLevels, Posterior, up_block
from propagate.geometry import map_points
from propagate.matching.prompt.crops import draw_window, resized
from propagate.matching.prompt.encoded import EncodedImage
from propagate.matching.prompt.infer import CropMean, attention_in
from propagate.matching.prompt.maps import (
    brightest_pixel,
    gaussian_maps,
    layer_means,
    map_losses,
)
from propagate.matching.prompt.network import PromptNetwork
from propagate.matching.prompt.optimise import Optimised, optimise_prompts
from propagate.matching.prompt.settings import CORRECTED, PUBLISHED, PromptSettings
from propagate.metrics.pck import box_side, correct_points
from propagate.types import Frame, Size

if TYPE_CHECKING:
    from torch import Tensor

SIDE = 512


class TorchDraws:
    """Windows from torch's generator, as the reference draws them, and stored noise."""

    def __init__(self, seed: int, noise: Tensor | None = None) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._noise = iter(()) if noise is None else iter(noise)
        self.asked: list[tuple[int, int, int]] = []

    def integer(self, low: int, high: int) -> int:
        value = int(torch.randint(low, high, (1,), generator=self._generator))
        self.asked.append((low, high, value))
        return value

    def noise(self, shape: tuple[int, ...], kind: str) -> Tensor:
        assert kind == "uniform"
        return next(self._noise).reshape(shape)


class StoredEncoder:
    """Gives stored latents, one after the other."""

    network = None
    factor = 8

    def __init__(self, latents: Tensor) -> None:
        self._latents = latents
        self._next = 0

    def __call__(self, pixels: Tensor) -> Posterior:
        found = self._latents[min(self._next, len(self._latents) - 1)][None]
        self._next += 1
        return Posterior(found, torch.zeros_like(found))


@pytest.fixture(scope="module")
def folder(shared_dir: Path) -> Path:
    return shared_dir / "oracles/ldm-correspondence"


@pytest.fixture(scope="module")
def config(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "config.json").read_text()))


@pytest.fixture(scope="module")
def arrays(folder: Path) -> dict[str, np.ndarray]:
    return dict(np.load(folder / "arrays.npz"))


@pytest.fixture(scope="module")
def inputs(folder: Path) -> dict[str, Tensor]:
    return dict(load_file(folder / "optimisation_inputs.safetensors"))


@pytest.fixture(scope="module")
def unet(folder: Path) -> UNet2DConditionModel:
    return UNet2DConditionModel.from_pretrained(folder / "unet").eval()


def network_of(unet: UNet2DConditionModel, latents: Tensor, **changed: Any) -> PromptNetwork:
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    model = DiffusionModel(
        name="oracle",
        identity="oracle",
        encoder=StoredEncoder(latents),
        levels=NoiseLevels.of_diffusion(scheduler.alphas_cumprod.float()),
        denoiser=ConditionalUNet(unet, {}, factor=8),
        up_block=lambda index: up_block("oracle", unet, index),
    )
    settings = replace(PUBLISHED, **changed)
    return PromptNetwork(model, settings, device=torch.device("cpu"), dtype=torch.float32)


def black(network: PromptNetwork) -> EncodedImage:
    frame = Frame("black", 0, np.zeros((SIDE, SIDE, 3), np.uint8), 0.0, "black")
    return EncodedImage(frame, Size(SIDE, SIDE), network.encode)


def test_gaussians(folder: Path, config: dict[str, Any]) -> None:
    expected = np.load(folder / "expected_gaussians.npz")
    for index, case in enumerate(config["gaussians"]):
        grid = Size(case["size"], case["size"])
        shares = torch.tensor([case["pos"]])
        found = gaussian_maps(shares, grid, case["sigma"], cell_centres=False)[0]
        np.testing.assert_allclose(found, expected[f"gaussian_{index}"], atol=1e-5)


def test_maxima(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    expected = np.load(folder / "expected_maxima.npz")["max_xy_512"]
    maps = torch.from_numpy(arrays["maximum_maps"])
    found = brightest_pixel(maps) / maps.shape[2] * SIDE
    np.testing.assert_array_equal(found, expected)


def test_crops(folder: Path, config: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    expected = np.load(folder / "expected_crops.npz")
    image = torch.from_numpy(arrays["crop_image"]).permute(2, 0, 1)[None]
    size = Size(*image.shape[2:])
    for index, case in enumerate(config["crops"]):
        draws = TorchDraws(case["seed"])
        settings = replace(PUBLISHED, crop_percent=case["crop_percent"], margin=case["margin"])
        at = (case["pixel_xy"][0], case["pixel_xy"][1])
        window = draw_window(size, at, draws, settings)
        np.testing.assert_array_equal(draws.asked, expected[f"crop_{index}_draws"])
        np.testing.assert_array_equal(window, expected[f"crop_{index}_window"])
        np.testing.assert_allclose(window.share(at), expected[f"crop_{index}_pixel"], atol=1e-6)
        top, height, left, width = window
        part = image[:, :, top : top + height, left : left + width]
        whole = torch.nn.functional.interpolate(part, size=(SIDE, SIDE), mode="bilinear")
        picture = whole[0].permute(1, 2, 0)
        np.testing.assert_allclose(
            picture[3::37, 5::37], expected[f"crop_{index}_image"], atol=1e-5
        )
        np.testing.assert_allclose(picture[:12, -12:], expected[f"crop_{index}_corner"], atol=1e-5)
        # Ours are resized to their own image's size.
        own = torch.nn.functional.interpolate(part, size=tuple(size), mode="bilinear")
        np.testing.assert_array_equal(resized(image, window), own)


def test_maps_are_resized(
    folder: Path, config: dict[str, Any], arrays: dict[str, np.ndarray]
) -> None:
    expected = np.load(folder / "expected_attention.npz")["maps"]
    side = config["attention"]["upsample_res"]
    names = [
        name for kind in ("down", "mid", "up") for name in sorted(arrays) if f"{kind}_" in name
    ]
    token_maps = [torch.from_numpy(arrays[name][..., 1]) for name in names]
    chosen = [token_maps[index] for index in config["attention"]["layers"]]
    maps = [one.unflatten(1, (round(one.shape[1] ** 0.5),) * 2)[None] for one in chosen]
    found = layer_means(maps, Size(side, side))[0]
    np.testing.assert_allclose(found, expected.mean(axis=1), atol=1e-5)


@pytest.fixture(scope="module")
def optimised(
    config: dict[str, Any], inputs: dict[str, Tensor], unet: UNet2DConditionModel
) -> tuple[Optimised, list[tuple[int, ...]]]:
    case = config["optimise"]
    stride = SIDE // case["upsample_res"]
    changed = {
        "steps": case["num_steps"],
        "sigma": case["sigma"] * stride,
        "target_stride": stride,
        "learning_rate": case["lr"],
    }
    network = network_of(unet, inputs["latents"], **changed)
    settings = replace(PUBLISHED, **changed)
    image = black(network)
    place = (case["pixel"][0] * SIDE, case["pixel"][1] * SIDE)
    draws = TorchDraws(7, inputs["noise"])
    done = optimise_prompts(network, image, [place], [draws], inputs["context"], settings)
    return done, draws.asked


def test_optimisation(
    folder: Path, config: dict[str, Any], optimised: tuple[Optimised, list[tuple[int, ...]]]
) -> None:
    expected = np.load(folder / "expected_optimisation.npz")
    done, asked = optimised
    starts = np.array([value for _, _, value in asked]).reshape(-1, 2)[:, ::-1]
    np.testing.assert_array_equal(starts, expected["crop_windows"][:, [0, 2]])
    np.testing.assert_allclose(done.courses[0].losses, expected["losses"], rtol=1e-5)
    off = np.abs(done.contexts[0].numpy() - expected["contexts"][-1][0])
    gradient = np.abs(expected["first_gradient"][0])
    sure = gradient > 1e-4 * gradient.max()
    assert sure.mean() > 0.5
    assert off[sure].max() < 0.02 * config["optimise"]["lr"]


def test_first_step(
    folder: Path, config: dict[str, Any], inputs: dict[str, Tensor], unet: UNet2DConditionModel
) -> None:
    expected = np.load(folder / "expected_optimisation.npz")
    network = network_of(unet, inputs["latents"])
    t = int(expected["timestep"])
    assert t == PUBLISHED.optimise_t
    noisy = network.noisy(inputs["latents"], inputs["noise"][0], t)
    np.testing.assert_allclose(noisy, expected["noisy_latents"], atol=1e-6)
    context = inputs["context"].clone().requires_grad_()
    maps = network.maps(noisy, context, t)
    assert [one.shape[1] for one in maps] == [4, 4, 4, 4]
    side = config["optimise"]["upsample_res"]
    heads = torch.cat(
        [torch.nn.functional.interpolate(one, size=(side, side), mode="bilinear") for one in maps]
    )
    np.testing.assert_allclose(heads.detach(), expected["attention_heads"], atol=1e-5)
    grid = Size(side, side)
    shares = torch.from_numpy(expected["cropped_pixel"][:1])
    wanted = gaussian_maps(shares, grid, config["optimise"]["sigma"], cell_centres=False)
    np.testing.assert_allclose(wanted, expected["target_maps"][:1], atol=1e-5)
    map_losses(layer_means(maps, grid), wanted).sum().backward()
    gradient = expected["first_gradient"]
    assert context.grad is not None
    np.testing.assert_allclose(context.grad, gradient, atol=1e-4 * np.abs(gradient).max())
    assert all(part.grad is None for part in unet.parameters())


@pytest.mark.parametrize("settings", [PUBLISHED, CORRECTED], ids=["published", "corrected"])
def test_layers_at_512(
    settings: PromptSettings, inputs: dict[str, Tensor], unet: UNet2DConditionModel
) -> None:
    network = network_of(unet, inputs["latents"], layer_count=settings.layer_count)
    names = [name.split(".transformer")[0] for name in network.layer_names(Size(64, 64))]
    blocks = [(1, 0), (1, 1), (1, 2), (2, 0)]
    assert names == [f"up_blocks.{block}.attentions.{index}" for block, index in blocks]


def test_inference(
    folder: Path, config: dict[str, Any], inputs: dict[str, Tensor], unet: UNet2DConditionModel
) -> None:
    expected = np.load(folder / "expected_inference.npz")
    contexts = torch.from_numpy(np.load(folder / "expected_optimisation.npz")["contexts"][-1])
    crops = config["infer"]["iterations"]
    network = network_of(unet, inputs["infer_latents"][:, 0], crops=crops)
    settings = replace(PUBLISHED, crops=crops)
    image = black(network)
    # The reference encodes each crop anew, and equal windows have other stored latents here.
    image.latents = lambda windows: network.encode(torch.zeros(len(windows), 3, 8, 8))  # type: ignore[method-assign]
    assert int(expected["timestep"]) == settings.infer_t
    draws = TorchDraws(11, inputs["infer_noise"])
    found = attention_in(network, image, contexts, [draws], settings, windows=None)
    starts = np.array([value for _, _, value in draws.asked]).reshape(-1, 2)[:, ::-1]
    np.testing.assert_array_equal(starts, expected["crop_windows"][:, [0, 2]])
    per_layer = expected["accumulated"].mean(axis=1)
    np.testing.assert_allclose(found[0, :, 8::32, 8::32], per_layer, atol=1e-4)
    best = brightest_pixel(found.mean(dim=1))[0] + 0.5
    np.testing.assert_array_equal(best, expected["keypoint_xy"])


def test_crop_mean_leaves_unseen_pixels_at_zero() -> None:
    from propagate.matching.prompt.crops import Window

    mean = CropMean(1, 1, Size(4, 4), torch.device("cpu"))
    for value, left in ((1.0, 0), (3.0, 1)):
        mean.add([torch.full((1, 2, 2, 2), value)], [Window(0, 4, left, 2)])
    np.testing.assert_allclose(mean.value()[0, 0, 0], [1, 2, 3, 0])


def test_pck(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    expected = json.loads((folder / "expected_pck.json").read_text())
    count = int(arrays["n_points"][0])
    true, found = (arrays[f"{name}_keypoints"][0, :, :count].T for name in ("target", "estimated"))
    for alpha, name in ((0.05, "pck_05"), (0.1, "pck_10")):
        side = float(arrays["pck_threshold"][0])
        correct = correct_points(found, true, side=side, alpha=alpha)
        assert 100 * correct.mean() == pytest.approx(expected[name])
    assert np.flatnonzero(correct).tolist() == expected["correct_ids"]


def test_points_of_spair_in_the_stretched_image(folder: Path, shared_dir: Path) -> None:
    batches = json.loads((folder / "expected_spair.json").read_text())["batches"]
    pairs = {path.stem: path for path in shared_dir.rglob("PairAnnotation/**/*.json")}
    checked = 0
    for batch in batches:
        path = pairs.get(batch["pair"].replace(":", "_")) or pairs.get(batch["pair"])
        if path is None:
            continue
        facts = json.loads(path.read_text())
        for side in ("src", "trg"):
            width, height = facts[f"{side}_imsize"][:2]
            size = Size(height, width)
            points = np.array(facts[f"{side}_kps"], dtype=np.float64)
            found = map_points(points, size, Size(SIDE, SIDE))
            np.testing.assert_allclose(found, batch[f"{side}_kps"], atol=1e-3)
            box = np.array(facts[f"{side}_bndbox"], dtype=np.float64).reshape(2, 2)
            stretched = map_points(box, size, Size(SIDE, SIDE)).ravel()
            np.testing.assert_allclose(stretched, batch[f"{side}_bbox"], atol=1e-3)
            if side == "src" and batch["thres"] == "auto":
                assert box_side(stretched.tolist()) == pytest.approx(batch["pckthres"], abs=1e-3)
        checked += 1
    assert checked
