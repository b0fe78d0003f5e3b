"""Statements that wait beside the log until whoever holds it takes them in: one object each, written if absent, never changed.

    provenance/inbox/1790000000000000-9f86d081884c7d65.json      time of the statement, first 16 hex of the note's SHA-256
    {"note":…,"words":…,"salt":…,"parts":[…]}

`note` is the signed note (`notes.statement`). `words` is what its commitment stands for, with the `salt`; null where there is none. `parts`
says of each subject in which part its record lies: a lead, which nobody signs and which only saves a search. Putting one again is no
second statement; neither is one that comes back late from the network: the log knows the note (`state.statements`). Whoever may write to
the output may write anything here: nothing of it is believed before the note's signature.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

from renderfarm.errors import AlreadyStored, NotStored
from renderfarm.log.state import statement_key
from renderfarm.notes import NoteMalformed
from renderfarm.notes import statement as notes
from renderfarm.notes.statement import Statement
from renderfarm.output import INBOX, inbox_key
from renderfarm.storage import Storage, checked_key

BYTES_MAX = 2 << 20
_NAMES = {"note", "words", "salt", "parts"}


@dataclass(frozen=True, slots=True)
class Letter:
    """One statement that waits. `signed`: the note as text; `salt`: 32 hex digits; `parts`: a part for each subject, or none at all."""

    statement: Statement
    signed: str
    words: str | None = None
    salt: str | None = None
    parts: tuple[int, ...] = ()

    @property
    def key(self) -> str:
        """Where it waits."""
        return inbox_key(self.statement.time_us, hashlib.sha256(self.signed.encode()).hexdigest())

    @property
    def leads(self) -> tuple[int | None, ...]:
        """For each subject the part where its record should lie; None where that is not said."""
        return self.parts or (None,) * len(self.statement.subjects)

    @property
    def name(self) -> bytes:
        """What the log knows it by."""
        return statement_key(self.signed)

    def to_bytes(self) -> bytes:
        """The object."""
        content = {"note": self.signed, "words": self.words, "salt": self.salt, "parts": list(self.parts)}
        return json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()


def put(storage: Storage, letter: Letter) -> None:
    """Leaves a statement in the inbox; when it returns it is durable. Raises: AlreadyStored where something else lies; StorageAway."""
    try:
        storage.put_new(letter.key, letter.to_bytes(), "application/json")
    except AlreadyStored:
        try:
            found = parse(letter.key, storage.get(letter.key, BYTES_MAX))
        except NotStored:  # it was taken in just now
            return
        except NoteMalformed as error:
            raise AlreadyStored(letter.key) from error
        if found.signed != letter.signed:
            raise


def keys(storage: Storage) -> Iterator[str]:
    """The keys of everything that waits, in their order. Raises: StorageAway."""
    return (stored.key for stored in storage.list(INBOX))


def read(storage: Storage, key: str) -> Letter | None:
    """What waits there; None when it was taken in meanwhile. Raises: NoteMalformed; StorageRefused (it may not be read); StorageAway."""
    try:
        data = storage.get(checked_key(key), BYTES_MAX)
    except ValueError as error:  # a name that no storage of ours would write
        raise NoteMalformed("its name is not that of an object here") from error
    except NotStored:
        return None
    return parse(key, data)


def parse(key: str, data: bytes) -> Letter:
    """An object of the inbox. Whether its signature is good, and by whom, is not looked at. Raises: NoteMalformed."""
    try:
        content = json.loads(data) if len(data) <= BYTES_MAX else None
    except (ValueError, RecursionError) as error:
        raise NoteMalformed("no JSON") from error
    if not isinstance(content, dict) or set(content) != _NAMES or not isinstance(content["note"], str):
        raise NoteMalformed("no object with note, words, salt and parts")
    signed, words, salt, parts = content["note"], content["words"], content["salt"], content["parts"]
    try:
        statement = notes.parse(signed.encode())
    except UnicodeEncodeError as error:
        raise NoteMalformed("not Unicode") from error
    if salt is not None and not (isinstance(salt, str) and notes.SALT.fullmatch(salt)):
        raise NoteMalformed("a salt that is not 32 hex digits")
    if not isinstance(parts, list) or not all(type(number) is int and 0 <= number < 10**8 for number in parts):
        raise NoteMalformed("parts that are no numbers of parts")
    leads = tuple(parts) if len(parts) == len(statement.subjects) else ()
    letter = Letter(statement, signed, _checked_words(statement, words, salt), salt, leads)
    if letter.key != key:
        raise NoteMalformed("its name is not that of what it holds")
    return letter


def _checked_words(statement: Statement, words: object, salt: str | None) -> str | None:
    if statement.words is None and words is None:
        return None
    try:
        fits = isinstance(words, str) and 0 < len(words.encode()) <= notes.WORDS_BYTES_MAX and salt is not None
    except UnicodeEncodeError:
        fits = False
    if not fits or statement.words is None or notes.words_commitment(str(salt), str(words)) != statement.words:
        raise NoteMalformed("its words are not what the note commits to")
    return str(words)
