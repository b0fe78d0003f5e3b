"""When a run stops early: a window's end, SIGTERM or Ctrl-C. The first asks to drain, a second one abandons what is in flight."""

from __future__ import annotations

import contextlib
import datetime as dt
import math
import signal
import time
from collections.abc import Callable, Iterator
from types import FrameType

COMMIT_S = 10.0
"""What the last commit may take at least: at this distance from the end, what is unfinished is abandoned."""
COMMIT_TIMES = 2.0
"""Commits that were slow so far are believed, and doubled."""


class StopSignals:
    """`run.loop.Stop` over POSIX signals and a deadline. `until_s`: seconds from now to the end of the window, or None."""

    def __init__(self, until_s: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.asked = 0
        self._clock = clock
        self._end = None if until_s is None else clock() + until_s

    def draining(self, unit_s: float, commit_s: float = 0.0) -> bool:
        return self.asked > 0 or self._left_s() < unit_s + _commit_room_s(commit_s)

    def abandon(self, commit_s: float = 0.0) -> bool:
        return self.asked > 1 or self._left_s() < _commit_room_s(commit_s)

    def over(self) -> bool:
        return self._left_s() <= 0

    def _left_s(self) -> float:
        return math.inf if self._end is None else self._end - self._clock()

    @contextlib.contextmanager
    def installed(self) -> Iterator[StopSignals]:
        """Listen to SIGTERM and SIGINT for the time of the block."""

        def ask(number: int, frame: FrameType | None) -> None:
            self.asked += 1

        before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _commit_room_s(commit_s: float) -> float:
    """How long before the end the last commit begins, where the slowest so far took `commit_s`."""
    return max(COMMIT_S, COMMIT_TIMES * commit_s)


def seconds_until(clock: str, now: dt.datetime | None = None) -> float:
    """Seconds to the next local HH:MM, or to a moment with its offset (2026-11-26T06:00:00+01:00). Raises: ValueError for anything else."""
    now = now or dt.datetime.now().astimezone()
    if "T" in clock:
        moment = dt.datetime.fromisoformat(clock)
        if moment.tzinfo is None:
            raise ValueError("a moment needs its offset from UTC")
        return (moment - now).total_seconds()
    hour, minute = (int(part) for part in clock.split(":"))
    local = now.astimezone().replace(tzinfo=None)
    end = local.replace(hour=hour, minute=minute, second=0, microsecond=0)
    if end <= local:
        end += dt.timedelta(days=1)
    moment = end.astimezone()  # the offset of that night, not of now: clocks may change before it
    return (moment - now.astimezone()).total_seconds()
