"""Matching of images of other instances: against obvious dense code, and what must always hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812, the field's usual name
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from propagate.config import KeypointSettings, VideoSettings
from propagate.errors import InputError
from propagate.matching import everywhere
from propagate.matching.everywhere import centred, vote_everywhere
from propagate.matching.flecks import without_flecks
from propagate.matching.matchers import MaskMatcher, PointMatcher
from propagate.matching.points import transfer_points
from propagate.matching.search import candidate_frames
from propagate.matching.transfer import MatchingSettings, Trust, transfer_field
from propagate.types import FeatureMap, Keypoints, LabelField, Masks, PointName, Size
from propagate.video import open_clip

CHANNELS = 12


def random_map(height: int, width: int, seed: int, *, scale: int = 8) -> FeatureMap:
    generator = torch.Generator().manual_seed(seed)
    size = Size(height * scale, width * scale)
    return FeatureMap(torch.randn(CHANNELS, height, width, generator=generator), size, size)


def random_field(grid: Size, ids: tuple[int, ...], seed: int) -> LabelField:
    generator = torch.Generator().manual_seed(seed)
    return LabelField(torch.rand(len(ids), *grid, generator=generator).softmax(0), ids)


def points_at(*places: tuple[float, float], hidden: tuple[int, ...] = ()) -> Keypoints:
    names = tuple(PointName(f"p{number}") for number in range(len(places)))
    visible = np.array([number not in hidden for number in range(len(places))])
    return Keypoints(names, np.array(places, np.float32).reshape(-1, 2), visible)


def dense_votes(
    queries: torch.Tensor, keys: torch.Tensor, labels: torch.Tensor, topk: int, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """One query after the other; a key votes if fewer than `topk` keys are more similar."""
    results, similarities = [], []
    for query in queries:
        cosine = keys @ query
        better = (cosine[None, :] > cosine[:, None]).sum(1)
        voters = (better < topk).nonzero()[:, 0]
        weights = torch.exp(cosine[voters].double() / temperature)
        weights /= weights.sum()
        results.append((weights[:, None] * labels[voters].double()).sum(0))
        similarities.append((weights * cosine[voters].double()).sum())
    return torch.stack(results).float(), torch.stack(similarities).float()


@settings(deadline=None, max_examples=60)
@given(
    queries=st.integers(1, 40),
    keys=st.integers(1, 60),
    topk=st.integers(1, 12),
    temperature=st.sampled_from([0.05, 0.2]),
    tied=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_vote_equals_the_dense_one(
    queries: int, keys: int, topk: int, temperature: float, tied: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(queries + keys, CHANNELS, generator=generator)
    vectors = F.one_hot(vectors.argmax(1), CHANNELS).float() if tied else F.normalize(vectors)
    labels = torch.rand(keys, 3, generator=generator)
    found = vote_everywhere(
        vectors[:queries], vectors[queries:], labels, topk=topk, temperature=temperature
    )
    wanted = dense_votes(vectors[:queries], vectors[queries:], labels, topk, temperature)
    torch.testing.assert_close(found.labels, wanted[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.similarity, wanted[1], atol=1e-5, rtol=1e-4)


def test_vote_does_not_depend_on_how_many_queries_go_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = torch.Generator().manual_seed(0)
    queries, keys = (F.normalize(torch.randn(50, CHANNELS, generator=generator)) for _ in range(2))
    labels = torch.rand(50, 4, generator=generator)
    whole = vote_everywhere(queries, keys, labels, topk=5, temperature=0.1)
    largest = []
    matmul = everywhere._vote

    def spy(cosine: torch.Tensor, *rest: object) -> object:
        largest.append(cosine.numel())
        return matmul(cosine, *rest)

    monkeypatch.setattr(everywhere, "_vote", spy)
    monkeypatch.setattr(everywhere, "_BLOCK", 350)
    parts = vote_everywhere(queries, keys, labels, topk=5, temperature=0.1)
    torch.testing.assert_close(parts.labels, whole.labels)
    assert max(largest) <= 350


@pytest.mark.parametrize("keys", [torch.zeros(0, CHANNELS), torch.zeros(4, 3)], ids=["none", "3"])
def test_vote_needs_keys_of_the_same_kind(keys: torch.Tensor) -> None:
    with pytest.raises(InputError, match="take one or more keys of the same extractor"):
        vote_everywhere(torch.zeros(2, CHANNELS), keys, torch.zeros(4, 1), topk=1, temperature=1)


def test_centred_maps_lose_what_all_cells_share() -> None:
    plain = random_map(5, 7, 0)
    shifted = FeatureMap(plain.normalised(torch.float32).data, *plain_sizes(plain), unit=True)
    mean = centred(shifted).data
    assert centred(plain).unit
    torch.testing.assert_close(mean.norm(dim=0), torch.ones(5, 7))
    torch.testing.assert_close(centred(plain).data, mean)


def plain_sizes(features: FeatureMap) -> tuple[Size, Size]:
    return features.image_size, features.input_size


@settings(deadline=None, max_examples=30)
@given(
    shapes=st.lists(st.tuples(st.integers(1, 8), st.integers(1, 8)), min_size=2, max_size=3),
    seed=st.integers(0, 2**16),
)
def test_field_transfer_by_one_vote_over_all_sources(
    shapes: list[tuple[int, int]], seed: int
) -> None:
    """Grids differ, ids are joined, order does not matter, and scores stay a share."""
    target = random_map(*shapes[0], seed)
    sources = []
    for number, shape in enumerate(shapes[1:], start=1):
        features = random_map(*shape, seed + number)
        ids = (0, 4, 7) if number == 1 else (0, 2)
        sources.append((features, random_field(features.grid, ids, seed)))
    found = transfer_field(sources, target)
    assert found.field.ids == ((0, 4, 7) if len(sources) == 1 else (0, 2, 4, 7))
    assert found.field.grid == target.grid
    torch.testing.assert_close(found.field.scores.sum(0), torch.ones(*target.grid))
    again = transfer_field(sources[::-1], target)
    torch.testing.assert_close(again.field.scores, found.field.scores)
    keys = torch.cat([f.normalised(torch.float32).data.flatten(1).T for f, _ in sources])
    table = torch.zeros(len(keys), len(found.field.ids))
    row = 0
    for _, field in sources:
        for channel, label in enumerate(field.ids):
            column = found.field.ids.index(label)
            table[row : row + field.scores[0].numel(), column] = field.scores[channel].flatten()
        row += field.scores[0].numel()
    queries = target.normalised(torch.float32).data.flatten(1).T
    wanted, _ = dense_votes(queries, keys, table, 10, 0.05)
    torch.testing.assert_close(found.field.scores.flatten(1).T, wanted, atol=1e-5, rtol=1e-4)
    assert all(0 <= trust.confidence <= 1 for trust in found.trust)


def test_cells_without_a_label_do_not_vote() -> None:
    source = random_map(4, 4, 0)
    scores = torch.zeros(2, 4, 4)
    scores[0, :2] = 1
    scores[1, 2] = 1
    found = transfer_field([(source, LabelField(scores, (0, 1)))], source)
    torch.testing.assert_close(found.field.scores.sum(0), torch.ones(4, 4))


def test_an_image_gets_its_own_labels_back() -> None:
    source = random_map(9, 11, 3)
    field = LabelField(
        F.one_hot(torch.arange(99).view(9, 11) % 3).permute(2, 0, 1).float(), (0, 1, 2)
    )
    found = transfer_field([(source, field)], source, MatchingSettings(topk=1))
    torch.testing.assert_close(found.field.scores, field.scores)
    assert [trust.confidence for trust in found.trust] == pytest.approx([1, 1, 1], abs=1e-5)


def test_trust_is_low_where_nothing_fits() -> None:
    source, other = random_map(9, 11, 3), random_map(9, 11, 4)
    scores = torch.zeros(2, 9, 11)
    scores[1, 2:5, 2:5] = 1
    scores[0] = 1 - scores[1]
    field = LabelField(scores, (0, 1))
    right = transfer_field([(source, field)], source).trust[1]
    wrong = transfer_field([(source, field)], other).trust[1]
    assert wrong.confidence < 0.5 * right.confidence


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ([], "There is no source to transfer labels from"),
        (
            [(random_map(4, 4, 0), LabelField(torch.ones(1, 3, 3), (0,)))],
            "on a grid of 3x3 cells and the features on 4x4",
        ),
        (
            [(random_map(4, 4, 0), LabelField(torch.zeros(1, 4, 4), (0,)))],
            "No cell of the sources has a label",
        ),
    ],
    ids=["none", "grid", "empty"],
)
def test_fields_that_cannot_be_transferred(
    sources: list[tuple[FeatureMap, LabelField]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        transfer_field(sources, random_map(4, 4, 1))


@settings(deadline=None, max_examples=30)
@given(
    down=st.integers(0, 5),
    right=st.integers(0, 5),
    row=st.integers(0, 9),
    column=st.integers(0, 9),
    seed=st.integers(0, 2**16),
)
def test_points_follow_what_moved(down: int, right: int, row: int, column: int, seed: int) -> None:
    """The source is a part of the target, which has another size."""
    target = random_map(16, 18, seed)
    part = target.data[:, down : down + 10, right : right + 10]
    source = FeatureMap(part, Size(80, 80), Size(80, 80))
    point = (8 * column + 4, 8 * row + 4)
    found, trust = transfer_points([(source, points_at(point))], target, MatchingSettings(reach=0))
    np.testing.assert_allclose(found.xy[0], (point[0] + 8 * right, point[1] + 8 * down), atol=1e-3)
    assert trust[0].similarity > 0.7


@pytest.mark.parametrize("place", [(34.0, 41.0), (30.5, 60.25), (50.0, 70.0)])
def test_points_lie_between_cells(place: tuple[float, float]) -> None:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(1, 32, 6, 6, generator=generator)
    data = F.interpolate(coarse, size=(12, 12), mode="bicubic")[0]
    features = FeatureMap(data, Size(96, 96), Size(96, 96))
    found, trust = transfer_points([(features, points_at(place))], features)
    assert np.linalg.norm(found.xy[0] - place) < 4  # half a cell
    assert trust[0].cycle > 0.5


def test_points_of_several_sources() -> None:
    maps = [random_map(8, 8, seed) for seed in (0, 1)]
    sources = [
        (maps[0], points_at((20, 20), (40, 20), (30, 50), hidden=(1, 2))),
        (maps[1], points_at((44, 44), (12, 52), (30, 50), hidden=(0, 2))),
    ]
    target = FeatureMap(torch.cat([m.data for m in maps], dim=2), Size(64, 128), Size(64, 128))
    found, trust = transfer_points(sources, target, MatchingSettings(reach=0))
    assert [str(name) for name in found.names] == ["p0", "p1", "p2"]
    assert found.visible.tolist() == [True, True, False]
    np.testing.assert_allclose(found.xy[0], (20, 20), atol=4)
    np.testing.assert_allclose(found.xy[1], (64 + 12, 52), atol=4)
    assert np.isnan(found.xy[2]).all()
    assert trust[2] == Trust(0, 0)
    assert found.confidence is not None
    assert found.confidence[2] == 0


def test_points_need_a_source() -> None:
    with pytest.raises(InputError, match="There is no source to transfer points from"):
        transfer_points([], random_map(4, 4, 0))


def test_points_are_visible_from_a_confidence_on() -> None:
    source, other = random_map(9, 9, 0), random_map(9, 9, 1)
    points = points_at((20, 20), (44, 52))
    video = VideoSettings(keypoints=KeypointSettings(visible_from=0.8))
    same, unlike = (PointMatcher([(source, points)], video).match(t) for t in (source, other))
    assert same.lost == ()
    assert unlike.lost == ("p0", "p1")
    assert unlike.confidence < 0.9 < same.confidence


@settings(deadline=None, max_examples=30)
@given(
    pieces=st.lists(
        st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 2)), min_size=1, max_size=6
    ),
    least=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
)
def test_flecks_are_pieces_much_smaller_than_the_largest(
    pieces: list[tuple[int, int, int]], least: float
) -> None:
    ids = np.zeros((12, 60), np.uint8)
    kept = ids.copy()
    largest = {label: max(h * w for h, w, i in pieces if i == label) for _, _, label in pieces}
    for number, (height, width, label) in enumerate(pieces):
        where = (slice(1, 1 + height), slice(10 * number, 10 * number + width))
        ids[where] = label
        if height * width >= least * largest[label]:
            kept[where] = label
    np.testing.assert_array_equal(without_flecks(Masks(ids), least).ids, kept)


def test_masks_name_the_objects_that_found_no_place() -> None:
    source = random_map(8, 8, 0)
    ids = np.zeros(source.image_size, np.uint8)
    ids[:32], ids[0, 0] = 5, 9
    match = MaskMatcher([(source, Masks(ids))], VideoSettings()).match(source)
    assert set(match.trust) == {"5", "9"}
    assert match.lost == ("9",)
    assert match.labels.object_ids == (5,)


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"topk": 0}, "topk is 0"),
        ({"reach": -1}, "reach is -1"),
        ({"temperature": 0}, "greater"),
        ({"fleck": 2}, "fleck is 2"),
    ],
    ids=["topk", "reach", "temperature", "fleck"],
)
def test_settings_are_checked(settings_: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        MatchingSettings(**settings_)


@pytest.mark.parametrize(
    ("count", "chosen"), [(1, [0]), (3, [0, 1, 2]), (15, list(range(0, 15, 2)))]
)
def test_candidates_are_spread_over_the_clip(count: int, chosen: list[int], tmp_path: Path) -> None:
    for number in range(count):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"{number:02d}.png")
    reader = open_clip(tmp_path)
    assert [frame.index for frame in candidate_frames(reader)] == chosen
    assert [frame.index for frame in candidate_frames(reader, count - 1)] == [count - 1]
    with pytest.raises(InputError, match=rf"--frame is {count}, and .* has {count} frames"):
        list(candidate_frames(reader, count))
