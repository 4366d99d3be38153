"""`propagate eval` on data sets of pairs, in small made-up trees of the official layouts."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from propagate.benchmarks import cub, hpatches_scenes, pf_pascal, pf_willow, spair
from propagate.benchmarks.pair_benchmark import PairBenchmark
from propagate.benchmarks.pairs import KeypointPair, PckProtocol
from propagate.benchmarks.runner import EvalRequest, run_benchmark
from propagate.config import EMBEDDED_MODEL, Preset
from propagate.errors import InputError, LabelError
from propagate.matching.feature_matcher import FeatureMatcher
from propagate.matching.semantic import PUBLISHED
from propagate.types import FeatureMap, Frame, Size
from tests.test_run import call
from tests.tiny_pipeline import save_tiny_pipeline

ASSETS = Path(__file__).resolve().parent.parent / "examples/assets"
FAST = ("--short-side", 128)
# Pixel indices, as the data sets write them; the second image shows everything 16 further right.
POINTS = [(50 + 20 * i, 40 + 10 * i) for i in range(10)]
MOVED = [(x + 16, y) for x, y in POINTS]


def write_images(first: Path, second: Path) -> None:
    with Image.open(ASSETS / "coffee.jpg") as whole:
        picture = whole.convert("RGB").resize((336, 224))
    for path, left in ((first, 16), (second, 0)):
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.crop((left, 0, left + 320, 224)).save(path)


def make_spair(root: Path) -> Path:
    write_images(root / "JPEGImages/cup/a.jpg", root / "JPEGImages/cup/b.jpg")
    folder = root / "PairAnnotation/test"
    folder.mkdir(parents=True)
    for number, names in enumerate((("a", "b"), ("b", "a"))):
        points = (POINTS, MOVED) if number == 0 else (MOVED, POINTS)
        content = {
            "category": "cup",
            **{
                f"{side}_{key}": value
                for side, name, xy in zip(("src", "trg"), names, points, strict=True)
                for key, value in (
                    ("imname", f"{name}.jpg"),
                    ("kps", xy),
                    ("bndbox", [40, 20, 260 if name == "a" else 280, 200]),
                )
            },
        }
        (folder / f"{number:06d}-{'-'.join(names)}:cup.json").write_text(json.dumps(content))
    return root


def make_pf_pascal(root: Path) -> Path:
    write_images(root / "JPEGImages/a.jpg", root / "JPEGImages/b.jpg")
    numbers = [";".join(str(xy[axis]) for xy in at) for at in (POINTS, MOVED) for axis in (0, 1)]
    names = (f"PF-dataset-PASCAL/JPEGImages/{name}.jpg" for name in "ab")
    (root / "test_pairs_pf_pascal.csv").write_text(
        "source_image,target_image,class,XA,YA,XB,YB\n" + ",".join([*names, "5", *numbers]) + "\n"
    )
    return root


def make_pf_willow(root: Path) -> Path:
    write_images(root / "car(G)/a.png", root / "car(G)/b.png")
    numbers = [str(xy[axis]) for at in (POINTS, MOVED) for axis in (0, 1) for xy in at]
    names = ("PF-dataset/car(G)/a.png", "PF-dataset/car(G)/b.png")
    (root / "test_pairs_pf.csv").write_text("head\n" + ",".join([*names, *numbers]) + "\n")
    return root


def make_cub(root: Path) -> Path:
    folder = "001.Black_footed_Albatross"
    write_images(root / f"images/{folder}/a.jpg", root / f"images/{folder}/b.jpg")
    write_images(root / f"images/{folder}/c.jpg", root / f"images/{folder}/d.jpg")
    (root / "parts").mkdir()
    lines: dict[str, list[str]] = {
        "images.txt": [f"{i} {folder}/{name}.jpg" for i, name in enumerate("abcd", start=1)],
        "bounding_boxes.txt": [f"{i} 40.0 20.0 220.0 180.0" for i in range(1, 5)],
        "train_test_split.txt": ["1 0", "2 0", "3 1", "4 1"],
        "parts/part_locs.txt": [
            f"{i} {part} {x}.0 {y}.0 {int(not (i == 1 and part == 3))}"
            for i, at in ((1, POINTS), (2, MOVED), (3, POINTS), (4, MOVED))
            for part, (x, y) in enumerate(at)
        ],
    }
    for name, text in lines.items():
        (root / name).write_text("\n".join(text) + "\n")
    return root


def make_hpatches(root: Path) -> Path:
    folder = root / "v_cup"
    for i in range(1, 7):
        first = folder / "1.ppm"
        write_images(first, folder / f"{i}.ppm" if i > 1 else root / "scrap.ppm")
        if i > 1:
            (folder / f"H_1_{i}").write_text("1 0 16\n0 1 0\n0 0 1\n")
    (root / "i_dc").mkdir()
    return root


MAKERS: dict[str, Callable[[Path], Path]] = {
    "spair": make_spair,
    "pf-pascal": make_pf_pascal,
    "pf-willow": make_pf_willow,
    "cub": make_cub,
}
FINDERS: dict[str, Callable[[Path], list[KeypointPair]]] = {
    "spair": spair.find_pairs,
    "pf-pascal": pf_pascal.find_pairs,
    "pf-willow": pf_willow.find_pairs,
    "cub": cub.find_pairs,
}


@pytest.mark.parametrize("name", list(MAKERS))
def test_pairs_are_read(tmp_path: Path, name: str) -> None:
    pair = FINDERS[name](MAKERS[name](tmp_path))[0]
    points = np.array(POINTS, dtype=np.float64) + 0.5
    if name == "cub":  # one part is hidden in the first image
        points = np.delete(points, 3, axis=0)
    np.testing.assert_array_equal(pair.source_xy, points)
    np.testing.assert_array_equal(pair.target_xy, points + np.array([16, 0]))
    categories = {
        "spair": "cup",
        "pf-pascal": "bottle",
        "pf-willow": "car(G)",
        "cub": "001.Black_footed_Albatross",
    }
    assert pair.category == categories[name]
    assert pair.side("image") == 320
    assert pair.side("target-keypoints") == 180
    if name == "spair":
        assert (pair.side("target-box"), pair.side("source-box")) == (240, 220)
    if name.startswith("pf"):
        with pytest.raises(InputError, match="has no box, so --normaliser target-box can't be"):
            pair.side("target-box")


@pytest.mark.parametrize("name", list(MAKERS))
def test_a_shifted_image_scores_above_the_floor(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    root, out = MAKERS[name](tmp_path / "data"), tmp_path / "out"
    arguments = ("eval", name, "--root", root, "-o", out, "--alpha", 0.05, "--alpha", 0.04, *FAST)
    code, printed, err = call(capsys, *arguments)
    assert (code, err) == (0, "")
    assert "seconds per image" in printed
    record = json.loads((out / "summary.json").read_text())
    scores = record["scores"]
    assert record["status"] == "complete"
    assert scores["PCK@.05 img"] > 50
    by_image = "alpha x image" in record["protocol"]
    # The copy is 16 pixels off: exactly alpha 0.05 of the image, which counts.
    if by_image:
        assert scores["copy@.05 pt"] == 100
    assert scores["copy@.04 pt"] == 0
    rows = list(csv.DictReader((out / "scores.csv").read_text().splitlines()))
    assert len(rows) == scores["pairs"]
    assert [row["unit"] for row in record["rows"]] == [rows[0]["unit"]]
    for picture in ("bars.png", "curve.png", "worst.png"):
        with Image.open(out / picture) as image:
            assert image.width > 300
    # Scoring again with another protocol predicts nothing anew.
    files = sorted(out.glob("predictions/*/*/*.json"))
    before = {path: path.read_bytes() for path in files}
    code, _, _ = call(capsys, *arguments, "--normaliser", "image", "--strict")
    again = json.loads((out / "summary.json").read_text())
    assert code == 0
    assert {path: path.read_bytes() for path in out.glob("predictions/*/*/*.json")} == before
    assert again["scores"]["copy@.05 pt"] == 0


def test_an_evaluation_goes_on_where_it_was_cut(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    root, out = make_spair(tmp_path / "data"), tmp_path / "out"
    arguments = ("eval", "spair", "--root", root, "-o", out, *FAST)
    assert call(capsys, *arguments)[0] == 0
    first, second = sorted((out / "predictions/cup").iterdir())
    facts, matches = (second / name for name in ("predicted.json", "matches.json"))
    missing = matches.read_bytes()
    marked = json.dumps(json.loads((first / "matches.json").read_text()), indent=1)
    (first / "matches.json").write_text(marked)
    facts.unlink()
    matches.unlink()
    assert call(capsys, *arguments)[0] == 0
    assert (first / "matches.json").read_text() == marked
    assert matches.read_bytes() == missing
    code, _, err = call(capsys, *arguments, "--centred")
    assert code == 1
    message = "can't be resumed with other settings (data.matching.centred was False and is now"
    assert message in err
    assert call(capsys, *arguments, "--centred", "--overwrite")[0] == 0
    assert (first / "matches.json").read_text() != marked
    (first / "matches.json").write_text('{"target_xy": [[1, 2]]}')
    code, _, err = call(capsys, *arguments, "--centred")
    assert code == 1
    assert "matches.json can't be read" in err
    assert "remove its folder" in err


def test_pairs_side_by_side_score_alike(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    root = make_spair(tmp_path / "data")
    arguments = ("eval", "spair", "--root", root, *FAST)
    for jobs in (1, 2):
        out = tmp_path / f"out{jobs}"
        code, _, err = call(capsys, *arguments, "-o", out, "--jobs", jobs)
        assert (code, err) == (0, "")
    tables = [(tmp_path / f"out{jobs}/scores.csv").read_text() for jobs in (1, 2)]
    assert tables[0] == tables[1]
    found = [sorted((tmp_path / f"out{jobs}").rglob("matches.json")) for jobs in (1, 2)]
    assert [p.read_bytes() for p in found[0]] == [p.read_bytes() for p in found[1]]
    # A unit that fails in another process ends the evaluation with its sentence.
    damaged = root / "JPEGImages/cup/b.jpg"
    damaged.write_bytes(damaged.read_bytes()[:500])
    code, _, err = call(capsys, *arguments, "-o", tmp_path / "out3", "--jobs", 2)
    assert code == 1
    assert err.startswith("Error: ")
    assert "b.jpg" in err
    assert "Traceback" not in err
    code, _, err = call(capsys, *arguments, "--jobs", 0)
    assert (code, "--jobs is 0; it must be 1 or more" in err) == (1, True)


def test_the_prompt_names_what_a_pair_shows(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pipeline = save_tiny_pipeline(tmp_path / "sd")
    root, out = make_spair(tmp_path / "data"), tmp_path / "out"
    capsys.readouterr()  # of saving the pipeline
    arguments = ("eval", "spair", "--root", root, "--model", pipeline, "--input-size", "64x64")
    scored = {}
    for name, prompt in (
        ("default", ()),
        ("literal", ("--prompt", "a photo of a cup")),
        ("none", ("--prompt", "")),
    ):
        code, _, err = call(capsys, *arguments, "-o", out / name, "--t", 100, *prompt)
        assert (code, err) == (0, "")
        scored[name] = [p.read_text() for p in sorted((out / name).rglob("matches.json"))]
    assert scored["default"] == scored["literal"] != scored["none"]
    record = json.loads((out / "default/summary.json").read_text())
    assert "prompt='a photo of a {category}'" in record["model"]


def test_pairs_by_optimised_prompts(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pipeline = save_tiny_pipeline(tmp_path / "sd")
    root, out = make_spair(tmp_path / "data"), tmp_path / "out"
    capsys.readouterr()
    arguments = ("eval", "spair", "--root", root, "--model", pipeline, "--method", "prompt")
    quick = ("--steps", 1, "--embeddings", 1, "--crops", 1, "--size", 64, "--limit", 1)
    layers = ("--attention-layers", "0")
    code, _, err = call(capsys, *arguments, *quick, *layers, "-o", out)
    assert (code, err) == (0, "")
    record = json.loads((out / "summary.json").read_text())
    assert record["config"]["data"]["matching"]["steps"] == 1
    places = json.loads(next(out.rglob("matches.json")).read_text())["target_xy"]
    assert len(places) == len(POINTS)
    code, _, err = call(capsys, *arguments, *quick, *layers, "--flip")
    assert code == 1
    assert "--flip is for --method semantic" in err


def test_a_foreign_folder_is_left_alone(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    root = make_spair(tmp_path / "data")
    code, _, err = call(capsys, "eval", "spair", "--root", root, "-o", root, *FAST)
    assert code == 1
    assert "is not empty and holds no evaluation" in err


@pytest.mark.parametrize(
    ("name", "missing", "message"),
    [
        ("spair", "JPEGImages/cup/b.jpg", "get it from https://cvlab.postech.ac.kr"),
        ("pf-pascal", "test_pairs_pf_pascal.csv", "nor is there test_pairs.csv"),
        ("pf-pascal", "JPEGImages/b.jpg", "get it from https://www.di.ens.fr/willow"),
        ("pf-willow", "test_pairs_pf.csv", "the list of pairs from https://www.di.ens.fr"),
        ("cub", "parts/part_locs.txt", "get it from https://data.caltech.edu"),
        ("cub", "images/001.Black_footed_Albatross/b.jpg", "is missing"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, name: str, missing: str, message: str) -> None:
    root = MAKERS[name](tmp_path)
    (root / missing).unlink()
    with pytest.raises(InputError) as raised:
        FINDERS[name](root)
    assert Path(missing).name in str(raised.value)
    assert message in str(raised.value)


@pytest.mark.parametrize("name", list(MAKERS))
def test_an_empty_folder_is_no_data_set(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    arguments = ("eval", name, "--root", tmp_path / "none", "-o", tmp_path / "out")
    code, _, err = call(capsys, *arguments)
    assert code == 1
    assert "https://" in err
    assert not (tmp_path / "out").exists()


def test_names_in_files_stay_in_the_data_set(tmp_path: Path) -> None:
    root = make_spair(tmp_path / "s")
    path = next((root / "PairAnnotation/test").iterdir())
    path.write_text(path.read_text().replace("a.jpg", "../cup/a.jpg"))
    with pytest.raises(LabelError, match="not a file name"):
        spair.find_pairs(root)
    root = make_pf_willow(tmp_path / "w")
    table = root / "test_pairs_pf.csv"
    table.write_text(table.read_text().replace("car(G)/a.png", "../car(G)/a.png"))
    with pytest.raises(InputError, match="leads out of the folder"):
        pf_willow.find_pairs(root)


def test_damaged_tables_name_the_pair(tmp_path: Path) -> None:
    table = make_pf_willow(tmp_path / "w") / "test_pairs_pf.csv"
    table.write_text(table.read_text().replace(",50,", ",x,"))
    with pytest.raises(LabelError, match="pair 0 has a place that is no number"):
        pf_willow.find_pairs(tmp_path / "w")
    table = make_pf_pascal(tmp_path / "p") / "test_pairs_pf_pascal.csv"
    table.write_text(table.read_text().replace("50;", "", 1))
    with pytest.raises(LabelError, match="not as many places"):
        pf_pascal.find_pairs(tmp_path / "p")


def test_cub_pairs_of_a_list(tmp_path: Path) -> None:
    root = make_cub(tmp_path / "data")
    given = tmp_path / "pairs.txt"
    given.write_text("3 4\n1 4\n")
    assert [pair.name for pair in cub.find_pairs(root)] == ["1-2"]
    assert [pair.name for pair in cub.find_pairs(root, given)] == ["3-4", "1-4"]
    given.write_text("3 9\n")
    with pytest.raises(LabelError, match="line 1"):
        cub.find_pairs(root, given)


@pytest.mark.parametrize(
    ("values", "message"),
    [({"normaliser": "mask"}, "normaliser is 'mask'"), ({"alphas": (0.0,)}, "alphas are")],
)
def test_protocol_is_checked(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        PckProtocol(**values)


def test_unknown_category(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    root = make_spair(tmp_path / "data")
    arguments = ("eval", "spair", "--root", root, "-o", tmp_path / "out", "--category", "cat")
    code, _, err = call(capsys, *arguments)
    assert (code, "There is no category 'cat'; there are cup." in err) == (1, True)


def test_hpatches(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    root, out = make_hpatches(tmp_path / "data"), tmp_path / "out"
    arguments = ("eval", "hpatches", "--root", root, "-o", out, "--count", 200, *FAST)
    code, _, err = call(capsys, *arguments, "--estimator", "ransac")
    assert (code, err) == (0, "")
    record = json.loads((out / "summary.json").read_text())
    assert [row["unit"] for row in record["rows"]] == ["viewpoint"]
    assert record["scores"]["SIFT @1"] == 100
    assert record["scores"]["@5"] == 100
    assert record["scores"]["pairs"] == 5
    rows = list(csv.DictReader((out / "scores.csv").read_text().splitlines()))
    assert [(row["unit"], row["item"]) for row in rows] == [
        ("v_cup", f"1-{i}") for i in range(2, 7)
    ]
    assert float(rows[0]["SIFT error"]) < 1
    with Image.open(out / "worst.png") as image:
        assert image.width > 300
    (out / "predictions/v_cup/homographies.json").write_text("[]")
    code, _, err = call(capsys, *arguments, "--estimator", "ransac")
    assert code == 1
    assert "remove its folder to estimate the scene again" in err


def test_hpatches_leaves_out_what_d2_net_does(tmp_path: Path) -> None:
    root = make_hpatches(tmp_path)
    assert [scene.name for scene in hpatches_scenes.find_scenes(root)] == ["v_cup"]
    with pytest.raises(InputError, match=r"i_dc/1\.ppm is missing, so this is no complete"):
        hpatches_scenes.find_scenes(root, every=True)
    with pytest.raises(InputError, match="no scene 'v_mug'"):
        hpatches_scenes.find_scenes(root, ["v_mug"])
    (root / "v_cup/H_1_3").write_text("1 0 x")
    with pytest.raises(LabelError, match="3 x 3 numbers"):
        hpatches_scenes.find_scenes(root)


def test_keypoints_of_files(tmp_path: Path) -> None:
    scene = hpatches_scenes.find_scenes(make_hpatches(tmp_path))[0]
    source = hpatches_scenes.KeypointSource(folder=tmp_path / "kp")
    with pytest.raises(InputError, match=r"v_cup-1\.kp is missing"):
        source.of(scene, 0)
    (tmp_path / "kp").mkdir()
    (tmp_path / "kp/v_cup-1.kp").write_text("20.0 7.5\n3 4\n20.0 7.5\n")
    assert source.of(scene, 0).tolist() == [[3.5, 4.5], [20.5, 8.0]]
    (tmp_path / "kp/v_cup-1.kp").write_text("20.0\n")
    with pytest.raises(LabelError, match="x and y a line"):
        source.of(scene, 0)


def test_spair_pairs_at_hand(
    capsys: pytest.CaptureFixture[str], shared_dir: Path, tmp_path: Path
) -> None:
    root = shared_dir / "data/SPair-71k"
    arguments = ("eval", "spair", "--root", root, "-o", tmp_path / "out", "--category", "dog")
    code, out, _ = call(capsys, *arguments, "--json")
    assert code == 0
    scores = json.loads(out)["scores"]
    assert (scores["pairs"], scores["points"]) == (1, 9)
    assert scores["PCK@.1 pt"] > 30


class StoredMaps:
    """An extractor whose maps are the oracle's, by the name of the image."""

    identity = "stored"
    batch_size = 1

    def __init__(self, path: Path) -> None:
        self._maps = np.load(path)

    def extract(self, frames: Sequence[Frame]) -> list[FeatureMap]:
        return [
            FeatureMap(
                torch.from_numpy(self._maps[Path(f.source).name.split(" ")[0]]),
                f.size,
                Size(224, 336),
            )
            for f in frames
        ]


def test_the_whole_protocol_equals_the_published_code(shared_dir: Path, tmp_path: Path) -> None:
    oracle = shared_dir / "oracles/spair-pck"
    benchmark = PairBenchmark(
        "SPair-71k test",
        spair.find_pairs(shared_dir / "data/SPair-71k"),
        protocol=PckProtocol(),
        matching=PUBLISHED,
    )
    stored = StoredMaps(oracle / "expected_features.npz")
    report = run_benchmark(
        EvalRequest(
            benchmark=benchmark,
            settings=Preset(summary="", model=EMBEDDED_MODEL),
            output=tmp_path / "out",
        ),
        engine=FeatureMatcher(stored, PUBLISHED),
    )
    expected = json.loads((oracle / "expected_spair.json").read_text())
    per_image, per_point = (report.summary[f"PCK@.1 {kind}"] for kind in ("img", "pt"))
    assert per_image == pytest.approx(100 * expected["per_image"], abs=1e-12)
    assert per_point == pytest.approx(100 * expected["per_point"], abs=1e-12)
    categories = {row.unit: row.scores for row in report.listed}
    for pair in expected["pairs"]:
        found = categories[pair["category"]]["PCK@.1 img"]
        assert found == pytest.approx(100 * pair["pck_per_image"], abs=1e-12)
