"""Heat maps: what is drawn where, the framed best cell, legibility, and texts that don't touch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image

from propagate.errors import InputError
from propagate.output import heatmap
from propagate.output.heatmap import Axis, heatmap_figure, write_heatmap
from propagate.output.text_size import text_width, wrapped

STEPS = Axis("t", ("0", "51", "101", "151"), "diffusion step")
LAYERS = Axis(
    "layer",
    (
        "up_blocks.1",
        "up_blocks.2.resnets.0+up_blocks.2.attentions.1",
        "up_blocks.2.attentions.1.transformer_blocks.0.attn1",
    ),
)
TOPK = Axis("topk", ("5", "10"), "neighbours")
RADIUS = Axis("radius", ("6", "12"), "cells")
MANY = Axis("layer", tuple(f"up_blocks.{i}.resnets.{j}" for i in range(4) for j in range(3)))
TEXTS = {
    "title": "efficientnet-lite0 on DAVIS-2016 train, 2 sequences",
    "quantity": "mean J&F (%)",
}
MODELS = Axis("model", ("sd21[t=101]:2+dinov2-b[layer=9]", "efficientnet-lite0"))

CASES = {
    "one knob": (STEPS,),
    "one value": (Axis("topk", ("5",), "neighbours"),),
    "many layers": (MANY,),
    "two knobs": (STEPS, LAYERS),
    "layers on x": (LAYERS, STEPS),
    "models": (MODELS, Axis("topk", ("5",), "neighbours")),
    "three knobs": (STEPS, TOPK, LAYERS),
    "four knobs": (TOPK, STEPS, RADIUS, Axis("facet", ("key", "token"))),
    "five panels": (TOPK, RADIUS, Axis("t", ("0", "51", "101", "151", "201"), "diffusion step")),
}


def random_scores(axes: Sequence[Axis], seed: int = 0) -> np.ndarray:
    return 50 + 30 * np.random.default_rng(seed).random([len(axis.labels) for axis in axes])


def drawn(axes: tuple[Axis, ...], scores: np.ndarray | None = None) -> Figure:
    scores = random_scores(axes) if scores is None else scores
    figure = heatmap_figure(scores, axes, **TEXTS)
    figure.draw_without_rendering()
    return figure


@cache
def case_figure(case: str) -> Figure:
    return drawn(CASES[case])


def panels(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.images]


def cell_texts(panel: Axes) -> dict[tuple[int, int], str]:
    return {
        (round(t.get_position()[0]), round(t.get_position()[1])): t.get_text() for t in panel.texts
    }


def best_places(figure: Figure) -> list[tuple[int, int, int]]:
    """(x, y, panel) of every frame."""
    return [
        (round(patch.get_x() + 0.5), round(patch.get_y() + 0.5), number)
        for number, panel in enumerate(panels(figure))
        for patch in panel.patches
        if patch.get_gid() == "best"
    ]


def pixels(figure: Figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].astype(int)


@pytest.mark.parametrize("case", CASES)
def test_every_score_stands_in_its_cell(case: str) -> None:
    axes = CASES[case]
    scores = random_scores(axes)
    figure = case_figure(case)
    table = scores.reshape(len(axes[0].labels), len(axes[1].labels) if len(axes) > 1 else 1, -1)
    assert len(panels(figure)) == table.shape[2]
    for number, panel in enumerate(panels(figure)):
        expected = {(x, y): f"{table[x, y, number]:.1f}" for x, y in np.ndindex(*table.shape[:2])}
        assert cell_texts(panel) == expected
    best = np.unravel_index(table.argmax(), table.shape)
    assert best_places(figure) == [tuple(best)]


def test_panels_say_which_values_they_hold() -> None:
    figure = case_figure("four knobs")
    titles = [panel.get_title() for panel in panels(figure)]
    pairs = [(radius, facet) for radius in ("6", "12") for facet in ("key", "token")]
    assert [" ".join(title.split()) for title in titles] == [
        f"radius = {radius}, facet = {facet}" for radius, facet in pairs
    ]


def test_axes_and_colour_bar_have_names_with_units() -> None:
    figure = case_figure("two knobs")
    (panel,) = panels(figure)
    (bar,) = (axes for axes in figure.axes if axes is not panel)
    assert panel.get_xlabel() == "t (diffusion step)"
    assert panel.get_ylabel() == "layer"
    assert bar.get_ylabel() == "mean J&F (%)"
    assert [label.get_text() for label in panel.get_xticklabels()] == list(STEPS.labels)


def test_title_names_the_best_combination() -> None:
    scores = np.zeros((4, 2))
    scores[2, 1] = 70.26
    texts = [text.get_text() for text in drawn((STEPS, TOPK), scores).texts]
    assert texts[0].startswith("efficientnet-lite0 on DAVIS-2016")
    assert " ".join(texts[1].split()) == "best: 70.3 at t = 101, topk = 10"


def test_the_first_of_equal_cells_is_best() -> None:
    assert best_places(drawn((STEPS, TOPK), np.full((4, 2), 60.0))) == [(0, 0, 0)]


def test_best_cell_is_framed_in_black_and_white_and_no_other() -> None:
    axes = (STEPS, TOPK)
    scores = random_scores(axes, seed=3)
    figure = drawn(axes, scores)
    (panel,) = panels(figure)
    image = pixels(figure)

    def middle_of_left_edge(x: int, y: int) -> set[tuple[int, ...]]:
        column, row = panel.transData.transform((x - 0.5, y))
        row, column = image.shape[0] - round(row), round(column)
        return {tuple(pixel) for pixel in image[row, column - 6 : column + 7]}

    x, y = np.unravel_index(scores.argmax(), scores.shape)
    assert {(0, 0, 0), (255, 255, 255)} <= middle_of_left_edge(int(x), int(y))
    others = [(i, j) for i, j in np.ndindex(*scores.shape) if j != y and i > 0]
    for i, j in others:
        assert not {(0, 0, 0), (255, 255, 255)} & middle_of_left_edge(i, j)


def test_a_higher_score_is_lighter_and_numbers_stand_out() -> None:
    scores = np.linspace(40, 80, 33)[:, None]
    axes = (Axis("t", tuple(map(str, range(33)))), Axis("topk", ("5",)))
    figure = drawn(axes, scores)
    (panel,) = panels(figure)
    image = panel.images[0]
    backgrounds = [luminance(image.cmap(image.norm(value))) for value in scores[:, 0]]
    assert backgrounds == sorted(backgrounds)
    by_place = sorted(panel.texts, key=lambda text: text.get_position())
    for text, below in zip(by_place, backgrounds, strict=True):
        lighter, darker = sorted((below, luminance(to_rgb(text.get_color()))), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5  # WCAG 2, AA


def luminance(colour: tuple[float, ...]) -> float:
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def outer_texts(figure: Figure) -> list[Text]:
    """All texts but the numbers in cells."""
    found = list(figure.texts)
    for axes in figure.axes:
        found += [axes.title, axes.xaxis.label, axes.yaxis.label]
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            places = zip(axis.get_majorticklocs(), axis.get_majorticklabels(), strict=True)
            found += [label for place, label in places if low <= place <= high]
    return [text for text in found if text.get_visible() and text.get_text()]


def share(a: Bbox, b: Bbox) -> bool:
    return min(a.x1, b.x1) - max(a.x0, b.x0) > 0.5 and min(a.y1, b.y1) - max(a.y0, b.y0) > 0.5


@pytest.mark.parametrize("case", CASES)
def test_texts_neither_touch_nor_leave_the_picture(case: str) -> None:
    figure = case_figure(case)
    outer = outer_texts(figure)
    width, height = figure.get_size_inches() * figure.dpi
    boxes = {text: text.get_window_extent() for text in outer}
    for text, box in boxes.items():
        inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
        assert inside, text
        assert not any(share(box, axes.get_window_extent()) for axes in figure.axes), text
    turned = [text for text in outer if text.get_rotation() not in (0, 90)]
    for one, other in combinations(outer, 2):
        if one in turned and other in turned:
            apart = abs(boxes[one].x1 - boxes[other].x1) * np.sin(np.radians(one.get_rotation()))
            assert apart > 1.2 * one.get_fontsize() / 72 * figure.dpi
        else:
            assert not share(boxes[one], boxes[other]), (one, other)
    for panel in panels(figure):
        places = panel.transData.transform([(0, 0), (1, 1)])
        cell = np.abs(places[1] - places[0])
        for text in panel.texts:
            box = text.get_window_extent()
            assert (box.width, box.height) < tuple(cell - 4)
            assert box.height < cell[1] - 4


def test_long_names_are_turned_only_where_they_do_not_fit() -> None:
    def rotation(case: str) -> float:
        return panels(case_figure(case))[-1].get_xticklabels()[0].get_rotation()

    assert rotation("many layers") == 40
    assert rotation("layers on x") == 0
    assert rotation("two knobs") == 0


def test_missing_scores_are_said_to_have_failed() -> None:
    scores = random_scores((STEPS, TOPK))
    scores[1, 0] = np.nan
    (panel,) = panels(drawn((STEPS, TOPK), scores))
    assert [place for place, text in cell_texts(panel).items() if text == "failed"] == [(1, 0)]


@pytest.mark.parametrize("scores", [np.full((4, 2), np.nan), np.zeros((2, 4)), np.zeros(4)])
def test_nothing_to_draw(scores: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"over \(4, 2\) settings can't be drawn"):
        drawn((STEPS, TOPK), scores)


@pytest.mark.parametrize("case", ["one knob", "two knobs", "three knobs"])
def test_file_is_a_picture_of_the_figure(case: str, tmp_path: Path) -> None:
    axes = CASES[case]
    scores = random_scores(axes)
    path = tmp_path / "heatmap.png"
    write_heatmap(path, scores, axes, **TEXTS)
    with Image.open(path) as image:
        assert image.format == "PNG"
        picture = np.asarray(image.convert("RGB")).astype(int)
    figure = heatmap_figure(scores, axes, **TEXTS)
    width, height = (int(side * heatmap.DPI + 1e-6) for side in figure.get_size_inches())
    assert picture.shape == (height, width, 3)
    np.testing.assert_array_equal(picture, pixels(figure))
    assert [item.name for item in tmp_path.iterdir()] == ["heatmap.png"]


def test_size_follows_the_number_of_cells() -> None:
    def size(*counts: int) -> np.ndarray:
        axes = [
            Axis(f"knob{n}", tuple(str(i) for i in range(count))) for n, count in enumerate(counts)
        ]
        return heatmap_figure(random_scores(axes), axes, **TEXTS).get_size_inches()

    small, wide, high = size(8, 3), size(12, 3), size(8, 7)
    cell = (wide - small)[0] / 4, (high - small)[1] / 4
    assert (wide - small)[1] == pytest.approx(0, abs=0.01)
    assert (high - small)[0] == pytest.approx(0, abs=0.01)
    assert min(cell) > 0.49


def test_a_huge_map_has_fewer_dots_per_inch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heatmap, "_MOST_PIXELS", 300)
    path = tmp_path / "heatmap.png"
    write_heatmap(path, random_scores((STEPS, TOPK)), (STEPS, TOPK), **TEXTS)
    with Image.open(path) as image:
        assert 290 <= max(image.size) <= 300


@settings(deadline=None, max_examples=40)
@given(st.text("ab +./_-]", max_size=40), st.floats(0.1, 3))
def test_wrapping_keeps_the_text_and_the_width(text: str, width: float) -> None:
    lines = wrapped(text, width).split("\n")
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    for line in lines:
        assert text_width(line) <= width or re.fullmatch(r"[^ +./_-]*[+./_-]*", line)
