"""A driver that people talk to: `python -m scripts.faults.listener JOB PAUSE_MS`. Renders nothing; commits, and listens, for real.

Its workers answer at once, slowed down by PAUSE_MS a step. The first SHOWN images have real pictures, every other one of them exhausted, so
that people can publish and take back. Prints its exit code's reason; the exit code is the command line's.
"""

from __future__ import annotations

import contextlib
import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from renderfarm import credential, watermark
from renderfarm.cli import logs
from renderfarm.errors import RenderfarmError
from renderfarm.job import load_job
from renderfarm.log import lease as leases
from renderfarm.pictures import Fingerprint
from renderfarm.records.canonical import sealed
from renderfarm.resolve import resolve_job
from renderfarm.run import session as farm
from renderfarm.run.engine import CheckedUnit, Opened, Rendered, StoredUnit
from renderfarm.run.stop import StopSignals
from renderfarm.schema import Attempt, Verdict
from renderfarm.statements.intake import Inbox
from renderfarm.statements.reviews import people_of
from renderfarm.storage import open_storage
from renderfarm.workers.finish import Checked, Decision, Finished, Finisher, failed_record, payload_of
from renderfarm.workers.worker import Order
from scripts.bench.driver import INFO
from scripts.faults.racer import SlowEngine

SHOWN = 12
TTL_S = 6.0
"""A killed driver's lease ends so soon here: a round is to last minutes."""
LOOK_S = 1.0


def fate(attempt: Attempt) -> bool:
    """Whether the checks accept it: every image with an even digit before its end, on the first attempt; the others never."""
    return int(attempt.image.row_id.rpartition("-")[2]) % 2 == 0


class Listened(SlowEngine):
    """Some of its pictures are real."""

    def __init__(self, order: Order, pause_s: float) -> None:
        super().__init__(pause_s)
        job = order.job
        self.finisher = Finisher(
            job, order.plan_digest, open_storage(job.output.to), (), credential.Issuer(order.keys), order.keys.mark_key
        )

    def check(self, rendered: Rendered) -> None:
        verdicts = {True: Verdict("fate", "accepted"), False: Verdict("fate", "rejected", "so it was drawn")}
        works = rendered.unit.members
        checked = tuple(Checked((verdicts[fate(work.attempt)],), Fingerprint("0" * 64, 0, "")) for work in works)
        self.events.append(CheckedUnit(rendered.unit, rendered, checked))

    def store(self, rendered: Rendered, checked: Sequence[Checked], decisions: Sequence[Decision]) -> None:
        works = rendered.unit.members
        finished = tuple(self._stored(work.attempt, seen, made) for work, seen, made in zip(works, checked, decisions, strict=True))
        self.events.append(StoredUnit(rendered.unit, finished))

    def _stored(self, attempt: Attempt, checked: Checked, decision: Decision) -> Finished:
        if int(attempt.image.row_id.rpartition("-")[2]) < SHOWN:
            seed = int.from_bytes(hashlib.sha256(f"{attempt.image.image_id}/{attempt.number}".encode()).digest()[:8], "big")
            pixels = np.random.default_rng(seed).integers(60, 190, (16, 16, 3), np.uint8).repeat(16, 0).repeat(16, 1)
            marked = watermark.embed(pixels[None], [payload_of(attempt)], self.finisher.mark_key)[0]
            return self.finisher.store(attempt, marked, INFO, checked, decision, marked=True, started_us=1)
        blank = failed_record(attempt, self.finisher.job.name, self.finisher.plan_digest, decision.reason)
        return Finished(sealed(replace(blank, outcome=decision.outcome, cause=None, verdicts=decision.verdicts)), {})


def main(job_file: str, pause_ms: str) -> int:
    """One run; the exit code."""
    logs.configure(quiet=True)
    leases.TTL_S[leases.RUN] = TTL_S

    @contextlib.contextmanager
    def opened(order: Order, stopped: Callable[[], bool]) -> Iterator[Opened]:
        yield Opened(Listened(order, float(pause_ms) / 1000), 1, 4)

    try:
        session = farm.open_session(resolve_job(load_job(Path(job_file), [])))
        rules = farm.rules_of(session.job, session.keys)
        session.inbox = Inbox(
            session.storage, session.writer, people_of(session.keys), rules, session.committer, look_s=LOOK_S, lease=session.lease
        )
        result = farm.run(session, farm.RunOptions(), opened, StopSignals(), lambda tally: None)
    except RenderfarmError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    print(result.counts, *result.notes, sep="; ", flush=True)
    return result.exit_code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
