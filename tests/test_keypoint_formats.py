"""Keypoint files: round trips, each format's pixel convention, and what is refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st

from propagate.errors import LabelError, OutputError
from propagate.labels.keypoint_files import (
    all_formats,
    is_keypoint_file,
    read_keypoints,
    write_keypoints,
)
from propagate.labels.keypoint_formats.base import AnnotatedFrame, KeypointFile, make_keypoints
from propagate.labels.keypoint_formats.jhmdb import JOINTS
from propagate.types import Keypoints, PointName, Size

SIZE = Size(480, 854)
ENDINGS = {"csv": ".csv", "coco": ".json", "deeplabcut": ".csv", "tapvid": ".npz"}

place = st.none() | st.tuples(st.floats(0, 854, width=32), st.floats(0, 480, width=32))
near = st.just(np.nan) | st.floats(-1e6, 1e6, width=32)
individuals = st.sampled_from([("",), ("fly1", "fly2"), ("a b", "c,d")])


@st.composite
def files(draw: st.DrawFn) -> KeypointFile:
    """Files in which all frames have the same points; hidden ones have no place."""
    parts = draw(
        st.lists(st.sampled_from(["head", "tail-1", 'le"g', "ärm"]), min_size=1, unique=True)
    )
    names = [PointName(part, who) for who in draw(individuals) for part in parts]
    indices = draw(st.lists(st.integers(0, 10**6), min_size=1, max_size=3, unique=True))
    frames = []
    for index in sorted(indices):
        places = draw(st.lists(place, min_size=len(names), max_size=len(names)))
        xy = np.array([p or (np.nan, np.nan) for p in places], dtype=np.float32)
        points = make_keypoints(names, xy, np.isfinite(xy[:, 0]))
        frames.append(AnnotatedFrame(points, index, size=SIZE))
    edges = ((parts[0], parts[-1]),) if len(parts) > 1 else ()
    return KeypointFile(tuple(frames), edges)


@pytest.mark.parametrize("name", sorted(ENDINGS))
@settings(max_examples=30, deadline=None)
@given(content=files())
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, name: str, content: KeypointFile
) -> None:
    path = tmp_path_factory.mktemp("keypoints") / f"points{ENDINGS[name]}"
    write_keypoints(path, content, format_name=name)
    found = read_keypoints(path)
    wanted = content.frames
    assert [frame.index for frame in found.frames] == [frame.index for frame in wanted]
    for got, given_frame in zip(found.frames, wanted, strict=True):
        assert got.keypoints.names == given_frame.keypoints.names
        np.testing.assert_array_equal(got.keypoints.visible, given_frame.keypoints.visible)
        scale = (SIZE.width, SIZE.height) if got.size == (1, 1) else (1, 1)
        places = got.keypoints.xy * np.array(scale, dtype=np.float32)
        np.testing.assert_allclose(places, given_frame.keypoints.xy, rtol=1e-6, atol=1e-6)
    if name == "coco":
        assert found.edges == content.edges
        assert {frame.size for frame in found.frames} == {SIZE}


@given(
    xy=st.lists(st.tuples(near, near), min_size=1, max_size=4),
    sure=st.floats(0, 1, width=32),
)
@settings(deadline=None)
def test_own_table_gives_the_same_bits_back(
    tmp_path_factory: pytest.TempPathFactory, xy: list[tuple[float, float]], sure: float
) -> None:
    names = [PointName(f"p{number}") for number in range(len(xy))]
    known = make_keypoints(names, np.array(xy), np.ones(len(xy)), np.full(len(xy), sure))
    path = tmp_path_factory.mktemp("keypoints") / "points.csv"
    write_keypoints(path, KeypointFile((AnnotatedFrame(known, 3),)))
    (found,) = read_keypoints(path).frames
    assert found.keypoints.xy.tobytes() == known.xy.tobytes()
    assert found.keypoints.confidence is not None
    np.testing.assert_array_equal(found.keypoints.confidence, known.confidence)


@pytest.mark.parametrize("name", ["csv", "coco"])
def test_a_hidden_point_keeps_its_place_and_confidence(tmp_path: Path, name: str) -> None:
    names = [PointName("a"), PointName("b")]
    sure = np.array([0.25, 0.5])
    known = make_keypoints(names, np.array([[1, 2], [3, 4]]), np.array([1, 0]), sure)
    path = tmp_path / f"points{ENDINGS[name]}"
    write_keypoints(path, KeypointFile((AnnotatedFrame(known, 0),)), format_name=name)
    (found,) = read_keypoints(path).frames
    np.testing.assert_array_equal(found.keypoints.xy, known.xy)
    assert found.keypoints.visible.tolist() == [True, False]
    np.testing.assert_array_equal(found.keypoints.confidence, known.confidence)


def only(path: Path) -> Keypoints:
    (frame,) = read_keypoints(path).frames
    return frame.keypoints


def test_own_table_counts_from_the_corner(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("name,frame, x,y\nhead,0, 10.5,20\ntail,0,,\n")
    points = only(path)
    np.testing.assert_array_equal(points.xy[0], [10.5, 20])
    assert points.visible.tolist() == [True, False]


def test_own_table_may_go_point_by_point(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("frame,name,x,y,visible\n5,a,1,1,1\n0,a,2,2,1\n5,b,3,3,0\n0,b,4,4,no\n")
    frames = read_keypoints(path).frames
    assert [frame.index for frame in frames] == [0, 5]
    assert [str(name) for name in frames[1].keypoints.names] == ["a", "b"]
    assert frames[1].keypoints.visible.tolist() == [True, False]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("frame,x,y\n0,1,1\n", "no column 'name'"),
        ("frame,name,x,y\n0,a,one,1\n", "x is 'one' in line 2"),
        ("frame,name,x,y\n-1,a,1,1\n", "frame is '-1' in line 2"),
        ("frame,name,x,y\n0.5,a,1,1\n", "frame is '0.5' in line 2"),
        ("frame,name,x,y\n0,a,1e999,1\n", "x is '1e999' in line 2"),
        ("frame,name,x,y\n0,a,1e99,1\n", "x is '1e99' in line 2"),
        ("frame,name,x,y\n0,a,1,1\n0,a,2,2\n", "a occurs twice in frame 0"),
        ("frame,name,x,y\n0,a,1,1\n1,a,1,1\n0,a,2,2\n", "a occurs twice in frame 0"),
        ("frame,name,x,y\n0,,1,1\n", "has no name"),
        ("frame,name,x,y,visible\n0,a,1,1,perhaps\n", "visible is 'perhaps' in line 2"),
        ("frame,name,x,y\n", "holds no point"),
        ("scorer,me,me\nbodyparts,a,a\n", "no rows 'bodyparts' and 'coords'"),
        ("scorer,me,me\nbodyparts,a,a\ncoords,x,y\n0,1,z\n", "'z' in the keypoint file"),
    ],
)
def test_bad_tables_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(LabelError, match=message):
        read_keypoints(path)


COCO = {
    "images": [{"id": 7, "file_name": "shots/img0042.jpg", "height": 480, "width": 640}],
    "categories": [{"id": 1, "name": "fox", "keypoints": ["a", "b"], "skeleton": [[1, 2], [1, 9]]}],
    "annotations": [{"image_id": 7, "category_id": 1, "keypoints": [10, 20, 2, 30, 40, 1]}],
}


def test_coco_counts_from_the_centre(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(COCO))
    content = read_keypoints(path)
    (frame,) = content.frames
    np.testing.assert_array_equal(frame.keypoints.xy, [[10.5, 20.5], [30.5, 40.5]])
    assert frame.keypoints.visible.tolist() == [True, False]
    assert (frame.name, frame.index, frame.size) == ("img0042", 42, (480, 640))
    assert content.edges == (("a", "b"),)


def test_coco_tells_individuals_apart(tmp_path: Path) -> None:
    twice = [COCO["annotations"][0], COCO["annotations"][0]]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(COCO | {"annotations": twice}))
    assert [str(name) for name in only(path).names] == ["fox1/a", "fox1/b", "fox2/a", "fox2/b"]


def test_deeplabcut_of_one_animal(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        "scorer,net,net,net,net,net,net\n"
        "bodyparts,nose,nose,nose,tail,tail,tail\n"
        "coords,x,y,likelihood,x,y,likelihood\n"
        "0,1,2,0.9,3,4,0.1\n"
        "1,5,6,0.99,7,8,0.7\n"
    )
    first, second = read_keypoints(path).frames
    np.testing.assert_array_equal(first.keypoints.xy, [[1.5, 2.5], [3.5, 4.5]])
    assert first.keypoints.visible.tolist() == [True, False]
    assert first.keypoints.confidence == pytest.approx([0.9, 0.1])
    assert (first.index, second.index) == (0, 1)


@pytest.mark.parametrize("label", ["labeled-data/clip/img013.png", "labeled-data,clip,img013.png"])
def test_deeplabcut_of_several_animals(tmp_path: Path, label: str) -> None:
    blank = "," * label.count(",")
    path = tmp_path / "CollectedData_me.csv"
    path.write_text(
        f"scorer{blank},me,me,me,me\n"
        f"individuals{blank},m1,m1,m2,m2\n"
        f"bodyparts{blank},nose,nose,nose,nose\n"
        f"coords{blank},x,y,x,y\n"
        f"{label},1,2,,\n"
    )
    (frame,) = read_keypoints(path).frames
    assert [str(name) for name in frame.keypoints.names] == ["m1/nose", "m2/nose"]
    assert frame.keypoints.visible.tolist() == [True, False]
    assert frame.keypoints.confidence is None
    assert (frame.name, frame.index) == ("img013", 13)


def test_tapvid_pixels_and_shares(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    points = np.array([[[0.5, 1.0]]])
    np.savez(path, points=points, occluded=[[False]])
    (frame,) = read_keypoints(path).frames
    assert frame.size == (1, 1)
    np.savez(path, points=points * 100, occluded=[[True]])
    content = read_keypoints(path)
    assert content.frames[0].size is None
    assert not content.frames[0].keypoints.visible.any()
    assert "taken for pixels" in content.notes[0]


def test_jhmdb_counts_like_matlab(tmp_path: Path) -> None:
    path = tmp_path / "joint_positions.mat"
    positions = np.arange(2 * len(JOINTS) * 3, dtype=float).reshape(2, len(JOINTS), 3) + 1
    scipy.io.savemat(path, {"pos_img": positions})
    frames = read_keypoints(path).frames
    assert len(frames) == 3
    np.testing.assert_array_equal(frames[0].keypoints.xy[0], [0.5, 45.5])
    assert str(frames[0].keypoints.names[0]) == "neck"


def test_badja_has_rows_first(tmp_path: Path) -> None:
    joints, seen = [[0, 0]] * 37, [False] * 37
    joints[15], seen[15] = [100, 200], True
    item = {"image_path": "x/bear/00002.jpg", "joints": joints, "visibility": seen}
    path = tmp_path / "bear.json"
    path.write_text(json.dumps([item]))
    content = read_keypoints(path)
    assert content.needs_size
    points = content.frames[0].keypoints
    assert [str(points.names[i]) for i in np.flatnonzero(points.visible)] == ["neck_lower"]
    np.testing.assert_array_equal(points.xy[points.visible][0], [200.5, 100.5])
    assert content.frames[0].index == 2


def write_slp(path: Path, *, format_id: float) -> None:
    """Two frames: an untracked prediction; two animals, one of which a user corrected."""
    point = [("x", "f8"), ("y", "f8"), ("visible", "?"), ("complete", "?")]
    types = ("instance_id", "instance_type", "frame_id", "skeleton", "track", "from_predicted")
    instance = [(name, "i8") for name in types] + [("score", "f4")]
    instance += [("point_id_start", "u8"), ("point_id_end", "u8")]
    regular = {"py/reduce": [{"py/type": "sleap.skeleton.EdgeType"}, {"py/tuple": [1]}]}
    mirrored = {"py/reduce": [{"py/type": "sleap.skeleton.EdgeType"}, {"py/tuple": [2]}]}
    links = [
        {"source": 1, "target": 0, "type": mirrored},
        {"source": 0, "target": 2, "type": regular},
        {"source": 1, "target": 2, "type": {"py/id": 2}},
        {"source": 2, "target": 1, "type": {"py/id": 1}},
    ]
    content = {
        "nodes": [{"name": name} for name in ("left", "right", "head")],
        "skeletons": [{"nodes": [{"id": 2}, {"id": 0}], "links": links}],
    }
    with h5py.File(path, "w") as file:
        metadata = file.create_group("metadata")
        metadata.attrs["format_id"] = format_id
        metadata.attrs["json"] = np.bytes_(json.dumps(content))
        file["tracks_json"] = np.array([b'[0, "male"]', b'[0, "female"]'])
        file["points"] = np.array([(1, 2, True, True), (np.nan, np.nan, False, False)], point)
        scored = [(5, 6, True, False, 0.5), (7, 8, True, False, 0.75)]
        file["pred_points"] = np.array(scored * 3, [*point, ("score", "f8")])
        file["instances"] = np.array(
            [
                (0, 1, 0, 0, -1, -1, 0, 0, 2),
                (1, 1, 1, 0, 0, -1, 0, 2, 4),
                (2, 0, 1, 0, 0, 1, 0, 0, 2),
                (3, 1, 1, 0, 1, -1, 0, 4, 6),
            ],
            instance,
        )
        columns = ("frame_id", "video", "frame_idx", "instance_id_start", "instance_id_end")
        frame = [(name, "u8") for name in columns]
        file["frames"] = np.array([(0, 0, 10, 0, 1), (1, 0, 20, 1, 4)], frame)


@pytest.mark.parametrize(("format_id", "shift"), [(1.0, 0), (1.1, 0.5), (1.4, 0.5)])
def test_sleap_of_old_and_new_files(tmp_path: Path, format_id: float, shift: float) -> None:
    write_slp(tmp_path / "a.slp", format_id=format_id)
    content = read_keypoints(tmp_path / "a.slp")
    first, second = content.frames
    assert content.edges == (("left", "head"), ("right", "head"))
    assert (first.index, second.index) == (10, 20)
    assert [str(name) for name in first.keypoints.names] == ["head", "left"]
    assert first.keypoints.confidence == pytest.approx([0.5, 0.75])
    np.testing.assert_array_equal(first.keypoints.xy, np.array([[5, 6], [7, 8]]) + shift)
    names = ["male/head", "male/left", "female/head", "female/left"]
    assert [str(name) for name in second.keypoints.names] == names
    assert second.keypoints.visible.tolist() == [True, False, True, True]
    np.testing.assert_array_equal(second.keypoints.xy[0], np.array([1, 2]) + shift)


def test_sleap_file_of_two_flies(shared_dir: Path) -> None:
    """Places as sleap-io 0.9.5 gives them, from the centre of the first pixel."""
    content = read_keypoints(shared_dir / "data/videos/flies.slp")
    assert len(content.frames) == 1500
    assert content.edges[:3] == (("head", "eyeL"), ("head", "eyeR"), ("thorax", "head"))
    points = content.frames[0].keypoints
    assert [str(name) for name in points.names[:2]] == ["male/head", "male/thorax"]
    np.testing.assert_array_equal(points.xy[:2] - 0.5, [[335.25, 444.75], [301.75, 457.75]])


def test_kp_counts_from_the_centre_and_names_no_frame(tmp_path: Path) -> None:
    (tmp_path / "a.kp").write_text("10 20.5\n\n  0\t3e1 0.98 7\n")
    (only,) = read_keypoints(tmp_path / "a.kp").frames
    assert (only.index, only.name) == (None, None)
    assert [str(name) for name in only.keypoints.names] == ["0", "1"]
    np.testing.assert_array_equal(only.keypoints.xy, [[10.5, 21], [0.5, 30.5]])
    assert only.keypoints.visible.all()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.kp", b"1 2\n3\n", "x and y a line"),
        ("a.kp", b"x y\n", "x and y a line"),
        ("a.kp", b"\xff\xfe", "x and y a line"),
        ("a.kp", b"1 nan\n", "x and y a line"),
        ("a.kp", b"\n", "holds no point"),
        ("a.pkl", b"cos\nsystem\n", "Python pickle"),
        ("a.h5", b"\x89HDF", "pandas.read_hdf"),
        ("a.slp", b"not HDF5", "layout of SLEAP"),
        ("a.npz", b"PK", "without pickled objects"),
        ("a.mat", b"MATLAB", "pos_img"),
        ("a.json", b"{", "not valid JSON"),
        ("a.json", b"{}", "of no kind that can be read"),
        ("a.json", b'{"images": 1, "annotations": 2, "categories": 3}', "layout of COCO"),
        ("a.json", b'[{"image_path": 1, "joints": 2, "visibility": 3}]', "layout of BADJA"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(LabelError, match=message):
        read_keypoints(tmp_path / name)


def test_pickled_objects_in_an_archive_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", points=np.array([{}], dtype=object), occluded=[[True]])
    with pytest.raises(LabelError, match="without pickled objects"):
        read_keypoints(tmp_path / "a.npz")


def test_a_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="does not exist"):
        read_keypoints(tmp_path / "a.csv")
    with pytest.raises(LabelError, match="is a folder"):
        read_keypoints(tmp_path)


def test_writing_needs_a_format_an_ending_and_a_place(tmp_path: Path) -> None:
    points = make_keypoints([PointName("a")], np.ones((1, 2)), np.ones(1))
    content = KeypointFile((AnnotatedFrame(points, 0),))
    with pytest.raises(LabelError, match="'sleap'; choose from"):
        write_keypoints(tmp_path / "a.slp", content, format_name="sleap")
    with pytest.raises(LabelError, match=r"ends in \.json"):
        write_keypoints(tmp_path / "a.csv", content, format_name="coco")
    with pytest.raises(LabelError, match="size of the pictures"):
        write_keypoints(tmp_path / "a.npz", content, format_name="tapvid")
    with pytest.raises(OutputError, match="Cannot write"):
        write_keypoints(tmp_path / "no/a.csv", content)


def test_formats_are_found_by_being_there() -> None:
    assert set(ENDINGS) <= set(all_formats())
    assert is_keypoint_file("A.CSV")
    assert not is_keypoint_file("first.png")


def test_own_table_is_a_plain_csv(tmp_path: Path) -> None:
    points = make_keypoints([PointName("a", "one")], np.array([[0.1, 2]]), np.ones(1), np.ones(1))
    write_keypoints(tmp_path / "a.csv", KeypointFile((AnnotatedFrame(points, 4),)))
    with (tmp_path / "a.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == [
            {
                "frame": "4",
                "name": "a",
                "x": "0.1",
                "y": "2",
                "visible": "1",
                "confidence": "1",
                "individual": "one",
            }
        ]
