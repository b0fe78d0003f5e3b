"""What people said goes into the log: whoever holds it, a running driver or the next command, takes in what waits in the inbox.

    copy     (a review that publishes or takes back) the picture under its new key; a crash after it leaves an orphan
    record   the part is the commit; a crash after it leaves objects whose statements the log knows: the next holder removes them
    remove   the withdrawn picture, then the object of the inbox. Who is not at the log's end any more leaves the picture to `gc`:
             a later word may have published it again

Statements are taken in by the order of their names, at most one about an image in a part. A review of an image that is in work, or will be
drawn again, waits until that image is final. One that no longer applies then, say because another attempt was accepted meanwhile or a newer
word is in the log, is still recorded, as a word without outcome: it changes nothing. What cannot be taken in (it cannot be read or is
malformed, nobody known signed it, it is about no record of this log, its picture is gone) stays where it is, and is said once. Nothing of
this ends a run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from renderfarm.errors import Fenced, LogDamaged, Overtaken, StorageAway, StorageRefused, UserError
from renderfarm.keys import KeySet
from renderfarm.log.lease import PEOPLE, Lease, held
from renderfarm.log.writer import Committer, LogWriter
from renderfarm.logs import get_logger
from renderfarm.notes import Keys, NoteMalformed, NoteUntrusted
from renderfarm.notes import statement as notes
from renderfarm.notes.statement import Statement
from renderfarm.output import part_key
from renderfarm.records import spoken
from renderfarm.records.canonical import sealed
from renderfarm.schema import REVIEW, AttemptOutcome, Record, Verdict
from renderfarm.statements import inbox
from renderfarm.statements.inbox import Letter
from renderfarm.statements.reviews import (
    CHECK,
    Refused,
    ReviewRules,
    Waits,
    blank,
    delivered_place,
    move,
    moves,
    people_of,
    refuse,
    require_speaker,
    require_text,
    reviewed,
)
from renderfarm.statements.subjects import Subjects
from renderfarm.storage import Storage, put_if_absent_holds

log = get_logger()

LOOK_S = 10.0
"""A running driver looks into the inbox at most so often."""
ROWS_MAX = 500
"""Statements in a part."""
LETTERS_MAX = 500
"""Statements that are looked at in one go; a run does its other work before it looks at the next ones."""
HEAR_S = 5.0
"""A run's other work waits no longer for statements than this, and one more."""
AHEAD_S = 3600.0
"""How far the clock of who speaks may be ahead of ours: a word from later on would stand above every word until then."""
READ_AHEAD = 16
ROUNDS_MAX = 20
"""How often what others took in at the same time is looked at again, before the rest waits for the next holder."""


@dataclass(frozen=True, slots=True)
class _Taken:
    """A statement with the record that it becomes."""

    letter: Letter
    record: Record


class TakenAlready(Exception):
    """A log that keeps no notes holds this review already."""


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
        lease: Lease | None = None,
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
        self._lease, self._until = lease, math.inf
        self._subjects = Subjects(storage, writer)
        self._after = ""
        """The last key that was looked at, where there are more behind it."""
        self._held: set[str] = set()
        """Images of which a review waits: no later one overtakes it."""

    def hear(self, in_work: Callable[[], set[str]]) -> Counter[str]:
        """Takes in the next LETTERS_MAX, or what HEAR_S is enough for, every `look_s`, for a run that has other work and goes on whatever
        the storage answers.

        How many images came to, or left, each standing. Raises: Fenced.
        """
        if self._clock() - self._looked < self._look_s:
            return Counter()
        self._until = self._clock() + HEAR_S
        moved = self._patiently(lambda moved: self._page(in_work, moved))
        self._until = math.inf
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
            except TakenAlready:
                self._finish(letter)
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
        """What waits, is by somebody known and not in the log yet; what is, was left by a crash and goes. Raises: StorageAway."""
        there = [key for key in inbox.keys(self._storage) if key > self._after and key not in self.troubles]
        self._after = there[LETTERS_MAX - 1] if len(there) > LETTERS_MAX else ""
        with ThreadPoolExecutor(READ_AHEAD, "inbox") as pool:
            found = list(pool.map(self._read, there[:LETTERS_MAX]))
        letters = [letter for letter in found if isinstance(letter, Letter)]
        for key, error in zip(there, found, strict=False):
            if isinstance(error, Exception):
                self._say(key, error)
        self._subjects.expect(subject.image_id for letter in letters if not letter.parts for subject in letter.statement.subjects)
        for letter in letters:
            if letter.name in self._writer.state.statements:
                self._finish(letter)
            else:
                yield letter
            if self._clock() > self._until and letter is not letters[-1]:
                self._after = letter.key
                break

    def _read(self, key: str) -> Letter | Exception | None:
        """What waits there, or why it cannot be taken in; only what the log holds or somebody known signed is kept. Raises: StorageAway."""
        try:
            letter = inbox.read(self._storage, key)
            if letter is not None and letter.name not in self._writer.state.statements:
                self._require_known(letter.statement)
            return letter
        except (NoteMalformed, NoteUntrusted, UserError) as error:
            return error

    def _require_known(self, statement: Statement) -> None:
        """Raises: UserError or NoteUntrusted for a statement that is not for this log, by nobody known, or from a time to come."""
        if statement.origin != self._writer.origin:
            raise UserError(f"it is for the log {statement.origin}")
        notes.verify(statement, self._people)
        require_speaker(statement, self._people)
        if statement.time_us > (time.time() + AHEAD_S) * 1e6:
            raise UserError("its time is still to come: the clock of who signed it, or of this machine, is off")

    def _finish(self, letter: Letter) -> None:
        """What a crash kept from being removed: the picture that a rejection took back, if none is accepted since, and the object."""
        statement, (about, *_) = letter.statement, (*letter.statement.subjects, None)
        if about is not None and statement.kind == REVIEW and statement.get("outcome") == "rejected":
            with contextlib.suppress(UserError, LogDamaged):
                tried = self._subjects.find(about, letter.leads[0])
                if tried.object_key is not None and not self._writer.state.image(about.image_id).accepted:
                    self._withdraw(delivered_place(tried))
        self._remove(letter.key)

    def _say(self, key: str, error: Exception) -> None:
        self.troubles[key] = error.what if isinstance(error, UserError) else str(error)
        name = key.encode("utf-8", "backslashreplace").decode()  # a name that is no UTF-8 is no text to print
        log.warning("statement.not_taken_in", key=name, reason=self.troubles[key])

    def _remove(self, key: str) -> None:
        """Takes away what is done with. Where a policy refuses that it stays, and is said once. Raises: StorageAway."""
        try:
            self._storage.delete(key)
        except StorageRefused as error:
            self.troubles[key] = error.what
            log.warning("statement.not_removed", key=key, reason=error.what)

    def _withdraw(self, key: str) -> None:
        """Takes away a picture that is delivered no more, unless somebody wrote behind us: then a later word may deliver it again.

        Raises: StorageAway.
        """
        try:
            if self._lease is not None:
                self._lease.hold()
            behind = self._storage.stat(part_key(self._writer.size)) is not None
        except (Fenced, StorageRefused):
            behind = True
        if behind:
            log.warning("picture.left_for_gc", key=key)
        else:
            self._remove(key)

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
                self._withdraw(item.record.withdrawn_key)
            self._remove(item.letter.key)
        return len(batch)

    def _record(self, letter: Letter) -> Record:
        """The record that a statement becomes; a picture that moves has been copied by then.

        Raises: Waits; TakenAlready; UserError, NoteUntrusted or LogDamaged for what cannot be taken in; StorageAway.
        """
        statement, plain = letter.statement, self._writer.record_version < 4
        if plain and self._subjects.holds(statement):
            raise TakenAlready
        found = [self._subjects.find(subject, lead) for subject, lead in zip(statement.subjects, letter.leads, strict=True)]
        salts = {record.salt for record in found if record.salt is not None}
        if letter.words is not None and salts and letter.salt not in salts:
            raise UserError("its words are salted with another salt than its row's")
        if statement.kind == REVIEW:
            return self._review(letter, found)
        if plain:
            raise UserError(f"this log, of record version {self._writer.record_version}, keeps reviews only")
        return sealed(self._repeating(self._blank(letter), statement))

    def _blank(self, letter: Letter) -> Record:
        return blank(letter, self._rules, self._writer.state, self._writer.record_version)

    def _repeating(self, record: Record, statement: Statement) -> Record:
        """The record, if it says what the audit will hold it to. Raises: UserError."""
        if self._writer.record_version >= 4 and (wrong := spoken.differing(record, statement)):
            raise UserError(f"a record cannot repeat its {wrong}")
        return record

    def _review(self, letter: Letter, found: Sequence[Record]) -> Record:
        """A review with its picture in its new place, or one without effect. Raises: as `_record`."""
        statement = letter.statement
        if (
            len(found) != 1
            or found[0].kind != "attempt"
            or (int, found[0].attempt) != (type(statement.get("attempt")), statement.get("attempt"))
        ):
            raise UserError("a review is about one attempt, which it names")
        (tried,), outcome = found, statement.get("outcome")
        if outcome not in ("accepted", "rejected"):
            raise UserError(f"a review accepts or rejects; this one says {outcome!r:.40}")
        require_text(statement.speaker, letter.words or "")
        accepts: AttemptOutcome = "accepted" if outcome == "accepted" else "rejected"
        try:
            if statement.time_us < self._writer.state.spoken(str(tried.image_id)):
                raise Refused("a newer word on this image is in the log")
            refuse(self._writer.state, self._rules.attempts, tried, accepts)
        except Refused as error:
            if self._writer.record_version < 4:
                raise
            late, why = self._repeating(self._blank(letter), statement), Verdict(CHECK, "not_run", f"too late: {error.what}")
            return sealed(dataclasses.replace(late, salt=tried.salt or letter.salt or secrets.token_hex(16), verdicts=(why,)))
        record = self._repeating(reviewed(letter, tried, accepts, self._writer.state, self._writer.record_version), statement)
        if moves(self._writer.state, tried, accepts):
            file = {name: getattr(tried, name) for name in ("media_type", "file_sha256", "file_bytes", "thumb_key")}
            placed = move(self._storage, self._rules, tried, accepts)
            record = dataclasses.replace(record, **file, object_key=placed.key, withdrawn_key=placed.withdrawn)
        return sealed(record)


def take_in(storage: Storage, key_set: KeySet, rules: ReviewRules, troubles: dict[str, str] | None = None) -> list[Record] | None:
    """Takes in what waits, if nobody else holds the log: the records. None where somebody does, who then takes it in.

    `troubles` is filled with what cannot be taken in, by its key, and why.
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
            found = Inbox(storage, writer, people_of(key_set), rules, lease.guard(writer), lease=lease)
            found.take()
        except Fenced:
            return None
        finally:
            lease.release()
        taken += found.taken
        if troubles is not None:
            troubles |= found.troubles
        if not set(inbox.keys(storage)) - found.waiting - set(found.troubles):  # nobody came who saw that the log was held
            break
    return taken
