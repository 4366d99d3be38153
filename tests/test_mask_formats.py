"""Every mask format keeps what it says it keeps, by itself and by way of another."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from propagate.labels.clip_labels import ClipLabels, ClipObject, FrameRef, SoftScores
from propagate.labels.format_base import ReadOptions, Trait
from propagate.labels.format_registry import detect_format, format_names, get_format
from propagate.labels.outlines import outlines
from propagate.types import Masks, Size
from tests.tiny_labels import Seen, clip_of, clips, read, write

# Everything is there: a hole, two pieces, gaps in ids, an empty frame, touching objects.
RING = np.zeros((9, 12), dtype=np.uint16)
RING[1:6, 1:6] = 3
RING[3, 3] = 0
RING[7, 8:] = 3
RING[1:4, 6:9] = 7
EMPTY = np.zeros_like(RING)
LATE = np.where(RING == 7, np.uint16(7), np.uint16(0))
LATE[8, 0] = 42

FULL = clip_of(
    [RING, EMPTY, LATE],
    objects=[ClipObject(3, "rex", "dog"), ClipObject(7, "", "cat"), ClipObject(42)],
    confidence={0: {3: 0.5, 7: 0.25}, 2: {7: 1.0}},
    occluded={0: {7}, 2: {42}},
)
POLYGONS = ("cvat", "labelme")
NUMBERED = ("mots", "mots-txt")
QUICK = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)


def through(clip: ClipLabels, name: str, folder: Path) -> ClipLabels:
    rgb = np.full((*clip.size, 3), 90, dtype=np.uint8)
    return read(write(clip, name, folder, rgb), name, ReadOptions(void=None))


def filled(ids: np.ndarray) -> np.ndarray:
    """Ids with holes that are background filled, as polygons show them."""
    from propagate.labels.composer import Composer
    from propagate.labels.outlines import fill

    size = Size(*ids.shape)
    composer = Composer(size)
    for object_id in Masks(ids).object_ids:
        for piece in outlines(ids == object_id):
            composer.add(object_id, fill([piece.ring], size))
    return composer.compose()[0].ids


def expected(clip: ClipLabels, name: str) -> Seen:
    """What must come back from a format by what it says it keeps."""
    keeps, seen = get_format(name).keeps, Seen.of(clip)
    frames = list(clip.stream())
    if "pixels" not in keeps:
        seen = seen.without(ids=[filled(f.masks.ids).tolist() for f in frames])
    if "frame names" not in keeps:
        digits = 6 if name == "mots" else 5
        seen = seen.without(refs=[(f.index, f"{f.index:0{digits}d}") for f in frames])
    if "empty frames" not in keeps:
        shown = [i for i, f in enumerate(frames) if f.masks.object_ids]
        for key in ("ids", "refs", "confidence", "occluded"):
            seen = seen.without(**{key: [getattr(seen, key)[i] for i in shown]})
    if "names" not in keeps:
        seen = seen.without(objects={i: ("", o[1]) for i, o in seen.objects.items()})
    if "confidence" not in keeps:
        seen = seen.without(confidence=[{} for _ in seen.refs])
    if "occlusion" not in keeps:
        seen = seen.without(occluded=[set() for _ in seen.refs])
    return seen


@pytest.mark.parametrize("name", [n for n in format_names() if n not in (*NUMBERED, "yolo")])
def test_a_full_clip_keeps_all_that_the_format_says(name: str, tmp_path: Path) -> None:
    assert Seen.of(through(FULL, name, tmp_path)) == expected(FULL, name)


def test_yolo_keeps_apart_objects_of_different_labels(tmp_path: Path) -> None:
    seen = Seen.of(through(FULL, "yolo", tmp_path))
    assert seen == expected(FULL, "yolo")
    assert seen.objects[3] == ("", "dog")


@pytest.mark.parametrize("name", NUMBERED)
def test_mots_has_class_and_instance(name: str, tmp_path: Path) -> None:
    known = [ClipObject(3, category="pedestrian"), ClipObject(7, category="cat")]
    back = through(clip_of([RING, EMPTY, LATE], objects=known), name, tmp_path)
    objects = Seen.of(back).objects
    assert objects == {2003: ("", "pedestrian"), 3007: ("", "class 3"), 42: ("", "")}
    again = through(back, name, _folder(tmp_path, "again"))
    assert Seen.of(again) == Seen.of(back)


def _folder(parent: Path, name: str) -> Path:
    (parent / name).mkdir()
    return parent / name


@pytest.mark.parametrize("name", format_names())
@given(clip=clips())
@QUICK
def test_round_trip(name: str, clip: ClipLabels) -> None:
    if name in (*NUMBERED, "yolo"):
        # Without categories, which decide about ids there.
        clip = clip_of([frame.masks.ids for frame in clip.stream()])
    if name in NUMBERED and any(i == 10000 for f in clip.stream() for i in f.masks.object_ids):
        return
    with tempfile.TemporaryDirectory() as folder:
        back = Seen.of(through(clip, name, Path(folder)))
    wanted = expected(clip, name)
    if name in NUMBERED:
        wanted = wanted.without(objects=back.objects)
    if name in ("binary", "rgba"):
        # Other characters than letters and digits can't be in the name of a folder everywhere.
        clean = {"a & <b>": "a_b_"}
        labels = {i: ("", clean.get(o[1], o[1])) for i, o in wanted.objects.items()}
        wanted = wanted.without(objects=labels)
    assert back == wanted


LOSSLESS = ("png", "youtube-vis", "coco", "soft", "binary", "mots", "mots-txt", "youtube-vos")


@pytest.mark.parametrize("first", LOSSLESS)
@pytest.mark.parametrize("second", LOSSLESS)
def test_there_and_back_is_the_same_pixels(first: str, second: str, tmp_path: Path) -> None:
    plain = clip_of([RING, LATE, RING])
    one = through(plain, first, _folder(tmp_path, "one"))
    two = through(one, second, _folder(tmp_path, "two"))
    three = through(two, first, _folder(tmp_path, "three"))
    assert Seen.of(three).ids == Seen.of(plain).ids
    indices = [index for index, _ in Seen.of(three).refs]
    assert indices == [0, 1, 2]


@pytest.mark.parametrize(
    ("first", "second"), [("youtube-vis", "coco"), ("coco", "png"), ("png", "soft")]
)
def test_confidence_and_occlusion_go_along(first: str, second: str, tmp_path: Path) -> None:
    back = through(through(FULL, first, tmp_path), second, tmp_path)
    assert Seen.of(back) == Seen.of(FULL)


@pytest.mark.parametrize("name", ["png", "youtube-vis", "soft"])
def test_a_hidden_object_keeps_its_marks(name: str, tmp_path: Path) -> None:
    clip = clip_of([RING, EMPTY], confidence={1: {7: 0.125}}, occluded={1: {7}})
    assert "absent objects" in get_format(name).keeps
    assert Seen.of(through(clip, name, tmp_path)) == Seen.of(clip)


@pytest.mark.parametrize("name", format_names())
def test_frame_numbers_survive_gaps(name: str, tmp_path: Path) -> None:
    frames = [FrameRef(5, "00005"), FrameRef(10, "00010")]
    back = Seen.of(through(clip_of([RING, LATE], frames=frames), name, tmp_path))
    shown = [ref for ref, ids in zip(back.refs, back.ids, strict=True) if np.any(ids)]
    assert [index for index, _ in shown] == [5, 10]


@pytest.mark.parametrize("name", ["coco", "soft"])
def test_frame_numbers_survive_beside_other_names(name: str, tmp_path: Path) -> None:
    frames = [FrameRef(5, "b"), FrameRef(10, "a")]
    back = Seen.of(through(clip_of([RING, LATE], frames=frames), name, tmp_path))
    assert back.refs == [(5, "b"), (10, "a")]


@pytest.mark.parametrize("name", [n for n in format_names() if "void" in get_format(n).keeps])
def test_void_stays_void(name: str, tmp_path: Path) -> None:
    ids = RING.copy()
    ids[8] = 255
    back = read(write(clip_of([ids], void=255), name, tmp_path), name)
    (frame,) = back.stream()
    assert frame.masks.object_ids == (3, 7)
    assert (frame.masks.ids == frame.masks.void).sum() == 12


def test_soft_scores_come_back_to_the_bit_and_as_opacity(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 60).reshape(1, 5, 12).astype(np.float16)
    scores = SoftScores((4,), values)
    plain = clip_of([scores.masks().ids])
    (frame,) = plain.stream()
    from dataclasses import replace

    soft = replace(plain, stream=lambda: iter([replace(frame, scores=scores)]))
    (back,) = read(write(soft, "soft", tmp_path), "soft").stream()
    assert back.scores is not None
    assert back.scores.values.tobytes() == values.tobytes()
    np.testing.assert_array_equal(back.masks.ids, frame.masks.ids)
    rgb = np.full((5, 12, 3), 200, dtype=np.uint8)
    from PIL import Image

    image = np.array(Image.open(write(soft, "rgba", tmp_path, rgb) / "4/00000.png"))
    np.testing.assert_array_equal(image[..., 3], np.round(values[0].astype(np.float32) * 255))
    assert (image[0, 0] == 0).all()


def test_memory_is_one_frame_where_the_format_has_a_file_per_frame(tmp_path: Path) -> None:
    """The stream of a folder reads a file when it is asked for that frame, not before."""
    path = write(clip_of([RING, RING, RING]), "png", tmp_path)
    stream = read(path, "png").stream()
    next(stream)
    (path / "00001.png").unlink()
    with pytest.raises(Exception, match="00001.png does not exist"):
        next(stream)


@pytest.mark.parametrize("name", format_names())
def test_what_is_written_is_recognised(name: str, tmp_path: Path) -> None:
    ids = RING.astype(np.int32)
    if name == "mots":
        ids = np.where(ids > 0, ids + 1000, 0)
    rgb = np.full((9, 12, 3), 90, dtype=np.uint8)
    path = write(clip_of([ids, EMPTY.astype(np.int32)]), name, tmp_path, rgb)
    if name == "mots":
        with pytest.raises(Exception, match="may be mots or png; say which with --from"):
            detect_format(path)
        return
    assert detect_format(path).name == name


@pytest.mark.parametrize("name", format_names())
def test_the_docs_say_what_is_lost(name: str) -> None:
    page = Path(__file__).parent.parent / "docs/how-to/convert.md"
    (row,) = [line for line in page.read_text().splitlines() if line.startswith(f"| `{name}` |")]
    told = {trait.strip() for trait in row.split("|")[4].split(",")} - {""}
    assert told == set(get_args(Trait)) - get_format(name).keeps


@pytest.mark.parametrize("name", format_names())
def test_formats_are_described(name: str) -> None:
    entry = get_format(name)
    assert entry.name == name
    assert entry.summary
    assert entry.folder == (
        len(entry.suffixes) > 1 or name in ("mots", "labelme", "binary", "rgba")
    )
