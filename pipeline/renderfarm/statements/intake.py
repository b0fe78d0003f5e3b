"""What people said goes into the log: whoever holds it, a running driver or the next command, takes in what waits in the inbox.

    copy     (a review that publishes or takes back) the picture under its new key; a crash after it leaves an orphan
    record   the part is the commit; a crash after it leaves objects whose statements the log knows: the next holder removes them
    remove   the withdrawn picture, then the object of the inbox

Statements are taken in by the order of their names, at most one about an image in a part. A review of an image that is in work, or will be
drawn again, waits until that image is final. One that no longer applies then, say because another attempt was accepted meanwhile, is still
recorded, as a word without outcome: it changes nothing. What cannot be taken in (nobody known signed it, it is about no record of this log,
it is malformed, its picture is gone) stays where it is, and is said once. Nothing of this ends a run.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from renderfarm.errors import Fenced, LogDamaged, Overtaken, StorageAway, StorageRefused, UserError
from renderfarm.keys import KeySet
from renderfarm.log import parts, reading
from renderfarm.log.lease import PEOPLE, Lease, held
from renderfarm.log.writer import Committer, LogWriter
from renderfarm.logs import get_logger
from renderfarm.notes import Keys, NoteMalformed, NoteUntrusted
from renderfarm.notes import statement as notes
from renderfarm.records.canonical import sealed
from renderfarm.records.tables import from_table
from renderfarm.schema import REVIEW, AttemptOutcome, Record, Subject, Verdict
from renderfarm.statements import inbox
from renderfarm.statements.inbox import Letter
from renderfarm.statements.reviews import CHECK, Refused, ReviewRules, Waits, move, moves, people_of, plain_name, refuse, require_text
from renderfarm.storage import Storage, put_if_absent_holds
from renderfarm.version import __version__

log = get_logger()

LOOK_S = 10.0
"""A running driver looks into the inbox at most so often."""
ROWS_MAX = 500
"""Statements in a part."""
LETTERS_MAX = 500
"""Statements that are looked at in one go; a run does its other work before it looks at the next ones."""
READ_AHEAD = 16
PARTS_KEPT = 4
ROUNDS_MAX = 20
"""How often what others took in at the same time is looked at again, before the rest waits for the next holder."""


@dataclass(frozen=True, slots=True)
class _Taken:
    """A statement with the record that it becomes."""

    letter: Letter
    record: Record


class Inbox:
    """Takes in what waits beside one log, for whoever has it open."""

    def __init__(
        self,
        storage: Storage,
        writer: LogWriter,
        people: Keys,
        rules: ReviewRules,
        committer: Committer | None = None,
        clock: Callable[[], float] = time.monotonic,
        look_s: float = LOOK_S,
    ) -> None:
        self.closed: Callable[[], bool] = lambda: False
        """Whether nothing may be taken in any more: what waits is for the next holder."""
        self.troubles: dict[str, str] = {}
        """What cannot be taken in, by its key, and why."""
        self.waiting: set[str] = set()
        """Keys of what waits for an image's end."""
        self.taken: list[Record] = []
        """The records of this inbox's making, in their order."""
        self._storage, self._writer, self._people, self._rules = storage, writer, people, rules
        self._committer: Committer = committer or writer
        self._clock, self._look_s, self._looked = clock, look_s, -math.inf
        self._parts: dict[int, tuple[parts.Part, dict[str, int]]] = {}
        self._after = ""
        """The last key that was looked at, where there are more behind it."""
        self._held: set[str] = set()
        """Images of which a review waits: no later one overtakes it."""
        self._holding: dict[str, list[int]] = {}
        """The parts that speak of an image, for statements that do not say it."""

    def hear(self, in_work: Callable[[], set[str]]) -> Counter[str]:
        """Takes in the next LETTERS_MAX, every `look_s`, for a run that has other work and goes on whatever the storage answers.

        How many images came to, or left, each standing. Raises: Fenced.
        """
        if self._clock() - self._looked < self._look_s:
            return Counter()
        moved = self._patiently(lambda moved: self._page(in_work, moved))
        self._looked = -math.inf if self._after else self._clock()
        return moved

    def listen(self) -> None:
        """`take`, for a run that has nothing in work and goes on whatever the storage answers. Raises: Fenced."""
        self._patiently(lambda moved: self.take(moved=moved))

    def _patiently(self, act: Callable[[Counter[str]], object]) -> Counter[str]:
        moved: Counter[str] = Counter()
        try:
            act(moved)
        except (StorageAway, StorageRefused) as error:
            self._after = ""
            log.warning("inbox.away", reason=str(error))
        return moved

    def take(self, in_work: Callable[[], set[str]] = set, moved: Counter[str] | None = None) -> int:
        """Takes in what can be; how many statements went into the log. `in_work`: images that somebody renders or has not committed yet.

        `moved` is filled with how many images came to, or left, each standing. Raises: Fenced, StorageAway.
        """
        moved = Counter() if moved is None else moved
        self._after = ""
        count = self._page(in_work, moved)
        while self._after and not self.closed():
            count += self._page(in_work, moved)
        return count

    def _page(self, in_work: Callable[[], set[str]], moved: Counter[str]) -> int:
        """The next LETTERS_MAX of them. Raises: Fenced, StorageAway."""
        count = 0
        for _ in range(ROUNDS_MAX):
            try:
                self._writer.settle()
                for batch in () if self.closed() else self._batches(in_work):
                    if self.closed():
                        break
                    count += self._append(batch, moved)
                return count
            except Overtaken:
                self._after = ""
        return count

    def _batches(self, in_work: Callable[[], set[str]]) -> Iterator[list[_Taken]]:
        """What can be taken in, in order, cut where a second statement is about an image: that one sees what the first one did."""
        if not self._after:
            self.waiting.clear()
            self._held.clear()
        batch: list[_Taken] = []
        images: set[str] = set()
        held = self._held
        busy: set[str] | None = None
        for letter in self._letters():
            about = {subject.image_id for subject in letter.statement.subjects} if letter.statement.kind == REVIEW else set()
            if busy is None and about:
                busy = in_work()
            if about & images or len(batch) >= ROWS_MAX:
                yield batch
                batch, images = [], set()
            try:
                if about & held or about & (busy or set()):
                    raise Waits("its image is in work")
                record = self._record(letter)
            except Waits:
                held |= about
                self.waiting.add(letter.key)
            except (UserError, NoteUntrusted, NoteMalformed, LogDamaged) as error:
                self._say(letter.key, error)
            else:
                batch.append(_Taken(letter, record))
                images |= about
        if batch:
            yield batch

    def _letters(self) -> Iterator[Letter]:
        """What waits and is not in the log yet; what is, was left by a crash and goes. Raises: StorageAway."""
        known = self._known_reviews() if self._writer.record_version < 4 else set()
        there = [key for key in inbox.keys(self._storage) if key > self._after and key not in self.troubles]
        self._after = there[LETTERS_MAX - 1] if len(there) > LETTERS_MAX else ""
        with ThreadPoolExecutor(READ_AHEAD, "inbox") as pool:
            found = list(pool.map(self._read, there[:LETTERS_MAX]))
        letters = [letter for letter in found if isinstance(letter, Letter)]
        for key, error in zip(there, found, strict=False):
            if isinstance(error, NoteMalformed):
                self._say(key, error)
        self._holding.clear()
        self._look_for({subject.image_id for letter in letters if not letter.parts for subject in letter.statement.subjects})
        for letter in letters:
            if letter.name in self._writer.state.statements or plain_name(letter.statement) in known:
                self._remove(letter.key)
            else:
                yield letter

    def _read(self, key: str) -> Letter | NoteMalformed | None:
        try:
            return inbox.read(self._storage, key)
        except NoteMalformed as error:
            return error

    def _known_reviews(self) -> set[tuple[object, ...]]:
        """What people said in a log that keeps no notes: who, when, of which attempt."""
        if next(inbox.keys(self._storage), None) is None:
            return set()
        names = ("kind", "image_id", "attempt", "outcome", "finished_us")
        found = set()
        for _, table in reading.tables(self._storage, names):
            for kind, *said in zip(*(table.column(name).to_pylist() for name in names), strict=True):  # type: ignore[attr-defined]
                if kind == "review":
                    found.add(tuple(said))
        return found

    def _say(self, key: str, error: Exception) -> None:
        self.troubles[key] = error.what if isinstance(error, UserError) else str(error)
        log.warning("statement.not_taken_in", key=key, reason=self.troubles[key])

    def _remove(self, key: str) -> None:
        """Takes away what is done with. Where a policy refuses that it stays, and is said once. Raises: StorageAway."""
        try:
            self._storage.delete(key)
        except StorageRefused as error:
            self.troubles[key] = error.what
            log.warning("statement.not_removed", key=key, reason=error.what)

    def _append(self, batch: Sequence[_Taken], moved: Counter[str]) -> int:
        """The commit, and what is removed after it. Raises: Overtaken, Fenced, StorageAway."""
        state, limit = self._writer.state, self._rules.attempts
        images = [item.record.image_id for item in batch if item.record.image_id is not None]
        before = Counter(state.image(image).standing(limit) for image in images)
        self._committer.append([item.record for item in batch])
        after = Counter(state.image(image).standing(limit) for image in images)
        after.subtract(before)
        moved.update(after)
        for item in batch:
            self.taken.append(item.record)
            log.info("statement.taken_in", kind=item.letter.statement.kind, by=item.record.reviewer, image=item.record.image_id)
            if item.record.withdrawn_key is not None:
                self._remove(item.record.withdrawn_key)
            self._remove(item.letter.key)
        return len(batch)

    def _record(self, letter: Letter) -> Record:
        """The record that a statement becomes; a picture that moves has been copied by then.

        Raises: Waits; UserError, NoteUntrusted or LogDamaged for what cannot be taken in; StorageAway.
        """
        statement = letter.statement
        if statement.origin != self._writer.origin:
            raise UserError(f"it is for the log {statement.origin}")
        notes.verify(statement, self._people)
        found = [self._find(subject, lead) for subject, lead in zip(statement.subjects, letter.leads, strict=True)]
        if statement.kind == REVIEW:
            return self._review(letter, found)
        if self._writer.record_version < 4:
            raise UserError(f"this log, of record version {self._writer.record_version}, keeps reviews only")
        return sealed(self._blank(letter))

    def _blank(self, letter: Letter) -> Record:
        """A statement that changes no image's state."""
        statement, plan = letter.statement, self._writer.state.plan
        return Record(
            "statement",
            version=self._writer.record_version,
            job=self._rules.job,
            plan_digest=plan.plan_digest if plan is not None else "",
            statement=statement.kind,
            subjects=statement.subjects,
            signed=letter.signed,
            reviewer=statement.speaker,
            salt=letter.salt if letter.words is not None else None,
            reason=letter.words,
            renderfarm_version=__version__,
            finished_us=statement.time_us,
        )

    def _review(self, letter: Letter, found: Sequence[Record]) -> Record:
        """A review with its picture in its new place, or one without effect. Raises: as `_record`."""
        statement = letter.statement
        if len(found) != 1 or found[0].kind != "attempt" or statement.get("attempt") != found[0].attempt:
            raise UserError("a review is about one attempt, which it names")
        (tried,), outcome = found, statement.get("outcome")
        if outcome not in ("accepted", "rejected"):
            raise UserError(f"a review accepts or rejects; this one says {outcome!r:.40}")
        require_text(statement.speaker, letter.words or "")
        if letter.words is not None and tried.salt is not None and letter.salt != tried.salt:
            raise UserError("its words are salted with another salt than its row's")
        accepts: AttemptOutcome = "accepted" if outcome == "accepted" else "rejected"
        try:
            refuse(self._writer.state, self._rules.attempts, tried, accepts)
        except Refused as error:
            if self._writer.record_version < 4:
                raise
            blank, why = self._blank(letter), Verdict(CHECK, "not_run", f"too late: {error.what}")
            return sealed(dataclasses.replace(blank, salt=tried.salt or letter.salt or secrets.token_hex(16), verdicts=(why,)))
        record = self._reviewed(letter, tried, accepts)
        if moves(self._writer.state, tried, accepts):
            file = {name: getattr(tried, name) for name in ("media_type", "file_sha256", "file_bytes", "thumb_key")}
            placed = move(self._storage, self._rules, tried, accepts)
            record = dataclasses.replace(record, **file, object_key=placed.key, withdrawn_key=placed.withdrawn)
        return sealed(record)

    def _reviewed(self, letter: Letter, tried: Record, outcome: AttemptOutcome) -> Record:
        """The review before its picture is moved. It repeats the attempt, whose end it takes as its own start."""
        statement, salted = letter.statement, self._writer.record_version >= 4
        said = f"by {statement.speaker}: {letter.words}" if letter.words else f"by {statement.speaker}"
        plan = self._writer.state.plan
        return dataclasses.replace(
            tried,
            kind="statement" if salted else "review",
            version=self._writer.record_version,
            plan_digest=plan.plan_digest if plan else tried.plan_digest,
            renderfarm_version=__version__,
            outcome=outcome,
            reason=letter.words or None,
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

    def _find(self, subject: Subject, lead: int | None) -> Record:
        """The record that a statement is about. Raises: UserError where the log has none with this hash; StorageAway."""
        numbers = [] if lead is None or lead >= self._writer.size else [lead]
        for number in itertools.chain(numbers, self._holders(subject.image_id)):
            part, rows = self._part(number)
            if subject.digest in rows:
                (record,) = from_table(part.table.slice(rows[subject.digest], 1))
                if record.image_id == subject.image_id:
                    return record
        raise UserError("it is about a record that this log does not hold")

    def _holders(self, image_id: str) -> Iterator[int]:
        """The parts that speak of an image."""
        if image_id not in self._holding:
            self._look_for({image_id})
        yield from self._holding[image_id]

    def _look_for(self, images: set[str]) -> None:
        """Which parts speak of these images: one walk over one column of the log, for statements whose lead is wrong, or that have none."""
        import pyarrow as pa
        import pyarrow.compute as pc

        self._holding |= {image: [] for image in images}
        wanted = pa.array(sorted(images), pa.string())
        for number, file in reading.fetch_parts(self._storage, range(self._writer.size), with_values=False) if images else ():
            column = parts.read_columns(file, number, ["image_id"])[1].column("image_id")
            for image in column.filter(pc.is_in(column, value_set=wanted)).unique().to_pylist():
                self._holding[image].append(number)

    def _part(self, number: int) -> tuple[parts.Part, dict[str, int]]:
        """A part, and its rows by the hex of their leaf hashes. Raises: LogDamaged for one that cannot be read or is gone; StorageAway."""
        if number not in self._parts:
            file = reading.fetch_part(self._storage, number)
            if file is None:
                raise LogDamaged(f"part {number} is gone")
            part = parts.read_part(file, number)
            while len(self._parts) >= PARTS_KEPT:
                del self._parts[next(iter(self._parts))]
            self._parts[number] = part, {leaf.hex(): row for row, leaf in enumerate(part.encoded.leaves())}
        return self._parts[number]


def take_in(storage: Storage, key_set: KeySet, rules: ReviewRules) -> list[Record] | None:
    """Takes in what waits, if nobody else holds the log: the records. None where somebody does, who then takes it in.

    Raises: LogDamaged, KeysError, StorageAway.
    """
    taken: list[Record] = []
    fences: bool | None = None
    for _ in range(ROUNDS_MAX):
        if held(storage):
            return None
        fences = put_if_absent_holds(storage) if fences is None else fences
        lease = Lease(storage, fences=fences, holder=PEOPLE)
        try:
            if not lease.offer():
                return None
            writer = LogWriter.open(storage, rules.job, key_set.signer(), key_set.trust().log_keys)
            found = Inbox(storage, writer, people_of(key_set), rules, lease.guard(writer))
            found.take()
        except Fenced:
            return None
        finally:
            lease.release()
        taken += found.taken
        if not set(inbox.keys(storage)) - found.waiting - set(found.troubles):  # nobody came who saw that the log was held
            break
    return taken
