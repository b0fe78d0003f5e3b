"""A person's word on one attempt, as a signed record: what waits for one, and what accepting or rejecting does.

A review never changes an earlier record; it is appended, names the attempt by the claim digest of its record, and the newest word on an
attempt counts. The picture is moved byte for byte, so its credential and its mark stay those that were made with it:

    accept   review/… → images/…    an exhausted image is accepted with this attempt
    reject   images/… → review/…    an accepted image is open again, or exhausted; an attempt that was rejected already stays rejected,
                                    and no longer waits for a person

Order, and what a crash leaves:

    copy     the picture under its new key; a crash after it leaves an orphan, which `renderfarm gc` collects
    record   the part is the commit, as for every record; whoever loses the race for its number is fenced and has changed nothing
    remove   (reject) the withdrawn file; a crash before it leaves a file that no record delivers any more, which `renderfarm gc` collects

Only pictures that were kept in the form in which they are delivered (`output.kept: delivery`) can be published.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from renderfarm import credential, keys, watermark
from renderfarm.errors import Fenced, NotStored, StorageRefused, UserError
from renderfarm.keys import KeySet
from renderfarm.log import parts, reading
from renderfarm.log.canonical import claim_digest
from renderfarm.log.record import from_table
from renderfarm.log.state import Counts, LogState
from renderfarm.log.writer import LogWriter
from renderfarm.notes import Signer
from renderfarm.output import delivered_key, kept_key
from renderfarm.pictures import decode
from renderfarm.resolve import JobFile
from renderfarm.run.finish import now_us
from renderfarm.schema import RECORD_VERSION, AttemptOutcome, Record, Verdict
from renderfarm.storage import Storage
from renderfarm.version import __version__

CHECK = "person"
"""The name under which a person's verdict stands beside those of the checks."""
NAME_CHARS_MAX, NOTE_CHARS_MAX = 120, 2000
WAITING_COLUMNS = (
    "kind", "image_id", "row_id", "index", "attempt", "outcome", "reason", "prompt", "text", "object_key", "media_type", "reviewer",
)  # fmt: skip
_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class Word:
    """What one person asks for: the attempt is accepted or rejected, by whom, and why."""

    outcome: AttemptOutcome
    reviewer: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One attempt of an image that waits. `publishable`: its picture was kept as it would be delivered; `reviewer`: who rejected it."""

    attempt: int
    reason: str
    object_key: str | None
    publishable: bool
    reviewer: str | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """An exhausted image with an attempt on which no person had a word yet."""

    image_id: str
    row_id: str
    index: int
    prompt: str
    text: str | None
    attempts: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class Reviewed:
    """What a review did: its record, where the image stands now, and the job's counts."""

    record: Record
    standing: str
    counts: Counts


def waiting(storage: Storage, job: JobFile) -> Iterator[Waiting]:
    """Exhausted images of the newest plan that wait for a person, in log order. Raises: LogDamaged, StorageAway."""
    state = reading.read_state(storage)
    candidates: dict[str, dict[int, Candidate]] = {}
    about: dict[str, dict[str, object]] = {}
    for _, table in reading.tables(storage, WAITING_COLUMNS):
        for row in table.select(WAITING_COLUMNS).to_pylist():  # type: ignore[attr-defined]
            if row["kind"] not in ("attempt", "review") or not _exhausted(state, row["image_id"], job.attempts):
                continue
            attempts = candidates.setdefault(row["image_id"], {})
            about.setdefault(row["image_id"], row)
            if row["kind"] == "review" and row["attempt"] in attempts:
                moved = row["object_key"] or attempts[row["attempt"]].object_key
                attempts[row["attempt"]] = dataclasses.replace(attempts[row["attempt"]], object_key=moved, reviewer=row["reviewer"])
            elif row["kind"] == "attempt" and row["outcome"] != "failed":
                fits = row["object_key"] is not None and row["media_type"] == job.media_type
                attempts[row["attempt"]] = Candidate(row["attempt"], row["reason"] or "", row["object_key"], fits)
    for image_id, attempts in candidates.items():
        if any(candidate.reviewer is None for candidate in attempts.values()):
            row = about[image_id]
            place = (str(row["row_id"]), int(str(row["index"])), str(row["prompt"] or ""))
            yield Waiting(image_id, *place, None if row["text"] is None else str(row["text"]), tuple(attempts.values()))


def _exhausted(state: LogState, image_id: str, limit: int) -> bool:
    image = state.image(image_id)
    return not image.superseded and image.standing(limit) == "exhausted"


def job_keys(job: JobFile) -> KeySet:
    """The key set that signs this output's log; none is made. Raises: KeysError."""
    return keys.load(Path(job.keys) if job.keys else keys.default_folder())


def review(storage: Storage, job: JobFile, key_set: KeySet, image: str, attempt: int, word: Word) -> Reviewed:
    """Appends a person's word and moves the picture. `image`: its id, or ROW:INDEX.

    Raises: UserError for what cannot be reviewed so, with the reason; Fenced when somebody else wrote just then; LogDamaged; StorageAway.
    """
    writer = LogWriter.open(storage, job.name, Signer(key_set.log_name, key_set.log_public, key_set.sign_log), key_set.trust().log_keys)
    records = _records_of(storage, image, writer.state)
    image_id = str(records[0].image_id)
    tried = next((record for record in records if record.kind == "attempt" and record.attempt == attempt), None)
    if tried is None:
        known = ", ".join(str(record.attempt) for record in records if record.kind == "attempt")
        raise UserError(f"image {image_id} has no attempt {attempt}", "--attempt", f"it has {known}")
    placed = [record for record in records if record.attempt == attempt and record.object_key]
    _refuse(writer.state, job, tried, word)
    record = _record(tried, word, writer.state)
    moved = _move(storage, job, key_set, placed[-1] if placed else None, word) if _moves(writer.state, image_id, attempt, word) else None
    if moved is not None:
        file = {name: getattr(tried, name) for name in ("media_type", "file_sha256", "file_bytes", "thumb_key")}
        record = dataclasses.replace(
            record, **file, object_key=moved, withdrawn_key=placed[-1].object_key if word.outcome == "rejected" else None
        )
    record = dataclasses.replace(record, claim_digest=claim_digest(record))
    try:
        writer.append([record])
    except Fenced as error:
        raise Fenced(f"somebody else wrote to {storage.uri} at the same moment, and nothing of yours was recorded: try again") from error
    if record.withdrawn_key is not None:
        storage.delete(record.withdrawn_key)
    standing = writer.state.image(image_id).standing(job.attempts)
    return Reviewed(record, standing, writer.state.counts(job.attempts))


def brief(record: Record) -> dict[str, object]:
    """A review as it is shown: what, of which attempt, by whom."""
    names = ("image_id", "row_id", "index", "attempt", "outcome", "reviewer", "reason", "object_key", "withdrawn_key")
    return {name: getattr(record, name) for name in names}


def _records_of(storage: Storage, image: str, state: LogState) -> list[Record]:
    """Every record of an image, in log order. Raises: UserError where there is none."""
    import pyarrow.compute as pc

    row_id, colon, index = image.rpartition(":")
    by_place = bool(colon) and index.isdecimal() and not (len(image) == 32 and set(image) <= _HEX)
    matching: list[Record] = []
    for number, data in reading.fetch_parts(storage):
        _, table = parts.read_columns(data, number, ("image_id", "row_id", "index"))
        wanted = pc.equal(table.column("image_id"), image)
        if by_place:
            wanted = pc.and_(pc.equal(table.column("row_id"), row_id), pc.equal(table.column("index"), int(index)))
        rows = pc.indices_nonzero(pc.fill_null(wanted, False))
        if len(rows):
            matching += from_table(parts.read_part(data, number).table.take(rows))
    current = [record for record in matching if record.image_id and not state.image(record.image_id).superseded]
    newest = [record for record in current if record.image_id == current[-1].image_id]
    if not newest:
        what = "this image is no longer in the plan" if matching else f"no image {image!r:.80} in this output"
        raise UserError(what, storage.uri, "`renderfarm review OUTPUT --list` and the report show ids; a row is named as ROW:INDEX")
    return newest


def _refuse(state: LogState, job: JobFile, tried: Record, word: Word) -> None:
    """Raises: UserError for a review that would break a rule of the states."""
    image_id, attempt = str(tried.image_id), tried.attempt
    image = state.image(image_id)
    for value, most, where in ((word.reviewer, NAME_CHARS_MAX, "--by"), (word.note, NOTE_CHARS_MAX, "--note")):
        if len(value) > most or not value.replace("\n", " ").isprintable() or (where == "--by" and not value.strip()):
            raise UserError(f"not a usable text: {value[:40]!r}", where, f"write 1 to {most} printable characters")
    if tried.outcome == "failed":
        raise UserError(f"attempt {attempt} was never rendered", "--attempt", "`renderfarm render --retry-failed` tries again")
    if word.outcome == "rejected":
        return
    if image.chosen:
        remedy = "nothing to do" if image.chosen == attempt else "reject that attempt first, if this one is better"
        raise UserError(f"image {image_id} is accepted already, with attempt {image.chosen}", "--accept", remedy)
    undone = tried.outcome == "accepted"  # the checks took it, a person took it back, and a person takes that back
    if image.standing(job.attempts) != "exhausted" and not undone:
        standing = image.standing(job.attempts)
        remedy = "finish the job first: only an exhausted image waits for a person" + (" (--retry-failed)" if standing == "failed" else "")
        raise UserError(f"image {image_id} is {standing}: it will be rendered again", "--accept", remedy)


def _moves(state: LogState, image_id: str, attempt: int, word: Word) -> bool:
    """Whether the picture changes its place: every accepted one does, and of the rejected ones the delivered one."""
    return word.outcome == "accepted" or state.image(image_id).chosen == attempt


def _record(tried: Record, word: Word, state: LogState) -> Record:
    """The review before its picture is moved. It repeats the attempt, whose end it takes as its own start."""
    words = f"by {word.reviewer}: {word.note}" if word.note else f"by {word.reviewer}"
    return dataclasses.replace(
        tried,
        kind="review",
        version=RECORD_VERSION,
        plan_digest=state.plan.plan_digest if state.plan else tried.plan_digest,
        renderfarm_version=__version__,
        outcome=word.outcome,
        reason=word.note or None,
        verdicts=(Verdict(CHECK, "accepted" if word.outcome == "accepted" else "rejected", words),),
        started_us=tried.finished_us,
        finished_us=now_us(),
        reviewer=word.reviewer,
        reviewed_digest=tried.claim_digest,
        withdrawn_key=None,
        claim_digest=None,
        media_type=None,
        file_sha256=None,
        file_bytes=None,
        object_key=None,
        thumb_key=None,
    )


def _move(storage: Storage, job: JobFile, key_set: KeySet, placed: Record | None, word: Word) -> str:
    """Puts the picture under its new key, and says which. Raises: UserError for one that cannot be published."""
    if placed is None or placed.object_key is None or placed.file_sha256 is None or placed.file_bytes is None:
        remedy = "choose another attempt; output.rejected: all keeps every picture"
        raise UserError("no picture of this attempt was kept", "--attempt", remedy)
    media_type = str(placed.media_type)
    if media_type != job.media_type:
        remedy = f"choose another attempt; output.kept: delivery keeps {job.media_type}, which is delivered here"
        raise UserError(f"of this attempt only a preview was kept ({media_type})", placed.object_key, remedy)
    try:
        data = storage.get(placed.object_key, placed.file_bytes)
    except NotStored as error:
        raise StorageRefused("the picture is gone", placed.object_key, "`renderfarm audit` names what is missing") from error
    if hashlib.sha256(data).hexdigest() != placed.file_sha256:
        raise UserError("the picture is not the one in the log", placed.object_key, "`renderfarm audit` names what was altered")
    row_id, index, number = str(placed.row_id), placed.index or 0, placed.attempt or 0
    if word.outcome == "rejected":
        key = kept_key(row_id, index, number, placed.file_sha256, media_type)
    else:
        _refuse_unprovable(data, placed, job, key_set)
        key = delivered_key(row_id, index, placed.file_sha256, media_type)
    storage.put_new(key, data, media_type)
    return key


def _refuse_unprovable(data: bytes, placed: Record, job: JobFile, key_set: KeySet) -> None:
    """What is published must lead back to its record: by its credential, and by its mark unless the job allows unmarked pictures.

    Raises: UserError.
    """
    finding = credential.read(data, str(placed.media_type), None)
    claimed = placed.reviewed_digest if placed.kind == "review" else placed.claim_digest
    if finding.state in ("absent", "invalid") or finding.claim_digest != claimed:
        raise UserError(
            f"its credential does not hold: {finding.reason or finding.state}", str(placed.object_key), "choose another attempt"
        )
    if placed.watermark_payload is None:
        if not job.allow_unmarked:
            raise UserError("it carries no watermark", str(placed.object_key), "choose another attempt, or set mark.allow_unmarked: true")
        return
    mark = watermark.read(decode(data, str(placed.object_key)), [key_set.mark_key], search="fast")
    if mark.payload is None or mark.payload.record != placed.watermark_payload:
        raise UserError(
            "its watermark does not read back", str(placed.object_key), "choose another attempt: every delivered picture is marked"
        )
