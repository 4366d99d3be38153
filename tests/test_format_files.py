"""Small files written by hand from the formats' public documentation, and malformed ones."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from propagate.errors import InputError, LabelError
from propagate.labels.format_base import ReadOptions
from propagate.labels.format_registry import detect_format, get_format
from propagate.types import Size
from tests.tiny_labels import Seen, read

# Size 5 x 4 (w x h): a square of 2 x 2 at x 1, y 1.
SQUARE = [[0] * 5, [0, 1, 1, 0, 0], [0, 1, 1, 0, 0], [0] * 5]
NOTHING = [[0] * 5] * 4
# Down the columns: 4 + 1 background, 2, 2, 2, the rest.
RUNS = [5, 2, 2, 2, 9]
SIZE = {"height": 4, "width": 5}

YOUTUBE_VIS: dict[str, Any] = {
    "info": {},
    "videos": [{"id": 9, **SIZE, "length": 2, "file_names": ["v1/00000.jpg", "v1/00005.jpg"]}],
    "categories": [{"id": 3, "name": "dog", "supercategory": "object"}],
    "annotations": [
        {
            "id": 1,
            "video_id": 9,
            "category_id": 3,
            "segmentations": [{"size": [4, 5], "counts": RUNS}, None],
            "areas": [4, None],
            "bboxes": [[1, 1, 2, 2], None],
            "iscrowd": 0,
        }
    ],
}
COCO: dict[str, Any] = {
    "images": [
        {"id": 4, **SIZE, "file_name": "frames/a1.jpg"},
        {"id": 7, **SIZE, "file_name": "frames/a2.jpg"},
    ],
    "categories": [{"id": 1, "name": "cat"}],
    "annotations": [
        {
            "id": 11,
            "image_id": 7,
            "category_id": 1,
            "track_id": 1,
            "segmentation": [[1, 1, 3, 1, 3, 3, 1, 3]],
            "area": 4,
            "bbox": [1, 1, 2, 2],
            "iscrowd": 0,
        }
    ],
}
LABELME: dict[str, Any] = {
    "version": "5.5.0",
    "flags": {},
    "shapes": [
        {
            "label": "cat",
            "points": [[1.0, 1.0], [3.0, 1.0], [3.0, 3.0], [1.0, 3.0]],
            "group_id": None,
            "shape_type": "polygon",
            "flags": {},
        }
    ],
    "imagePath": "a1.jpg",
    "imageData": None,
    "imageHeight": 4,
    "imageWidth": 5,
}
CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><name>street</name><size>{frames}</size><mode>interpolation</mode>
    <original_size><width>5</width><height>4</height></original_size></task></meta>
  <track id="0" label="car" source="manual">
    {shapes}
  </track>
</annotations>
"""
POLYGON = (
    '<polygon frame="{}" keyframe="1" outside="{}" occluded="{}" '
    'points="1.00,1.00;3.00,1.00;3.00,3.00;1.00,3.00" z_order="0"></polygon>'
)


def dump(path: Path, document: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


def changed(document: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A deep copy with other members; `None` takes one out."""
    copy: dict[str, Any] = json.loads(json.dumps(document))
    for name, value in fields.items():
        place, (*keys, last) = copy, name.split("__")
        for key in keys:
            place = place[int(key)] if key.isdigit() else place[key]
        if value is None:
            del place[last]
        else:
            place[int(last) if last.isdigit() else last] = value
    return copy


def test_youtube_vis(tmp_path: Path) -> None:
    path = dump(tmp_path / "train.json", YOUTUBE_VIS)
    assert detect_format(path).name == "youtube-vis"
    clip = read(path, "youtube-vis")
    seen = Seen.of(clip)
    assert clip.name == "v1"
    assert seen.ids == [SQUARE, NOTHING]
    assert seen.refs == [(0, "00000"), (5, "00005")]
    assert seen.objects == {1: ("", "dog")}


def test_coco_polygons_with_tracks(tmp_path: Path) -> None:
    path = dump(tmp_path / "instances.json", COCO)
    assert detect_format(path).name == "coco"
    seen = Seen.of(read(path, "coco"))
    assert seen.ids == [NOTHING, SQUARE]
    assert seen.refs == [(0, "a1"), (1, "a2")]
    assert seen.objects == {1: ("", "cat")}


def test_coco_without_tracks_says_that_there_are_none(tmp_path: Path) -> None:
    path = dump(tmp_path / "x.json", changed(COCO, annotations__0__track_id=None))
    clip = read(path, "coco")
    assert Seen.of(clip).ids == [NOTHING, SQUARE]
    assert "have no track_id" in clip.notes[0]


def test_mots_text(tmp_path: Path) -> None:
    path = tmp_path / "0002.txt"
    path.write_text("3 1005 1 4 5 52207\n4 10000 10 4 5 0d0\n")
    assert detect_format(path).name == "mots-txt"
    clip = read(path, "mots-txt")
    seen = Seen.of(clip)
    assert seen.ids[0] == (np.array(SQUARE) * 1005).tolist()
    assert seen.refs == [(3, "00003"), (4, "00004")]
    assert seen.objects == {1005: ("", "car")}
    assert seen.void == 20
    first = next(read(path, "mots-txt", ReadOptions(count_from=1)).stream())
    assert first.index == 2


def test_mots_text_that_may_count_from_1_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("1 2001 2 4 5 52207\n")
    assert "if these count from 1" in read(path, "mots-txt").notes[0]
    assert read(path, "mots-txt", ReadOptions(count_from=1)).notes == ()


def test_mots_png(tmp_path: Path) -> None:
    ids = np.array(SQUARE, dtype=np.uint16) * 2001
    ids[3] = 10000
    Image.fromarray(ids).save(tmp_path / "000001.png")
    (frame,) = read(tmp_path, "mots", ReadOptions(count_from=1)).stream()
    assert frame.masks.object_ids == (2001,)
    assert (frame.index, frame.masks.void) == (0, 10000)
    assert read(tmp_path, "mots").object(2001).category == "pedestrian"


def cvat(path: Path, frames: int, *shapes: str) -> Path:
    path.write_text(CVAT.format(frames=frames, shapes="\n".join(shapes)))
    return path


def test_cvat(tmp_path: Path) -> None:
    shapes = (POLYGON.format(1, 0, 1), POLYGON.format(2, 1, 0))
    path = cvat(tmp_path / "annotations.xml", 4, *shapes)
    assert detect_format(path).name == "cvat"
    clip = read(path, "cvat")
    seen = Seen.of(clip)
    assert clip.name == "street"
    assert seen.ids == [NOTHING, SQUARE, NOTHING, NOTHING]
    assert seen.occluded == [set(), {1}, set(), set()]
    assert seen.objects == {1: ("", "car")}
    assert clip.notes == ()


def test_cvat_shapes_hold_until_the_next_and_that_is_told(tmp_path: Path) -> None:
    path = cvat(tmp_path / "a.xml", 5, POLYGON.format(1, 0, 0), POLYGON.format(4, 1, 0))
    clip = read(path, "cvat")
    assert Seen.of(clip).ids == [NOTHING, SQUARE, SQUARE, SQUARE, NOTHING]
    assert clip.notes[0].startswith("2 masks between keyframes repeat the one before")


def test_cvat_masks_run_along_the_rows(tmp_path: Path) -> None:
    mask = (
        '<mask frame="0" outside="0" occluded="0" rle="1, 3, 1, 1" left="1" top="1" width="3" '
        'height="2" z_order="0"></mask>'
    )
    (frame,) = read(cvat(tmp_path / "a.xml", 1, mask), "cvat").stream()
    assert frame.masks.ids[1:3, 1:4].tolist() == [[0, 1, 1], [1, 0, 1]]


def test_cvat_layers_decide_who_is_on_top(tmp_path: Path) -> None:
    text = CVAT.format(frames=1, shapes=POLYGON.format(0, 0, 0).replace('"0"></poly', '"7"></poly'))
    small = '<polygon frame="0" points="1,1;2,1;2,2;1,2" outside="0" occluded="0"/>'
    other = f'<track id="1" label="bus">{small}</track></annotations>'
    path = tmp_path / "a.xml"
    path.write_text(text.replace("</annotations>", other))
    (frame,) = read(path, "cvat").stream()
    assert frame.masks.ids.tolist() == SQUARE
    assert frame.overlap == 1


def test_labelme_numbers_labels_without_groups(tmp_path: Path) -> None:
    dump(tmp_path / "a1.json", LABELME)
    dog = changed(LABELME, shapes__0__label="dog")
    dump(tmp_path / "a2.json", dog)
    assert detect_format(tmp_path).name == "labelme"
    clip = read(tmp_path, "labelme")
    seen = Seen.of(clip)
    assert seen.ids == [SQUARE, (np.array(SQUARE) * 2).tolist()]
    assert seen.objects == {1: ("", "cat"), 2: ("", "dog")}
    assert "2 shapes have no group_id" in clip.notes[0]


def test_labelme_masks_and_rectangles(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.fromarray(np.ones((2, 2), dtype=np.uint8)).save(file, format="PNG")
    mask = {
        "points": [[1.0, 1.0], [2.0, 2.0]],
        "shape_type": "mask",
        "mask": base64.b64encode(file.getvalue()).decode(),
    }
    box = {"points": [[3.0, 3.0], [1.0, 1.0]], "shape_type": "rectangle"}
    for name, fields in (("a1", mask), ("a2", box)):
        shape = {**LABELME["shapes"][0], **fields}
        dump(tmp_path / f"{name}.json", changed(LABELME, shapes=[shape]))
    assert Seen.of(read(tmp_path, "labelme")).ids == [SQUARE, SQUARE]


def test_yolo(tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a1.txt").write_text("0 0.2 0.25 0.6 0.25 0.6 0.75 0.2 0.75\n")
    (tmp_path / "labels/a2.txt").write_text("")
    (tmp_path / "data.yaml").write_text("path: .\nnames:\n  0: person\n")
    assert detect_format(tmp_path).name == "yolo"
    seen = Seen.of(read(tmp_path, "yolo", ReadOptions(size=Size(4, 5))))
    assert seen.ids == [SQUARE, NOTHING]
    assert seen.objects == {1: ("", "person")}
    with pytest.raises(LabelError, match="does not say how large its frames are; give --size"):
        read(tmp_path, "yolo")


def test_yolo_with_several_of_a_class_says_that_identities_are_lost(tmp_path: Path) -> None:
    row = "2 0.2 0.25 0.6 0.25 0.6 0.75 0.2 0.75\n"
    (tmp_path / "a1.txt").write_text(row + "2 0 0 0.2 0 0.2 0.25 0 0.25\n")
    clip = read(tmp_path, "yolo", ReadOptions(size=Size(4, 5)))
    (frame,) = clip.stream()
    assert frame.masks.object_ids == (1, 2)
    assert "are not the same from frame to frame" in clip.notes[0]


def test_youtube_vos(tmp_path: Path) -> None:
    meta = {"videos": {"ab12": {"objects": {"1": {"category": "fox", "frames": ["00005"]}}}}}
    dump(tmp_path / "meta.json", meta)
    folder = tmp_path / "Annotations/ab12"
    folder.mkdir(parents=True)
    Image.fromarray(np.array(SQUARE, dtype=np.uint8)).save(folder / "00005.png")
    assert detect_format(tmp_path).name == "youtube-vos"
    seen = Seen.of(read(tmp_path, "youtube-vos"))
    assert (seen.ids, seen.refs) == ([SQUARE], [(5, "00005")])
    assert seen.objects == {1: ("", "fox")}


def test_binary_folders_may_have_any_names_and_overlap(tmp_path: Path) -> None:
    for name, rows in (("fox", slice(0, 3)), ("ant", slice(2, 4))):
        (tmp_path / name).mkdir()
        mask = np.zeros((4, 5), dtype=np.uint8)
        mask[rows] = 255
        Image.fromarray(mask).save(tmp_path / name / "f1.png")
    assert detect_format(tmp_path).name == "binary"
    clip = read(tmp_path, "binary")
    (frame,) = clip.stream()
    # The smaller one, the ant, is on top.
    assert frame.masks.ids[:, 0].tolist() == [2, 2, 1, 1]
    assert frame.overlap == 5
    assert Seen.of(clip).objects == {1: ("", "ant"), 2: ("", "fox")}


@pytest.mark.parametrize("kind", ["grey", "soft", "bilevel", "indexed", "colour"])
def test_binary_masks_of_all_kinds(kind: str, tmp_path: Path) -> None:
    (tmp_path / "5").mkdir()
    mask = np.array(SQUARE, dtype=np.uint8)
    image = Image.fromarray(mask * 255)
    if kind == "soft":
        image = Image.fromarray(np.where(mask, 200, 90).astype(np.uint8))
    if kind == "indexed":
        image = Image.fromarray(mask)
        image.putpalette([0, 0, 0, 128, 0, 0])
    image = image.convert({"bilevel": "1", "colour": "RGB"}.get(kind, image.mode))
    image.save(tmp_path / "5/a.png")
    assert detect_format(tmp_path).name == "binary"
    assert Seen.of(read(tmp_path, "binary")).ids == [(np.array(SQUARE) * 5).tolist()]


def test_masks_in_colour_keep_a_colour_for_an_object(tmp_path: Path) -> None:
    """Colours of no known palette are numbered by the first frame that has them."""
    for number, color in enumerate([(10, 200, 30), (5, 5, 90), (10, 200, 30)]):
        rgb = np.zeros((4, 5, 3), dtype=np.uint8)
        rgb[1:3, 1:3] = color
        Image.fromarray(rgb).save(tmp_path / f"{number:05d}.png")
    found = [frame.masks.object_ids for frame in read(tmp_path, "png").stream()]
    assert found == [(1,), (2,), (1,)]


def test_255_is_void_beside_others_and_an_object_alone(tmp_path: Path) -> None:
    for name, ids in (("both", [1, 255]), ("alone", [0, 255])):
        (tmp_path / name).mkdir()
        for number in range(2):
            image = np.full((4, 5), ids[0], dtype=np.uint8)
            image[number:, 2] = ids[1]
            Image.fromarray(image).save(tmp_path / name / f"{number}.png")
    assert [f.masks.void for f in read(tmp_path / "both", "png").stream()] == [255, 255]
    assert [f.masks.void for f in read(tmp_path / "alone", "png").stream()] == [None, None]
    none = read(tmp_path / "both", "png", ReadOptions(void=None))
    assert [f.masks.object_ids for f in none.stream()] == [(1, 255), (1, 255)]


def test_several_videos_need_a_choice(tmp_path: Path) -> None:
    other = {**YOUTUBE_VIS["videos"][0], "id": 2, "file_names": ["v2/1.jpg", "v2/2.jpg"]}
    videos = [*YOUTUBE_VIS["videos"], other]
    path = dump(tmp_path / "x.json", {**YOUTUBE_VIS, "videos": videos})
    with pytest.raises(InputError, match=r"holds 2 videos \(v1, v2\); name one with --video"):
        read(path, "youtube-vis")
    with pytest.raises(InputError, match="holds no video 'v3'; it has v1, v2"):
        read(path, "youtube-vis", ReadOptions(video="v3"))
    assert Seen.of(read(path, "youtube-vis", ReadOptions(video="v2"))).ids == [NOTHING, NOTHING]
    assert Seen.of(read(path, "youtube-vis", ReadOptions(video="v1"))).ids == [SQUARE, NOTHING]


@pytest.mark.parametrize("bad", ["../../evil.png", "/etc/evil.png", "..\\evil.jpg"])
def test_names_in_files_never_lead_out_of_a_folder(bad: str, tmp_path: Path) -> None:
    path = dump(tmp_path / "x.json", changed(COCO, images__1__file_name=bad))
    assert [name for _, name in Seen.of(read(path, "coco")).refs] == ["a1", "evil"]


@pytest.mark.parametrize("bad", ["..", "/", ""])
def test_names_that_are_none_are_refused(bad: str, tmp_path: Path) -> None:
    path = dump(tmp_path / "x.json", changed(COCO, images__1__file_name=bad))
    with pytest.raises(LabelError, match="can't be one of a file"):
        read(path, "coco")


def test_unknown_sources_name_the_candidates(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="looks like no mask folder .* png, .*, say which with"):
        detect_format(tmp_path)
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(LabelError, match="looks like no mask file .* coco, .*youtube-vis, say"):
        detect_format(tmp_path / "x.json")
    with pytest.raises(LabelError, match="There is nothing at"):
        detect_format(tmp_path / "nope")
    with pytest.raises(InputError, match="There is no mask format 'gif'; choose one of binary"):
        get_format("gif")
