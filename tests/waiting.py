"""Waiting, where a real process, a server or a library's own clock must live. Everything else gets a clock or a pause as an argument."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_for(condition: Callable[[], object], timeout_s: float = 20.0) -> None:
    """Returns once this holds. Raises: AssertionError when it does not in time."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


def wait_until(moment_s: float) -> None:
    """Returns once this machine's clock (seconds since 1970 UTC) has passed that."""
    time.sleep(max(0.0, moment_s - time.time()))
