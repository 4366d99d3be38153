"""Stages in threads: order, bounds, errors and ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propagate.stages import Behind, ahead, finished


def put_all(items: Iterable[int], work: Callable[[int], None]) -> None:
    with Behind(work, 5, "stage") as writing:
        for item in items:
            writing.put(item)


def stage_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("stage")]


class Counted:
    """Counts what was taken of it, and tells when it was closed."""

    def __init__(self, count: int, error: Exception | None = None) -> None:
        self.taken = 0
        self.closed = threading.Event()
        self._count = count
        self._error = error

    def __iter__(self) -> Iterator[int]:
        try:
            for item in range(self._count):
                self.taken += 1
                yield item
            if self._error:
                raise self._error
        finally:
            self.closed.set()


@given(count=st.integers(0, 30), depth=st.integers(1, 5), stages=st.integers(1, 3))
def test_all_items_come_in_order(count: int, depth: int, stages: int) -> None:
    items: Iterator[int] = iter(range(count))
    for _ in range(stages):
        items = ahead(items, depth, "stage")
    assert list(items) == list(range(count))
    assert not stage_threads()


@pytest.mark.parametrize("depth", [1, 3])
def test_no_further_ahead_than_told(depth: int) -> None:
    source, other = Counted(20), threading.Event()
    items = ahead(source, depth, "stage")
    for taken in range(1, 6):
        next(items)
        other.wait(0.05)  # all the time the stage may want
        assert source.taken <= taken + depth
    assert source.taken == 5 + depth
    items.close()


def test_nothing_starts_before_it_is_asked_for() -> None:
    source = Counted(3)
    items = ahead(source, 1, "stage")
    assert source.taken == 0
    del items
    assert not stage_threads()


def test_an_error_comes_behind_the_items_before_it() -> None:
    items = ahead(Counted(2, ValueError("no third")), 4, "stage")
    assert [next(items), next(items)] == [0, 1]
    with pytest.raises(ValueError, match="no third"):
        next(items)
    assert not stage_threads()


def test_leaving_early_ends_the_stages_before() -> None:
    source = Counted(1000)
    items = ahead(ahead(source, 2, "stage"), 2, "stage")
    assert next(items) == 0
    items.close()
    assert source.closed.is_set()
    assert source.taken < 10
    assert not stage_threads()


def test_stages_go_on_side_by_side() -> None:
    # Each waits for the other: one after the other they would never end.
    met = threading.Barrier(2, timeout=10)

    def source() -> Iterator[int]:
        yield 0
        met.wait()
        yield 1

    found = []
    for item in ahead(source(), 1, "stage"):
        found.append(item)
        if item == 0:
            met.wait()
    assert found == [0, 1]


def test_behind_does_all_in_order_before_it_is_left() -> None:
    done: list[int] = []
    with Behind(lambda item: (time.sleep(0.001), done.append(item)), 2, "stage") as writing:
        for item in range(20):
            writing.put(item)
    assert done == list(range(20))
    assert not stage_threads()


def test_behind_finishes_what_waits_when_the_caller_fails() -> None:
    done: list[int] = []

    def interrupted() -> Iterator[int]:
        yield from (1, 2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        put_all(interrupted(), done.append)
    assert done == [1, 2]


def test_behind_waits_for_room() -> None:
    go, done = threading.Event(), []

    def work(item: int) -> None:
        go.wait(10)
        done.append(item)

    with Behind(work, 2, "stage") as writing:
        writing.put(0)
        writing.put(1)
        late = threading.Thread(target=writing.put, args=(2,))
        late.start()
        late.join(0.05)
        assert late.is_alive()
        go.set()
        late.join(10)
    assert done == [0, 1, 2]


def test_an_error_behind_reaches_the_caller_and_nothing_is_done_after_it() -> None:
    done: list[int] = []

    def work(item: int) -> None:
        if item == 1:
            raise OSError("disk full")
        done.append(item)

    for count in (100, 2):  # found out by a later item, and at the end
        done.clear()
        with pytest.raises(OSError, match="disk full"):
            put_all(range(count), work)
        assert done == [0]
    assert not stage_threads()


@given(count=st.integers(0, 20), threads=st.integers(0, 4))
def test_results_come_in_the_order_of_their_tasks(count: int, threads: int) -> None:
    made: list[int] = []
    done: list[int] = []

    def tasks() -> Iterator[Callable[[], int]]:
        for number in range(count):
            made.append(number)
            assert len(made) <= len(done) + threads + 1
            yield partial(slow_first, number)

    for result in finished(tasks(), threads, "stage"):
        assert result == len(done)
        done.append(result)
    assert len(done) == count


def slow_first(number: int) -> int:
    time.sleep(0.002 if number % 3 == 0 else 0)
    return number


def test_a_task_goes_on_while_the_next_is_made() -> None:
    met = threading.Barrier(2, timeout=10)

    def tasks() -> Iterator[Callable[[], object]]:
        yield met.wait
        met.wait()
        yield lambda: "second"

    assert list(finished(tasks(), 1, "stage"))[1] == "second"


def test_an_error_in_a_task_comes_in_its_place() -> None:
    def fail() -> int:
        raise ValueError("the second")

    results = finished([lambda: 1, fail, lambda: 3], 2, "stage")
    assert next(results) == 1
    with pytest.raises(ValueError, match="the second"):
        next(results)
    assert not stage_threads()
