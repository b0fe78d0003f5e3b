"""Starts each job once a window and watches it. Steps are driven from outside with the time as an argument; processes are behind `RunHost`.

What an exit means: 0 and 3 the job is done for this window; 75 it was drained and goes on in the next window, or, where its result says so
or there is none, the storage or the cluster was away, and it is tried again while the window is open, after growing pauses; 1 or a signal
it crashed, and it is tried again `CRASHES_MAX` times; any other code (wrong job, damaged log, another driver) is reported, and the next
window tries again. A run that was drained because the scheduler was told to stop goes on when the scheduler is back. One that a killed
scheduler left behind is waited for; then the job is started once more, which costs little when all is done. A run that outlives its window
is ended. A window that ends paused without a single commit is reported (`barren`): nobody else would say it.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from renderfarm.errors import INCOMPLETE, PAUSED
from renderfarm.job.schedule import ScheduleSettings
from renderfarm.logs import get_logger
from renderfarm.schedule.calendar import Window, window_at, windows
from renderfarm.schedule.state import Memory, Place, moment

log = get_logger()

CRASHES_MAX = 3
PAUSES_S = (30.0, 120.0, 300.0, 900.0)
"""Before a job is started again in the same window; the last one stays."""
LEAST_S = 30.0
"""With less left of a window nothing is started: a run would drain at once."""
OVERDUE_S = (60.0, 120.0, 600.0)
"""So long after its window a run that hangs is asked to drain, asked again, and killed, which loses nothing that is committed."""
UNKNOWN = 256
"""The exit of a run that another process started."""

Event = Literal["next", "started", "resumed", "waiting", "missed", "ended", "again", "overdue", "barren"]


class ChildRun(Protocol):
    """A run."""

    @property
    def pid(self) -> int:
        """Its process; 0 where that is not known."""

    def poll(self) -> int | None:
        """Its exit code, negative for a signal, `UNKNOWN`, or None while it runs."""

    def drain(self) -> None:
        """Ask it to stop (SIGTERM); asked again, it abandons what is in flight."""

    def kill(self) -> None:
        """End it at once."""

    def result(self) -> dict[str, object] | None:
        """The JSON document that it printed at its end."""


class RunHost(Protocol):
    """Where runs live."""

    def start(self, entry: Entry, window: Window) -> ChildRun | None:
        """Start the run of a job; None when one is alive already."""

    def adopt(self, entry: Entry) -> ChildRun | None:
        """The run of a job that is alive already, if there is one."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A job to run by a schedule."""

    name: str
    job: str
    output: str
    schedule: ScheduleSettings


@dataclass(frozen=True, slots=True)
class Report:
    """Something that happened to a job. `code` and `result`: of a run that ended; `at`: when it is tried again."""

    event: Event
    name: str
    window: Window | None = None
    code: int | None = None
    pid: int | None = None
    result: dict[str, object] | None = None
    at: dt.datetime | None = None


def meaning(code: int) -> str:
    """An exit code in words."""
    if code < 0:
        return f"killed by signal {-code}"
    words = {
        0: "done, all accepted",
        1: "crashed",
        2: "the job, manifest or arguments are wrong",
        INCOMPLETE: "finished, some images are exhausted or failed",
        4: "the log is damaged",
        6: "another driver owns this output",
        PAUSED: "paused, goes on when it is run again",
        UNKNOWN: "started by an earlier scheduler, its exit code is not known",
    }
    return words.get(code, "unforeseen")


class Runner:
    """One job. `step` as often as wanted; it never waits."""

    def __init__(self, entry: Entry, place: Place, host: RunHost, *, grace: bool = True) -> None:
        self.entry, self.place, self._host = entry, place, host
        self.memory = place.recall()
        self.child: ChildRun | None = None
        self._window: Window | None = None
        self._looked = False
        self._overdue = 0
        self._late_max = entry.schedule.late_max if grace else None

    def step(self, now: dt.datetime, *, stopping: bool = False) -> Iterator[Report]:
        """What has happened since the last step. Starts a run when it is time, unless it is `stopping`."""
        if not self._looked:
            self._looked = True
            self.child, self._window = self._host.adopt(self.entry), window_at(self.entry.schedule, now)
            if self.child is not None:
                yield Report("waiting", self.entry.name, self._window, pid=self.child.pid)
        if self.child is not None:
            code = self.child.poll()
            if code is None:
                yield from self._hurry(self.child, now)
                return
            ended = self._ended(self.child, code, now, stopping)
            yield ended
            if ended.event == "ended" and code == PAUSED and not (stopping or self.memory.committed):
                log.error("schedule.nothing_committed", job=self.entry.name)
                yield Report("barren", self.entry.name, ended.window)
        window = window_at(self.entry.schedule, now)
        if stopping or window is None or window.left(now).total_seconds() <= LEAST_S:
            return
        if not self.memory.of(window.opens):
            if self._late_max is not None and window.since(now) > self._late_max:
                self._remember(Memory(moment(window.opens), over=True))
                yield Report("missed", self.entry.name, window)
                return
        elif self.memory.over or (self.memory.again_at and now < dt.datetime.fromisoformat(self.memory.again_at)):
            return
        yield from self._begin(window)

    def _begin(self, window: Window) -> Iterator[Report]:
        before = self.memory if self.memory.of(window.opens) else Memory(moment(window.opens))
        # Remembered first: a crash between the two lines starts the run a second time, and never leaves one that nobody remembers.
        self._remember(replace(before, starts=before.starts + 1, again_at=""))
        child = self._host.start(self.entry, window)
        if child is None:
            self._looked = False
            return
        self.child, self._window, self._overdue = child, window, 0
        yield Report("resumed" if before.starts else "started", self.entry.name, window, pid=child.pid)

    def _hurry(self, child: ChildRun, now: dt.datetime) -> Iterator[Report]:
        """A run that its window has outlived is ended, step by step."""
        if self._window is None or self.entry.schedule.closing is None:
            return
        while self._overdue < len(OVERDUE_S) and -self._window.left(now).total_seconds() >= OVERDUE_S[self._overdue]:
            self._overdue += 1
            if self._overdue == len(OVERDUE_S):
                child.kill()
            else:
                child.drain()
            yield Report("overdue", self.entry.name, self._window, pid=child.pid)

    def _ended(self, child: ChildRun, code: int, now: dt.datetime, stopping: bool) -> Report:
        window, self.child = self._window, None
        if code == UNKNOWN or window is None:
            return Report("ended", self.entry.name, window, code)
        result = child.result()
        crashed = code == 1 or code < 0
        away = code == PAUSED and (result is None or "away" in result)
        made = result.get("committed") if result is not None else 0
        committed = self.memory.committed + (made if isinstance(made, int) else 1)  # a result that does not say so is an older version's
        crashes = self.memory.crashes + crashed
        next_try = now + dt.timedelta(seconds=PAUSES_S[min(max(self.memory.starts, 1), len(PAUSES_S)) - 1])
        open_then = window.left(next_try).total_seconds() > LEAST_S
        tries_again = open_then and not stopping and (away or (crashed and crashes < CRASHES_MAX))
        over = not tries_again and not (stopping and code == PAUSED)
        again_at = moment(next_try) if tries_again else ""
        self._remember(replace(self.memory, code=code, crashes=crashes, over=over, again_at=again_at, committed=committed))
        return Report(
            "again" if tries_again else "ended", self.entry.name, window, code, result=result, at=next_try if tries_again else None
        )

    def _remember(self, memory: Memory) -> None:
        self.memory = memory
        try:
            self.place.remember(memory)
        except OSError as error:  # only a scheduler that is killed now would miss it
            log.error("schedule.not_remembered", job=self.entry.name, folder=str(self.place.folder), reason=error.strerror)

    def settled(self, now: dt.datetime) -> bool:
        """Whether nothing more comes of the present window."""
        if self.child is not None or not self._looked:
            return False
        window = window_at(self.entry.schedule, now)
        if window is None or window.left(now).total_seconds() <= LEAST_S:
            return True
        return self.memory.of(window.opens) and self.memory.over

    def following(self, now: dt.datetime) -> Window | None:
        """The next window."""
        return next(windows(self.entry.schedule, now), None)


def last_json(text: str) -> dict[str, object] | None:
    """The JSON object on the last line, as `renderfarm render --json` prints it; None where there is none."""
    lines = text.strip().splitlines()
    try:
        document = json.loads(lines[-1]) if lines else None
    except ValueError:
        return None
    return document if isinstance(document, dict) else None
