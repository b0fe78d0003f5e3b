"""Objects checked on this machine's cores: in this process while few, in worker processes once they are many."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import chain, islice

from pipeline.provenance.objects import Answer, Beliefs, Recorded, check_object
from pipeline.storage import LocalStorage, S3Storage, Storage, open_storage

POOL_FROM = 128
CHUNK = 16
_worker: tuple[Storage, Beliefs] | None = None


def check_here(storage: Storage, recorded: Iterable[Recorded], beliefs: Beliefs) -> Iterator[Answer]:
    """The answer on each object, in their order. Worker processes are started only for many, and for a storage that they can open.

    Raises: StorageAway.
    """
    remaining = iter(recorded)
    first = list(islice(remaining, POOL_FROM))
    cores = os.cpu_count() or 1
    if len(first) < POOL_FROM or cores < 2 or not isinstance(storage, LocalStorage | S3Storage):
        for item in chain(first, remaining):
            yield check_object(storage, item, beliefs)
        return
    yield from _in_processes(storage.uri, chain(first, remaining), beliefs, cores)


def _in_processes(uri: str, recorded: Iterator[Recorded], beliefs: Beliefs, cores: int) -> Iterator[Answer]:
    """Chunks go out as answers come in, so that a log of any length is never held."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(cores, context, _start_worker, (uri, beliefs)) as pool:
        waiting: deque[Future[list[Answer]]] = deque()
        while chunk := list(islice(recorded, CHUNK)):
            waiting.append(pool.submit(_check_chunk, chunk))
            if len(waiting) > 4 * cores:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def _start_worker(uri: str, beliefs: Beliefs) -> None:
    global _worker
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    _worker = open_storage(uri), beliefs


def _check_chunk(chunk: list[Recorded]) -> list[Answer]:
    if _worker is None:
        raise RuntimeError("this process was not started as a worker")
    storage, beliefs = _worker
    return [check_object(storage, item, beliefs) for item in chunk]
