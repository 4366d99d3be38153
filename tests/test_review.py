"""The review command, from labels to the file, and the page as it is read back."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from propagate.errors import ClipError, InputError, LabelError
from propagate.labels.track_table import TrackTable
from propagate.output.labelled_clip import LabelSource
from propagate.output.review.encode import encode_runs, label_positions, shown_size
from propagate.output.review.page import embedded_json
from propagate.review import ReviewRequest, review_labels
from propagate.types import Masks, Size
from tests.review_clips import (
    COUNT,
    EVIL,
    LOST,
    SIZE,
    write_clip,
    write_keypoint_run,
    write_mask_run,
)
from tests.test_run import call


class Blocks(HTMLParser):
    """The elements of a page, and the content of its data blocks by their ids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.blocks: dict[str, str] = {}
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        self.tags.append((tag, known))
        self._open = known.get("id") or "" if tag == "script" else ""

    def handle_data(self, data: str) -> None:
        if self._open:
            self.blocks[self._open] = self.blocks.get(self._open, "") + data

    def json(self, name: str) -> dict:
        return json.loads(self.blocks[name])


def request(labels: Path, output: Path) -> ReviewRequest:
    return ReviewRequest(source=LabelSource(labels=labels), output=output)


def read(path: Path) -> Blocks:
    return Blocks(path.read_text(encoding="utf-8"))


def decode_runs(data: bytes, size: Size) -> np.ndarray:
    """The page's decoder, in Python."""
    numbers, value, shift = [], 0, 0
    for byte in data:
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            numbers.append(value)
            value = shift = 0
    return np.repeat(numbers[::2], numbers[1::2]).reshape(size)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mask_run(tmp_path_factory.mktemp("masks"))


@pytest.fixture(scope="module")
def page(run: Path) -> Blocks:
    report = review_labels(request(run, run / "a.html"))
    assert report.frames == report.shown == COUNT
    assert report.size == (run / "a.html").stat().st_size
    return read(run / "a.html")


def test_the_page_has_the_numbers_of_the_run(page: Blocks) -> None:
    facts = page.json("clip")
    assert facts["frames"] == list(range(COUNT))
    assert facts["given"] == [0]
    assert [item["id"] for item in facts["objects"]] == [1, 2]
    assert facts["objects"][1]["states"] == "g" + "v" * 7 + "lll" + "v" * 5
    assert facts["objects"][0]["curve"][3] == 0.9
    assert facts["intervals"][0]["worst"] == LOST[0]
    assert "other: lost" in facts["intervals"][0]["reasons"]
    assert re.fullmatch(r"propagate correct \S+", facts["command"])
    assert facts["fix"] == "--ref FRAME=fix.png"
    assert ["Given frames", "0"] in facts["summary"]
    assert ["Objects", "2 objects"] in facts["summary"]


def test_pictures_and_masks_are_those_of_the_clip(page: Blocks, run: Path) -> None:
    picture = page.json("picture-5")
    image = np.asarray(Image.open(BytesIO(base64.b64decode(picture["jpeg"]))))
    clip = np.asarray(Image.open(run.parent / "clip" / "img5.png"))
    assert image.shape == clip.shape
    assert np.abs(image.astype(int) - clip).mean() < 6
    mask = np.asarray(Image.open(run / "masks" / "img5.png"))
    np.testing.assert_array_equal(decode_runs(base64.b64decode(picture["runs"]), SIZE), mask)


def test_nothing_in_the_page_leads_elsewhere(page: Blocks, run: Path) -> None:
    text = (run / "a.html").read_text(encoding="utf-8")
    assert not re.search(r"(https?:)?//[a-z0-9]", re.sub(r'"[A-Za-z0-9+/=]{40,}"', "", text))
    for tag, attributes in page.tags:
        assert "src" not in attributes, tag
        assert attributes.get("href", "data:,") == "data:,"
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
    (policy,) = (a["content"] for t, a in page.tags if a.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:; ")
    assert "unsafe" not in policy


def test_names_are_only_ever_text(page: Blocks, run: Path) -> None:
    """An object is called what would run a script, were it markup."""
    assert page.json("clip")["objects"][0]["name"] == EVIL
    assert "<img" not in (run / "a.html").read_text(encoding="utf-8")
    assert [tag for tag, _ in page.tags].count("script") == COUNT + 2


@given(st.text())
def test_json_in_a_page_ends_no_element(text: str) -> None:
    embedded = embedded_json({"name": text, text: "</script><!--"})
    assert not set(embedded) & set("<>&\u2028\u2029")
    assert json.loads(embedded) == {"name": text, text: "</script><!--"} | {
        "name": "</script><!--" if text == "name" else text
    }


@given(
    arrays(
        np.uint16, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 300)
    )
)
def test_runs_give_the_labels_back(labels: np.ndarray) -> None:
    decoded = decode_runs(encode_runs(labels), Size(*labels.shape))
    np.testing.assert_array_equal(decoded, labels)


def test_long_runs_take_several_bytes() -> None:
    labels = np.zeros((300, 300), dtype=np.uint8)
    labels[200:] = 1
    assert encode_runs(labels) == bytes([0, 0xE0, 0xD4, 0x03, 1, 0xB0, 0xEA, 0x01])


def test_positions_leave_out_void_and_what_is_no_object() -> None:
    masks = Masks(np.array([[0, 7, 70000, 255, 9]], dtype=np.int32), void=255)
    assert label_positions(masks, [7, 9, 70000]).tolist() == [[0, 1, 3, 0, 2]]
    assert label_positions(masks, []).tolist() == [[0] * 5]


def test_pictures_are_never_enlarged() -> None:
    assert shown_size(Size(480, 854), 640) == Size(360, 640)
    assert shown_size(Size(48, 64), 640) == Size(48, 64)


def test_a_long_clip_has_its_flagged_frames_first(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = call(
        capsys, "review", run, "-o", run / "few.html", "--max-frames", 5, "--json"
    )
    assert code == 0, err
    report = json.loads(out)
    assert (report["frames"], report["shown"]) == (COUNT, 5)
    page = read(run / "few.html")
    facts = page.json("clip")
    assert len(facts["shown"]) == 5
    assert set(LOST) <= set(facts["shown"])
    assert {f"picture-{position}" for position in facts["shown"]} == set(page.blocks) - {"clip"}
    assert len(facts["objects"][0]["curve"]) == COUNT


def test_the_command_says_what_it_made(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = run / "review.html"
    code, out, err = call(capsys, "review", run)
    assert code == 0, err
    assert f"MB: {target}" in out
    assert f"look at {LOST[0]} (of {LOST[0]} to {LOST[-1]})" in out
    code, out, err = call(capsys, "review", run)
    assert code == 1
    assert "exists; replace it with --overwrite" in err
    assert call(capsys, "review", run, "--overwrite")[0] == 0


def test_keypoints_have_a_page(tmp_path: Path) -> None:
    run = write_keypoint_run(tmp_path)
    report = review_labels(request(run, tmp_path / "p.html"))
    page = read(report.path)
    facts = page.json("clip")
    assert facts["kind"] == "keypoints"
    assert [item["name"] for item in facts["objects"]] == ["nose", "tail"]
    assert facts["bones"] == [[0, 1]]
    assert page.json("picture-2")["points"] == [[22.0, 20.0, 1], [70.0, 50.0, 0]]
    assert facts["objects"][1]["states"] == "gvoooooo"
    assert facts["fix"] == "--ref FRAME=fix.csv"
    assert any("tail: confidence" in reason for _, said in facts["reasons"] for reason in said)


def test_masks_of_other_tools_need_a_clip_and_no_more(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    masks = tmp_path / "sam2"
    masks.mkdir()
    for file in (run / "masks").iterdir():
        (masks / file.name).write_bytes(file.read_bytes())
    code, _, err = call(capsys, "review", masks)
    assert code == 1
    assert "name it with --clip" in err
    code, _, err = call(capsys, "review", masks, "--clip", run.parent / "clip")
    assert code == 0, err
    facts = read(tmp_path / "sam2-review.html").json("clip")
    assert facts["command"] == ""
    assert facts["curve"] == "Area"
    assert [LOST[0], ["object 2: vanished"]] in facts["reasons"]
    assert facts["objects"][1]["states"][LOST[0]] == "a"


def test_a_clip_that_moved_is_asked_for(tmp_path: Path) -> None:
    run = write_mask_run(tmp_path)
    moved = (tmp_path / "clip").rename(tmp_path / "elsewhere")
    with pytest.raises(ClipError, match="say with --clip where it is"):
        review_labels(request(run, tmp_path / "a.html"))
    source = LabelSource(labels=run, clip=str(moved))
    assert review_labels(ReviewRequest(source=source, output=tmp_path / "a.html")).shown == COUNT


def test_another_clip_is_refused(run: Path, tmp_path: Path) -> None:
    write_clip(tmp_path, 3)
    source = LabelSource(labels=run, clip=str(tmp_path / "clip"))
    with pytest.raises(LabelError, match="no frame img3"):
        review_labels(ReviewRequest(source=source, output=tmp_path / "a.html"))
    assert not (tmp_path / "a.html").exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"output": Path("a.txt")}, "end its name in .html"),
        ({"below": 1.5}, "--below is 1.5"),
        ({"max_frames": 0}, "--max-frames is 0"),
        ({"width": 2}, "--width is 2"),
    ],
)
def test_wrong_options_are_named(wrong: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ReviewRequest(**({"source": LabelSource(labels=Path()), "output": Path("a.html")} | wrong))


def test_states_survive_a_conversion(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = call(capsys, "convert", run, tmp_path / "copy", "--to", "png")
    assert code == 0, err
    before, after = (TrackTable.read(path / "tracks.csv") for path in (run, tmp_path / "copy"))
    assert after.states == before.states
    assert after.states[f"img{LOST[0]}"] == {1: "visible", 2: "lost"}
    _, out, _ = call(capsys, "convert", run, tmp_path / "a.json", "--to", "coco", "--json")
    assert json.loads(out)["lost"]["states"] == "That 5 masks were given or lost is not kept."


def test_a_table_without_states_is_read(tmp_path: Path) -> None:
    (tmp_path / "tracks.csv").write_text(
        "frame,name,object,confidence,occluded,object_name,category\n0,a,1,0.5,0,,\n"
    )
    table = TrackTable.read(tmp_path / "tracks.csv")
    assert dict(table.confidence) == {"a": {1: 0.5}}
    assert dict(table.states) == {}
    (tmp_path / "tracks.csv").write_text(
        "frame,name,object,confidence,occluded,state\n0,a,1,,0,x\n"
    )
    with pytest.raises(LabelError, match="line 2 is malformed .'x' is none of given, visible"):
        TrackTable.read(tmp_path / "tracks.csv")


def test_only_the_frames_of_the_run_are_looked_at(tmp_path: Path) -> None:
    """Frames keep their index in the clip, where names don't tell it."""
    run = write_mask_run(tmp_path)
    record = json.loads((run / "run.json").read_text())
    record["config"]["frames"] = "4:9"
    (run / "run.json").write_text(json.dumps(record))
    for index in (*range(4), *range(9, COUNT)):
        (run / "masks" / f"img{index}.png").unlink()
    report = review_labels(request(run, tmp_path / "a.html"))
    facts = read(report.path).json("clip")
    assert facts["frames"] == [4, 5, 6, 7, 8]
    assert facts["given"] == [0]
