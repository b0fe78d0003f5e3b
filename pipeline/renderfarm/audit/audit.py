"""Re-derives every claim of an output and names whatever does not hold. Imports no writer; changes nothing.

Each step stands on the one before:

    log        the signature and tree of every part
    counts     the states of the images, and what is recorded twice
    presence   which recorded pictures are there, and of what size
    pictures   each picture's bytes, credential and mark

Of a part that did not verify no row is looked at. Sums are drawn only over a whole log. So one edit is named once, and nothing else is
blamed for it.

Trust is what the caller brings. Without it the log is held against the key that it names itself, and the verdict is
*self-consistent, not trusted*.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from renderfarm import notes
from renderfarm.audit.counts import Recount
from renderfarm.audit.fanout import Cores, FanOut
from renderfarm.audit.findings import AuditReport
from renderfarm.audit.log import LogWalk
from renderfarm.audit.pictures import Beliefs, PictureResult, Recorded, check_objects, recorded_objects
from renderfarm.audit.presence import Absent, Presence
from renderfarm.audit.statements import Statements
from renderfarm.errors import NotStored, UserError
from renderfarm.keys import Trust
from renderfarm.notes import Checkpoint, cosign
from renderfarm.output import (
    JOB_FILE,
    JOB_FILE_BYTES_MAX,
    PICTURES,
    SALT,
    SALTED_SNAPSHOT,
    VALUES,
    WITNESSED,
    part_key,
    part_number,
    values_key,
)
from renderfarm.schema import PLAIN_VERSION
from renderfarm.storage import Storage

CheckMany = Callable[[Storage, Iterable[Recorded], Beliefs], Iterator[PictureResult]]
Progress = Callable[[str, int], None]


def audit(
    storage: Storage,
    trust: Trust | None = None,
    *,
    quick: bool = False,
    sample: int | None = None,
    seed: int = 0,
    since: bytes | None = None,
    fan_out: FanOut | None = None,
    check_many: CheckMany | None = None,
    progress: Progress | None = None,
) -> AuditReport:
    """Audits one output.

    quick: signatures, trees, counts and presence; no row is re-derived and no object read. sample: the whole log, but
    only so many objects, drawn by `seed`. since: a checkpoint that the auditor kept. fan_out: where much work is done,
    by default on this machine's cores. check_many: how objects are checked, by default by `pictures.check_objects`.
    progress: called with a stage and how much of it is done.
    Raises: UserError when nothing of an output lies there, or `since` is no checkpoint of this log; StorageAway.
    """
    begin = time.monotonic()
    log_keys = trust.log_keys if trust is not None and trust.log_keys else None
    mode = "quick" if quick else "full" if sample is None else f"a sample of {sample} by seed {seed}"
    report = AuditReport(storage.uri, mode, trusted=log_keys is not None)
    earlier = _checkpoint_of(since, trust)
    beliefs = Beliefs.of(trust)
    with Cores() as cores:
        spread = fan_out or cores
        check = check_many or partial(check_objects, fan_out=spread)
        walk = LogWalk(storage, report, log_keys, quick, earlier, fan_out if quick else spread)
        run = _Run(storage, report, walk, progress, trust)
        if quick or sample is not None:
            drawn = _Reservoir(0 if sample is None or quick else sample, seed)
            for recorded in run.stream(with_objects=bool(sample) and not quick):
                drawn.offer(recorded)
            gone = run.presence(name_absent=True)
            run.check(check(storage, drawn.chosen(gone), beliefs))
        else:
            run.check(check(storage, run.stream(), beliefs))
            run.presence(name_absent=False)
    if report.parts == 0 and report.ok:
        _say_no_log(storage, report)
    if report.parts:
        _check_witnesses(walk, report, trust)
    run.sums()
    if earlier is not None and report.ok and walk.head is not None:
        report.notes.append(
            f"the log continues the checkpoint that was kept: its first {earlier.size} of {walk.head.size} parts are the same"
        )
    _say_what_was_not_judged(report, trust, quick)
    report.elapsed_s = time.monotonic() - begin
    return report


class _Run:
    """The steps of one audit over one walk."""

    def __init__(self, storage: Storage, report: AuditReport, walk: LogWalk, progress: Progress | None, trust: Trust | None) -> None:
        self._storage = storage
        self._report = report
        self._walk = walk
        self._progress = progress
        self._tally = Recount()
        self._presence = Presence()
        self._statements = Statements(report, trust)
        self._unread_marks = 0
        self._values: set[str] = set()

    def stream(self, with_objects: bool = True) -> Iterator[Recorded]:
        """Walks the log to its end, and yields the objects that verified rows record (none unless `with_objects`)."""
        for part in self._walk.verified():
            number = part.footer.number
            if part.footer.version > PLAIN_VERSION:
                self._values.add(values_key(number, part.footer.row_root))
            for row, what in self._tally.add(number, part.table):
                self._report.add("record-malformed", f"{part_key(number)}#{row}", what)
            self._presence.add_part(number, part.table)
            self._statements.add(number, part.statements)
            for odd in part.oddities:
                self._report.add(odd.name, f"{part_key(number)}#{odd.row}", odd.what, odd.image_id)
            if self._progress is not None:
                self._progress("records", self._report.records)
            if with_objects:
                yield from recorded_objects(number, part_key(number), part.table)
        self._walk.finish()
        self._statements.finish(self._storage, self._walk.whole)
        self._report.objects = self._presence.recorded
        if self._walk.head is not None:
            self._report.checkpoint = self._walk.head.to_bytes().decode()

    def check(self, answers: Iterator[PictureResult]) -> None:
        """Takes in what was found on each object. One that is gone may have been taken back by a person later in the log."""
        gone: list[PictureResult] = []
        for answer in answers:
            self._report.objects_read += 1
            recorded = answer.recorded
            if answer.finding == "object-missing":
                gone.append(answer)
            elif answer.finding is not None:
                self._report.add(answer.finding, recorded.object_key, answer.what, recorded.image_id)
            elif recorded.outcome == "accepted" and not answer.mark_read:
                self._unread_marks += 1
            if self._progress is not None:
                self._progress("pictures", self._report.objects_read)
        for answer in gone:
            recorded = answer.recorded
            if not self._presence.withdrawn(recorded.object_key, _place_of(recorded.where)):
                self._report.add("object-missing", recorded.object_key, answer.what, recorded.image_id)
        if self._unread_marks:
            what = f"{self._unread_marks} accepted pictures: the mark was not looked for (no mark recorded, or no key for it)"
            self._report.notes.append(what)

    def presence(self, name_absent: bool) -> set[tuple[int, int]]:
        """Compares records with what lies there. The places, (part, row), of objects that are gone or of another size."""
        for prefix in PICTURES:
            self._presence.add_listing(self._storage.list(prefix))
        absent, orphans = self._presence.compare()
        if name_absent:
            for item in absent:
                self._name_absent(item)
        if self._walk.whole:
            self._say_values()
            self._report.orphans = orphans
            if orphans:
                what = "delivered by no record: a crash before their commit leaves such; `renderfarm gc` collects them"
                self._report.notes.append(f"{orphans} stored pictures are {what}")
        return {(item.part, item.row) for item in absent}

    def _say_values(self) -> None:
        """Values may go: what is signed holds without them. A crash before its part leaves a file of values that no part has."""
        if gone := self._report.forgotten:
            self._report.notes.append(f"the values of {gone} records are gone (prompts, row ids, texts): only their commitments are there")
        lying = {stored.key for stored in self._storage.list(VALUES)} - {SALT, SALTED_SNAPSHOT}
        if stray := len(lying - self._values):
            self._report.notes.append(f"{stray} files of values belong to no part: a crash before its commit leaves such")

    def _name_absent(self, item: Absent) -> None:
        place = f"{part_key(item.part)}#{item.row}"
        key, image = _place(self._storage, item)
        if item.size is None:
            self._report.add("object-missing", key, f"recorded in {place}", image)
        else:
            self._report.add("object-altered", key, f"it has {item.size} bytes; recorded in {place}", image)

    def sums(self) -> None:
        """Counts, repetitions, and job.json against the newest plan. Only a whole log says anything about these."""
        if not self._walk.whole or self._report.parts == 0:
            self._report.notes.append(
                "counts and job.json were not judged: " + ("the log is not whole" if self._report.parts else "no log")
            )
            return
        limit = self._check_job()
        summed = self._tally.sum(limit)
        self._report.counts = summed.counts
        if summed.counts is None:
            planned = self._tally.plan.planned if self._tally.plan else 0
            what = f"{planned} images are planned, but {summed.known} that were not superseded have records"
            self._report.add("counts-differ", "provenance/parts/", what)
        for wrong in summed.unfounded:
            what = f"image {wrong.image_id}, attempt {wrong.attempt}: {wrong.what}"
            self._report.add("review-unfounded", part_key(wrong.part), what, wrong.image_id)
        for twice in summed.twice:
            what = "accepted twice" if twice.attempt is None else f"attempt {twice.attempt} is recorded twice"
            self._report.add("attempt-twice", part_key(twice.part), f"image {twice.image_id}: {what}", twice.image_id)

    def _check_job(self) -> int:
        """job.json has the digest that the newest plan recorded. Its attempts limit; a large one where it has none.

        A driver writes it right after the plan: until something is rendered, a crash may have left the one of the plan before.
        """
        plan, before = self._tally.plan, self._tally.plan_before
        crash = not self._tally.rendered_since
        try:
            data = self._storage.get(JOB_FILE, JOB_FILE_BYTES_MAX)
        except NotStored:
            if plan is not None and crash and before is None:
                self._report.notes.append("job.json is not there yet, as after a crash: the plan is the last thing recorded")
            elif plan is not None:
                self._report.add("job-missing", JOB_FILE, f"the newest plan recorded {plan.settings_digest}")
            return 1 << 30
        digest = hashlib.sha256(data).hexdigest()
        if plan is not None and digest != plan.settings_digest:
            if crash and before is not None and digest == before.settings_digest:
                self._report.notes.append(
                    "job.json is that of the plan before, as after a crash: the newest plan is the last thing recorded"
                )
            else:
                what = f"its SHA-256 is {digest}, the newest plan recorded {plan.settings_digest}"
                self._report.add("job-altered", JOB_FILE, what)
        return _attempts_limit(data)


def _say_no_log(storage: Storage, report: AuditReport) -> None:
    """Nothing under `provenance/` is no pass: either the log was taken away, or this is no output at all.

    Raises: UserError for the second.
    """
    job = storage.stat(JOB_FILE) is not None
    if not job and not report.orphans:
        raise UserError("no output of a job: there is no log here", storage.uri, "name the folder or prefix that a job wrote")
    remains = " and ".join([f"{report.orphans} pictures"] * bool(report.orphans) + [JOB_FILE] * job)
    report.add("part-missing", part_key(0), f"there is no log, but {remains}; a job writes its first part before them")


def _check_witnesses(walk: LogWalk, report: AuditReport, trust: Trust | None) -> None:
    """What each trusted witness saw of this log, by its lines under the checkpoints that agree with the parts."""
    keys = trust.witness_keys if trust is not None else {}
    for kept in walk.checkpoints:
        try:
            cosigned = cosign.verify(kept.checkpoint, keys)
        except notes.NoteUntrusted as error:
            report.add("cosignature-bad", kept.where, str(error))
            continue
        for name, when in cosigned.items():
            report.witnessed[name] = max((kept.checkpoint.size, when), report.witnessed.get(name, (0, 0)))
    for name in sorted(set(keys) - set(report.witnessed)) if not report.found_at(WITNESSED) else ():
        report.add("cosignature-missing", WITNESSED, f"no checkpoint is cosigned by {name}")


class _Reservoir:
    """N objects of a stream of unknown length, each set of N as likely as any other (Vitter 1985, algorithm R)."""

    def __init__(self, size: int, seed: int) -> None:
        self._size = size
        self._seed = seed
        self._seen = 0
        self._held: list[Recorded] = []

    def offer(self, recorded: Recorded) -> None:
        """The next one of the stream."""
        self._seen += 1
        if len(self._held) < self._size:
            self._held.append(recorded)
            return
        # A hash, since Python's generator is not promised to draw the same in its next version: seed and log name the sample.
        drawn = hashlib.sha256(f"renderfarm sample {self._seed} {self._seen}".encode()).digest()
        if (place := int.from_bytes(drawn) % self._seen) < self._size:
            self._held[place] = recorded

    def chosen(self, gone: set[tuple[int, int]]) -> list[Recorded]:
        """Those that were drawn, without the ones at these places, in log order."""
        places = {f"{part_key(part)}#{row}" for part, row in gone}
        return sorted((item for item in self._held if item.where not in places), key=lambda item: item.where)


def _checkpoint_of(since: bytes | None, trust: Trust | None) -> Checkpoint | None:
    """The checkpoint that the auditor kept. Raises: UserError when it is none, or not signed by a trusted key."""
    if since is None:
        return None
    try:
        earlier = notes.parse(since)
        if trust is not None and trust.log_keys:
            notes.verify(earlier, trust.log_keys)
    except ValueError as error:
        raise UserError(f"not a checkpoint to compare with: {error}", "--since", "give one that you kept") from error
    return earlier


def _place_of(where: str) -> tuple[int, int]:
    """(part, row) of a record's place as findings name it."""
    key, _, row = where.partition("#")
    return part_number(key) or 0, int(row)


def _place(storage: Storage, item: Absent) -> tuple[str, str | None]:
    """Object key and image id of one record."""
    from renderfarm.log.parts import read_columns

    table = read_columns(storage.get(part_key(item.part)), item.part, ("object_key", "image_id"))[1]
    return table.column("object_key")[item.row].as_py(), table.column("image_id")[item.row].as_py()


def _attempts_limit(job: bytes) -> int:
    try:
        limit = json.loads(job)["settings"]["checks"]["attempts"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return 1 << 30
    return limit if isinstance(limit, int) and limit > 0 else 1 << 30


def _say_what_was_not_judged(report: AuditReport, trust: Trust | None, quick: bool) -> None:
    if trust is None or not trust.log_keys:
        report.notes.append("no trusted log key was given: whoever wrote the output may have made all of it (--trust DIR)")
    if quick:
        report.notes.append("quick: no record was re-derived and no picture read")
    elif trust is None or not trust.anchors_pem:
        report.notes.append("no trusted certificate authority was given: who signed the credentials was not judged")
