"""Malformed label files: one sentence that names the file and the place in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from propagate.errors import LabelError
from propagate.labels.format_base import ReadOptions
from propagate.types import Size
from tests.test_format_files import (
    COCO,
    LABELME,
    POLYGON,
    SQUARE,
    YOUTUBE_VIS,
    changed,
    cvat,
    dump,
)
from tests.tiny_labels import clip_of, read, write

MALFORMED_JSON = [
    ("youtube-vis", YOUTUBE_VIS, {"videos__0__height": None}, r"videos\[0\] has no 'height'"),
    ("youtube-vis", YOUTUBE_VIS, {"videos__0__width": 0}, "width or height of 0"),
    ("youtube-vis", YOUTUBE_VIS, {"videos": []}, "holds no video"),
    (
        "youtube-vis",
        YOUTUBE_VIS,
        {"annotations__0__segmentations": [[]]},
        r"annotations\[0\].segmentations has 1 entries, but its video has 2 frames",
    ),
    (
        "youtube-vis",
        YOUTUBE_VIS,
        {"annotations__0__segmentations__0__size": [5, 4]},
        r"segmentations\[0\] has the size 4x5, but its frame has 5x4",
    ),
    (
        "youtube-vis",
        YOUTUBE_VIS,
        {"annotations__0__segmentations__0__counts": "52"},
        r"segmentations\[0\].counts is malformed: the runs cover 7 pixels",
    ),
    ("coco", COCO, {"images__1__height": 9}, "has another size than the first, 5x4"),
    ("coco", COCO, {"images__1__file_name": "x/a1.png"}, "2 frames of .* are named a1"),
    ("coco", COCO, {"annotations__0__score": float("nan")}, "confidence of object 1 in frame a2"),
    ("coco", COCO, {"annotations__0__track_id": 0}, "object id 0 is not possible"),
    ("coco", COCO, {"annotations__0__track_id": "one"}, 'track_id is "one", not a whole number'),
    (
        "coco",
        COCO,
        {"annotations__0__segmentation": [[1, 2, 3, 4]]},
        r"annotations\[0\].segmentation\[0\] has 4 numbers",
    ),
    (
        "coco",
        COCO,
        {"annotations__0__segmentation": [[1, 1, float("nan"), 1, 3, 3]]},
        "no finite number",
    ),
]


@pytest.mark.parametrize(("name", "document", "fields", "message"), MALFORMED_JSON)
def test_malformed_json_is_named(
    name: str, document: dict[str, Any], fields: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = dump(tmp_path / "labels.json", changed(document, **fields))
    with pytest.raises(LabelError, match=message):
        list(read(path, name).stream())


MALFORMED_TEXT = [
    ("coco", "x.json", '{"images": [\n', r"x.json is not valid JSON: line 2"),
    ("coco", "x.json", "[1]", "the file is \\[1\\], not an object"),
    ("cvat", "x.xml", "<annotations>", "x.xml is not valid XML"),
    ("cvat", "x.xml", "<!DOCTYPE a><annotations/>", "has a DOCTYPE"),
    ("cvat", "x.xml", "<other/>", "<other> outside, where CVAT has <annotations>"),
    ("cvat", "x.xml", "<annotations/>", "has no <meta>"),
    ("cvat", "x.xml", "<annotations><image/></annotations>", "CVAT for images"),
    ("mots-txt", "x.txt", "0 1 1 4 5\n", "line 1 is not `frame id class height width rle`"),
    ("mots-txt", "x.txt", "0 1 1 4 5 52207\n0 2 1 4 6 x\n", "line 2 is 6x4, the first one 5x4"),
    ("mots-txt", "x.txt", "0 1 1 4 5 1234\n", "line 1: the runs cover"),
    ("mots-txt", "x.txt", "", "holds no masks"),
]


@pytest.mark.parametrize(("name", "file", "text", "message"), MALFORMED_TEXT)
def test_malformed_text_is_named(
    name: str, file: str, text: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / file).write_text(text)
    with pytest.raises(LabelError, match=message):
        list(read(tmp_path / file, name).stream())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('frame="0"', 'frame="9"', "track 0: frame 9 is not one of the task"),
        ('frame="0"', 'frame="x"', "track 0: frame 'x' is no whole number"),
        ("1.00,1.00;3.00,1.00;", "", "track 0, frame 0: the points .* of 3 points"),
        ("3.00,3.00", "nan,3.00", "track 0, frame 0: the points"),
        ("<size>2<", "<size>0<", "a task of 0 frames is not possible"),
        ("<width>5<", "<width>no<", "width 'no' is no whole number"),
    ],
)
def test_malformed_cvat_is_named(old: str, new: str, message: str, tmp_path: Path) -> None:
    path = cvat(tmp_path / "a.xml", 2, POLYGON.format(0, 0, 0))
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(LabelError, match=message):
        list(read(path, "cvat").stream())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"imageHeight": "4"}, 'imageHeight is "4", not a whole number'),
        ({"shapes__0__shape_type": "circle"}, r"shapes\[0\] is a circle of 4 points"),
        ({"shapes__0__group_id": 0}, r"shapes\[0\] has the group_id 0"),
        ({"shapes__0__points": [[1, 2]]}, r"shapes\[0\].points has 2 numbers"),
    ],
)
def test_malformed_labelme_is_named(fields: dict[str, Any], message: str, tmp_path: Path) -> None:
    dump(tmp_path / "a1.json", changed(LABELME, **fields))
    with pytest.raises(LabelError, match=message):
        list(read(tmp_path, "labelme").stream())


@pytest.mark.parametrize("row", ["0 0.1 0.2 0.3 0.4\n", "x 0 0 1 0 1 1\n", "0 0 0 1 0 1 nan\n"])
def test_malformed_yolo_is_named(row: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(f"\n{row}")
    with pytest.raises(LabelError, match="a.txt: line 2 is not a class and x y"):
        read(tmp_path, "yolo", ReadOptions(size=Size(4, 5)))


def test_malformed_yaml_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text("names: [\n")
    (tmp_path / "a.txt").write_text("0 0 0 1 0 1 1\n")
    with pytest.raises(LabelError, match=r"data.yaml is not valid YAML \([^\n]*line 2[^\n]*\)\.$"):
        read(tmp_path, "yolo")


def test_malformed_soft_scores_are_named(tmp_path: Path) -> None:
    path = write(clip_of([np.array(SQUARE, dtype=np.uint8)]), "soft", tmp_path)
    (path / "00000.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    with pytest.raises(LabelError, match="00000.safetensors does not hold soft scores"):
        read(path, "soft")


def test_masks_of_two_sizes_are_refused(tmp_path: Path) -> None:
    for number in range(2):
        Image.fromarray(np.zeros((4, 5 + number), dtype=np.uint8)).save(tmp_path / f"{number}.png")
    with pytest.raises(LabelError, match="1.png is 6x4 but the first one, 0.png, is 5x4"):
        list(read(tmp_path, "png").stream())


def test_malformed_track_tables_are_named(tmp_path: Path) -> None:
    Image.fromarray(np.array(SQUARE, dtype=np.uint8)).save(tmp_path / "0.png")
    (tmp_path / "tracks.csv").write_text("frame,name,object,confidence,occluded\n0,0,x,,\n")
    with pytest.raises(LabelError, match="tracks.csv: line 2 is malformed"):
        read(tmp_path, "png")
