"""What a person says, as a C2SP signed note: a type, a time, the records that it is about, and fields by type. Pure.

    renderfarm-statement/1
    renderfarm/mugs                                  origin: the log that it is for
    review                                           type: a word of [a-z-]
    by renderfarm-person/ada+033de0ae                key name and key id of who signs
    time 1790000000000000                            microseconds since 1970 UTC
    nonce 3b0c…                                      32 hex digits: no two statements are one
    words 9f86… (or -)                               commitment to words that may have to be forgotten: `words_commitment`
    subject <image id> <leaf hash of a record>       32 and 64 hex digits; any number, in the signer's order
    attempt 2                                        fields: a name of [a-z_], a value as compact JSON; sorted by name
    outcome "accepted"

One signature, by the key that the text names: so nobody makes a second note of one by adding or renaming a line. A value is text, a whole
number of 64 bits, true, false, null, or a list of these. A statement has one spelling; any other is malformed. Types are open: one that
this program does not know is kept and shown. Whether a signer is known is the caller's to say.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field, replace
from urllib.parse import quote, unquote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from renderfarm.notes import note
from renderfarm.notes.keys import Keys, Signer, key_id
from renderfarm.notes.note import NoteMalformed, NoteUntrusted, Signature
from renderfarm.schema import Subject

MAGIC = "renderfarm-statement/1"
WORDS_MAGIC = b"renderfarm-words/1\n"
PERSON = "renderfarm-person/"
"""How the key names of people begin."""

STATEMENT_BYTES_MAX = 512 * 1024
SUBJECTS_MAX, FIELDS_MAX, ITEMS_MAX = 4096, 64, 4096
WORDS_BYTES_MAX = 32 * 1024
SALT = re.compile(r"[0-9a-f]{32}")

_TYPE, _NAME = re.compile(r"[a-z-]{1,40}"), re.compile(r"[a-z_]{1,40}")
_RESERVED = frozenset({"by", "time", "nonce", "words", "subject"})
_SUBJECT = re.compile(r"subject ([0-9a-f]{32}) ([0-9a-f]{64})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_HEAD = (
    re.compile(r"by ([^\s+]+\+[0-9a-f]{8})"),
    re.compile(r"time ([1-9][0-9]{0,15})"),
    re.compile(r"nonce ([0-9a-f]{32})"),
    re.compile(r"words ([0-9a-f]{64}|-)"),
)

Value = str | int | bool | None | tuple[str | int | bool | None, ...]


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement. `signer`: key name, `+`, key id; `words`: 64 hex digits, None for one without words."""

    origin: str
    kind: str
    signer: str
    time_us: int
    nonce: str
    words: str | None = None
    subjects: tuple[Subject, ...] = ()
    fields: tuple[tuple[str, Value], ...] = ()
    signatures: tuple[Signature, ...] = field(default=(), compare=False)

    def get(self, name: str) -> Value:
        """The value of a field; None where there is no such field."""
        return dict(self.fields).get(name)

    @property
    def speaker(self) -> str:
        """Who speaks, as people read it: the person whose key it is, or whom the holder of another key names in the field `by`."""
        named = self.get("by_name")
        return named if isinstance(named, str) and not self.key_name.startswith(PERSON) else person_name(self.key_name)

    @property
    def key_name(self) -> str:
        """The note key name of who signed it."""
        return self.signer.rpartition("+")[0]

    def text(self) -> bytes:
        """The note's text: what is signed."""
        head = [MAGIC, self.origin, self.kind, f"by {self.signer}", f"time {self.time_us}", f"nonce {self.nonce}"]
        about = [f"subject {subject.image_id} {subject.digest}" for subject in self.subjects]
        lines = [*head, f"words {self.words or '-'}", *about, *(f"{name} {_spelled(value)}" for name, value in self.fields)]
        return "".join(f"{line}\n" for line in lines).encode()

    def to_bytes(self) -> bytes:
        """The signed note."""
        return note.to_bytes(self.text(), self.signatures)


def person_key_name(name: str) -> str:
    """The note key name of a person's key; `person_name` backwards."""
    return PERSON + quote(name, safe="-._~@")


def person_name(key_name: str) -> str:
    """Whose key it is, as people read it; the key's whole name where it is no person's."""
    return unquote(key_name.removeprefix(PERSON)) if key_name.startswith(PERSON) else key_name


def is_person(key_name: str) -> bool:
    """Whether it is the one key name of a person: of a name without control characters, each byte as `person_key_name` writes it."""
    name = person_name(key_name)
    return key_name == person_key_name(name) and bool(name) and not _CONTROL.search(name)


def person_of(key: str) -> str | None:
    """Whose key this is, of a key name or of a key name with `+` and id; None for one that is no person's."""
    return person_name(key.partition("+")[0]) if key.startswith(PERSON) else None


def words_commitment(salt: str, words: str) -> str:
    """What stands in the note for words that are kept elsewhere, 64 hex digits; salt: 32 hex digits."""
    return hashlib.sha256(WORDS_MAGIC + salt.encode() + words.encode()).hexdigest()


def sign(statement: Statement, signer: Signer) -> Statement:
    """The statement, signed by this person. Raises: NoteMalformed for one that would not be read back."""
    identity = key_id(signer.name, signer.public_key)
    unsigned = replace(statement, signer=f"{signer.name}+{identity.hex()}", signatures=(Signature(signer.name, identity, b"-"),))
    parse(unsigned.to_bytes())
    return replace(unsigned, signatures=(Signature(signer.name, identity, signer.sign(unsigned.text())),))


def known_key(signer: str, keys: Keys) -> Ed25519PublicKey | None:
    """The one of these keys that `signer` names, by its name and its id. A person's further keys stand under name, `+`, id."""
    name = signer.rpartition("+")[0]
    found = (keys.get(signer), keys.get(name))
    return next((key for key in found if key is not None and f"{name}+{key_id(name, key).hex()}" == signer), None)


def verify(statement: Statement, keys: Keys) -> str:
    """The key name of who signed it. Raises: NoteUntrusted when that is none of these keys, or its signature is bad."""
    public_key = known_key(statement.signer, keys)
    if public_key is None:
        raise NoteUntrusted(f"signed by {statement.signer}, which is no known person's key")
    try:
        public_key.verify(statement.signatures[0].value, statement.text())
    except InvalidSignature as error:
        raise NoteUntrusted(f"the signature by {statement.key_name} is bad") from error
    return statement.key_name


def parse(data: bytes) -> Statement:
    """A statement with its signature, which is not checked. Raises: NoteMalformed for anything but its one spelling."""
    lines, signatures = note.parse(data, STATEMENT_BYTES_MAX)
    if len(lines) < 7 or lines[0] != MAGIC:
        raise NoteMalformed(f"no statement: its first line is not {MAGIC}")
    origin, kind = lines[1], lines[2]
    head = [pattern.fullmatch(line) for pattern, line in zip(_HEAD, lines[3:7], strict=True)]
    if not origin or origin != origin.strip() or not _TYPE.fullmatch(kind) or not all(head):
        raise NoteMalformed("its origin, type, signer, time, nonce or words are not as they should be")
    signer, time, nonce, words = (str(found and found[1]) for found in head)
    subjects, rest = [], 7
    while rest < len(lines) and (found := _SUBJECT.fullmatch(lines[rest])):
        subjects.append(Subject(found[1], found[2]))
        rest += 1
    fields = tuple(_field(line) for line in lines[rest:])
    names = [name for name, _ in fields]
    if len(subjects) > SUBJECTS_MAX or len(fields) > FIELDS_MAX or names != sorted(set(names)):
        raise NoteMalformed(f"more than {SUBJECTS_MAX} subjects or {FIELDS_MAX} fields, or fields that are not sorted and different")
    if not isinstance(dict(fields).get("by_name", ""), str):
        raise NoteMalformed("a by_name that is no text")
    key_name = signer.rpartition("+")[0]
    if key_name.startswith(PERSON) and not is_person(key_name):
        raise NoteMalformed(f"{key_name[:60]!r} is not how a person's key is named")
    committed = None if words == "-" else words
    made = Statement(origin, kind, signer, int(time), nonce, committed, tuple(subjects), fields, signatures)
    if [f"{item.name}+{item.key_id.hex()}" for item in signatures] != [signer]:
        raise NoteMalformed("it is not signed once, by the key that it names")
    if made.to_bytes() != data:
        raise NoteMalformed("it is not in its one spelling")
    return made


def _field(line: str) -> tuple[str, Value]:
    name, _, text = line.partition(" ")
    if not _NAME.fullmatch(name) or name in _RESERVED:
        raise NoteMalformed(f"not a field: {line[:60]!r}")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NoteMalformed(f"the value of {name} is no JSON") from error
    plain = tuple(value) if isinstance(value, list) else value
    items = plain if isinstance(plain, tuple) else (plain,)
    if len(items) > ITEMS_MAX or not all(item is None or isinstance(item, str | bool) or _is_int(item) for item in items):
        raise NoteMalformed(f"the value of {name} is neither text, whole number of 64 bits, true, false or null, nor a list of these")
    try:
        if _spelled(plain) != text:
            raise NoteMalformed(f"the value of {name} is not compact JSON")
        text.encode()
    except UnicodeEncodeError as error:
        raise NoteMalformed(f"the value of {name} is no text") from error
    return name, plain


def _is_int(value: object) -> bool:
    return type(value) is int and -(1 << 63) <= value < 1 << 63


def _spelled(value: Value) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
