"""Annotate, iterate, correct and save from Python."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from propagate import ModelOptions, Session, VideoSettings, preset
from propagate.config import Preset
from propagate.errors import InputError, LabelError
from propagate.labels.keypoint_files import read_keypoints
from propagate.labels.mask_files import read_mask, write_mask
from propagate.types import Masks
from tests.moving_clip import jaccard, true_ids, true_masks, true_points, write_clip

SMALL = Preset(summary="", model="efficientnet-lite0", options=ModelOptions(short_side=96))


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path, 10)


def test_results_follow_what_is_annotated(clip: Path, tmp_path: Path) -> None:
    write_mask(tmp_path / "first.png", true_ids(0))
    with Session(clip, settings=SMALL) as session:
        assert session.add_reference(0, tmp_path / "first.png") == ()
        before = [result.masks.ids for result in session]
        assert len(before) == 10
        session.add_reference(7, true_ids(7))
        after = list(session)
        np.testing.assert_array_equal(after[7].masks.ids, true_ids(7))
        assert after[7].confidence[2].state == "given"
        assert jaccard(after[8].masks.ids == 2, true_ids(8) == 2) > 0.4
        assert {i for result in after for i in result.confidence} == {1, 2}
        session.remove_reference(7)
        again = [result.masks.ids for result in session]
    np.testing.assert_array_equal(np.stack(again), np.stack(before))


def test_features_are_computed_once(clip: Path) -> None:
    with Session(clip, settings=SMALL) as session:
        session.add_reference(5, true_masks(5))
        list(session)
        extractor = session._extractor()
        seen: list[int] = []
        extract = extractor.extract
        extractor.extract = lambda frames: seen.extend(f.index for f in frames) or extract(frames)
        session.add_reference(9, true_masks(9))
        list(session)
    assert seen == []


def test_what_is_saved_is_what_was_iterated_and_can_be_corrected(
    clip: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with Session(clip, settings=SMALL) as session:
        session.add_reference(0, true_masks(0))
        session.add_reference(8, true_masks(8), objects=[2])
        results = list(session)
        report = session.save(out, overlay=False)
    assert report.frames == 10
    assert "extract" not in report.seconds
    for result in results:
        saved = read_mask(out / f"masks/{result.frame.name}.png").ids
        np.testing.assert_array_equal(saved, result.masks.ids)
    record = json.loads((out / "run.json").read_text())
    assert [(item["frame"], item["objects"]) for item in record["config"]["references"]] == [
        (0, [1]),
        (8, [2]),
    ]


def test_components_are_those_of_the_first_frames_iterated_or_not(
    clip: Path, tmp_path: Path
) -> None:
    options = ModelOptions(short_side=96, pca=8)
    settings = Preset(summary="", model="efficientnet-lite0", options=options)
    for name in ("at once", "after a look"):
        with Session(clip, settings=settings) as session:
            session.add_reference(0, true_masks(0))
            if name == "after a look":
                list(session)
            session.save(tmp_path / name, overlay=False)
    for path in (tmp_path / "at once/masks").iterdir():
        assert path.read_bytes() == (tmp_path / "after a look/masks" / path.name).read_bytes()


def test_keypoints_choose_their_preset_and_are_saved(clip: Path, tmp_path: Path) -> None:
    with Session(clip, frames="0:6") as session:
        session.add_reference(0, true_points(0, "disc"))
        assert session.settings == preset("keypoints")
    with Session(clip, frames="0:6", settings=SMALL) as session:
        session.add_reference(0, true_points(0, "disc"))
        session.add_reference(5, true_points(5))
        results = list(session)
        session.save(tmp_path / "out", overlay=False)
    saved = read_keypoints(tmp_path / "out/keypoints.csv")
    assert len(saved.frames) == 6
    for result, frame in zip(results, saved.frames, strict=True):
        np.testing.assert_allclose(frame.keypoints.xy, result.keypoints.xy)


def test_what_does_not_fit_is_refused_at_once(clip: Path, tmp_path: Path) -> None:
    with Session(clip, settings=SMALL) as session:
        with pytest.raises(InputError, match="no reference"):
            list(session)
        with pytest.raises(InputError, match="has no frame 10; it ends with 9"):
            session.add_reference(10, true_masks(0))
        with pytest.raises(InputError, match="is 4x3 and the frame 72x48"):
            session.add_reference(0, np.ones((3, 4), np.uint8))
        with pytest.raises(LabelError, match="does not exist"):
            session.add_reference(0, tmp_path / "no.png")
        session.add_reference(0, Masks(true_ids(0)))
        with pytest.raises(InputError, match="a clip carries one kind"):
            session.add_reference(3, true_points(3))
        with pytest.raises(InputError, match="Frame 3 has no reference"):
            session.remove_reference(3)
        assert session.references.indices == (0,)
    assert SMALL.video == VideoSettings()
