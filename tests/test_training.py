"""Training of an aggregation, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from safetensors.torch import load_file

from propagate.benchmarks.pairs import picture
from propagate.commands.main import program
from propagate.config import ModelOptions
from propagate.errors import InputError, OutputError
from propagate.features.hyper.recipe import Inversion, read_recipe
from propagate.features.registry import create_extractor
from propagate.training.aggregation import TrainRequest, train_aggregation
from propagate.training.pairs import AnnotatedPairs, find_pairs, hold_out
from propagate.training.settings import TrainSettings
from propagate.training.warps import WarpedImages, WarpSettings, warp
from propagate.types import Frame
from tests.tiny_pipeline import save_tiny_pipeline

SMALL = ("--layer", "2+3", "--short-side", "64", "--warp-side", "64", "--device", "cpu")
NETWORK = ("--width", "32", "--groups", "4", "--save-every", "2")


def texture(seed: int, size: tuple[int, int] = (96, 128)) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    smooth = cv2.GaussianBlur(noise, (0, 0), 4)
    return cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX)


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    (folder / "more").mkdir()
    for index, name in enumerate(("a.png", "b.jpg", "more/c.png")):
        Image.fromarray(texture(index)).save(folder / name)
    return folder


def train(*words: str) -> Result:
    return CliRunner().invoke(program, ["train", "aggregation", *words])


@pytest.fixture(scope="module")
def trained(tmp_path_factory, images) -> Path:
    """A whole training of 5 steps."""
    output = tmp_path_factory.mktemp("whole") / "out"
    words = ("--images", str(images), "-o", str(output), "--steps", "5", *SMALL, *NETWORK)
    done = train(*words)
    assert done.exit_code == 0, done.output
    assert f"--model {output}" in done.output
    return output


def losses(folder: Path) -> list[float]:
    lines = (folder / "losses.csv").read_text().splitlines()[1:]
    return [float(line.split(",")[1]) for line in lines]


def test_the_loss_falls(images, tmp_path):
    """On one pair, which is what every step sees."""
    grid = [f"a.png,a.png,{x},{y},{x},{y}" for x in range(8, 128, 24) for y in range(8, 96, 24)]
    path = write_csv(images, tmp_path / "pairs.csv", *grid)
    output = tmp_path / "out"
    done = train("--pairs", str(path), "-o", str(output), "--steps", "6", *SMALL, *NETWORK)
    assert done.exit_code == 0, done.output
    found = losses(output)
    assert found[-1] < found[0] - 0.3


def test_what_is_written(trained):
    record = json.loads((trained / "training.json").read_text())
    assert record["status"] == "complete"
    assert record["config"]["settings"]["lr"] == 1e-3
    assert len(record["validation"]) == len(record["untrained"]) == len(record["alphas"]) == 3
    assert len(losses(trained)) == 5
    assert np.sum(record["mixing"]) == pytest.approx(1)
    for name in ("loss.png", "mixing.png"):
        with Image.open(trained / name) as picture:
            assert min(picture.size) > 200


def test_the_folder_is_a_model_of_any_size(trained, images):
    extractor = create_extractor(str(trained), ModelOptions(device="cpu", short_side=96))
    (result,) = extractor.extract([picture(images / "a.png")])
    assert result.data.shape == (32, 24, 32)
    assert "short96" in extractor.identity


def test_a_resumed_training_ends_the_same(trained, images, tmp_path):
    request = request_of(images, tmp_path / "out", steps=5)

    def cut_short(title, total, steps):
        for step in steps:
            if step == 3:
                raise KeyboardInterrupt
            yield step

    with pytest.raises(KeyboardInterrupt):
        train_aggregation(request, bar=cut_short)
    assert len(losses(tmp_path / "out")) == 2
    words = ("--images", str(images), "-o", str(tmp_path / "out"), "--steps", "5")
    again = train(*words, *SMALL, *NETWORK, "--resume")
    assert again.exit_code == 0, again.output
    for name in ("aggregation.safetensors", "checkpoint.safetensors", "losses.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (trained / name).read_bytes()


def request_of(images: Path, output: Path, **settings) -> TrainRequest:
    return TrainRequest(
        output=output,
        images=images,
        options=ModelOptions(layer="2+3", short_side=64, device="cpu"),
        settings=TrainSettings(width=32, groups=4, save_every=2, **settings),
        warps=WarpSettings(side=64),
    )


def test_other_settings_are_not_resumed(trained, images):
    words = ("--images", str(images), "-o", str(trained), "--steps", "5", *SMALL, *NETWORK)
    other = train(*words, "--lr", "0.1", "--resume")
    assert isinstance(other.exception, OutputError)
    assert "settings.lr was 0.001 and is now 0.1" in str(other.exception)
    taken = train(*words)
    assert "already holds a training; continue it with --resume" in str(taken.exception)


def test_a_damaged_checkpoint(trained, images, tmp_path):
    for item in trained.iterdir():
        (tmp_path / item.name).write_bytes(item.read_bytes())
    (tmp_path / "checkpoint.safetensors").write_bytes(b"cut")
    words = ("--images", str(images), "-o", str(tmp_path), "--steps", "5", *SMALL, *NETWORK)
    done = train(*words, "--resume")
    assert "checkpoint.safetensors can't be read" in str(done.exception)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "Give either annotated pairs"),
        (("--images", ".", "--pairs", "."), "Give either annotated pairs"),
        (("--images", "EMPTY"), "holds no image; expected are .jpg"),
        (("--pairs", "EMPTY"), "is no SPair-71k with the split 'trn'"),
        (("--images", "IMAGES", "--steps", "0"), "steps is 0; it must be 1 or more"),
        (("--images", "IMAGES", "--lr", "0"), "lr is 0.0; it must be greater than 0"),
        (("--images", "IMAGES", "--width", "30"), "width 30 can't have 32 groups"),
        (("--images", "IMAGES", "--warp-side", "3"), "side is 3; it must be 32 or more"),
        (("--images", "IMAGES", "--pca", "3"), "pca and prune come after a training"),
        (("--images", "IMAGES", "--inversion"), "is no diffusers pipeline"),
        (
            ("--images", "IMAGES", "--model", "efficientnet-lite0:2+efficientnet-lite0"),
            "does not give its layers one by one",
        ),
    ],
)
def test_bad_requests(images, tmp_path, words, message):
    (tmp_path / "empty").mkdir()
    places = {"IMAGES": str(images), "EMPTY": str(tmp_path / "empty"), ".": str(images)}
    given = [places.get(word, word) for word in words]
    done = train("-o", str(tmp_path / "out"), "--device", "cpu", *given)
    assert isinstance(done.exception, InputError), done.output
    assert message in str(done.exception)
    assert not (tmp_path / "out" / "aggregation.safetensors").exists()


def test_views_correspond():
    """What a point shows in one view it shows in the other."""
    frame = Frame("a", 0, texture(0, (120, 160)), 0.0, "a")
    settings = WarpSettings(side=120, colour=0, points=50)
    seen = 0
    for seed in range(8):
        pair = warp(frame, np.random.default_rng(seed), settings)
        rows, columns = np.floor(pair.target_xy[:, ::-1]).astype(int).T
        places = (pair.source_xy - 0.5).astype(np.float32)
        there = cv2.remap(pair.source.rgb, places[:, None], None, cv2.INTER_LINEAR)[:, 0]
        here = pair.target.rgb[rows, columns]
        assert np.abs(there.astype(int) - here).max() <= 3
        assert np.abs(pair.source_xy - pair.target_xy).max() > 3
        seen += len(rows)
    assert seen > 200


def test_a_pair_depends_on_its_number_and_the_seed(images):
    paths = sorted(images.glob("*.png"))

    def made(seed: int, number: int) -> np.ndarray:
        return WarpedImages(paths, seed=seed, settings=WarpSettings(side=64)).pair(number).target_xy

    np.testing.assert_array_equal(made(1, 5), made(1, 5))
    assert not np.array_equal(made(1, 5), made(1, 6))
    assert not np.array_equal(made(1, 5), made(2, 5))


def write_csv(images: Path, target: Path, *lines: str) -> Path:
    for item in images.glob("*.*"):
        (target.parent / item.name).write_bytes(item.read_bytes())
    target.write_text("\n".join(lines) + "\n")
    return target


def test_pairs_of_a_csv_file(images, tmp_path):
    path = write_csv(
        images,
        tmp_path / "pairs.csv",
        "source,target,x1,y1,x2,y2",
        "a.png,b.jpg,1,2,3,4",
        "b.jpg,a.png,1,1,1,1",
        "a.png, b.jpg, 5, 6, 7, 8.5",
    )
    first, second = find_pairs(path)
    np.testing.assert_array_equal(first.source_xy, [[1, 2], [5, 6]])
    np.testing.assert_array_equal(first.target_xy, [[3, 4], [7, 8.5]])
    assert second.target.name == "a.png"
    seen = {AnnotatedPairs([first, second], seed=0).pair(number).source.name for number in (0, 1)}
    assert len(seen) == 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.png,b.jpg,1,2,3", "line 1: 'a.png,b.jpg,1,2,3' is not source,target,x1"),
        ("a.png,b.jpg,1,2,3,x", "is not source,target,x1"),
        ("a.png,b.jpg,1,2,3,nan", "has a place that is none"),
        ("a.png,z.png,1,2,3,4", "line 1: there is no image .*z.png"),
        ("", "has no pair with a point"),
    ],
)
def test_bad_csv_files(images, tmp_path, line, message):
    path = write_csv(images, tmp_path / "pairs.csv", line)
    with pytest.raises(InputError, match=message):
        find_pairs(path)


def test_pairs_of_spair(images, tmp_path):
    (tmp_path / "PairAnnotation/trn").mkdir(parents=True)
    folder = tmp_path / "JPEGImages/cat"
    folder.mkdir(parents=True)
    for name in ("a.png", "b.jpg"):
        (folder / name).write_bytes((images / name).read_bytes())
    content = {
        "category": "cat",
        "src_imname": "a.png",
        "trg_imname": "b.jpg",
        "src_kps": [[10, 20], [30, 40]],
        "trg_kps": [[11, 21], [31, 41]],
        "src_bndbox": [0, 0, 90, 90],
        "trg_bndbox": [0, 0, 90, 90],
    }
    (tmp_path / "PairAnnotation/trn/1-a-b:cat.json").write_text(json.dumps(content))
    output = tmp_path / "out"
    words = ("--pairs", str(tmp_path), "-o", str(output), "--steps", "1", *SMALL, *NETWORK)
    done = train(*words, "--cells", "published", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["loss"] > 0


def test_a_tenth_is_held_out(images, tmp_path):
    lines = [f"a.png,{name},{x},2,3,4" for x in range(10) for name in ("b.jpg",)]
    path = write_csv(images, tmp_path / "pairs.csv", *lines)
    (pair,) = find_pairs(path)
    kept, held = hold_out([pair] * 25, 30)
    assert (len(kept), len(held)) == (23, 2)
    assert hold_out([pair] * 9, 30)[1] == []


def test_training_on_an_inversion(images, tmp_path):
    """Learned mixing weights of all layers and steps of a diffusion model."""
    path = write_csv(images, tmp_path / "pairs.csv", "a.png,b.jpg,10,20,30,40")
    request = TrainRequest(
        output=tmp_path / "out",
        pairs=path,
        model=str(save_tiny_pipeline(tmp_path / "sd")),
        options=ModelOptions(short_side=64, device="cpu", dtype="fp32", latent="mean"),
        inversion=Inversion(steps=3, saves=(2, 0)),
        settings=TrainSettings(steps=1, width=16, groups=4),
    )
    report = train_aggregation(request, bar=lambda title, total, steps: steps)
    assert np.array(report.record["mixing"]).shape == (2, 8)
    mixing = load_file(tmp_path / "out/aggregation.safetensors")["mixing_weights"]
    assert (mixing != 1).all()
    recipe = read_recipe(tmp_path / "out/aggregation.json")
    assert recipe.inversion == request.inversion
    assert recipe.model_options() == ModelOptions(latent="mean")
