"""What a person's word on one attempt does, and when it may: the states' rules, and where the picture goes.

accept   review/… → images/…    an exhausted image is accepted with this attempt
reject   images/… → review/…    an accepted image is open again, or exhausted; a rejected attempt stays where it is
"""

from __future__ import annotations

import dataclasses
import hashlib
import secrets
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field

from renderfarm import credential, watermark
from renderfarm.errors import AlreadyStored, NotStored, UserError
from renderfarm.keys import KeySet
from renderfarm.log.state import LogState
from renderfarm.log.tree import leaf_hash
from renderfarm.notes import Keys
from renderfarm.notes.statement import PERSON, Statement, person_of
from renderfarm.output import delivered_key, kept_key
from renderfarm.pictures import decode
from renderfarm.records.canonical import record_bytes
from renderfarm.schema import REVIEW, AttemptOutcome, Record, Subject, Verdict
from renderfarm.statements.inbox import Letter
from renderfarm.storage import Storage
from renderfarm.version import __version__
from renderfarm.watermark import MarkKey

CHECK = "person"
"""The name under which a person's verdict stands beside those of the checks."""
NAME_CHARS_MAX, NOTE_CHARS_MAX = 120, 2000


class Refused(UserError):
    """A review that would change nothing, or break a rule of the states."""


class Waits(UserError):
    """A review that will apply, or not, once the image is final."""


@dataclass(frozen=True, slots=True)
class ReviewRules:
    """What of a job decides about a person's word. `mark_key` None: marks are not read."""

    job: str
    attempts: int
    media_type: str
    allow_unmarked: bool
    mark_key: MarkKey | None = field(default=None, repr=False)


def subject_of(record: Record) -> Subject:
    """What a statement about this record names."""
    return Subject(str(record.image_id), leaf_hash(record_bytes(record)).hex())


def require_text(speaker: str, words: str) -> None:
    """Raises: UserError for a name or a note that is too long, or does not print."""
    for value, most, where in ((speaker, NAME_CHARS_MAX, "--by"), (words, NOTE_CHARS_MAX, "--note")):
        if len(value) > most or not value.replace("\n", " ").isprintable() or (where == "--by" and not value.strip()):
            raise UserError(f"not a usable text: {value[:40]!r}", where, f"write 1 to {most} printable characters")


def refuse(state: LogState, attempts: int, tried: Record, outcome: AttemptOutcome) -> None:
    """Raises: Refused for a review that would break a rule of the states; Waits for one that must wait for the image's end."""
    image_id, attempt = str(tried.image_id), tried.attempt
    image = state.image(image_id)
    if tried.outcome == "failed":
        raise Refused(f"attempt {attempt} was never rendered", "--attempt", "`renderfarm render --retry-failed` tries again")
    if image.superseded:
        raise Refused("this image is no longer in the plan", image_id, "`renderfarm review OUTPUT --list` shows what waits")
    if outcome == "rejected":
        return
    if image.chosen:
        remedy = "nothing to do" if image.chosen == attempt else "reject that attempt first, if this one is better"
        raise Refused(f"image {image_id} is accepted already, with attempt {image.chosen}", "--accept", remedy)
    undone = tried.outcome == "accepted"  # the checks took it, a person took it back, and a person takes that back
    standing = image.standing(attempts)
    if standing != "exhausted" and not undone:
        remedy = "finish the job first: only an exhausted image waits for a person" + (" (--retry-failed)" if standing == "failed" else "")
        raise Waits(f"image {image_id} is {standing}: it will be rendered again", "--accept", remedy)


def moves(state: LogState, tried: Record, outcome: AttemptOutcome) -> bool:
    """Whether the picture changes its place: every accepted one does, and of the rejected ones the delivered one."""
    return outcome == "accepted" or state.image(str(tried.image_id)).chosen == tried.attempt


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a picture goes, and which file is no longer delivered then; `data`: its bytes."""

    key: str
    withdrawn: str | None
    data: bytes = field(repr=False)


def move(storage: Storage, rules: ReviewRules, tried: Record, outcome: AttemptOutcome) -> Placed:
    """Puts the picture of an attempt under its new key. Raises: UserError for one that cannot be published; StorageAway."""
    placed = look(storage, rules, tried, outcome)
    try:
        storage.put_new(placed.key, placed.data, str(tried.media_type))
    except AlreadyStored as error:
        raise UserError("something else lies where its picture is to go", placed.key, "move it away") from error
    return placed


def look(storage: Storage, rules: ReviewRules, tried: Record, outcome: AttemptOutcome) -> Placed:
    """What `move` would put where; writes nothing. Raises: as `move`."""
    if tried.object_key is None or tried.file_sha256 is None or tried.file_bytes is None:
        remedy = "choose another attempt; output.rejected: all keeps every picture"
        raise UserError("no picture of this attempt was kept", "--attempt", remedy)
    if outcome == "accepted" and tried.outcome != "accepted" and tried.media_type != rules.media_type:
        remedy = f"choose another attempt; output.kept: delivery keeps {rules.media_type}, which is delivered here"
        raise UserError(f"of this attempt only a preview was kept ({tried.media_type})", tried.object_key, remedy)
    delivered, kept = _places(tried)
    data = _bytes_of(storage, tried, (tried.object_key, kept, delivered))
    if outcome == "rejected":
        return Placed(kept, delivered, data)
    _refuse_unprovable(data, tried, rules)
    return Placed(delivered, None, data)


def delivered_place(tried: Record) -> str:
    """Where the picture of an attempt lies while it is delivered."""
    return _places(tried)[0]


def _places(tried: Record) -> tuple[str, str]:
    """Where the picture lies while it is delivered, and while it is not; as the attempt's own record names it, where it does."""
    digest, own, media_type = str(tried.file_sha256), str(tried.object_key), str(tried.media_type)
    if tried.outcome == "accepted":
        return own, kept_key(tried, digest, media_type)
    return delivered_key(tried, digest, media_type), own


def _bytes_of(storage: Storage, tried: Record, places: Sequence[str]) -> bytes:
    """The picture, from the first of these places where it lies unaltered. Raises: UserError, StorageAway."""
    altered = ""
    for key in dict.fromkeys(places):
        try:
            data = storage.get(key, tried.file_bytes)
        except NotStored:
            continue
        if hashlib.sha256(data).hexdigest() == tried.file_sha256:
            return data
        altered = key
    if altered:
        raise UserError("the picture is not the one in the log", altered, "`renderfarm audit` names what was altered")
    raise UserError("the picture is gone", places[0], "`renderfarm audit` names what is missing")


def _refuse_unprovable(data: bytes, tried: Record, rules: ReviewRules) -> None:
    """What is published must lead back to its record: by its credential, and by its mark unless the job allows unmarked pictures.

    Raises: UserError.
    """
    where = str(tried.object_key)
    finding = credential.read(data, str(tried.media_type), None)
    if finding.state in ("absent", "invalid") or finding.claim_digest != tried.claim_digest:
        raise UserError(f"its credential does not hold: {finding.reason or finding.state}", where, "choose another attempt")
    if tried.watermark_payload is None:
        if not rules.allow_unmarked:
            raise UserError("it carries no watermark", where, "choose another attempt, or set mark.allow_unmarked: true")
        return
    if rules.mark_key is None:
        return
    mark = watermark.read(decode(data, where), [rules.mark_key], search="fast")
    if mark.payload is None or mark.payload.record != tried.watermark_payload:
        raise UserError("its watermark does not read back", where, "choose another attempt: every delivered picture is marked")


def blank(letter: Letter, rules: ReviewRules, state: LogState, version: int) -> Record:
    """The record of a statement that changes no image's state."""
    statement = letter.statement
    return Record(
        "statement",
        version=version,
        job=rules.job,
        plan_digest=state.plan.plan_digest if state.plan is not None else "",
        statement=statement.kind,
        subjects=statement.subjects,
        signed=letter.signed,
        reviewer=statement.speaker,
        salt=letter.salt if letter.words is not None else None,
        reason=letter.words,
        renderfarm_version=__version__,
        finished_us=statement.time_us,
    )


def reviewed(letter: Letter, tried: Record, outcome: AttemptOutcome, state: LogState, version: int) -> Record:
    """The record of a review before its picture is moved. It repeats the attempt, whose end it takes as its own start."""
    statement, salted = letter.statement, version >= 4
    said = f"by {statement.speaker}" + ("" if letter.words is None else f": {letter.words}")
    return dataclasses.replace(
        tried,
        kind="statement" if salted else "review",
        version=version,
        plan_digest=state.plan.plan_digest if state.plan else tried.plan_digest,
        renderfarm_version=__version__,
        outcome=outcome,
        reason=letter.words,
        verdicts=(Verdict(CHECK, outcome, said),),  # type: ignore[arg-type]
        salt=(tried.salt or letter.salt or secrets.token_hex(16)) if salted else tried.salt,
        started_us=tried.finished_us,
        finished_us=statement.time_us,
        statement=REVIEW if salted else None,
        subjects=statement.subjects if salted else (),
        signed=letter.signed if salted else None,
        reviewer=statement.speaker,
        reviewed_digest=tried.claim_digest,
        withdrawn_key=None,
        claim_digest=None,
        media_type=None,
        file_sha256=None,
        file_bytes=None,
        object_key=None,
        thumb_key=None,
    )


def require_speaker(statement: Statement, people: Keys) -> None:
    """Raises: UserError for a name that is none, or one of a person with a key of their own under what another key signed."""
    require_text(statement.speaker, "")
    if borrowed(statement, people):
        what = f"{statement.speaker} has a key of their own, and did not sign it"
        raise UserError(what, "--by", "sign with that key (--key), or name somebody else")


def borrowed(statement: Statement, people: Keys) -> bool:
    """Whether it speaks as a person of these who has a key of their own, and is signed by a key that is no person's."""
    own = map(_folded, filter(None, map(person_of, people)))
    return not statement.key_name.startswith(PERSON) and _folded(statement.speaker) in own


def _folded(name: str) -> str:
    """A name as people tell names apart."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def people_of(key_set: KeySet) -> Keys:
    """Whose statements a log takes in: those whom the key set trusts, and whoever signs the log. Raises: KeysError."""
    return {**key_set.trust().people, key_set.log_name: key_set.log_public}
