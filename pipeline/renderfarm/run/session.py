"""One run of a job: open the log, record the plan if it is new, render what is not final.

Resuming is no special mode: every start reads the parts, subtracts what is final from the plan, and goes on. Order, and what a crash
leaves:

    the salt        of a new output; a crash behind it leaves a salt that the next start takes
    plan part       superseded images, the plan, reinstated images, rows that cannot be planned. A second driver is fenced here
    job.json        the resolved job; a crash before it leaves the job file of the plan before, which the next start mends
    units           stored pictures without a record are orphans; a part makes them final
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from renderfarm import keys
from renderfarm.errors import INCOMPLETE, PAUSED, LogDamaged, Paused, StorageRefused, UserError
from renderfarm.job import JobSettings
from renderfarm.keys import KeySet
from renderfarm.log import reading
from renderfarm.log.lease import Lease
from renderfarm.log.parts import PART_ROWS_MAX
from renderfarm.log.rate import last_rate
from renderfarm.log.state import Counts, LogState
from renderfarm.log.writer import Committer, LogWriter
from renderfarm.logs import get_logger
from renderfarm.plan import mixed_key, salted_row_digest
from renderfarm.records.canonical import sealed
from renderfarm.records.salts import Salts, plain
from renderfarm.resolve import ResolvedJob
from renderfarm.retry import cause_of, next_attempt, reopens
from renderfarm.run import witness
from renderfarm.run.duplicates import JobDuplicates
from renderfarm.run.engine import OpenEngine
from renderfarm.run.loop import Hear, Loop, Stop, Tally
from renderfarm.run.opening import claim_output, output_salt, probed, take_lease, write_job_file
from renderfarm.run.units import PendingAttempt, UnitQueue
from renderfarm.schema import Record
from renderfarm.statements import inbox
from renderfarm.statements.intake import Inbox, take_in
from renderfarm.statements.reviews import ReviewRules, people_of
from renderfarm.storage import Storage, open_storage
from renderfarm.version import __version__
from renderfarm.workers.finish import now_us
from renderfarm.workers.worker import Order

log = get_logger()


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What one call of `render` asks beyond the job file."""

    limit: int | None = None
    retry_failed: bool = False


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run came to. `notes`: what the user should know."""

    counts: Counts
    tally: Tally
    paused: bool
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 all accepted, 3 some exhausted or failed, 75 paused with images left."""
        if self.counts.remaining and self.paused:
            return PAUSED
        return INCOMPLETE if self.counts.exhausted or self.counts.failed else 0


@dataclass(slots=True)
class Session:
    """An output opened for writing under one resolved job."""

    resolved: ResolvedJob
    storage: Storage
    keys: KeySet
    writer: LogWriter
    notes: list[str] = field(default_factory=list)
    lease: Lease | None = None
    inbox: Inbox | None = None

    @property
    def committer(self) -> Committer:
        """Where records go: the log, asking the lease first where nothing else keeps drivers apart."""
        return self.writer if self.lease is None else self.lease.guard(self.writer)

    @property
    def job(self) -> JobSettings:
        """The job's settings."""
        return self.resolved.job

    @property
    def state(self) -> LogState:
        """What the log says, up to the last commit."""
        return self.writer.state

    @property
    def salts(self) -> Salts:
        """What rows are hashed with in this output."""
        return salts_of(self.state)

    def counts(self) -> Counts:
        """Images of the newest plan by state."""
        return self.state.counts(self.job.checks.attempts)


def salts_of(state: LogState) -> Salts:
    """What rows are hashed with, by what the log says: nothing in an output that began before record version 4."""
    return state.salts.of if state.salted else plain


def job_keys(job: JobSettings) -> tuple[KeySet, list[str]]:
    """The key set that the job names, or the user's own, made on first use. Raises: KeysError."""
    if job.keys is not None:
        found, made = keys.load(Path(job.keys)), False
    else:
        found, made = keys.load_or_init_default()
    notes = [f"made a development key set in {found.folder}; `renderfarm keys init` says what production needs"] if made else []
    return found, notes


def open_session(resolved: ResolvedJob, storage: Storage | None = None) -> Session:
    """Open or make the output, where it is not given open, and bring its plan up to date.

    Raises: JobError (another job's output), LogDamaged, Fenced, StorageAway.
    """
    job = resolved.job
    key_set, notes = job_keys(job)
    storage = storage or open_storage(job.output.to, create=True, patience_s=job.output.patience_s, checksum=job.output.checksum)
    claim_output(storage, job)
    lease = take_lease(storage, probed(storage, notes).fences, notes)
    try:
        signer = key_set.signer()
        writer = LogWriter.open(storage, job.name, signer, key_set.trust().log_keys)
        if writer.state.salted:
            resolved = resolved.salted(output_salt(storage))
        session = Session(resolved, storage, key_set, writer, notes, lease)
        session.inbox = Inbox(storage, writer, people_of(key_set), rules_of(job, key_set), session.committer, lease=lease)
        _record_plan(session)
        write_job_file(storage, resolved)
    except BaseException:
        lease.release()
        raise
    return session


def rules_of(job: JobSettings, key_set: KeySet) -> ReviewRules:
    """What of a job decides about a person's word."""
    return ReviewRules(job.name, job.checks.attempts, job.media_type(), job.mark.allow_unmarked, key_set.mark_key)


def _record_plan(session: Session) -> None:
    """Commit the plan if it differs from the last: images that left, the plan, images that came back, rows that are bad.

    More of them than one part holds take several, and a crash between two leaves the change half done: so a plan that is recorded is
    looked through again until something was rendered after it, and where rows are bad, and what is missing is written. So it is where
    values were taken away: their rows have new salts, and so new images.
    """
    state, resolved, salts = session.state, session.resolved, session.salts
    recorded = state.plan is not None and state.plan.plan_digest == resolved.plan_digest
    half_done = state.changing and any(image.superseded for _, image in state.images())
    if recorded and not resolved.bad_rows and not half_done and not state.unknown():
        return
    logged = {image_id for image_id, _ in state.images()}
    kept = {key.hex() for key in resolved.image_keys(salts) if state.knows(key)} if logged else set()
    left = [i for i, s in state.images() if not s.superseded and i not in kept]
    back = [i for i, s in state.images() if s.superseded and i in kept]
    _say_what_went(session, {image_id for image_id in left if state.image(image_id).accepted})
    blank = Record(
        kind="plan",
        version=session.writer.record_version,
        job=session.job.name,
        plan_digest=resolved.plan_digest,
        renderfarm_version=__version__,
        finished_us=now_us(),
    )
    plan = _changed(blank, manifest_digest=resolved.manifest_digest, settings_digest=resolved.settings_digest, planned=resolved.planned)
    records = [
        *(_changed(blank, kind="superseded", image_id=image_id) for image_id in left),
        *([] if recorded else [plan]),
        *(_changed(blank, kind="reinstated", image_id=image_id) for image_id in back),
        *_bad_records(session, blank, logged),
    ]
    if not records:
        return
    for at in range(0, len(records), PART_ROWS_MAX):
        session.writer.append(records[at : at + PART_ROWS_MAX])
    log.info("plan.recorded", planned=resolved.planned, superseded=len(left), reinstated=len(back), bad_rows=resolved.bad_rows)


def _say_what_went(session: Session, left: set[str]) -> None:
    """Accepted images that leave the plan because their values are gone: their rows are drawn anew, which costs, and may not be meant."""
    if not left or not session.state.forgotten:
        return
    gone = set[str]()
    for _, table in reading.tables(session.storage, ("kind", "image_id", "salt")):
        rows = zip(*(table.column(name).to_pylist() for name in ("kind", "image_id", "salt")), strict=True)  # type: ignore[attr-defined]
        gone.update(image_id for kind, image_id, salt in rows if kind == "attempt" and salt is None and image_id in left)
    if gone:
        what = f"{len(gone)} accepted images leave the plan since their values are gone: rows that are still there are drawn anew"
        session.notes.append(f"{what}; if that is not meant, stop, and restore provenance/values/ before the next run")
        log.warning("values.gone", images=len(gone), consequence="drawn anew where their rows are still in the manifest")


def _changed(record: Record, **values: object) -> Record:
    import dataclasses

    return dataclasses.replace(record, **values)  # type: ignore[arg-type]


def _bad_records(session: Session, blank: Record, logged: set[str]) -> Iterator[Record]:
    """Rows that cannot be planned, each recorded as failed with its reasons, once."""
    for image_id, salt, row in session.resolved.bad(session.salts):
        if image_id not in logged:
            reason = "; ".join(f"{fault.column}: {fault.what}" if fault.column else fault.what for fault in row.faults)
            record = _changed(
                blank,
                kind="attempt",
                image_id=image_id,
                row_id=row.row_id,
                row_digest=salted_row_digest(row.digest, salt),
                salt=salt or None,
                drawing_id=image_id if salt else None,
                index=0,
                attempt=1,
                outcome="failed",
                cause="row" if salt else None,
                reason=f"invalid row {row.row}: {reason}"[:2000],
            )
            yield sealed(record)


def open_work(session: Session, *, retry_failed: bool) -> Iterator[PendingAttempt]:
    """The next attempts of every image that is not final, or failed by the farm's fault, in manifest order."""
    return itertools.chain.from_iterable(open_rounds(session, retry_failed=retry_failed))


def open_rounds(session: Session, *, retry_failed: bool) -> Iterator[list[PendingAttempt]]:
    """The same, an image at a time: `defaults.of` attempts of it."""
    limit = session.job.checks.attempts
    by_the_farm = failed_by_the_farm(session)
    for image in session.resolved.images(session.salts, session.state.all_accepted):
        state = session.state.image(image.image_id)
        if state.accepted:
            continue
        again = retry_failed or image.image_id in by_the_farm
        number = next_attempt(state.rejected, state.failed, state.last_attempt, limit, retry_failed=again)
        if number is not None:
            yield PendingAttempt.round(image, number, state.rejected, session.job)


def failed_by_the_farm(session: Session) -> set[str]:
    """Failed images that open again by themselves; the log is read for it only where an image failed. Raises: StorageAway."""
    if session.state.failed_attempts <= session.resolved.bad_rows:
        return set()
    import pyarrow.compute as pc

    found: set[str] = set()
    for _, table in reading.tables(session.storage, ("image_id", "outcome", "cause", "reason")):
        failed = table.filter(pc.equal(table.column("outcome"), "failed"))  # type: ignore[attr-defined]
        for image_id, cause, reason in zip(*(failed.column(name).to_pylist() for name in ("image_id", "cause", "reason")), strict=True):
            state = session.state.image(image_id)
            opens = state.failed and not state.accepted and reopens(state.last_attempt - state.rejected, cause or cause_of(reason or ""))
            (found.add if opens else found.discard)(image_id)
    return found


def run(session: Session, options: RunOptions, open_engine: OpenEngine, stop: Stop, watch: Callable[[Tally], None]) -> RunResult:
    """Render until nothing is left or the stop says so; the engine is opened if anything is. Raises: Fenced, Paused, UserError."""
    try:
        if session.inbox is not None:
            session.inbox.closed = lambda: stop.draining(0.0)
            session.inbox.listen()
        counts = session.counts()
        tally = Tally(counts.planned, counts.accepted, counts.exhausted, counts.failed)
        work = itertools.chain.from_iterable(itertools.islice(open_rounds(session, retry_failed=options.retry_failed), options.limit))
        first = next(work, None)
        paused = False
        if first is not None:
            _reopen(tally, session, options)
            paused = _render(session, open_engine, itertools.chain([first], work), stop, tally, watch)
            if session.inbox is not None:
                session.inbox.listen()
            if not paused and options.limit is None and (taken_back := session.counts().remaining):
                paused = True
                session.notes.append(f"{taken_back} images were taken back by people while this run lasted")
        _tell_witnesses(session)
    finally:
        if session.lease is not None:
            session.lease.release()
    answer_latecomers(session)
    if session.inbox is not None and session.inbox.troubles:
        some = "; ".join(sorted(set(session.inbox.troubles.values()))[:3])
        session.notes.append(f"{len(session.inbox.troubles)} statements in the inbox cannot be taken in: {some}")
    return RunResult(session.counts(), tally, paused, tuple(session.notes))


def answer_latecomers(session: Session) -> None:
    """Whoever left a statement after the last look, and saw that a driver was still there, counts on being heard."""
    found = session.inbox
    if found is None or found.closed():
        return
    try:
        if set(inbox.keys(session.storage)) - found.waiting - set(found.troubles):
            take_in(session.storage, session.keys, rules_of(session.job, session.keys))
    except (Paused, UserError, LogDamaged) as error:  # what is rendered is committed: nothing here ends the run otherwise
        session.notes.append(f"statements of people wait in the inbox: {error}")


def _tell_witnesses(session: Session) -> None:
    """Everything is committed by now: a witness that does not answer is said, and asked again after the next run."""
    try:
        told = witness.tell(session.writer, session.storage, session.job.witness, session.keys.trust().witness_keys)
    except (Paused, UserError) as error:
        session.notes.append(f"witnesses were not told: {error}")
        return
    for trouble in told.troubles if told is not None else ():
        log.warning("witness.failed", trouble=trouble)
        session.notes.append(trouble)


def _reopen(tally: Tally, session: Session, options: RunOptions) -> None:
    """Failed images that this run opens again do not count as failed while it lasts."""
    if options.retry_failed:
        bad = session.resolved.bad_rows
        tally.failed = min(tally.failed, bad)
    else:
        tally.failed -= len(failed_by_the_farm(session))


def _render(
    session: Session, open_engine: OpenEngine, work: Iterator[PendingAttempt], stop: Stop, tally: Tally, watch: Callable[[Tally], None]
) -> bool:
    """Whether the stop left work undone."""
    resolved, job = session.resolved, session.job
    order = Order(job, resolved.plan_digest, resolved.weights, session.keys)
    with open_engine(order, lambda: stop.draining(0.0)) as opened:
        tally.renderers, tally.priced = opened.renderers, opened.priced
        size = max(opened.batch, unit_size(job))
        queue = UnitQueue(work, size * SLOT_TURNS, mixed_key) if job.model.slots else UnitQueue(work, size)
        with contextlib.closing(JobDuplicates.of(job, session.storage, session.state, stop.abandon)) as duplicates:
            hear: Hear = session.inbox.hear if session.inbox is not None else lambda in_work: {}
            loop = Loop(job, resolved.plan_digest, queue, opened.engine, session.committer, duplicates, stop, tally, watch, hear=hear)
            loop.run()
        return loop.paused


SLOT_TURNS = 4
"""Units for slots hold so many batches: only at a unit's end do slots stay empty."""


def unit_size(job: JobSettings) -> int:
    """Images in a unit: the batch where the job fixes one; small enough else that a lost unit costs little."""
    return job.model.batch if isinstance(job.model.batch, int) else 4


def outlook(resolved: ResolvedJob) -> tuple[int, float | None]:
    """Images that are not final yet, and the last measured rate in images/s; writes nothing, and needs no output to exist."""
    try:
        storage = open_storage(resolved.job.output.to)
        state = reading.read_state(storage)
    except StorageRefused:
        return resolved.planned, None
    limit = resolved.job.checks.attempts
    done = sum(state.image(image.image_id).standing(limit) != "remaining" for image in resolved.images(salts_of(state)))
    return resolved.planned - done, last_rate(storage)
