"""Work spread over processes, its results in order, with little under way at once, so that a log of any length is never held.

A *task* is a small picklable value that is called with one chunk; it opens what it needs once in each process. `Cores` is this
machine; a cluster is given to the audit as another `FanOut`, so that nothing here knows of one.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future
from functools import lru_cache
from itertools import islice
from multiprocessing import connection
from typing import Any, TypeVar

from renderfarm import machine, processes
from renderfarm.processes import Child
from renderfarm.storage import LocalStorage, S3Storage, Storage, open_storage

Item = TypeVar("Item")
AHEAD = 3
"""Chunks of each core that are under way, or done before an earlier one."""

FanOut = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]
"""Calls a task with each chunk, somewhere, and yields what it returns, in the order of the chunks."""


class Cores:
    """This machine's cores: a process starts when a chunk finds none that is idle; close it, or use it as a context manager.

    Calls may be nested, as where the chunks of one are made of another's answers: each answer goes to the call that asked.
    """

    def __init__(self, cores: int | None = None) -> None:
        self._cores = cores or machine.cores()
        self._idle: list[Child] = []
        self._busy: dict[Any, tuple[Child, Future[Any]]] = {}

    def __enter__(self) -> Cores:
        return self

    def __exit__(self, *error: object) -> None:
        self._end([future for _, future in self._busy.values()])
        while self._idle:
            self._idle.pop().end()

    def __call__(self, task: Callable[[Any], Any], chunks: Iterable[Any]) -> Iterator[Any]:
        """As `FanOut`. Raises whatever a task raises."""
        if self._cores < 2:
            yield from map(task, chunks)
            return
        asked: deque[Future[Any]] = deque()
        try:
            for chunk in chunks:
                asked.append(self._ask(task, chunk))
                while asked and (asked[0].done() or len(asked) >= AHEAD * self._cores or not self._free()):
                    if asked[0].done():
                        yield asked.popleft().result()
                    else:
                        self._hear()
            while asked:
                while not asked[0].done():
                    self._hear()
                yield asked.popleft().result()
        finally:
            self._end(asked)  # they are at work on what nobody waits for

    def _free(self) -> bool:
        return bool(self._idle) or len(self._busy) < self._cores

    def _ask(self, task: Callable[[Any], Any], chunk: Any) -> Future[Any]:
        """Send it to a process. A chunk that came out of another call may have left none free."""
        while not self._free():
            self._hear()
        child, future = self._idle.pop() if self._idle else processes.start(processes.__name__), Future[Any]()
        self._busy[child.pipe] = child, future
        child.pipe.send((task, chunk))
        return future

    def _hear(self) -> None:
        """Take in what is answered next, whichever call asked."""
        for pipe in connection.wait(list(self._busy)):
            child, future = self._busy[pipe]
            try:
                future.set_result(processes.answer_of(child))
            except Exception as error:
                future.set_exception(error)
            del self._busy[pipe]
            if not child.ended:
                self._idle.append(child)

    def _end(self, asked: Collection[Future[Any]]) -> None:
        """End the processes that work on these."""
        for pipe, (child, future) in list(self._busy.items()):
            if future in asked:
                del self._busy[pipe]
                future.cancel()
                child.process.kill()
                child.end()


def chunked(items: Iterable[Item], size: int) -> Iterator[tuple[Item, ...]]:
    """The items in tuples of `size`, the last one shorter."""
    remaining = iter(items)
    while chunk := tuple(islice(remaining, size)):
        yield chunk


def reachable(storage: Storage) -> bool:
    """Whether another process can open it by its URI."""
    return isinstance(storage, LocalStorage | S3Storage)


def storage_here(uri: str) -> Storage:
    """The storage, opened once in this process."""
    return _opened(os.getpid(), uri)


@lru_cache(maxsize=4)
def _opened(process: int, uri: str) -> Storage:
    return open_storage(uri)
