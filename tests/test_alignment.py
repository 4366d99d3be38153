"""Features of a denoiser in training, drawn to those of a teacher."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from click.testing import CliRunner, Result
from PIL import Image

from propagate.commands.main import program
from propagate.errors import InputError, ModelError, OutputError
from propagate.training.alignment import Teacher, misalignment
from propagate.training.denoising import DenoisingTrainer, linear_levels
from propagate.training.images import RandomCrops, stored_images
from propagate.training.pocket import PocketRequest, initial_network, train_pocket
from propagate.training.pocket_settings import PocketSettings
from tests.test_training import losses, texture

TEACHER = "efficientnet-lite0[layer=2,short_side=32]"
TINY = PocketSettings(
    channels=(16, 16), unshuffle=2, side=16, batch=4, save_every=4, steps=8, teacher=TEACHER
)
LAYER = "up_blocks.1.resnets.1"


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for index in range(3):
        Image.fromarray(texture(index)).save(folder / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return Teacher(TEACHER, torch.device("cpu"))


def batch(images: Path, count: int = 4) -> np.ndarray:
    return RandomCrops(images=stored_images(images), side=16).batch(0, count)


def trainer(images: Path, teacher: Teacher | None, settings: PocketSettings) -> DenoisingTrainer:
    crops = RandomCrops(images=stored_images(images), side=settings.side)
    return DenoisingTrainer(
        crops=crops,
        validation=crops,
        levels=linear_levels(),
        teacher=teacher,
        settings=settings,
        device=torch.device("cpu"),
        accelerator=Accelerator(cpu=True, device_placement=False),
    )


def test_channels_of_a_teacher_weigh_the_same(images, teacher):
    maps = teacher.maps(batch(images))
    # A crop of 16 pixels is 32 for the teacher, whose block 2 has stride 4.
    assert maps.shape == (4, teacher.channels, 8, 8)
    torch.testing.assert_close(maps.mean((0, 2, 3)), torch.zeros(24), atol=1e-5, rtol=0)
    torch.testing.assert_close(maps.square().mean((0, 2, 3)), torch.ones(24), atol=1e-4, rtol=0)


def test_misalignment_is_that_of_directions():
    maps = torch.randn(2, 5, 4, 4)
    for factor, expected in ((3.0, 0.0), (-1.0, 2.0)):
        torch.testing.assert_close(misalignment(factor * maps, maps), torch.tensor(expected))
    # On a coarser grid what is wanted is the mean of the cells.
    means = maps.reshape(2, 5, 2, 2, 2, 2).mean((3, 5))
    torch.testing.assert_close(misalignment(means, maps), torch.tensor(0.0))


def test_a_second_task_leaves_the_first_as_it_was():
    plain, aligned = initial_network(TINY), initial_network(TINY, 24)
    noisy, t = torch.randn(2, 12, 8, 8), torch.tensor([3, 400])
    predicted, nothing = plain(noisy, t)
    again, maps = aligned(noisy, t)
    assert nothing is None
    assert maps is not None
    assert maps.shape == (2, 24, 8, 8)
    assert torch.equal(predicted, again)


def test_the_second_task_teaches_the_layers_before_it_alone():
    network = initial_network(replace(TINY, align_layer="up_blocks.0.resnets.0"), 24)
    with torch.enable_grad():
        _, maps = network(torch.randn(1, 12, 8, 8), torch.tensor([0]))
        maps.square().sum().backward()
    denoiser = network.denoiser
    assert denoiser.conv_in.weight.grad.abs().sum() > 0
    assert denoiser.up_blocks[0].resnets[0].conv2.weight.grad.abs().sum() > 0
    assert denoiser.up_blocks[1].resnets[1].conv2.weight.grad is None


def test_crops_without_noise_are_nothing_to_denoise(images, teacher):
    seen: list[torch.Tensor] = []

    class Wild(torch.nn.Module):
        def forward(self, noisy, t):
            seen.append(t)
            wrong = 1e6 * (t == 0).float()[:, None, None, None]
            return torch.zeros_like(noisy) + wrong, torch.zeros(len(t), teacher.channels, 8, 8)

    # Half are at step 0, where this network is wildly wrong.
    settings = replace(TINY, clean=0.5, t_power=1.0, t_below=1000)
    found = trainer(images, teacher, settings)
    denoising, _ = found._losses(Wild(), batch(images, 32), torch.Generator().manual_seed(0))
    (steps,) = seen
    assert 6 < int((steps == 0).sum()) < 26
    assert float(denoising) < 10


def test_the_network_learns_what_the_teacher_sees(images, tmp_path):
    settings = replace(TINY, steps=40, save_every=20, batch=8, lr=5e-3, warmup=1, ema=0.5)
    request = PocketRequest(
        output=tmp_path / "out", images=images, settings=settings, device="cpu", dtype="fp32"
    )
    report = train_pocket(request, bar=lambda title, total, steps: steps)
    (_, _, halfway), (_, _, done) = report.progress.validations
    assert done < halfway < 0.95
    assert report.record["misalignment"] == done
    # The folder is a denoiser and nothing else.
    config = json.loads((tmp_path / "out/unet/config.json").read_text())
    assert config["_class_name"] == "UNet2DModel"


def test_a_resumed_training_ends_the_same(images, tmp_path):
    def request(name: str, mode: str = "new") -> PocketRequest:
        output = tmp_path / name
        return PocketRequest(
            output=output, images=images, settings=TINY, device="cpu", dtype="fp32", mode=mode
        )

    def cut_short(title, total, steps):
        for step in steps:
            if step == 6:
                raise KeyboardInterrupt
            yield step

    train_pocket(request("whole"), bar=lambda title, total, steps: steps)
    with pytest.raises(KeyboardInterrupt):
        train_pocket(request("cut"), bar=cut_short)
    assert len(losses(tmp_path / "cut")) == 4
    train_pocket(request("cut", "resume"), bar=lambda title, total, steps: steps)
    for name in ("checkpoint.safetensors", "losses.csv"):
        whole, cut = (tmp_path / folder / name for folder in ("whole", "cut"))
        assert whole.read_bytes() == cut.read_bytes(), name


def train(images: Path, output: Path, *words: str) -> Result:
    tiny = ("--channels", "16,16", "--unshuffle", "2", "--side", "16", "--batch", "2")
    given = ("--images", str(images), "-o", str(output), "--steps", "2", *tiny, "--device", "cpu")
    return CliRunner().invoke(program, ["train", "pocket", *given, *words])


def test_the_command_tells_how_well_the_teacher_is_followed(images, tmp_path):
    done = train(images, tmp_path / "out", "--teacher", TEACHER)
    assert done.exit_code == 0, done.output
    assert "1 - cosine with the teacher " in done.output
    other = train(images, tmp_path / "out", "--resume")
    assert isinstance(other.exception, OutputError)
    assert f"settings.teacher was {TEACHER!r} and is now None" in str(other.exception)


@pytest.mark.parametrize(
    ("words", "kind", "message"),
    [
        (("--teacher", "nobody"), ModelError, "'nobody' is not a name that"),
        (("--teacher", TEACHER, "--align", "0"), InputError, "align is 0.0; it must be greater"),
        (("--teacher", TEACHER, "--clean", "1"), InputError, "clean is 1.0; it must be in [0, 1)"),
        (
            ("--teacher", TEACHER, "--align-layer", "up"),
            InputError,
            "has no layer 'up'; it has conv_in",
        ),
        (
            ("--teacher", TEACHER, "--align-layer", "time_embedding"),
            InputError,
            "Layer 'time_embedding' gives no map; choose another",
        ),
    ],
)
def test_bad_requests(images, tmp_path, words, kind, message):
    done = train(images, tmp_path / "out", *words)
    assert isinstance(done.exception, kind), done.output
    assert message in str(done.exception)
    assert not (tmp_path / "out" / "unet").exists()
