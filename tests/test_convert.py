"""`propagate convert` as a user runs it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from propagate.commands.main import main
from propagate.labels.clip_labels import ClipObject, FrameRef
from tests.test_run import call, disc, picture, write_clip
from tests.tiny_labels import clip_of, write

NAMES = [f"img{index}" for index in range(4)]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 4 frames, with its clip beside it."""
    folder = tmp_path_factory.mktemp("convert")
    clip, mask = write_clip(folder, 4)
    with pytest.raises(SystemExit, match="0"):
        main(["run", str(clip), str(mask), "-o", str(folder / "run"), "--short-side", "240"])
    return folder / "run"


def pixels(folder: Path) -> dict[str, list[list[int]]]:
    return {p.stem: np.array(Image.open(p)).tolist() for p in sorted(folder.glob("*.png"))}


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


FILES = {"youtube-vis": "a.json", "coco": "b.json", "mots-txt": "c.txt", "cvat": "d.xml"}
FORMATS = ("png", "youtube-vis", "coco", "cvat", "labelme", "yolo", "binary", "soft", "rgba")


@pytest.mark.parametrize("name", [*FORMATS, "mots", "mots-txt", "youtube-vos"])
def test_a_run_goes_there_and_back(
    capsys: pytest.CaptureFixture[str], run_folder: Path, tmp_path: Path, name: str
) -> None:
    target = tmp_path / FILES.get(name, name)
    clip = ("--clip", run_folder.parent / "clip") if name == "rgba" else ()
    code, out, err = call(capsys, "convert", run_folder, target, "--to", name, *clip)
    assert (code, out) == (0, f"4 frames, 2 objects, png to {name}: {target}\n")
    numbered = name in ("cvat", "mots", "mots-txt")
    notes = set(err.splitlines())
    assert ("Note: The names of 4 frames are lost; frames are numbered." in notes) == numbered
    assert notes <= {
        "Note: The names of 4 frames are lost; frames are numbered.",
        "Note: The confidence of 8 masks is lost.",
        "Note: That 2 masks were given or lost is not kept.",
    }
    assert call(capsys, "convert", target, tmp_path / "back", "--to", "png")[0] == 0
    back, original = pixels(tmp_path / "back"), pixels(run_folder / "masks")
    assert list(back.values()) == list(original.values())
    assert list(back) == list(original) or numbered
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([target.name, "back"])


def test_the_masks_of_a_run_are_a_source_too(
    capsys: pytest.CaptureFixture[str], run_folder: Path, tmp_path: Path
) -> None:
    assert call(capsys, "convert", run_folder / "masks", tmp_path / "a.xml")[0] == 0
    tracks = ET.parse(tmp_path / "a.xml").getroot().findall("track")
    assert {track.get("label") for track in tracks} == {"object 3", "object 7"}
    assert ET.parse(tmp_path / "a.xml").findtext("meta/task/name") == "run"


def test_an_unfinished_run_is_told(
    capsys: pytest.CaptureFixture[str], run_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(run_folder, tmp_path / "run")
    record = tmp_path / "run/run.json"
    record.write_text(record.read_text().replace('"complete"', '"running"'))
    code, _, err = call(capsys, "convert", tmp_path / "run", tmp_path / "a.json", "--to", "coco")
    assert (code, "is not finished, so frames may be missing" in err) == (0, True)


def test_json_has_all_that_is_lost(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    ids = disc(0).astype(np.uint16)
    ids[40:46, 40:46] = 0
    source = write(
        clip_of(
            [ids],
            frames=[FrameRef(0, "shot")],
            objects=[ClipObject(3, "rex", "dog")],
            confidence={0: {3: 0.5}},
            occluded={0: {3, 9}},
        ),
        "png",
        tmp_path,
    )
    code, out, err = call(capsys, "convert", source, tmp_path / "y", "--to", "yolo", "--json")
    facts = json.loads(out)
    assert code == 0
    assert {**facts, "notes": 0, "lost": 0} == {
        "output": str(tmp_path / "y"),
        "from": "png",
        "to": "yolo",
        "notes": 0,
        "lost": 0,
        "frames": 1,
        "objects": [3, 7, 9],
    }
    assert facts["lost"] == {
        "confidence": "The confidence of 1 masks is lost.",
        "occlusion": "The occlusion marks of 1 masks are lost.",
        "absent objects": (
            "1 confidences and occlusion marks of objects without a pixel in the frame are lost."
        ),
        "names": "Names of objects are lost: 3 (rex).",
    }
    assert err.count("Note: ") == 4
    code, out, _ = call(capsys, "convert", source, tmp_path / "a.xml", "--json")
    assert json.loads(out)["notes"] == [
        "36 pixels of holes are filled, since a CVAT polygon has none."
    ]
    code, out, _ = call(capsys, "convert", source, tmp_path / "m", "--to", "mots", "--json")
    assert json.loads(out)["notes"] == [
        "Objects have other numbers in MOTS: 3 is 3003.",
        "MOTS has no such classes, so they were numbered: 3 is dog.",
    ]


def test_overlap_is_counted_and_the_smaller_is_on_top(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name, rows in (("1", 6), ("2", 2)):
        (tmp_path / "in" / name).mkdir(parents=True)
        mask = np.zeros((8, 10), dtype=np.uint8)
        mask[:rows] = 255
        Image.fromarray(mask).save(tmp_path / "in" / name / "f.png")
    code, _, err = call(capsys, "convert", tmp_path / "in", tmp_path / "out", "--to", "png")
    assert code == 0
    assert "Note: 20 pixels belong to several objects and went to the one on top" in err
    assert [row[0] for row in pixels(tmp_path / "out")["f"]] == [2, 2, 1, 1, 1, 1, 0, 0]


def test_cut_outs_show_the_picture(
    capsys: pytest.CaptureFixture[str], run_folder: Path, tmp_path: Path
) -> None:
    clip = run_folder.parent / "clip"
    assert (
        call(capsys, "convert", run_folder, tmp_path / "o", "--to", "rgba", "--clip", clip)[0] == 0
    )
    image = np.array(Image.open(tmp_path / "o/3/img2.png"))
    inside = np.array(Image.open(run_folder / "masks/img2.png")) == 3
    np.testing.assert_array_equal(image[inside][:, :3], picture(2)[inside])
    np.testing.assert_array_equal(image[..., 3], inside * 255)
    assert not image[~inside].any()


def test_tolerance_makes_lighter_polygons(
    capsys: pytest.CaptureFixture[str], run_folder: Path, tmp_path: Path
) -> None:
    for name, more in (("exact.xml", ()), ("light.xml", ("--tolerance", "1"))):
        assert call(capsys, "convert", run_folder, tmp_path / name, *more)[0] == 0
    exact, light = ((tmp_path / n).read_text().count(";") for n in ("exact.xml", "light.xml"))
    assert light < exact / 2


@pytest.mark.parametrize("name", ["png", "coco"])
def test_nothing_is_overwritten_unasked(
    capsys: pytest.CaptureFixture[str], run_folder: Path, tmp_path: Path, name: str
) -> None:
    target = tmp_path / FILES.get(name, name)
    words = ("convert", run_folder, target, "--to", name)
    assert call(capsys, *words)[0] == 0
    before = tree(tmp_path)
    if name == "png":
        (target / "stale.png").write_bytes(b"")
    else:
        target.write_text("old")
    code, _, err = call(capsys, *words)
    assert (code, "exists; replace it with --overwrite" in err) == (1, True)
    assert tree(tmp_path) != before
    assert call(capsys, *words, "--overwrite")[0] == 0
    assert tree(tmp_path) == before


def test_a_folder_with_other_things_is_never_replaced(
    capsys: pytest.CaptureFixture[str], run_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    words = ("convert", run_folder, tmp_path, "--to", "png", "--overwrite")
    code, _, err = call(capsys, *words)
    assert (code, "holds thesis.txt, which is no such result" in err) == (1, True)
    assert tree(tmp_path) == {"thesis.txt": b"precious"}
    code, _, err = call(
        capsys, "convert", run_folder / "masks", run_folder, "--to", "png", "--overwrite"
    )
    assert (code, "is or holds the source" in err) == (1, True)
    assert (run_folder / "run.json").exists()


@pytest.mark.parametrize("name", ["png", "coco"])
def test_nothing_is_left_of_a_failed_conversion(
    capsys: pytest.CaptureFixture[str], run_folder: Path, tmp_path: Path, name: str
) -> None:
    source, target = tmp_path / "in", tmp_path / FILES.get(name, name)
    source.mkdir()
    for path in (run_folder / "masks").iterdir():
        (source / path.name).write_bytes(path.read_bytes())
    words = ("convert", source, target, "--to", name, "--overwrite")
    assert call(capsys, *words)[0] == 0
    (source / "img3.png").write_bytes(b"broken")
    before = tree(tmp_path)
    code, _, err = call(capsys, *words)
    assert code == 1
    assert "img3.png is not an image that can be read" in err
    assert tree(tmp_path) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["in", target.name])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("RUN", "OUT/x"), "Say with --to what .* shall be: binary, "),
        (("RUN", "OUT/x.json"), "Say with --to what .* shall be: coco, youtube-vis."),
        (("RUN", "OUT/x", "--to", "coco"), "coco is one .json file, so .* end it in .json"),
        (("RUN", "OUT/x", "--to", "rgba"), "rgba needs the pictures; name the clip with --clip"),
        (("RUN", "OUT/x.xml", "--tolerance", "-1"), "tolerance is -1.0; it must be 0 or more"),
        (("RUN", "OUT/x.xml", "--size", "9"), "--size is '9'; write width and height"),
        (("RUN", "OUT/x.xml", "--void", "x"), "--void is 'x'; it must be a number, none or auto"),
        (("RUN", "OUT/x.xml", "--void", "0"), "void is 0; it must be an id of 1 or more"),
        (("RUN", "OUT/no/x.xml"), "there is no folder .*no; create it"),
        (("RUN", "OUT/no/x", "--to", "png"), "there is no folder .*no; create it"),
        (("RUN", "OUT/x.xml", "--from", "coco"), "coco is a file, but .* is a folder"),
        (("nope", "OUT/x.xml"), "There is nothing at nope"),
    ],
)
def test_errors_say_what_to_do(
    capsys: pytest.CaptureFixture[str],
    run_folder: Path,
    tmp_path: Path,
    words: tuple[str, ...],
    message: str,
) -> None:
    filled = [w.replace("RUN", str(run_folder)).replace("OUT", str(tmp_path)) for w in words]
    code, out, err = call(capsys, "convert", *filled)
    assert (code, out) == (1, "")
    assert err.startswith("Error: ")
    assert err.count("\n") == 1
    assert re.search(message, err), err
    assert list(tmp_path.iterdir()) == []


def test_a_clip_that_does_not_fit_is_refused(
    capsys: pytest.CaptureFixture[str], run_folder: Path, tmp_path: Path
) -> None:
    clip = tmp_path / "clip"
    clip.mkdir()
    words = ("convert", run_folder, tmp_path / "o", "--to", "rgba", "--clip", clip)
    Image.fromarray(picture(0)).save(clip / "other.png")
    code, _, err = call(capsys, *words)
    assert (code, "has no frame img0 (number 0) in the order of the masks" in err) == (1, True)
    Image.fromarray(picture(0)[:50]).save(clip / "img0.png")
    (clip / "other.png").unlink()
    code, _, err = call(capsys, *words)
    assert (code, "is 144x50, but its masks are 144x96" in err) == (1, True)


def test_counting_from_1(
    capsys: pytest.CaptureFixture[str], run_folder: Path, tmp_path: Path
) -> None:
    words = ("convert", run_folder, tmp_path / "m.txt", "--dst-count-from", "1")
    assert call(capsys, *words)[0] == 0
    assert (tmp_path / "m.txt").read_text().startswith("1 3 0 96 144 ")
    back = ("convert", tmp_path / "m.txt", tmp_path / "b", "--to", "png")
    _, _, err = call(capsys, *back)
    assert "if these count from 1, say --src-count-from 1" in err
    assert call(capsys, *back, "--src-count-from", "1", "--overwrite")[0] == 0
    assert sorted(pixels(tmp_path / "b")) == ["00000", "00001", "00002", "00003"]


def test_large_ids_are_refused_where_they_do_not_fit(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    ids = np.full((3, 3), 70000, dtype=np.int32)
    source = write(clip_of([ids]), "coco", tmp_path)
    code, _, err = call(capsys, "convert", source, tmp_path / "p", "--to", "png")
    assert (code, "Id 70000 does not fit into a PNG" in err) == (1, True)
    assert not (tmp_path / "p").exists()


def test_real_masks(shared_dir: Path, tmp_path: Path) -> None:
    """A few frames of a DAVIS train sequence, there and back to the pixel."""
    from propagate.convert import ConvertRequest, convert_masks

    masks = shared_dir / "data/DAVIS/Annotations/480p/bear"
    source = tmp_path / "in"
    source.mkdir()
    for path in sorted(masks.iterdir())[:3]:
        (source / path.name).write_bytes(path.read_bytes())
    for name in ("youtube-vis", "mots", "yolo"):
        there, back = tmp_path / FILES.get(name, name), tmp_path / f"{name}-back"
        convert_masks(ConvertRequest(source=source, target=there, to_format=name))
        kinds = {"from_format": name, "to_format": "png"}
        convert_masks(ConvertRequest(source=there, target=back, **kinds))
        original = [np.array(Image.open(p)).tolist() for p in sorted(source.iterdir())]
        assert list(pixels(back).values()) == original


def test_converting_loads_no_network_library(run_folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from propagate.commands.main import program;"
        f"program(['convert', {str(run_folder)!r}, {str(tmp_path / 'a.xml')!r}],"
        "standalone_mode=False);"
        "print([m for m in ('torch', 'transformers', 'decord') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
