"""What people say, as docs/formats.md has it (section 5.6): a signed note, and the record that repeats it. Reads no file."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from evidence import LOG, Keys, key_id, parse_signed, require, require_signature

STATEMENT_BYTES_MAX, SUBJECTS_MAX, STATED_MAX, ITEMS_MAX, PERSON = 512 << 10, 4096, 64, 4096, "renderfarm-person/"
HEAD = ("renderfarm-statement/1", "(.+)", "([a-z-]{1,40})", r"by ([^\s+]+\+[0-9a-f]{8})", "time ([1-9][0-9]{0,15})",
        "nonce ([0-9a-f]{32})", "words ([0-9a-f]{64}|-)")  # fmt: skip
"""The first lines of a statement."""


@dataclass(frozen=True)
class Statement:
    """`signer`: name of the key, `+`, id of the key. `words`: the commitment to them, or `-`."""

    origin: str
    kind: str
    signer: str
    time_us: int
    words: str
    subjects: list[dict[str, str]]
    fields: dict[str, Any]
    text: bytes
    signature: bytes


def parse_statement(data: bytes) -> Statement:
    """A statement in its one spelling; its signature is not checked. Raises: Fault."""
    text, signatures = parse_signed(data, STATEMENT_BYTES_MAX)
    lines = text.split("\n")
    head = [re.fullmatch(pattern, line) for pattern, line in zip(HEAD, lines, strict=False)]
    require(len(head) == len(HEAD) and all(head), "not a statement")
    origin, kind, signer, time_us, _, words = (found[1] for found in head[1:] if found is not None)
    about = [re.fullmatch("subject ([0-9a-f]{32}) ([0-9a-f]{64})", line) for line in lines[len(HEAD) :]]
    subjects = [{"image_id": found[1], "digest": found[2]} for found in about if found is not None]
    fields = dict(stated(line) for line in lines[len(HEAD) + len(subjects) :])
    require(all(about[: len(subjects)]) and len(subjects) <= SUBJECTS_MAX, "subjects that are too many, or no first lines")
    names = [line.partition(" ")[0] for line in lines[len(HEAD) + len(subjects) :]]
    require(names == sorted(fields) and len(names) <= STATED_MAX, "fields that are too many, twice, or not sorted")
    require(origin == origin.strip() and len(signatures) == 1, "not signed once, or an origin with blanks around it")
    require(isinstance(fields.get("by_name", ""), str), "a by_name that is no text")
    (name, ident, signature), *_ = signatures
    person = unquote(name.removeprefix(PERSON))
    own = PERSON + quote(person, safe="-._~@") == name and re.fullmatch(r"[^\x00-\x1f\x7f-\x9f]+", person) is not None
    require(own or not name.startswith(PERSON), "not how a person's key is named")
    require(f"{name}+{ident.hex()}" == signer, "not signed by the key that it names")
    return Statement(origin, kind, signer, int(time_us), words, subjects, fields, text.encode() + b"\n", signature)


def stated(line: str) -> tuple[str, Any]:
    """A field of a statement: its name, and its value in compact JSON."""
    name, _, spelled = line.partition(" ")
    require(re.fullmatch("[a-z_]{1,40}", name) is not None and name not in ("by", "time", "nonce", "words", "subject"), "not a field")
    value = json.loads(spelled)
    items = value if isinstance(value, list) else [value]
    require(all(type(item) in (str, int, bool, type(None)) for item in items), f"the value of {name} is of no kind that there is")
    small = all(type(item) is not int or -(1 << 63) <= item < 1 << 63 for item in items)
    require(len(items) <= ITEMS_MAX and small, f"the value of {name} is too large")
    require(json.dumps(value, separators=(",", ":"), ensure_ascii=False) == spelled, f"the value of {name} is not compact JSON")
    return name, value


def require_statement(record: Mapping[str, Any], origin: str, people: Keys) -> str | None:
    """That a record of a statement repeats its note, and that the note's signature is good if a known key made it: the name of that key.

    people: keys by their name, or by name, `+`, id. None for a record that is no statement, "" for a note by an unknown key. Raises: Fault.
    """
    if record["version"] < 4 or record["kind"] != "statement":
        require(not record.get("signed") and not record.get("statement"), "a note in a record that is no statement")
        return None
    require(isinstance(record["signed"], str), "a statement without its note")
    note = parse_statement(record["signed"].encode())
    name = note.signer.rpartition("+")[0]
    speaker = unquote(name.removeprefix(PERSON)) if name.startswith(PERSON) else note.fields.get("by_name", name)
    require(note.origin == origin, f"the statement is for the log {note.origin}")
    told = [record[field] for field in ("statement", "subjects", "finished_us", "reviewer")]
    require(told == [note.kind, note.subjects, note.time_us, speaker], "the record says something else than the statement in it")
    if note.kind == "review" and record["outcome"] is not None:
        about, told = [subject["image_id"] for subject in note.subjects], [note.fields.get("attempt"), note.fields.get("outcome")]
        same = about == [record["image_id"]] and told == [record["attempt"], record["outcome"]] and type(told[0]) is int
        require(same, "another review than the note's")
    else:
        require(record["outcome"] is None and record["image_id"] is None, "a statement that says how an image came out")
    if "salt" in record or record["commitment"] is None:
        require(record.get("reason") != "", "words that are empty")
        words = f"renderfarm-words/1\n{record.get('salt')}{record.get('reason')}" if record.get("reason") is not None else None
        made = "-" if words is None else hashlib.sha256(words.encode()).hexdigest()
        require(made == note.words, "the words are not what the statement committed to")
    for key in filter(None, (people.get(note.signer), people.get(name))):
        if note.signer == f"{name}+{key_id(name, key, LOG).hex()}":
            require_signature(key, note.signature, note.text, name)
            return name
    return ""
