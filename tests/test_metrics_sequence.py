"""Statistics and whole sequences against the official evaluation."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from propagate.errors import InputError
from propagate.metrics.boundary import boundary_f
from propagate.metrics.region import jaccard
from propagate.metrics.sequence import SequenceScorer, SequenceScores, evaluate_sequence
from propagate.metrics.statistics import statistics

if TYPE_CHECKING:
    from pathlib import Path

EXACT = {"rtol": 0, "atol": 1e-12}


@pytest.fixture(scope="module")
def oracle(shared_dir: Path) -> Path:
    return shared_dir / "oracles" / "davis-metrics"


def test_official_statistics(oracle: Path) -> None:
    data = np.load(oracle / "statistics.npz")
    expected = np.load(oracle / "expected_statistics.npz")["mean_recall_decay"]
    for values, length, stats in zip(data["values"], data["length"], expected, strict=True):
        np.testing.assert_allclose(statistics(values[:length]), stats, **EXACT)


@pytest.mark.parametrize("case", ["protocol_one", "protocol_two", "perturbed_void", "degenerate"])
def test_official_statistics_of_scored_frames(oracle: Path, case: str) -> None:
    expected = np.load(oracle / f"expected_{case}.npz")
    for name in ("J", "F"):
        for values, stats, inner in zip(
            expected[name], expected[f"{name}_stats"], expected[f"{name}_stats_inner"], strict=True
        ):
            np.testing.assert_allclose(statistics(values), stats, **EXACT)
            np.testing.assert_allclose(statistics(values[1:-1]), inner, **EXACT)


def read_frames(folder: Path) -> list[np.ndarray]:
    return [np.array(Image.open(path)) for path in sorted(folder.glob("*.png"))]


@pytest.mark.parametrize("sequence", ["one", "two", "missing"])
def test_official_evaluation_of_a_data_set(oracle: Path, sequence: str) -> None:
    official = json.loads((oracle / "expected_official.json").read_text())["per_object"]
    gt = read_frames(oracle / "dataset" / "Annotations" / "480p" / sequence)
    pred = read_frames(oracle / "results" / sequence)
    object_ids = range(1, int(gt[0].max()) + 1)
    scores = evaluate_sequence(pred, gt, object_ids).without_ends()
    for row, object_id in enumerate(object_ids):
        expected = official[f"{sequence}_{object_id}"]
        for name, values in (("J", scores.jaccard), ("F", scores.boundary_f)):
            summary = [expected[f"{name}-{part}"] for part in ("Mean", "Recall", "Decay")]
            np.testing.assert_allclose(statistics(values[row]), summary, **EXACT)


@pytest.mark.parametrize("length", [255, 256, 257, 1000])
def test_decay_of_long_sequences(length: int) -> None:
    values = np.linspace(1, 0, length)
    bins = np.round(np.linspace(1, length, 5) + 1e-10).astype(int) - 1
    first, last = values[: bins[1] + 1].mean(), values[bins[3] :].mean()
    assert statistics(values).decay == pytest.approx(first - last, abs=1e-12)
    assert statistics(values).decay == pytest.approx(0.75, abs=0.01)


@given(hnp.arrays(np.float64, st.integers(1, 600), elements=st.floats(0, 1)))
def test_statistics_stay_in_range(values: np.ndarray) -> None:
    mean, recall, decay = statistics(values)
    assert values.min() - 1e-9 <= mean <= values.max() + 1e-9
    assert recall == np.count_nonzero(values > 0.5) / values.size
    assert -1 <= decay <= 1


def test_statistics_of_nan() -> None:
    mean, recall, decay = statistics(np.array([np.nan, 1.0, 1.0, np.nan, 0.5, 0.5]))
    assert (mean, recall, decay) == (0.75, pytest.approx(1 / 3), 0.5)
    assert np.isnan(statistics(np.full(5, np.nan)).mean)


@pytest.mark.parametrize("values", [np.zeros(0), np.zeros((2, 3))])
def test_statistics_need_one_value_per_frame(values: np.ndarray) -> None:
    with pytest.raises(InputError, match="at least one frame, not an array of shape"):
        statistics(values)


def some_ids(seed: int, *, dtype: type = np.uint8) -> tuple[np.ndarray, np.ndarray]:
    """Two stacks of 4 frames with coarse blocks of the ids 0 to 3."""
    rng = np.random.default_rng(seed)
    pred, gt = rng.integers(0, 4, (2, 4, 6, 8)).astype(dtype).repeat(5, axis=2).repeat(5, axis=3)
    return pred, gt


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64])
def test_scorer_equals_per_object_metrics(dtype: type) -> None:
    pred, gt = some_ids(1, dtype=dtype)
    scores = evaluate_sequence(pred, gt, [3, 1], bound_th=2)
    assert scores.object_ids == (3, 1)
    for row, object_id in enumerate(scores.object_ids):
        p, g = pred == object_id, gt == object_id
        np.testing.assert_array_equal(scores.jaccard[row], jaccard(p, g))
        np.testing.assert_array_equal(scores.boundary_f[row], boundary_f(p, g, bound_th=2))


def test_scorer_with_void_pixels() -> None:
    pred, gt = some_ids(2)
    void = np.zeros(gt.shape[1:], dtype=np.uint8)
    void[5:20, 7:19] = 255
    scorer = SequenceScorer([2], bound_th=2)
    for p, g in zip(pred, gt, strict=True):
        scorer.add(p, g, void=void)
    stack = np.broadcast_to(void, gt.shape)
    scores = scorer.scores()
    np.testing.assert_array_equal(scores.jaccard[0], jaccard(pred == 2, gt == 2, void=stack))
    expected = boundary_f(pred == 2, gt == 2, bound_th=2, void=stack)
    np.testing.assert_array_equal(scores.boundary_f[0], expected)


def test_absent_objects_and_foreign_ids() -> None:
    gt = np.zeros((20, 20), dtype=np.uint8)
    gt[5:10, 5:10] = 1
    pred = gt * 255
    scores = evaluate_sequence([pred], [gt], [1, 2])
    np.testing.assert_array_equal(scores.jaccard[:, 0], [0, 1])
    np.testing.assert_array_equal(scores.boundary_f[:, 0], [0, 1])


def test_without_ends_drops_the_first_and_the_last_frame() -> None:
    scores = SequenceScores((1,), np.arange(5.0)[None], np.arange(5.0)[None] + 10)
    assert scores.without_ends().jaccard.tolist() == [[1, 2, 3]]
    assert scores.without_ends().boundary_f.tolist() == [[11, 12, 13]]
    assert repr(scores) == "SequenceScores(objects=[1], frames=5)"


def test_frames_stream() -> None:
    pred, gt = some_ids(3)
    whole = evaluate_sequence(pred, gt, [1, 2])
    streamed = evaluate_sequence(iter(pred), iter(gt), [1, 2])
    np.testing.assert_array_equal(streamed.boundary_f, whole.boundary_f)


def test_sequence_errors() -> None:
    pred, gt = some_ids(4)
    with pytest.raises(InputError, match="no prediction for frame 3"):
        evaluate_sequence(pred[:3], gt, [1])
    with pytest.raises(InputError, match="more predictions than true masks"):
        evaluate_sequence(pred, gt[:3], [1])
    with pytest.raises(InputError, match=r"object_ids is \[\]; it must name at least one"):
        SequenceScorer([])
    with pytest.raises(InputError, match=r"object_ids is \[1, 1\]"):
        SequenceScorer([1, 1])
    with pytest.raises(InputError, match="No frame was scored"):
        SequenceScorer([1]).scores()
    with pytest.raises(InputError, match=r"Frame 0: the predicted mask has shape \[30, 39\]"):
        SequenceScorer([1]).add(pred[0][:, :-1], gt[0])
