"""The loop: lease units, follow each from render over check to store, send rejects back, commit records. No Ray; the clock is an argument.

Its law: planned = accepted + exhausted + failed + remaining, at every step. The part is the commit; what is stored and in no part is
rendered again after a crash. Decisions on near-duplicates are made here, in the order in which attempts were checked, so the first stays.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from renderfarm.errors import AcceptedMeanwhile
from renderfarm.job import JobSettings
from renderfarm.log.parts import PART_ROWS_MAX
from renderfarm.log.writer import Committer
from renderfarm.logs import get_logger
from renderfarm.retry import BEST, FARM_FAULT, fitness, judge, next_attempt, rank
from renderfarm.run.engine import CheckedUnit, Engine, Event, FinishLost, Rendered, RenderLost, StoredUnit
from renderfarm.run.units import Backlog, PendingAttempt, Unit, UnitQueue, by_image, halves
from renderfarm.schema import PlannedImage, Record, Verdict
from renderfarm.workers.finish import Checked, Decision, Finished, failed_record

log = get_logger()

FIRST_COMMIT_S = 2.0
"""The first part comes this soon; the interval then grows to a tenth of the time that the run has lasted."""
WAIT_S = 0.5
LOSSES_MAX = 2
"""Finishers that one unit may take down before it is rendered again in halves."""


class Duplicates(Protocol):
    """Near-duplicates among accepted images."""

    def judge(self, image: PlannedImage, checked: Checked) -> tuple[Verdict, ...]:
        """Verdicts on an image that all other checks would accept; an accepted one is remembered as its row's."""

    def keep(self, image_id: str) -> None:
        """An image that was judged acceptable is stored."""

    def forget(self, image_id: str) -> None:
        """An image that was judged acceptable was lost before it was stored."""


class Stop(Protocol):
    """Whether to go on."""

    def draining(self, unit_s: float, commit_s: float = 0.0) -> bool:
        """No new units. `unit_s`: what a unit takes (95th percentile); `commit_s`: what the slowest commit of this run took."""

    def abandon(self, commit_s: float = 0.0) -> bool:
        """Leave what is in flight, commit what is stored."""

    def over(self) -> bool:
        """The window is closed: nothing may be committed any more."""


Hear = Callable[[Callable[[], set[str]]], Mapping[str, int]]
"""Takes in what people said meanwhile of images that are not in work; how many images came to each state, or left it."""


@dataclass(frozen=True, slots=True)
class Load:
    """Where the work is: units by stage, the bytes of their pixels, and images that wait."""

    rendering: int = 0
    checking: int = 0
    storing: int = 0
    bytes_in_flight: int = 0
    waiting: Backlog = field(default_factory=Backlog)


@dataclass(slots=True)
class Tally:
    """Images by state and attempts by reason, for the progress view. `committed` counts records in parts of this run, `failing` images
    that failed one after another, with nothing rendered between; `priced`: as in `run.engine.Opened`."""

    planned: int
    accepted: int = 0
    exhausted: int = 0
    failed: int = 0
    rejected_attempts: int = 0
    accepted_now: int = 0
    failed_now: int = 0
    attempts_now: int = 0
    committed: int = 0
    pending: int = 0
    failing: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    cpu_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    busy_s: float = 0.0
    elapsed_s: float = 0.0
    first_image_s: float | None = None
    renderers: int = 0
    priced: int = 0
    load: Load = field(default_factory=Load)

    @property
    def remaining(self) -> int:
        """Images that are not final."""
        return self.planned - self.accepted - self.exhausted - self.failed


class Loop:
    """One run over one queue. Call `run` once."""

    def __init__(
        self,
        job: JobSettings,
        plan_digest: str,
        queue: UnitQueue,
        engine: Engine,
        committer: Committer,
        duplicates: Duplicates,
        stop: Stop,
        tally: Tally,
        watch: Callable[[Tally], None] = lambda tally: None,
        clock: Callable[[], float] = time.monotonic,
        hear: Hear = lambda in_work: {},
    ) -> None:
        self.hear = hear
        self.job, self.plan_digest = job, plan_digest
        self.queue, self.engine, self.committer = queue, engine, committer
        self.duplicates, self.stop, self.tally, self.watch = duplicates, stop, tally, watch
        self._flying: dict[int, tuple[Unit, float]] = {}
        self._rendered: dict[int, Rendered] = {}
        self._decided: dict[int, tuple[tuple[Checked, ...], tuple[Decision, ...]]] = {}
        self._buffer: list[Record] = []
        self._failing: list[Record] = []
        self.clock = clock
        self._begun = self._committed_at = self._surveyed_at = clock()
        self._commit_s = 0.0
        self.paused = False
        """Whether the stop left work undone."""
        self._unit_times: list[float] = []
        self._best: dict[str, tuple[int, float]] = {}

    def run(self) -> Tally:
        """Until nothing is left, or the stop says so; what is stored is committed in any case. Raises: Fenced, StorageAway, FarmLost."""
        try:
            while not self._abandoned():
                if not self._lease() and not self._flying:
                    self._end()
                    break
                for event in self.engine.wait(WAIT_S):
                    self._handle(event)
                self._commit_if_due()
                self.tally.elapsed_s = self.clock() - self._begun
                self._survey()
                self.watch(self.tally)
        finally:
            self._commit()
            self.watch(self.tally)
        return self.tally

    def _abandoned(self) -> bool:
        """Whether what is in flight must be left; noted as a pause."""
        abandoned = self.stop.abandon(self._commit_s)
        self.paused = self.paused or abandoned
        return abandoned

    def _lease(self) -> bool:
        """Whether more may be leased later: all renderers have enough to do, or none is ready."""
        while self.engine.capacity() > 0:
            if self.stop.draining(self._unit_p95_s(), self._commit_s):
                self.paused = self.paused or not self.queue.empty()
                return False
            unit = self.queue.next_unit(self.engine.share())
            if unit is None:
                return False
            self._flying[unit.number] = (unit, self.clock())
            log.debug("unit.leased", unit=unit.number, attempts=[f"{w.attempt.image.image_id}/{w.attempt.number}" for w in unit.members])
            self.engine.render(unit)
        return not self.queue.empty() and not self.stop.draining(self._unit_p95_s(), self._commit_s)

    def _survey(self) -> None:
        """Where the work is, looked at once a second."""
        if self.clock() - self._surveyed_at >= 1.0:
            self._surveyed_at = self.clock()
            stored, checked, flying = len(self._decided), len(self._rendered), len(self._flying)
            flying_bytes = sum(unit.pixel_bytes() for unit, _ in self._flying.values())
            self.tally.load = Load(flying - checked, checked - stored, stored, flying_bytes, self.queue.waiting())

    def _unit_p95_s(self) -> float:
        recent = sorted(self._unit_times[-200:])
        return recent[int(len(recent) * 0.95)] if recent else 0.0

    def _handle(self, event: Event) -> None:
        match event:
            case Rendered():
                self.tally.busy_s += event.busy_s
                self._add_cpu(event.cpu_s)
                self._rendered[event.unit.number] = event
                self.engine.check(event)
            case CheckedUnit():
                self._decide(event)
            case StoredUnit():
                self._land(event.unit)
                landed = iter(event.finished)
                for works in by_image(event.unit.members):
                    self._record(works, [next(landed) for _ in works])
            case RenderLost():
                log.warning("unit.lost", unit=event.unit.number, size=len(event.unit.members), reason=event.reason)
                self._forget(event.unit)
                self._land(event.unit)
                if event.blamed:
                    self._render_again(halves(event.unit), event.reason)
                else:
                    self.queue.put_back(event.unit.members, first=True)
            case FinishLost():
                self._finish_again(event)

    def _add_cpu(self, cpu_s: Mapping[str, float]) -> None:
        for stage, spent_s in cpu_s.items():
            self.tally.cpu_s[stage] += spent_s

    def _decide(self, event: CheckedUnit) -> None:
        """Near-duplicates in log order, then the outcome of every attempt."""
        found = iter(event.checked)
        decisions = tuple(d for works in by_image(event.unit.members) for d in self._decisions(works, [next(found) for _ in works]))
        self._decided[event.unit.number] = (event.checked, decisions)
        for checked in event.checked:
            self._add_cpu(checked.cpu_s)
        self.engine.store(event.rendered, event.checked, decisions)

    def _decisions(self, works: Sequence[PendingAttempt], found: Sequence[Checked]) -> list[Decision]:
        """Over all attempts of one image at once: the best that passes is accepted, the others give way to it."""
        verdicts = [checked.verdicts for checked in found]
        passing = [place for place, said in enumerate(verdicts) if judge(said)[0] == "accepted"]
        best: int | None = None
        for place in sorted(passing, key=lambda place: fitness(found[place].verdicts), reverse=True):  # the earlier one of equals
            if best is None:
                verdicts[place] += self.duplicates.judge(works[place].attempt.image, found[place])
                best = place if judge(verdicts[place])[0] == "accepted" else None
                if best is not None and len(works) > 1:
                    verdicts[place] += (Verdict(BEST, "accepted", f"the best of {len(works)}"),)
            else:
                verdicts[place] += (Verdict(BEST, "rejected", f"another of {len(works)} is better"),)
        return [self._decision(work, said) for work, said in zip(works, verdicts, strict=True)]

    def _decision(self, work: PendingAttempt, verdicts: tuple[Verdict, ...]) -> Decision:
        outcome, reason = judge(verdicts)
        return Decision(outcome, reason, verdicts, outcome == "accepted" or self._keeps(work, verdicts))

    def _keeps(self, work: PendingAttempt, verdicts: tuple[Verdict, ...]) -> bool:
        """Whether a rejected attempt keeps its picture: with `best`, only one that is better than all before it."""
        if self.job.output.rejected != "best":
            return self.job.output.rejected == "all"
        image_id, mine = work.attempt.image.image_id, rank(verdicts)
        better = image_id not in self._best or mine > self._best[image_id]
        if better:
            self._best[image_id] = mine
        return better

    def _record(self, works: Sequence[PendingAttempt], found: Sequence[Finished]) -> None:
        """Stored attempts of one image enter the buffer; where none is accepted, it is sent back with its next seed, or is exhausted."""
        tally, image_id = self.tally, works[0].attempt.image.image_id
        records = [finished.record for finished in found]
        self._believe_failures()
        self._buffer += records
        tally.pending = len(self._buffer)
        tally.attempts_now += len(records)
        for finished in found:
            self._add_cpu(finished.cpu_s)
        for record in records:
            if record.outcome != "accepted":
                tally.rejected_attempts += 1
                tally.reasons.update(verdict.check for verdict in record.verdicts if verdict.outcome == "rejected")
        if any(record.outcome == "accepted" for record in records):
            tally.accepted += 1
            tally.accepted_now += 1
            self.duplicates.keep(image_id)
            tally.first_image_s = tally.first_image_s or self.clock() - self._begun
            self._best.pop(image_id, None)
        else:
            self._retry(works)
        for one in records:
            log.info(f"image.{one.outcome}", image=one.image_id, row=one.row_id, attempt=one.attempt, reason=one.reason or None)

    def _retry(self, works: Sequence[PendingAttempt]) -> None:
        """After attempts of one image that were all rejected."""
        last, rejected = works[-1], works[-1].rejected + len(works)
        following = next_attempt(rejected, False, last.attempt.number, self.job.checks.attempts)
        if following is None:
            self.tally.exhausted += 1
            self._best.pop(last.attempt.image.image_id, None)
            return
        for work in PendingAttempt.round(last.planned or last.attempt.image, following, rejected, self.job):
            self.queue.put_retry(work)

    def _render_again(self, parts: Sequence[tuple[PendingAttempt, ...]], reason: str) -> None:
        """Back to the queue in halves; a drawing, or a sheet, that was alone too often is recorded as failed."""
        for members in parts:
            if members[0].deaths >= self.job.farm.deaths_max:
                for works in by_image(members):
                    self._fail(works[0], reason)
            else:
                self.queue.put_back(members)

    def _fail(self, work: PendingAttempt, reason: str) -> None:
        """Held back until something is rendered: where all fails, the farm is at fault, and the images stay as they are."""
        record = failed_record(work.attempt, self.job.name, self.plan_digest, reason)
        log.warning("image.failed", image=record.image_id, row=record.row_id, attempt=record.attempt, reason=reason)
        if not reason.startswith(FARM_FAULT):
            self._believe([record])
            return
        self._failing.append(record)
        self.tally.failing, limit = len(self._failing), self.job.budget.in_a_row
        if limit is None or (self.job.budget.then == "notify" and len(self._failing) > limit):
            self._believe_failures()

    def _end(self) -> None:
        """Nothing is in flight any more. Failures are believed if all else is done, and not so many of them stand in a row."""
        limit = self.job.budget.in_a_row
        if limit is not None and len(self._failing) >= limit and self.job.budget.then == "pause":
            self.paused = True
        if not self.paused:
            self._believe_failures()

    def _believe_failures(self) -> None:
        """What failed, failed by itself: something was rendered after it, or all else is done."""
        self._believe(self._failing)
        self._failing.clear()
        self.tally.failing = 0

    def _believe(self, failed: Sequence[Record]) -> None:
        self.tally.failed += len(failed)
        self.tally.failed_now += len(failed)
        self.tally.attempts_now += len(failed)
        self._buffer += failed
        self.tally.pending = len(self._buffer)

    def _finish_again(self, event: FinishLost) -> None:
        """The pixels are tried on another finisher; a unit that takes down finishers is rendered again in halves."""
        log.warning("finisher.lost", unit=event.unit.number, reason=event.reason)
        unit = replace(event.unit, losses=event.unit.losses + 1)
        if unit.losses > LOSSES_MAX:
            self._forget(unit)
            self._land(unit)
            self._render_again(halves(unit, sheets=True), event.reason)
            return
        rendered = replace(self._rendered[unit.number], unit=unit)
        self._rendered[unit.number] = rendered
        if unit.number in self._decided:
            self.engine.store(rendered, *self._decided[unit.number])
        else:
            self.engine.check(rendered)

    def _forget(self, unit: Unit) -> None:
        _, decisions = self._decided.get(unit.number, ((), ()))
        for work, decision in zip(unit.members, decisions, strict=False):
            if decision.outcome == "accepted":
                self.duplicates.forget(work.attempt.image.image_id)

    def _land(self, unit: Unit) -> None:
        """A unit is no longer in flight."""
        _, since = self._flying.pop(unit.number)
        self._unit_times.append(self.clock() - since)
        del self._unit_times[:-400]
        self._rendered.pop(unit.number, None)
        self._decided.pop(unit.number, None)

    def _commit_if_due(self) -> None:
        now = self.clock()
        interval_s = min(self.job.commit.interval_s, max(FIRST_COMMIT_S, (now - self._begun) / 10))
        if len(self._buffer) >= self.job.commit.images or (self._buffer and now - self._committed_at >= interval_s):
            self._commit()
        for state, change in self.hear(self._in_work).items():
            if state != "remaining":
                setattr(self.tally, state, getattr(self.tally, state) + change)

    def _in_work(self) -> set[str]:
        """Images that this run holds: they wait, are rendered or checked, or are stored and not committed."""
        flying = (work.attempt.image.image_id for unit, _ in self._flying.values() for work in unit.members)
        return {*self.queue.images(), *flying, *(record.image_id or "" for record in self._buffer)}

    def _commit(self) -> None:
        """Everything that is stored, in one part if one holds it. A crash before it: rendered again; after it: final.

        Nothing once the window is closed: what is stored by then is rendered again in the next one.
        """
        while self._buffer and not self.stop.over():
            begun, cpu = self.clock(), time.process_time()
            part = self._buffer[:PART_ROWS_MAX]
            try:
                self.committer.append(part)
            except AcceptedMeanwhile as error:  # the image is accepted, with another picture: ours is an orphan
                self._buffer = [one for one in self._buffer if one.outcome != "accepted" or one.image_id not in error.images]
                log.warning("images.accepted_meanwhile", images=len(error.images))
                continue
            self._commit_s = max(self._commit_s, self.clock() - begun)
            self.tally.cpu_s["commit"] += time.process_time() - cpu
            self.tally.committed += len(part)
            del self._buffer[: len(part)]
            self.tally.pending = len(self._buffer)
        self._committed_at = self.clock()
