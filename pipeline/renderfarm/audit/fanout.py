"""Work spread over processes, its results in order, with little under way at once, so that a log of any length is never held.

A *task* is a small picklable value that is called with one chunk; it opens what it needs once in each process. `Cores` is this
machine; a cluster is given to the audit as another `FanOut`, so that nothing here knows of one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import islice
from multiprocessing import connection
from typing import Any, TypeVar

from renderfarm import processes
from renderfarm.processes import Child
from renderfarm.storage import LocalStorage, S3Storage, Storage, open_storage

Item = TypeVar("Item")
AHEAD = 3
"""Chunks of each core that are under way, or done before an earlier one."""

FanOut = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]
"""Calls a task with each chunk, somewhere, and yields what it returns, in the order of the chunks."""


class Cores:
    """This machine's cores. Processes start with the first chunk; close it, or use it as a context manager."""

    def __init__(self, cores: int | None = None) -> None:
        self._cores = cores or os.cpu_count() or 1
        self._children: list[Child] = []

    def __enter__(self) -> Cores:
        return self

    def __exit__(self, *error: object) -> None:
        while self._children:
            self._children.pop().end()

    def __call__(self, task: Callable[[Any], Any], chunks: Iterable[Any]) -> Iterator[Any]:
        """As `FanOut`. Raises whatever a task raises."""
        if self._cores < 2:
            yield from map(task, chunks)
            return
        if not self._children:
            self._children = [processes.start(processes.__name__) for _ in range(self._cores)]
        numbered = enumerate(chunks)
        idle, busy = list(self._children), dict[Any, tuple[Child, int]]()
        answers: dict[int, Any] = {}
        wanted = 0
        try:
            while True:
                while wanted in answers:
                    yield answers.pop(wanted)
                    wanted += 1
                while idle and len(busy) + len(answers) < AHEAD * self._cores and (following := next(numbered, None)) is not None:
                    child, (number, chunk) = idle.pop(), following
                    child.pipe.send((task, chunk))
                    busy[child.pipe] = child, number
                if not busy:  # what is done was given away above, so there was room, and no chunk is left
                    return
                for pipe in connection.wait(list(busy)):
                    child, number = busy.pop(pipe)
                    idle.append(child)
                    answers[number] = processes.answer_of(child)
        finally:
            if busy:  # they are at work on what nobody waits for
                self.__exit__()


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
