"""Work spread over processes, its results in order, with little under way at once, so that a log of any length is never held.

A *task* is a small picklable value that is called with one chunk; it opens what it needs once in each process. `Cores` is this
machine; a cluster is given to the audit as another `FanOut`, so that nothing here knows of one.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from functools import lru_cache
from itertools import islice
from typing import Any, TypeVar

from renderfarm.storage import LocalStorage, S3Storage, Storage, open_storage

Item = TypeVar("Item")

FanOut = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]
"""Calls a task with each chunk, somewhere, and yields what it returns, in the order of the chunks."""


class Cores:
    """This machine's cores. Processes start with the first chunk; close it, or use it as a context manager."""

    def __init__(self, cores: int | None = None) -> None:
        self._cores = cores or os.cpu_count() or 1
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Cores:
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def __call__(self, task: Callable[[Any], Any], chunks: Iterable[Any]) -> Iterator[Any]:
        """As `FanOut`. Raises whatever a task raises."""
        if self._cores < 2:
            yield from map(task, chunks)
            return
        if self._pool is None:
            self._pool = ProcessPoolExecutor(self._cores, multiprocessing.get_context("spawn"), _start)
        waiting: deque[Future[Any]] = deque()
        for chunk in chunks:
            waiting.append(self._pool.submit(task, chunk))
            if len(waiting) > 3 * self._cores:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _start() -> None:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")


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
