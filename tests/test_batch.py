"""`propagate batch`: many clips, some of which fail."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from propagate import batch as module
from propagate.batch import BatchItem, find_items, select_shard
from propagate.config import PRESETS
from propagate.errors import InputError
from tests.test_run import call, disc, masks, picture

QUICK = ("--short-side", "96", "--no-overlay")


def write_clip(folder: Path, frames: int = 3) -> Path:
    folder.mkdir(parents=True)
    for index in range(frames):
        Image.fromarray(picture(index)).save(folder / f"{index:02d}.png")
    return folder


def write_mask(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(disc(0)).save(path)
    return path


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Three folders of images with masks beside them; the clip in the middle is broken."""
    for name in ("shot1", "shot2", "shot10"):
        write_clip(tmp_path / "clips" / name)
        write_mask(tmp_path / f"clips/{name}.png")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "clips/shot2.png")
    return tmp_path / "clips"


def test_a_clip_that_fails_does_not_stop_the_others(capsys, clips, tmp_path):
    code, out, err = call(capsys, "batch", clips, "-o", tmp_path / "out", *QUICK)
    assert code == 3
    rows = [line.split(maxsplit=4) for line in out.splitlines()]
    assert rows[0] == ["clip", "status", "frames", "seconds", "error"]
    assert [row[:3] for row in rows[1:]] == [
        ["shot1", "done", "3"],
        ["shot2", "failed", "0"],
        ["shot10", "done", "3"],
    ]
    assert "shot2.png" in rows[2][4]
    assert "shot1: done" in err
    for name in ("shot1", "shot10"):
        assert len(masks(tmp_path / "out" / name)) == 3
    record = json.loads((tmp_path / "out/batch.json").read_text())
    assert [item["status"] for item in record] == ["done", "failed", "done"]


def test_masks_are_those_of_single_runs(capsys, clips, tmp_path):
    call(capsys, "batch", clips, "-o", tmp_path / "out", *QUICK)
    inputs = (clips / "shot10", clips / "shot10.png", "-o", tmp_path / "single")
    call(capsys, "run", *inputs, *QUICK)
    assert masks(tmp_path / "out/shot10") == masks(tmp_path / "single")


def test_resuming_does_what_is_left(capsys, clips, tmp_path):
    arguments = ("batch", clips, "-o", tmp_path / "out", *QUICK)
    assert call(capsys, *arguments)[0] == 3
    code, out, _ = call(capsys, *arguments, "--json")
    assert code == 3
    assert all("already holds a run; continue" in o["error"] for o in json.loads(out)[::2])
    write_mask(clips / "shot2.png")
    code, out, _ = call(capsys, *arguments, "--resume", "--json")
    assert code == 0
    assert [item["status"] for item in json.loads(out)] == ["skipped", "done", "skipped"]


def test_the_model_is_loaded_once(capsys, clips, tmp_path, monkeypatch):
    loaded = []
    create = module.create_extractor

    def counting(*arguments, **options):
        loaded.append(arguments)
        return create(*arguments, **options)

    monkeypatch.setattr(module, "create_extractor", counting)
    monkeypatch.setattr("propagate.run.create_extractor", counting)
    assert call(capsys, "batch", clips, "-o", tmp_path / "out", *QUICK)[0] == 3
    assert len(loaded) == 1


def test_a_model_that_is_not_there_is_told_once(capsys, clips, tmp_path):
    code, out, err = call(capsys, "batch", clips, "-o", tmp_path / "out", "--model", "qqqq")
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert not list((tmp_path / "out").glob("shot*"))


def test_shards_share_the_clips_without_a_rest(capsys, clips, tmp_path):
    items = find_items(clips)
    for count in (1, 2, 3, 5):
        parts = [select_shard(items, f"{i}/{count}") for i in range(1, count + 1)]
        assert sorted(i.name for part in parts for i in part) == sorted(i.name for i in items)
    out = tmp_path / "out"
    call(capsys, "batch", clips, "-o", out, *QUICK, "--shard", "1/2")
    call(capsys, "batch", clips, "-o", out, *QUICK, "--shard", "2/2")
    names = {path.name for path in out.iterdir()}
    assert names == {"shot1", "shot10", "batch-1-of-2.json", "batch-2-of-2.json"}


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2", "1/2/3"])
def test_a_shard_that_is_none(shard):
    with pytest.raises(InputError, match=f"--shard is '{shard}'; write which of how many"):
        select_shard([], shard)


def test_masks_in_a_folder_of_their_own_as_davis_has_them(tmp_path):
    for name in ("bear", "cow"):
        write_clip(tmp_path / "JPEGImages" / name)
        for index in (0, 1):
            write_mask(tmp_path / f"Annotations/{name}/{index:05d}.png")
    items = find_items(tmp_path / "JPEGImages", tmp_path / "Annotations")
    assert [(item.name, item.mask.name) for item in items] == [
        ("bear", "00000.png"),
        ("cow", "00000.png"),
    ]


def test_a_folder_of_masks_may_lie_among_the_clips(tmp_path):
    write_clip(tmp_path / "a")
    write_mask(tmp_path / "masks/a.png")
    assert [item.name for item in find_items(tmp_path, tmp_path / "masks")] == ["a"]


def test_a_manifest_names_clips_masks_and_ranges(capsys, tmp_path):
    write_clip(tmp_path / "data/one", frames=5)
    write_mask(tmp_path / "data/first.png")
    manifest = tmp_path / "data/list.csv"
    manifest.write_text(
        "clip,mask,name,frames\none,first.png,whole,\none,first.png,part,0:4:2\n", "utf-8"
    )
    assert [(i.name, i.frames) for i in find_items(manifest)] == [
        ("part", "0:4:2"),
        ("whole", None),
    ]
    code, _, _ = call(capsys, "batch", manifest, "-o", tmp_path / "out", *QUICK)
    assert code == 0
    assert len(masks(tmp_path / "out/whole")) == 5
    assert len(masks(tmp_path / "out/part")) == 2


def test_a_manifest_may_name_keypoints(capsys, tmp_path):
    write_clip(tmp_path / "one")
    (tmp_path / "points.csv").write_text("frame,name,x,y,visible\n0,nose,30,20,1\n", "utf-8")
    (tmp_path / "list.csv").write_text("clip,mask\none,points.csv\n", "utf-8")
    assert call(capsys, "batch", tmp_path / "list.csv", "-o", tmp_path / "out", *QUICK)[0] == 0
    rows = (tmp_path / "out/one/keypoints.csv").read_text().splitlines()
    assert len(rows) == 1 + 3
    record = json.loads((tmp_path / "out/one/run.json").read_text())
    assert (
        record["config"]["video"]["propagation"]["topk"]
        == PRESETS["keypoints"].video.propagation.topk
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("video,mask\na,b\n", "has the columns video, mask; it needs clip and mask"),
        ("", "has the columns none; it needs clip and mask"),
        ("clip,mask\na\n", "Line 2 of .* can't be read; it must have as many values"),
        ("clip,mask\na,b,c\n", "Line 2 of .* can't be read"),
        ("clip,mask\na.mp4,m.png\nb/A.mp4,m.png\n", "Two clips of .* are called a; rename one"),
        ("clip,mask,name\na,b,../x\n", "'../x' can't be the name of a folder"),
        ("clip,mask,name\na,b,..\n", "'..' can't be the name of a folder"),
        ("clip,mask\n", "holds no clip; expected are videos"),
    ],
)
def test_a_manifest_that_can_not_be_used(tmp_path, text, message):
    manifest = tmp_path / "list.csv"
    manifest.write_text(text, "utf-8")
    with pytest.raises(InputError, match=message):
        find_items(manifest)


def test_a_source_that_can_not_be_used(tmp_path):
    with pytest.raises(
        InputError, match="nowhere does not exist; give a folder of clips, or a CSV"
    ):
        find_items(tmp_path / "nowhere")
    write_clip(tmp_path / "clips/a")
    with pytest.raises(InputError, match=r"a has no mask: there is no .*a.png; draw one, name"):
        find_items(tmp_path / "clips")
    shutil.rmtree(tmp_path / "clips/a")
    with pytest.raises(InputError, match="clips holds no clip"):
        find_items(tmp_path / "clips")


def test_names_stay_inside_the_output():
    for name in ("", ".", "..", "a/b", "a\\b", "c:"):
        with pytest.raises(InputError, match="can't be the name of a folder"):
            BatchItem(name=name, clip=Path("a"), mask=Path("b"))
