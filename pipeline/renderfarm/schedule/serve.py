"""The scheduler process: real runs, real signals, real time.

A run is a process in a session of its own. So it survives its scheduler, a Ctrl-C in the terminal reaches it once (through us), and its
crash is no more than an exit code. On SIGTERM or SIGINT nothing new starts, every run is asked to drain, and the scheduler ends with the
last of them; a second signal is passed on.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from renderfarm.errors import INCOMPLETE, PAUSED
from renderfarm.logs import get_logger
from renderfarm.schedule.calendar import Window, window_at
from renderfarm.schedule.runner import UNKNOWN, ChildRun, Entry, Report, Runner, last_json
from renderfarm.schedule.state import Place

log = get_logger()

POLL_S = 0.5
OPENS_SOON = dt.timedelta(minutes=5)
"""`--once` waits so long for a window: a timer may fire a little early, and clocks of two machines differ."""
RESULT_BYTES_MAX = 1 << 20

WORSE = (0, INCOMPLETE, PAUSED, 6, 2, 4, 1)
"""Exit codes from good to bad."""

Tell = Callable[[Report], None]
Command = Callable[[Entry, Window], Sequence[str]]


@dataclass(frozen=True, slots=True)
class Process:
    """`runner.ChildRun` over a process that we started."""

    popen: subprocess.Popen[bytes]
    printed: Path

    @property
    def pid(self) -> int:
        return self.popen.pid

    def poll(self) -> int | None:
        return self.popen.poll()

    def drain(self) -> None:
        self.popen.terminate()

    def kill(self) -> None:
        self.popen.kill()

    def result(self) -> dict[str, object] | None:
        try:
            with self.printed.open("rb") as file:
                file.seek(max(0, self.printed.stat().st_size - RESULT_BYTES_MAX))
                return last_json(file.read().decode(errors="replace"))
        except OSError:  # somebody removed it
            return None


@dataclass(frozen=True, slots=True)
class Adopted:
    """`runner.ChildRun` over a run that an earlier scheduler started: it lives as long as it holds its lock."""

    place: Place
    pid: int

    def poll(self) -> int | None:
        lock = self.place.lock_run()
        if lock is None:
            return None
        os.close(lock)
        return UNKNOWN

    def drain(self) -> None:
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        pid = self.place.run_pid() if self.poll() is None else None
        if pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)

    def result(self) -> dict[str, object] | None:
        return None


@dataclass(frozen=True, slots=True)
class NotStarted:
    """`runner.ChildRun` that could not be made."""

    pid: int = 0

    def poll(self) -> int | None:
        return 1

    def drain(self) -> None:
        return

    def kill(self) -> None:
        return

    def result(self) -> dict[str, object] | None:
        return None


def command(entry: Entry, window: Window, extra: Sequence[str] = ()) -> list[str]:
    """What runs a job in a window. `-P`: a folder named pipeline where we stand is not imported."""
    until = [] if entry.schedule.closing is None else ["--until", window.closes.isoformat()]
    return [sys.executable, "-P", "-m", "renderfarm.cli", "render", entry.job, "--json", *until, *extra]


class Processes:
    """`runner.RunHost` with real processes."""

    def __init__(self, places: dict[str, Place], command: Command) -> None:
        self._places, self._command = places, command

    def start(self, entry: Entry, window: Window) -> ChildRun | None:
        place, lock = self._places[entry.output], None
        try:
            lock = place.lock_run()
            if lock is None:
                return None
            with place.printed.open("wb") as printed:
                process = subprocess.Popen(
                    self._command(entry, window), stdin=subprocess.DEVNULL, stdout=printed, start_new_session=True, pass_fds=(lock,)
                )
            place.name_run(process.pid)
        except OSError as error:  # no memory or no process is left on this host: as if it had crashed at once
            log.error("schedule.not_started", job=entry.name, reason=str(error))
            return NotStarted()
        finally:
            if lock is not None:
                os.close(lock)  # the child's copy keeps the lock
        return Process(process, place.printed)

    def adopt(self, entry: Entry) -> ChildRun | None:
        place = self._places[entry.output]
        lock = place.lock_run()
        if lock is None:
            return Adopted(place, place.run_pid() or 0)
        os.close(lock)
        return None


class Service:
    """Runs jobs in their windows until it is told to stop, or, with `once`, until nothing more comes of the present window."""

    def __init__(self, entries: Sequence[Entry], folder: Path, tell: Tell, command: Command = command, *, grace: bool = True) -> None:
        self._tell = tell
        self.places = {entry.output: Place(folder, entry.name, entry.output) for entry in entries}
        self._entries, self._host, self._grace = tuple(entries), Processes(self.places, command), grace
        self.runners: list[Runner] = []
        self.asked = 0
        self._passed_on = 0
        self._codes: dict[str, int] = {}

    def run(self, *, once: bool = False) -> int:
        """Returns when it was told to stop and all runs have ended: 0, or 75 where a run was cut short. With `once`, the worst code of
        the runs, a signal counted as 1. Raises: Fenced, UserError.
        """
        try:
            for place in self.places.values():
                place.claim()
            self.runners = [Runner(entry, self.places[entry.output], self._host, grace=self._grace) for entry in self._entries]
            with self._listening():
                self._loop(once)
        finally:
            for place in self.places.values():
                place.release()
        codes = [code if code in WORSE else 1 for code in self._codes.values()]
        if once:
            return max(codes, key=WORSE.index, default=PAUSED if self.asked else 0)
        return PAUSED if PAUSED in codes and self.asked else 0

    def _loop(self, once: bool) -> None:
        begun = _now()
        for runner in self.runners:
            self._tell(Report("next", runner.entry.name, window_at(runner.entry.schedule, begun) or runner.following(begun)))
        while True:
            now = _now()
            self._pass_on()
            for runner in self.runners:
                for report in runner.step(now, stopping=self.asked > 0):
                    if report.code is not None and report.code != UNKNOWN:
                        self._codes[runner.entry.output] = report.code
                    self._tell(report)
            through = self.asked > 0 or (once and all(self._through(runner, now, begun) for runner in self.runners))
            if through and not any(runner.child for runner in self.runners):
                return
            time.sleep(POLL_S)

    @staticmethod
    def _through(runner: Runner, now: dt.datetime, begun: dt.datetime) -> bool:
        """For `once`: whether this job had its window, or none opens soon."""
        if not runner.settled(now):
            return False
        if window_at(runner.entry.schedule, begun) is not None:
            return True
        coming = runner.following(begun)
        return coming is None or -coming.since(begun) > OPENS_SOON or coming.since(now) >= dt.timedelta(0)

    def _pass_on(self) -> None:
        while self._passed_on < self.asked:
            self._passed_on += 1
            for runner in self.runners:
                if runner.child is not None:
                    runner.child.drain()

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        def ask(number: int, frame: FrameType | None) -> None:
            self.asked += 1

        before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
