"""One of two drivers on one output: `python -m scripts.faults.racer JOB PAUSE_MS`. Renders nothing; commits for real.

It opens the session, says `open`, waits for a line, and runs the loop with workers that answer at once, slowed down by PAUSE_MS a step. Its
exit code is the command line's: 0 done, 6 fenced, 75 the storage stayed away.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

from renderfarm.cli import logs
from renderfarm.errors import RenderfarmError
from renderfarm.job import load_job
from renderfarm.resolve import resolve_job
from renderfarm.run import session as farm
from renderfarm.run.duplicates import JobDuplicates
from renderfarm.run.engine import Event
from renderfarm.run.loop import Loop, Tally
from renderfarm.run.stop import StopSignals
from renderfarm.run.units import UnitQueue
from scripts.bench.driver import NullEngine


class SlowEngine(NullEngine):
    """A null engine that takes its time."""

    def __init__(self, pause_s: float) -> None:
        super().__init__()
        self.pause_s = pause_s

    def wait(self, timeout_s: float) -> list[Event]:
        time.sleep(random.uniform(0, 2 * self.pause_s))
        return super().wait(timeout_s)


def say_and_wait(word: str) -> None:
    """Tell the parent where we are, and wait for it."""
    print(word, flush=True)
    sys.stdin.readline()


def main(job_file: str, pause_ms: str) -> int:
    """One driver; the exit code."""
    logs.configure(quiet=True)
    try:
        resolved = resolve_job(load_job(Path(job_file), []))
        say_and_wait("resolved")
        session = farm.open_session(resolved)
        say_and_wait("open")
        work = farm.open_work(session, retry_failed=False)
        duplicates = JobDuplicates.of(session.job, session.storage, session.state)
        committer = session.writer if session.lease is None else session.lease.guard(session.writer)
        tally, engine = Tally(resolved.planned), SlowEngine(float(pause_ms) / 1000)
        try:
            Loop(session.job, session.resolved.plan_digest, UnitQueue(work, 4), engine, committer, duplicates, StopSignals(), tally).run()
        finally:
            if session.lease is not None:
                session.lease.release()
    except RenderfarmError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    print(f"attempts {tally.attempts_now}, committed {tally.committed}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
