"""The driver alone: leasing, deciding, recording and committing, with workers that do nothing; and the start with all of it done.

    python -m scripts.bench.driver --images 100000 --keep F    leases, records and commits so many of a manifest with 1 % more rows
    python -m scripts.bench.driver --images 100000 --resume F  starts again on what that run left, for the rest

The workers are in this process and answer at once: what they cost (a record as a finisher makes it) is measured and told apart. The
ceiling is what one core can do with Arrow, SHA-256 and Parquet: the writer alone costs 0.09 ms an image (`scripts/bench/audit.py`).
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import itertools
import json
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from renderfarm import keys
from renderfarm.cli import logs
from renderfarm.job import JobSettings
from renderfarm.pictures import Fingerprint
from renderfarm.records.canonical import sealed
from renderfarm.resolve import resolve_job
from renderfarm.resolve.survey import SETTLED_S
from renderfarm.run import session as farm
from renderfarm.run.duplicates import JobDuplicates
from renderfarm.run.engine import CheckedUnit, Event, Rendered, StoredUnit
from renderfarm.run.loop import Loop, Tally
from renderfarm.run.stop import StopSignals
from renderfarm.run.units import Unit, UnitQueue
from renderfarm.schema import RenderInfo, Verdict
from renderfarm.workers.finish import Checked, Decision, Finished, failed_record

INFO = RenderInfo("null", "", "0" * 64, "none", "none", "none", "null", "", "0", "0")
SIGNATURE = "A" * 512
UNITS_IN_FLIGHT = 16
CHUNK_ROWS = 100_000


class NullEngine:
    """Every call is answered at the next `wait`; `spent_s` is the CPU time of making records, which finishers have in a real farm."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.spent_s = 0.0
        self.first_lease: float | None = None

    def share(self) -> float:
        return 1.0

    def capacity(self) -> int:
        return UNITS_IN_FLIGHT - len(self.events)

    def render(self, unit: Unit) -> None:
        self.first_lease = self.first_lease or time.monotonic()
        self.events.append(Rendered(unit, None, INFO, (True,) * len(unit.members), 0, 0.0, {}))

    def check(self, rendered: Rendered) -> None:
        checked = tuple(Checked((Verdict("null", "accepted"),), _print(w.attempt.image.image_id)) for w in rendered.unit.members)
        self.events.append(CheckedUnit(rendered.unit, rendered, checked))

    def store(self, rendered: Rendered, checked: Sequence[Checked], decisions: Sequence[Decision]) -> None:
        begun = time.process_time()
        finished = []
        for work, found, decision in zip(rendered.unit.members, checked, decisions, strict=True):
            blank = failed_record(work.attempt, "null", "plan", decision.reason)
            pdq, signature = found.fingerprint.pdq, found.fingerprint.signature
            judged = dataclasses.replace(blank, outcome=decision.outcome, cause=None, verdicts=decision.verdicts)
            record = dataclasses.replace(judged, pdq=pdq, pdq_quality=90, signature=signature)
            finished.append(Finished(sealed(record), {}))
        self.spent_s += time.process_time() - begun
        self.events.append(StoredUnit(rendered.unit, tuple(finished)))

    def wait(self, timeout_s: float) -> list[Event]:
        events, self.events = self.events, []
        return events


def _print(image_id: str) -> Fingerprint:
    return Fingerprint(hashlib.sha256(image_id.encode()).hexdigest(), 90, SIGNATURE)


def _manifest(path: Path, rows: int) -> None:
    schema = pa.schema([("id", pa.string()), ("prompt", pa.string())])
    with pq.ParquetWriter(path, schema) as file:
        for at in range(0, rows, CHUNK_ROWS):
            numbers = range(at, min(rows, at + CHUNK_ROWS))
            names = [f"sku-{n:08}" for n in numbers]
            file.write_table(pa.table([names, [f"a photograph of product {name} on a wooden table" for name in names]], schema=schema))


def _job(folder: Path, duplicates: bool) -> JobSettings:
    return JobSettings.model_validate(
        {
            "name": "null",
            "manifest": str(folder / "rows.parquet"),
            "output": str(folder / "out"),
            "defaults": {"width": 256, "height": 256, "steps": 2},
            "checks": {"duplicates": {"enabled": duplicates, "on_job_twin": "ignore"}},
            "keys": str(folder / "keys"),
        }
    )


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _windows(tally: Tally, window: int) -> Iterator[float]:
    """Feeds on the loop's progress: a generator that is sent nothing and yields the CPU seconds of each window of images."""
    begun = time.process_time()
    done = 0
    while True:
        if tally.attempts_now >= done + window:
            now = time.process_time()
            yield now - begun
            begun, done = now, done + window
        yield 0.0


def main() -> int:
    """One run; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--resume", type=Path, metavar="F", help="the folder of an earlier run, kept with --keep")
    parser.add_argument("--keep", type=Path, metavar="F", help="a new folder that is left behind")
    parser.add_argument("--no-duplicates", action="store_true", help="without the near-duplicate index")
    args = parser.parse_args()
    folder = args.resume or args.keep or Path(tempfile.mkdtemp(prefix="renderfarm-driver-"))
    folder.mkdir(parents=True, exist_ok=True)
    logs.configure()
    if not (folder / "keys").exists():
        keys.init(folder / "keys")
    if not args.resume:
        _manifest(folder / "rows.parquet", args.images + args.images // 100)
        time.sleep(SETTLED_S + 1)  # a manifest that is younger is not remembered
    try:
        told = _run(_job(folder, not args.no_duplicates), None if args.resume else args.images)
    finally:
        if not (args.resume or args.keep):
            shutil.rmtree(folder)
    print(json.dumps(told))
    return 0


def _run(job: JobSettings, limit: int | None) -> dict[str, object]:
    begun, cpu = time.monotonic(), time.process_time()
    resolved = resolve_job(job)
    resolved_s, resolved_cpu = time.monotonic() - begun, time.process_time() - cpu
    session = farm.open_session(resolved)
    opened_s = time.monotonic() - begun
    engine, tally = NullEngine(), Tally(resolved.planned)
    duplicates = JobDuplicates.of(job, session.storage, session.state)
    queue = UnitQueue(itertools.islice(farm.open_work(session, retry_failed=False), limit), 4)
    spent: list[float] = []
    windows = _windows(tally, max(1000, resolved.planned // 10))

    def watch(_: Tally) -> None:
        found = next(windows)
        if found:
            spent.append(round(found, 2))

    loop_begun, loop_cpu = time.monotonic(), time.process_time()
    Loop(job, session.resolved.plan_digest, queue, engine, session.writer, duplicates, StopSignals(), tally, watch).run()
    wall, cpu = time.monotonic() - loop_begun, time.process_time() - loop_cpu
    counts, done = session.counts(), tally.attempts_now
    assert counts.accepted == (resolved.planned if limit is None else limit), counts
    print(f"{done} images: {cpu:.1f} CPU s, of them {engine.spent_s:.1f} s workers' records; peak {_peak_mib():.0f} MiB", file=sys.stdout)
    return {
        "images": done,
        "planned": resolved.planned,
        "resolve_s": round(resolved_s, 1),
        "resolve_cpu_s": round(resolved_cpu, 1),
        "open_s": round(opened_s - resolved_s, 1),
        "first_lease_s": engine.first_lease and round(engine.first_lease - begun, 1),
        "loop_wall_s": round(wall, 1),
        "loop_cpu_s": round(cpu, 1),
        "workers_cpu_s": round(engine.spent_s, 1),
        "images_per_cpu_s": round(done / (cpu - engine.spent_s)) if done else None,
        "images_per_wall_s": round(done / wall) if done else None,
        "cpu_s_of_each_tenth": spent,
        "commit_cpu_s": round(tally.cpu_s["commit"], 1),
        "peak_mib": round(_peak_mib()),
    }


if __name__ == "__main__":
    sys.exit(main())
