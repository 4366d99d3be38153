"""Training of a small diffusion model, and its features, as a user runs it."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from safetensors.torch import load_file

from propagate.commands.main import program
from propagate.config import ModelOptions
from propagate.errors import InputError, OutputError
from propagate.features.diffusion.model import PixelEncoder
from propagate.features.registry import cards, create_extractor
from propagate.training.denoising import learning_rate
from propagate.training.images import RandomCrops, StoredImage, stored_images
from propagate.training.pocket import PocketRequest, train_pocket
from propagate.training.pocket_settings import PocketSettings
from propagate.types import Frame
from tests.test_training import losses, texture

TINY = {"channels": (16, 16), "unshuffle": 2, "side": 16, "batch": 2, "save_every": 3}
WORDS = (
    *("--channels", "16,16", "--unshuffle", "2", "--side", "16", "--batch", "2"),
    *("--save-every", "3", "--device", "cpu"),
)


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for index, name in enumerate(("a.png", "b.jpg", "c.png")):
        Image.fromarray(texture(index)).save(folder / name)
    return folder


@pytest.fixture(scope="module")
def packed(images) -> Path:
    """The same images in a tar file, with things that are none."""
    path = images.parent / f"{images.name}.tar"
    with tarfile.open(path, "w") as archive:
        archive.add(images, arcname="photos")
        (images.parent / "notes.txt").write_text("no image")
        archive.add(images.parent / "notes.txt", arcname="photos/notes.txt")
    return path


def train(*words: str) -> Result:
    return CliRunner().invoke(program, ["train", "pocket", *words])


@pytest.fixture(scope="module")
def trained(tmp_path_factory, packed) -> Path:
    """A whole training of 5 steps."""
    output = tmp_path_factory.mktemp("whole") / "out"
    done = train("--images", str(packed), "-o", str(output), "--steps", "5", *WORDS)
    assert done.exit_code == 0, done.output
    assert f"--model {output}" in done.output
    return output


def test_the_loss_falls(images, tmp_path):
    """On one image whose crops are all alike."""
    folder = tmp_path / "one"
    folder.mkdir()
    Image.fromarray(np.full((16, 16, 3), 200, np.uint8)).save(folder / "grey.png")
    sizes = TINY | {"batch": 16, "save_every": 15}
    settings = PocketSettings(**sizes, steps=30, lr=5e-3, warmup=1, colour=0, ema=0.5, t_below=1000)
    request = PocketRequest(
        output=tmp_path / "out", images=folder, settings=settings, device="cpu", dtype="fp32"
    )
    report = train_pocket(request, bar=lambda title, total, steps: steps)
    found = report.progress.losses
    assert np.mean(found[-10:]) < 0.8 * np.mean(found[:3])
    (_, halfway), (_, done) = report.progress.validations
    assert done < halfway


def test_what_is_written(trained):
    record = json.loads((trained / "training.json").read_text())
    assert record["status"] == "complete"
    assert record["images"] == 3
    assert len(losses(trained)) == 5
    weights = load_file(trained / "unet" / "diffusion_pytorch_model.fp16.safetensors")
    assert sum(part.numel() for part in weights.values()) == record["parameters"]
    assert {part.dtype for part in weights.values()} == {torch.float16}
    for name in ("loss.png", "denoised.png"):
        with Image.open(trained / name) as picture:
            assert min(picture.size) > 200
    suffixes = {path.suffix for path in trained.rglob("*") if path.is_file()}
    assert suffixes == {".json", ".safetensors", ".csv", ".png"}


def test_the_folder_is_a_model_of_any_size(trained):
    frame = Frame("a", 0, texture(0), 0.0, "a")
    options = ModelOptions(device="cpu", short_side=64, t=51, layer="up_blocks.0.resnets.1")
    extractor = create_extractor(str(trained), options)
    first, again = (extractor.extract([frame])[0].data for _ in range(2))
    # Two levels on cells of 2 pixels: the coarser one has cells of 4.
    assert first.shape == (16, 16, 16)
    assert torch.equal(first, again)
    done = CliRunner().invoke(program, ["models", "layers", str(trained), "--json"])
    strides = {row["name"]: row["stride"] for row in json.loads(done.stdout)}
    assert (strides["up_blocks.0.resnets.1"], strides["up_blocks.1.resnets.1"]) == (4, 2)


def test_a_resumed_training_ends_the_same(trained, packed, tmp_path):
    settings = PocketSettings(**TINY, steps=5)
    request = PocketRequest(output=tmp_path / "out", images=packed, settings=settings, device="cpu")

    def cut_short(title, total, steps):
        for step in steps:
            if step == 4:
                raise KeyboardInterrupt
            yield step

    with pytest.raises(KeyboardInterrupt):
        train_pocket(request, bar=cut_short)
    assert len(losses(tmp_path / "out")) == 3
    words = ("--images", str(packed), "-o", str(tmp_path / "out"), "--steps", "5", *WORDS)
    again = train(*words, "--resume")
    assert again.exit_code == 0, again.output
    for path in trained.rglob("*"):
        if path.suffix in (".safetensors", ".csv"):
            other = tmp_path / "out" / path.relative_to(trained)
            assert other.read_bytes() == path.read_bytes(), path.name


def test_other_settings_are_not_resumed(trained, packed):
    words = ("--images", str(packed), "-o", str(trained), "--steps", "5", *WORDS)
    other = train(*words, "--lr", "0.1", "--resume")
    assert isinstance(other.exception, OutputError)
    assert "settings.lr was 0.0015 and is now 0.1" in str(other.exception)
    taken = train(*words)
    assert "already holds a training; continue it with --resume" in str(taken.exception)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--images", "EMPTY"), "holds no image; expected are .jpg"),
        (("--images", "TEXT"), "is neither a folder nor an uncompressed tar file"),
        (("--images", "IMAGES", "--steps", "0"), "steps is 0; it must be 1 or more"),
        (("--images", "IMAGES", "--lr", "0"), "lr is 0.0; it must be greater than 0"),
        (("--images", "IMAGES", "--channels", "20"), "channels are (20,); each must be a multiple"),
        (("--images", "IMAGES", "--side", "24"), "side is 24; 3 levels at unshuffle 4 take"),
        (("--images", "IMAGES", "--side", "128"), "smaller than a crop, 128 pixels; choose a"),
    ],
)
def test_bad_requests(images, tmp_path, words, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no tar file")
    places = {"IMAGES": images, "EMPTY": tmp_path / "empty", "TEXT": tmp_path / "notes.txt"}
    given = [str(places.get(word, word)) for word in words]
    done = train("-o", str(tmp_path / "out"), "--device", "cpu", *given)
    assert isinstance(done.exception, InputError), done.output
    assert message in str(done.exception)
    assert not (tmp_path / "out" / "unet").exists()


def test_channels_that_are_no_numbers(images, tmp_path):
    done = train("--images", str(images), "-o", str(tmp_path / "out"), "--channels", "16,wide")
    assert done.exit_code == 2
    assert "'16,wide' is not a list of whole numbers" in done.output


def test_a_tar_file_is_read_like_its_folder(images, packed):
    plain, inside = stored_images(images), stored_images(packed)
    assert len(plain) == len(inside) == 3
    for one, other in zip(plain, inside, strict=True):
        np.testing.assert_array_equal(one.rgb(), other.rgb())
    assert inside[0].name == f"{packed}:photos/a.png"


def test_an_image_that_can_not_be_decoded():
    for data in (b"", b"cut"):
        with pytest.raises(InputError, match="a.jpg can't be decoded"):
            StoredImage("a.jpg", lambda data=data: data).rgb()


def test_a_crop_depends_on_its_number_and_the_seed(images):
    def cut(seed: int, number: int) -> np.ndarray:
        return RandomCrops(images=stored_images(images), side=32, seed=seed).crop(number)

    assert cut(0, 1).shape == (32, 32, 3)
    np.testing.assert_array_equal(cut(0, 1), cut(0, 1))
    assert not np.array_equal(cut(0, 1), cut(0, 2))
    assert not np.array_equal(cut(0, 1), cut(1, 1))


def test_the_learning_rate_rises_and_falls():
    settings = PocketSettings(steps=100, warmup=10, lr=1.0)
    rates = [learning_rate(settings, step) for step in range(100)]
    assert 5 < int(np.argmax(rates)) < 11
    assert rates[0] < 0.11
    assert 0 < rates[-1] < 0.001


def test_pixels_become_channels_and_come_back():
    image = torch.rand(1, 3, 8, 12)
    latents = PixelEncoder(4)(image).mean
    assert latents.shape == (1, 48, 2, 3)
    # One cell holds one square of pixels.
    assert latents[0, :, 1, 2].sort().values.equal(image[0, :, 4:, 8:].flatten().sort().values)
    assert torch.equal(PixelEncoder()(image).mean, image)


def test_the_installed_model_needs_no_network(monkeypatch):
    def refuse(*_args: object) -> None:
        raise AssertionError("a network was asked")

    monkeypatch.setattr("socket.socket.connect", refuse)
    frame = Frame("a", 0, texture(0), 0.0, "a")
    options = ModelOptions(device="cpu", dtype="fp32", short_side=64, offline=True)
    extractor = create_extractor("pocket", options)
    (found,) = extractor.extract([frame])
    assert found.grid == (8, 8)
    assert found.data.std() > 0
    # Nothing of where it is installed, so that results can be resumed elsewhere.
    assert extractor.identity.startswith("dift pocket@")


def test_the_installed_weights_are_small_and_have_a_card():
    folder = cards()["pocket"].inside
    assert folder is not None
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".md", ".safetensors"}
    assert sum(path.stat().st_size for path in files) < 15e6
    text = (folder / "README.md").read_text(encoding="utf-8")
    for word in ("Caltech-101", "CC BY 4.0", "steps", "J&F"):
        assert word in text
    done = CliRunner().invoke(program, ["models", "path", "pocket"])
    assert done.output == f"{folder}\n"
