"""A person's word on one attempt: what waits for one, and how it is said.

A review never changes an earlier record. It is a signed statement, which goes into the inbox and from there into the log
(`statements.intake`): at once where nobody else holds the log, else when the running job looks there. It names the attempt by the leaf hash
of its record, and the newest word on an attempt counts. The picture is moved byte for byte, so its credential and its mark stay those that
were made with it:

    accept   review/… → images/…    an exhausted image is accepted with this attempt
    reject   images/… → review/…    an accepted image is open again, or exhausted; an attempt that was rejected already stays rejected,
                                    and no longer waits for a person

Only pictures that were kept in the form in which they are delivered (`output.kept: delivery`) can be published.
"""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from renderfarm import keys, notes
from renderfarm.errors import KeysError, UserError
from renderfarm.keys import KeySet
from renderfarm.log import reading
from renderfarm.log.find import image_named, placed_records_of, records_of
from renderfarm.log.state import Counts, LogState
from renderfarm.notes import Signer
from renderfarm.notes import statement as statements
from renderfarm.notes.statement import Statement, Value
from renderfarm.resolve import JobFile
from renderfarm.schema import REVIEW, AttemptOutcome, Record, is_review
from renderfarm.statements import inbox
from renderfarm.statements.inbox import Letter
from renderfarm.statements.intake import take_in
from renderfarm.statements.reviews import ReviewRules, look, moves, people_of, refuse, require_speaker, require_text, subject_of
from renderfarm.storage import Storage
from renderfarm.workers.finish import now_us


@dataclass(frozen=True, slots=True)
class Word:
    """What one person asks for: the attempt is accepted or rejected, and why. `reviewer`: who says so; "" where the key says it."""

    outcome: AttemptOutcome
    reviewer: str = ""
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
    """An exhausted image with an attempt on which no person had a word yet. `row_id`: None where its values are gone."""

    image_id: str
    row_id: str | None
    index: int
    prompt: str
    text: str | None
    attempts: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class Reviewed:
    """What a review did: its record, where the image stands now, and the job's counts.

    `waits`: it is in the inbox and not in the log yet, where somebody else who holds the log takes it in. `key`: where it waits, or waited;
    `trouble`: why it cannot be taken in as things are.
    """

    record: Record
    standing: str
    counts: Counts
    waits: bool = False
    key: str = ""
    trouble: str = ""


def waiting(storage: Storage, job: JobFile) -> Iterator[Waiting]:
    """Exhausted images of the newest plan that wait for a person, in log order. Raises: LogDamaged, StorageAway."""
    state = reading.read_state(storage)
    images = frozenset(image_id for image_id, _ in state.images() if _exhausted(state, image_id, job.attempts))
    candidates: dict[str, dict[int, Candidate]] = {}
    about: dict[str, Record] = {}
    for record in records_of(storage, images) if images else ():
        said = is_review(record)
        if not (said or record.kind == "attempt") or record.image_id is None or record.attempt is None:
            continue
        attempts = candidates.setdefault(record.image_id, {})
        about.setdefault(record.image_id, record)
        if said and record.attempt in attempts:
            before = attempts[record.attempt]
            attempts[record.attempt] = dataclasses.replace(
                before, object_key=record.object_key or before.object_key, reviewer=record.reviewer
            )
        elif record.kind == "attempt" and record.outcome != "failed":
            fits = record.object_key is not None and record.media_type == job.media_type
            attempts[record.attempt] = Candidate(record.attempt, record.reason or "", record.object_key, fits)
    for image_id, attempts in candidates.items():
        if any(candidate.reviewer is None for candidate in attempts.values()):
            row = about[image_id]
            yield Waiting(image_id, row.row_id, row.index or 0, row.prompt or "", row.text, tuple(attempts.values()))


def _exhausted(state: LogState, image_id: str, limit: int) -> bool:
    image = state.image(image_id)
    return not image.superseded and image.standing(limit) == "exhausted"


def job_keys(job: JobFile) -> KeySet:
    """The key set that signs this output's log; none is made. Raises: KeysError."""
    return keys.load(Path(job.keys) if job.keys else keys.default_folder())


def log_keys(job: JobFile, folder: Path | None, needed: bool) -> KeySet | None:
    """The key set in this folder, else the job's own. None where there is none and none is needed: a person's word waits then for whoever
    has it. Raises: KeysError."""
    if folder is not None:
        return keys.load(folder)
    try:
        return job_keys(job)
    except KeysError:
        if needed:
            raise
        return None


def rules_of(job: JobFile, key_set: KeySet | None) -> ReviewRules:
    """What of a job decides about a person's word."""
    return ReviewRules(job.name, job.attempts, job.media_type, job.allow_unmarked, key_set.mark_key if key_set is not None else None)


def review(
    storage: Storage, job: JobFile, key_set: KeySet | None, image: str, attempt: int, word: Word, person: Signer | None = None
) -> Reviewed:
    """Says a person's word. `image`: its id, or ROW:INDEX; `person`: whose own key signs it, None for the key set's log key.

    Raises: UserError for what cannot be reviewed so, with the reason; KeysError; LogDamaged; StorageAway.
    """
    if person is not None and word.reviewer:
        raise UserError("a person's own key says who they are", "--by", "leave --by away, or --key")
    state = reading.read_state(storage)
    part, tried = _tried(_records_of(storage, image, state), attempt)
    rules = rules_of(job, key_set)
    require_text(word.reviewer if person is None else statements.person_name(person.name), word.note)
    refuse(state, job.attempts, tried, word.outcome)
    if moves(state, tried, word.outcome):
        look(storage, rules, tried, word.outcome)
    letter = _letter(job, _signer(key_set, person), tried, part, word, state.spoken(str(tried.image_id)))
    if key_set is not None:
        require_speaker(letter.statement, people_of(key_set))
    inbox.put(storage, letter)
    troubles: dict[str, str] = {}
    taken = take_in(storage, key_set, rules, troubles) if key_set is not None else None
    state = reading.read_state(storage)
    mine = [record for record in taken or () if letter.signed == record.signed or _is_plain(record, letter)]
    if not mine and letter.name in state.statements:  # somebody else was quicker to take it in
        mine = [record for record in reading.records(storage) if record.signed == letter.signed]
    standing, counts = state.image(str(tried.image_id)).standing(job.attempts), state.counts(job.attempts)
    if mine:
        return Reviewed(mine[0], standing, counts, key=letter.key)
    about = dataclasses.replace(tried, outcome=word.outcome, reviewer=letter.statement.speaker, reason=word.note or None, object_key=None)
    return Reviewed(about, standing, counts, waits=True, key=letter.key, trouble=troubles.get(letter.key, ""))


def _tried(records: list[tuple[int, Record]], attempt: int) -> tuple[int, Record]:
    """The attempt that is meant, with its part. Raises: UserError."""
    attempts = [(part, record) for part, record in records if record.kind == "attempt"]
    for part, record in attempts:
        if record.attempt == attempt:
            return part, record
    known = ", ".join(str(record.attempt) for _, record in attempts)
    raise UserError(f"image {records[0][1].image_id} has no attempt {attempt}", "--attempt", f"it has {known}")


def _signer(key_set: KeySet | None, person: Signer | None) -> Signer:
    if person is not None:
        return person
    if key_set is None:
        raise UserError("nobody signs this", "--key", "name a person's key, or the key set with --keys")
    return key_set.signer()


def _letter(job: JobFile, signer: Signer, tried: Record, part: int, word: Word, spoken_us: int) -> Letter:
    """The signed statement, as it goes into the inbox: its words are salted with the row's salt.

    spoken_us: when the newest word on this image was signed, which who speaks now has seen: this one is newer, whatever the clocks say.
    """
    salt, at_us = tried.salt or secrets.token_hex(16), max(now_us(), spoken_us + 1)
    said: dict[str, Value] = {"attempt": tried.attempt, "outcome": word.outcome, **({"by_name": word.reviewer} if word.reviewer else {})}
    words = statements.words_commitment(salt, word.note) if word.note else None
    note = Statement(
        notes.origin(job.name), REVIEW, "", at_us, secrets.token_hex(16), words, (subject_of(tried),), tuple(sorted(said.items()))
    )
    signed = statements.sign(note, signer)
    return Letter(signed, signed.to_bytes().decode(), word.note or None, salt if word.note else None, (part,))


def _is_plain(record: Record, letter: Letter) -> bool:
    """Whether it is this statement in a log that keeps no notes."""
    return record.signed is None and (record.finished_us, record.image_id) == (
        letter.statement.time_us,
        letter.statement.subjects[0].image_id,
    )


def brief(record: Record) -> dict[str, object]:
    """A review as it is shown: what, of which attempt, by whom."""
    names = ("image_id", "row_id", "index", "attempt", "outcome", "reviewer", "reason", "object_key", "withdrawn_key")
    return {name: getattr(record, name) for name in names}


def _records_of(storage: Storage, image: str, state: LogState) -> list[tuple[int, Record]]:
    """Every attempt and review of an image with the part that holds it, in log order. Raises: UserError where there is none."""
    placed = placed_records_of(storage, frozenset([image_named(storage, image)]))
    records = [(number, record) for number, record in placed if record.kind == "attempt" or is_review(record)]
    if not records or state.image(str(records[0][1].image_id)).superseded:
        what = "this image is no longer in the plan" if records else f"no image {image!r:.80} in this output"
        raise UserError(what, storage.uri, "`renderfarm review OUTPUT --list` and the report show ids; a row is named as ROW:INDEX")
    return records
