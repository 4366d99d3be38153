"""The table of others' numbers: where each was read, what it is called, and that it can be true."""

from __future__ import annotations

import json
import re

import pytest

from propagate.benchmarks.base import Row
from propagate.benchmarks.published import PublishedRow, all_published, published_rows
from propagate.benchmarks.runner import EvalReport
from propagate.benchmarks.table import TextTable, markdown_report

SEGMENTATION = {"J&F", "J", "F"}
PCK = re.compile(r"PCK@\.(01|05|1|15) (img|pt)")
METRICS = {
    "davis2016-val": SEGMENTATION,
    "davis2017-val": SEGMENTATION,
    "jhmdb-split1": {"PCK@.1", "PCK@.2"},
    "badja": {"PCK@.1", "PCK@.2"},
    "vip-val": {"mIoU"},
    "tapvid-davis-first": {"AJ", "delta_avg", "OA"},
    "tapvid-davis-strided": {"AJ", "delta_avg", "OA"},
    "hpatches": {"@1", "@3", "@5"},
}
PAIRS = {"spair-test", "pf-pascal-test", "pf-willow", "cub"}
IN_ORDER = (
    ("PCK@.01 img", "PCK@.05 img", "PCK@.1 img", "PCK@.15 img"),
    ("PCK@.1", "PCK@.2"),
    ("@1", "@3", "@5"),
)
EVERY = pytest.mark.parametrize("data_set", all_published())


def all_scores(row: PublishedRow) -> list[tuple[str, float]]:
    return [item for scores in (row.scores, *row.groups.values()) for item in scores.items()]


def test_there_are_rows_for_every_data_set_that_is_evaluated() -> None:
    assert all_published().keys() == METRICS.keys() | PAIRS


@EVERY
def test_a_row_says_what_it_is_and_where_it_was_read(data_set: str) -> None:
    for row in published_rows(data_set):
        assert row.method
        assert row.settings
        assert re.search(r"[Tt]able|repository [\w-]+/[\w-]+", row.source), row
        assert all_scores(row), row


@EVERY
def test_metrics_are_called_as_the_data_set_calls_them(data_set: str) -> None:
    for row in published_rows(data_set):
        for name, value in all_scores(row):
            assert PCK.fullmatch(name) if data_set in PAIRS else name in METRICS[data_set], row
            assert 0 < value < 100, row


@EVERY
def test_thresholds_and_means_are_in_order(data_set: str) -> None:
    """Catches swapped digits: PCK grows with the threshold, J&F is between J and F."""
    for row in published_rows(data_set):
        for names in IN_ORDER:
            known = [row.scores[name] for name in names if name in row.scores]
            assert known == sorted(known), row
        if row.scores.keys() >= SEGMENTATION:
            # Two old rows are printed with a mean that is up to half a point off.
            half = (row.scores["J"] + row.scores["F"]) / 2
            assert abs(row.scores["J&F"] - half) <= 0.51, row


@EVERY
def test_groups_are_those_of_the_data_set_and_agree_with_the_whole(data_set: str) -> None:
    rows = published_rows(data_set)
    names = {name for row in rows for name in row.groups}
    assert len(names) == {"spair-test": 18, "hpatches": 2}.get(data_set, 0)
    for row in rows:
        for metric in {m for scores in row.groups.values() for m in scores} & row.scores.keys():
            values = [scores[metric] for scores in row.groups.values()]
            # Over points, categories weigh by their size: a mean over them is near, not equal.
            assert abs(sum(values) / len(values) - row.scores[metric]) < 2.5, row


def test_no_row_is_there_twice() -> None:
    for name, rows in all_published().items():
        keys = [(row.method, row.settings) for row in rows]
        assert len(set(keys)) == len(keys), name


def test_rows_can_be_kept_as_json_and_are_complete() -> None:
    row = next(row for row in published_rows("spair-test") if row.groups)
    kept = json.loads(json.dumps(row.record))
    assert PublishedRow(**kept) == row


def test_rows_without_the_metrics_of_a_table_are_not_shown() -> None:
    some = PublishedRow("one", "how", "where", {"OA": 80.0})
    other = PublishedRow("two", "how", "where", {"AJ": 40.0})
    (line,) = TextTable(["a"], ["OA"]).published([other, some])
    assert "80.0  one (how)" in line


def test_a_terminal_shows_the_first_rows_and_says_how_many_more_there_are() -> None:
    rows = published_rows("davis2017-val")
    table = TextTable(["a"], ["J&F"])
    *shown, last = table.published(rows)
    assert len(shown) == 12
    assert all(row.method in line for row, line in zip(rows, shown, strict=False))
    assert last == f"{len(rows) - 12} more published rows are in table.md (-o)"
    assert len(table.published(rows[:12])) == 12


def test_a_data_set_that_nobody_published_has_no_rows() -> None:
    assert published_rows(None) == ()
    assert published_rows("davis2017-train") == ()


def test_categories_stand_beside_those_of_others() -> None:
    rows = published_rows("spair-test")
    metric = "PCK@.1 pt"
    listed = (Row("cat", "", {metric: 12.5}), Row("dog", "", {metric: 50.0}))
    report = EvalReport(
        name="SPair-71k test",
        protocol="PCK",
        model="model",
        scores=(),
        listed=listed,
        summary={metric: 31.25},
        published=rows,
        seconds_per_frame=1.0,
        record={"config": {}},
    )
    text = markdown_report(report, (metric,), "category")
    other = next(row for row in rows if metric in row.groups.get("cat", {}))
    cells = " | ".join(f"{other.groups[name][metric]:.1f}" for name in ("cat", "dog"))
    assert "| this program | 12.5 | 50.0 |" in text
    assert f"| {other.method} | {cells} |" in text
