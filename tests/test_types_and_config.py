"""Value objects refuse what they can't be, and say so."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from propagate.config import PRESETS, ModelOptions, PropagationSettings, VideoSettings, preset
from propagate.errors import InputError
from propagate.types import FeatureMap, Frame, LabelField, Masks, Size

RGB = np.zeros((4, 6, 3), np.uint8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Frame("c", 0, RGB.astype(float), 0.0, "n"), r"uint8 \[h, w, 3\], not float64"),
        (lambda: Frame("c", -1, RGB, 0.0, "n"), "counts from 0, so it can't be -1"),
        (
            lambda: FeatureMap(torch.zeros(3, 4), Size(1, 1), Size(1, 1)),
            r"floating point \[c, gh, gw\]",
        ),
        (lambda: Masks(np.zeros((2, 2))), r"integer \[h, w\], not float64"),
        (lambda: LabelField(torch.zeros(2, 3, 3), (0,)), r"with k = 1 ids, not \[2, 3, 3\]"),
        (lambda: LabelField(torch.zeros(2, 3, 3), (5, 5)), r"must differ from each other"),
        (lambda: PropagationSettings(topk=0), "topk is 0; it must be 1 or more"),
        (lambda: PropagationSettings(radius=-1), "radius is -1; it must be 0 or more"),
        (lambda: PropagationSettings(n_last_frames=-2), "n_last_frames is -2"),
        (lambda: PropagationSettings(temperature=0.0), "temperature is 0.0; it must be greater"),
        (lambda: PropagationSettings(temperature=float("nan")), "temperature is nan"),
        (lambda: PropagationSettings(window="hex"), "window is 'hex'; it must be one of square"),
        (lambda: VideoSettings(mask_encoding="x"), "mask_encoding is 'x'"),
        (lambda: VideoSettings(mask_decoding="x"), "mask_decoding is 'x'"),
        (lambda: VideoSettings(precision="fp8"), "precision is 'fp8'; it must be one of auto"),
        (
            lambda: preset("sota"),
            "no preset 'sota'; choose from default, best, fast, keypoints, crw",
        ),
    ],
)
def test_refused(make, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        PropagationSettings().topk = 3


def test_repr_prints_shapes_not_numbers() -> None:
    assert repr(Frame("c", 2, RGB, 0.5, "n")) == "Frame('c', index=2, 6x4, pts=0.500)"
    assert repr(LabelField(torch.zeros(2, 3, 5), (0, 9))) == "LabelField([2, 3, 5], ids=[0, 9])"
    features = FeatureMap(torch.zeros(7, 3, 5), Size(24, 40), Size(24, 40))
    assert repr(features) == "FeatureMap([7, 3, 5] torch.float32, image 40x24)"


def test_objects_leave_out_background_and_void() -> None:
    masks = Masks(np.array([[0, 3], [255, 1]]), void=255)
    assert masks.object_ids == (1, 3)


def test_published_presets() -> None:
    """Knobs of the papers' commands, which must never drift."""
    dift = PRESETS["dift-sd"]
    assert dift.video.propagation == PropagationSettings(
        n_last_frames=28,
        radius=15,
        window="square",
        limit_references=True,
        topk=15,
        temperature=0.2,
    )
    assert dift.options == ModelOptions(
        t=51, up_ft_index=2, ensemble_size=8, prompt="", short_side=480, dtype="fp32"
    )
    dino = PRESETS["dino"].video
    assert dino.propagation == PropagationSettings(
        n_last_frames=7, radius=12, window="square", limit_references=True, topk=5, temperature=0.1
    )
    for video in (dift.video, dino):
        assert (video.mask_encoding, video.mask_decoding) == ("nearest", "dift")
        assert video.precision == "fp32"


def test_normalised_vectors_survive_zero_cells() -> None:
    data = torch.zeros(3, 2, 2)
    data[:, 0, 0] = 4.0
    unit = FeatureMap(data, Size(2, 2), Size(2, 2)).normalised(torch.float32)
    assert unit.data.isfinite().all()
    assert unit.data[:, 0, 0].norm() == pytest.approx(1)
    assert unit.unit


def test_similarity_of_a_field_is_on_its_grid() -> None:
    scores = torch.zeros(2, 3, 4)
    assert LabelField(scores, (0, 1)).similarity is None
    assert LabelField(scores, (0, 1), torch.zeros(3, 4)).similarity is not None
    with pytest.raises(InputError, match=r"similarity must be \[3, 4\]"):
        LabelField(scores, (0, 1), torch.zeros(4, 3))
