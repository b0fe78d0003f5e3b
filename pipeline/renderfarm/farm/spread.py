"""The audit's and identify's work on a Ray cluster: chunks as plain tasks, what they return in order.

Nothing is held in actors, so a node that dies costs only the chunks that it had: Ray gives them to another. No key travels: what an
auditor trusts pickles as its folder, which every node must be able to read, like the output itself.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from renderfarm.audit.fanout import FanOut
from renderfarm.errors import FarmLost, RenderfarmError
from renderfarm.farm.cluster import join

AHEAD = 3
"""Chunks under way for each CPU of the cluster."""


@contextlib.contextmanager
def on_cluster(address: str) -> Iterator[FanOut]:
    """A fan-out over the cluster at this address, for the time of the block. Raises: JobError when nobody answers there."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    join(address, log_to_driver=False, logging_level=logging.ERROR)
    try:
        yield spread
    finally:
        ray.shutdown()


def spread(task: Callable[[Any], Any], chunks: Iterable[Any]) -> Iterator[Any]:
    """As `FanOut`. Raises: what a task raises on purpose; FarmLost when Ray lost one for good."""
    import ray

    found: dict[str, float] = ray.cluster_resources()
    ahead = AHEAD * max(1, int(found.get("CPU", 1)))
    remote = ray.remote(num_cpus=1, max_retries=3)(_call)
    shared = ray.put(task)
    waiting: deque[Any] = deque()
    for chunk in chunks:
        waiting.append(remote.remote(shared, chunk))
        if len(waiting) > ahead:
            yield _result(waiting.popleft())
    while waiting:
        yield _result(waiting.popleft())


def _call(task: Callable[[Any], Any], chunk: Any) -> Any:
    return task(chunk)


def _result(reference: Any) -> Any:
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, RenderfarmError):
            raise cause from error
        if isinstance(error, ray.exceptions.RayTaskError):
            raise  # a fault of ours: the trace of the task is what one wants to read
        raise FarmLost(f"the cluster lost a part of the work: {type(error).__name__}; run the same command again") from error
