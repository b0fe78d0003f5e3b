"""What the command line calls, for notebooks and schedulers: `Job` plans and renders, `Output` is what a job wrote.

    job = renderfarm.Job.load("jobs/mockups.yaml", {"output.to": "/tmp/mockups"})
    print(job.plan().images)
    run = job.render(limit=8, on_progress=lambda tally: print(tally.accepted))
    output = renderfarm.Output(run.output)
    assert output.audit().ok
    records = output.records(["row_id", "outcome", "seed"]).to_table()

Nothing is printed. What is raised on purpose is a `renderfarm.RenderfarmError`; a `UserError` says what is wrong, where, and the remedy.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from renderfarm import keys, report
from renderfarm.audit.audit import audit
from renderfarm.audit.fanout import Cores
from renderfarm.audit.findings import AuditReport
from renderfarm.cache import cache_folder
from renderfarm.engines import engine_for, fan_out_on
from renderfarm.errors import LogDamaged, UserError
from renderfarm.identify.identify import Answer, identify_all, pictures_in
from renderfarm.job import JobSettings, load_job
from renderfarm.keys import Trust
from renderfarm.log import parts, reading
from renderfarm.log.rate import last_rate
from renderfarm.log.state import Counts
from renderfarm.log.tree import Frontier
from renderfarm.output import PARTS, part_key
from renderfarm.plan import BatchKey, batch_key
from renderfarm.resolve import ResolvedJob, read_job_file, resolve_job
from renderfarm.review import review
from renderfarm.review.reproduce import Reproduction, reproduce_image
from renderfarm.run import session as runs
from renderfarm.run.budget import BudgetStop
from renderfarm.run.estimate import Estimate, estimate
from renderfarm.run.loop import Stop, Tally
from renderfarm.run.metrics import Metrics, serving
from renderfarm.run.session import Session
from renderfarm.run.telling import Teller
from renderfarm.storage import Storage, open_storage

if TYPE_CHECKING:
    import pyarrow.dataset as ds

REPORT_ATTEMPTS_MAX = 200_000
"""Beyond this many attempts a run leaves the contact sheet to `Output.report`."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a job would render. `remaining`: images that are not final yet; `groups`: planned images by what may share a batch."""

    resolved: ResolvedJob
    images: int
    remaining: int
    batch_size: int
    groups: Mapping[BatchKey, int]
    estimate: Estimate

    @property
    def batches(self) -> int:
        """Batches of at most `batch_size` images."""
        return sum(-(-count // self.batch_size) for count in self.groups.values())


@dataclass(frozen=True, slots=True)
class Run:
    """What a run came to. `rejects`: rejected attempts of the whole log by check; `page`: the contact sheet, where it was written."""

    output: str
    counts: Counts
    tally: Tally
    paused: bool
    exit_code: int
    notes: tuple[str, ...] = ()
    rejects: Mapping[str, int] = field(default_factory=dict)
    page: str | None = None


@dataclass(frozen=True, slots=True)
class _EventStop:
    """`run.loop.Stop`: drains once the event is set."""

    event: threading.Event

    def draining(self, unit_s: float, commit_s: float = 0.0) -> bool:
        return self.event.is_set()

    def abandon(self, commit_s: float = 0.0) -> bool:
        return False

    def over(self) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class Job:
    """One job."""

    settings: JobSettings

    @classmethod
    def load(
        cls, path: str | Path, changes: Mapping[str, object] | None = None, *, manifest: str | None = None, output: str | None = None
    ) -> Job:
        """Read a job file; `changes` by dotted name, such as {"checks.attempts": 5}. Raises: JobError naming every mistake."""
        return cls(load_job(Path(path), changes=changes, manifest=manifest, output=output))

    def plan(self, *, skip_invalid: bool = False) -> Plan:
        """Counts, batches and an estimate; writes nothing. Raises: UserError for what the manifest, weights or settings have wrong."""
        resolved = resolve_job(self.settings, skip_invalid=skip_invalid)
        groups: Counter[BatchKey] = Counter(batch_key(image) for image in resolved.images())
        left, rate = runs.outlook(resolved)
        found = estimate(self.settings, resolved.weights.digest, groups, left, rate, cache_folder())
        return Plan(resolved, resolved.planned, left, runs.unit_size(self.settings), dict(groups.most_common()), found)

    def render(
        self,
        *,
        limit: int | None = None,
        retry_failed: bool = False,
        skip_invalid: bool = False,
        address: str | None = None,
        stop: threading.Event | Stop | None = None,
        on_plan: Callable[[ResolvedJob], None] = lambda resolved: None,
        on_progress: Callable[[Tally], None] = lambda tally: None,
    ) -> Run:
        """Render what is not final yet, and write the contact sheet; the same call again goes on.

        `limit`: images of this call; `address`: a Ray cluster, `auto` or HOST:PORT; `stop`: once set, nothing new begins and what was begun
        is finished and committed; `on_plan` hears once what will be rendered, `on_progress` several times a second how far it is.

        Raises: UserError before anything renders; Fenced when another driver owns the output; Paused when the storage or the workers
        stay away: what was rendered is committed.
        """
        open_engine = engine_for(self.settings, address)
        inner: Stop = _EventStop(stop) if isinstance(stop, threading.Event) else stop or _EventStop(threading.Event())
        teller = Teller(self.settings)
        teller.warn_early()
        with teller.failures():
            resolved = resolve_job(self.settings, skip_invalid=skip_invalid)
            on_plan(resolved)
            budget, metrics = BudgetStop(self.settings, inner, teller.crossed), Metrics(self.settings.name)
            with serving(metrics, self.settings):
                session = runs.open_session(resolved)
                budget.begin(session, Tally(resolved.planned))
                options = runs.RunOptions(0 if budget.pauses else limit, retry_failed)  # used up already: no worker starts

                def watch(tally: Tally) -> None:
                    for view in (on_progress, metrics, budget):
                        view(tally)

                result = runs.run(session, options, open_engine, budget, watch)
            reason = "; ".join(map(str, budget.crossed.values())) if budget.pauses and result.counts.remaining else ""
            if reason:
                result = replace(result, paused=True, notes=(*result.notes, reason))
            try:
                page = _page_after(session)
            except LogDamaged as error:  # what was rendered is committed all the same
                page, result = None, replace(result, notes=(*result.notes, f"the page was not written: {error}"))
            teller.ended(result, reason)
        rejects = dict(session.state.rejects.most_common())
        return Run(session.storage.uri, result.counts, result.tally, result.paused, result.exit_code, result.notes, rejects, page)


def _page_after(session: Session) -> str | None:
    """The contact sheet over everything in the log; None where that takes too long to do it after every run."""
    state = session.state
    if state.attempts > REPORT_ATTEMPTS_MAX:
        return None
    summary = report.summary_of(session.job.name, session.job.checks.attempts, state, last_rate(session.storage))
    return f"{session.storage.uri}/{report.write(session.storage, reading.records(session.storage), summary)}"


class Output:
    """What a job wrote: a folder or an s3:// prefix. Nothing is read before a method asks for it."""

    def __init__(self, uri: str | Path) -> None:
        """Raises: StorageRefused where there is none."""
        self.storage: Storage = open_storage(str(uri))

    def logged(self) -> Storage:
        """The storage, in which there is a log. Raises: UserError; StorageAway."""
        if next(iter(self.storage.list(PARTS)), None) is None:
            raise UserError("no output of a job: there is no log here", self.storage.uri, "name the folder or prefix that a job wrote")
        return self.storage

    def counts(self) -> Counts:
        """Images of the newest plan by state. Raises: JobError where no job wrote, LogDamaged, StorageAway."""
        job = read_job_file(self.storage)
        return reading.read_state(self.storage).counts(job.attempts)

    def records(self, columns: Sequence[str] | None = None) -> ds.Dataset:
        """The records of the log, in their order. Each part is verified: its rows, the parts before it, its own key's signature of both.

        Raises: UserError without a log, LogDamaged, StorageAway.
        """
        import pyarrow as pa
        import pyarrow.dataset as ds

        from renderfarm.records.tables import view_schema

        chosen = [name for name in view_schema().names if columns is None or name in columns]
        if unknown := set(columns or ()) - set(chosen):
            raise UserError(f"no such column: {', '.join(sorted(unknown))}", "records", "docs/formats.md lists them")

        def verified(number: int, file: parts.PartFile) -> tuple[parts.Footer, pa.Table]:
            part = parts.trusted_values(file, number)
            parts.check_head(part.footer, parts.embedded_keys(part.footer))
            parts.check_rows(part)
            return part.footer, part.table.select(chosen)

        tables, grown = [], Frontier()
        for number, (footer, table) in reading.decoded(self.logged(), None, verified):
            if footer.before != grown:
                raise parts.PartDamaged("part-missing", part_key(number), "the parts before it are not those that it was appended to")
            grown = grown.append(footer.leaf)
            tables.append(table)
        empty = view_schema().empty_table().select(chosen)
        return ds.dataset(pa.concat_tables([empty, *tables], promote_options="default"))

    def audit(
        self,
        *,
        trust: str | Path | Trust | None = None,
        quick: bool = False,
        sample: int | None = None,
        seed: int = 0,
        since: bytes | None = None,
        address: str | None = None,
    ) -> AuditReport:
        """Re-derive every claim.

        `trust`: a trust folder, None the user's configuration; `quick`: the log alone; `sample`: so many pictures, drawn by `seed`;
        `since`: a checkpoint kept from earlier; `address`: a Ray cluster to do it on.
        """
        with fan_out_on(address) as fan_out:
            return audit(self.storage, trusted(trust), quick=quick, sample=sample, seed=seed, since=since, fan_out=fan_out)

    def report(self) -> str:
        """Write the contact sheet again; its address."""
        job, state = read_job_file(self.storage), reading.read_state(self.storage)
        summary = report.summary_of(job.name, job.attempts, state, last_rate(self.storage))
        return f"{self.storage.uri}/{report.write(self.storage, reading.records(self.storage), summary)}"

    def waiting(self) -> Iterator[review.Waiting]:
        """Exhausted images that wait for a person, with their attempts."""
        return review.waiting(self.storage, read_job_file(self.storage))

    def accept(
        self, image: str, attempt: int, *, by: str = "", note: str = "", key: str | Path | None = None, key_set: str | Path | None = None
    ) -> review.Reviewed:
        """A person publishes a rejected attempt of an exhausted image.

        `key`: a person's own key file, which signs it and says who they are; without one the log's key signs, and `by` says who.
        `key_set`: the folder of the log's keys; None: the job's own, else the user's. Where a job runs, or nobody here can sign the log,
        the word waits in the inbox (`Reviewed.waits`). Raises: UserError.
        """
        return self._word(image, attempt, review.Word("accepted", by, note), key, key_set)

    def reject(
        self, image: str, attempt: int, *, by: str = "", note: str = "", key: str | Path | None = None, key_set: str | Path | None = None
    ) -> review.Reviewed:
        """A person takes a delivered picture back, or confirms a rejection; as `accept`."""
        return self._word(image, attempt, review.Word("rejected", by, note), key, key_set)

    def _word(self, image: str, attempt: int, word: review.Word, key: str | Path | None, key_set: str | Path | None) -> review.Reviewed:
        job, person = read_job_file(self.storage), None if key is None else keys.load_person(Path(key))
        signing = review.log_keys(job, None if key_set is None else Path(key_set), needed=person is None)
        return review.review(self.storage, job, signing, image, attempt, word, person)

    def reproduce(self, image: str, *, trust: str | Path | None = None, on_note: Callable[[str], None] = lambda note: None) -> Reproduction:
        """Render an accepted image again, by its id or ROW:INDEX, and compare. `trust`: a folder with the key of its mark.

        Raises: UserError where there is no such image or model, KeysError without the mark's key; RenderFailed.
        """
        return reproduce_image(self.storage, image, None if trust is None else Path(trust), on_note)


def identify_pictures(
    pictures: Sequence[str | Path],
    outputs: Sequence[Output | str | Path],
    *,
    trust: str | Path | Trust | None = None,
    address: str | None = None,
) -> Iterator[Answer]:
    """Any copies of pictures, or folders of them → their records, one answer a picture, in order.

    Raises: UserError for a folder or file that is not there and for an output without a log: "not found" would be no answer.
    """
    storages = [(output if isinstance(output, Output) else Output(output)).logged() for output in outputs]
    files = [picture for path in pictures for picture in pictures_in(Path(path))]
    with fan_out_on(address) as cluster, Cores() as cores:
        yield from identify_all(files, storages, trusted(trust), cluster or cores)


def trusted(trust: str | Path | Trust | None) -> Trust | None:
    """What an auditor believes: a trust folder, else the user's configuration, else nothing. Raises: KeysError."""
    if isinstance(trust, Trust):
        return trust
    return keys.load_trust(Path(trust)) if trust is not None else keys.load_default_trust()
