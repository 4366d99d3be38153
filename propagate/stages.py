"""Stages of a pipeline side by side: a thread for each, and a bounded queue behind it.

What stages spend their time in (decoding, networks, the compiled search, PNG) runs outside the
interpreter's lock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Event, Semaphore, Thread, current_thread
from types import TracebackType
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class _End(NamedTuple):
    """What comes behind the last item: the error that ended the stage, or None."""

    error: BaseException | None


@contextmanager
def iterated(items: Iterable[T]) -> Iterator[Iterator[T]]:
    """An iterator over items, which is closed at once on the way out where that can be done."""
    iterator = iter(items)
    try:
        yield iterator
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            close()


def ahead(items: Iterable[T], depth: int, name: str) -> Iterator[T]:
    """Pass items on that another thread makes meanwhile.

    Closing the iterator, as an error or Ctrl-C in the loop over it does, ends the thread; it is
    waited for, so that nothing of the stage goes on behind one's back.

    Args:
        items: what the stage makes; it is iterated, and closed, in the thread.
        depth: how many items there are at most that nobody has taken yet.
        name: of the thread.

    Raises:
        BaseException: what the stage raised, behind the items made before.
    """
    made: SimpleQueue[tuple[T] | _End] = SimpleQueue()
    room, stopped = Semaphore(depth), Event()

    def make() -> None:
        error = None
        try:
            with iterated(items) as iterator:
                while room.acquire() and not stopped.is_set():
                    try:
                        item = next(iterator)
                    except StopIteration:
                        break
                    made.put((item,))
        except BaseException as raised:
            error = raised
        made.put(_End(error))

    thread = Thread(target=make, name=name, daemon=True)
    thread.start()
    try:
        while True:
            found = made.get()
            if isinstance(found, _End):
                if found.error is not None:
                    raise found.error
                return
            room.release()
            yield found[0]
    finally:
        stopped.set()
        room.release()
        # The garbage collector may close this in any thread.
        if thread is not current_thread():
            thread.join()


def finished(tasks: Iterable[Callable[[], T]], threads: int, name: str) -> Iterator[T]:
    """Results of tasks, in their order, done by other threads while the next tasks are made.

    Args:
        tasks: made in the caller's thread, no more ahead of the results than there are threads.
        threads: how many tasks are done at a time; with 0 each is done before the next is made.
        name: of the threads.

    Raises:
        BaseException: what a task raised, in the place of its result.
    """
    if not threads:
        for task in tasks:
            yield task()
        return
    with ThreadPoolExecutor(threads, name) as pool:
        waiting: deque[Future[T]] = deque()
        try:
            for task in tasks:
                waiting.append(pool.submit(task))
                while waiting and (len(waiting) > threads or waiting[0].done()):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


class Behind(Generic[T]):
    """Does something with items in another thread, in their order, while the caller goes on.

    A context manager: leaving it waits for all that was put, also when it is left by an error.

    Args:
        work: what is done with an item.
        depth: how many items may wait; `put` waits for room.
        name: of the thread.
    """

    def __init__(self, work: Callable[[T], None], depth: int, name: str) -> None:
        self._work = work
        self._waiting: SimpleQueue[tuple[T] | None] = SimpleQueue()
        self._room = Semaphore(depth)
        self._error: BaseException | None = None
        self._thread = Thread(target=self._run, name=name, daemon=True)

    def put(self, item: T) -> None:
        """Hand an item over.

        Raises:
            BaseException: what the work raised on an earlier item; nothing is done behind that.
        """
        self._room.acquire()
        if self._error is not None:
            raise self._error
        self._waiting.put((item,))

    def __enter__(self) -> Behind[T]:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._waiting.put(None)
        self._thread.join()
        if self._error is not None and error is None:
            raise self._error

    def _run(self) -> None:
        while (found := self._waiting.get()) is not None:
            if self._error is None:
                try:
                    self._work(found[0])
                except BaseException as raised:
                    self._error = raised
            self._room.release()
