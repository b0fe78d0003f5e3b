"""C2SP signed notes: a text, a blank line, and signature lines. Pure: bytes in, bytes out.

    <the text: whole lines>

    — renderfarm/mockups Az3grlgtz...=     one signature a line: key name, base64(key id, 4 bytes; signature)

Specification: c2sp.org/signed-note. Parsing is strict and bounded, since a note comes from whoever wrote the output.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass

NOTE_BYTES_MAX = 64 * 1024
SIGNATURES_MAX = 32

KEY_NAME = re.compile(r"[^\s\x00-\x1f+]+")
_DASH = "\u2014 "


class NoteMalformed(ValueError):
    """The bytes are no note, or the text is no key: the message says which rule is broken."""


class NoteUntrusted(ValueError):
    """No key that we were given made a good signature, or one made a bad one."""


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line: key name, 4-byte key id, and the signature's bytes (64 for Ed25519; others are kept as they
    are)."""

    name: str
    key_id: bytes
    value: bytes


def to_bytes(text: bytes, signatures: Sequence[Signature]) -> bytes:
    """The signed note. `text` ends with a line feed."""
    lines = [f"{_DASH}{item.name} {base64.b64encode(item.key_id + item.value).decode()}\n" for item in signatures]
    return text + b"\n" + "".join(lines).encode()


def parse(data: bytes, bytes_max: int = NOTE_BYTES_MAX) -> tuple[list[str], tuple[Signature, ...]]:
    """The text's lines and the signatures, none of them checked.

    Raises: NoteMalformed on anything that a careful writer would not write, and on more than `bytes_max` or 32 signatures.
    """
    if len(data) > bytes_max:
        raise NoteMalformed(f"{len(data)} bytes are too many for a note")
    try:
        note = data.decode()
    except UnicodeDecodeError as error:
        raise NoteMalformed("not UTF-8") from error
    if any(character < " " and character != "\n" for character in note):
        raise NoteMalformed("a control character")
    head, blank, tail = note.rpartition("\n\n")
    if not blank or not tail.endswith("\n"):
        raise NoteMalformed("no signature lines")
    lines = tail[:-1].split("\n")
    if len(lines) > SIGNATURES_MAX:
        raise NoteMalformed(f"{len(lines)} signatures are too many")
    return head.split("\n"), tuple(_parse_signature(line) for line in lines)


def _parse_signature(line: str) -> Signature:
    if not line.startswith(_DASH):
        raise NoteMalformed("a signature line begins with an em dash and a space")
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    raw = unbase64(encoded)
    if not space or len(raw) < 5:
        raise NoteMalformed("a signature line is name, space, base64 of key id and signature")
    if not KEY_NAME.fullmatch(name):
        raise NoteMalformed(f"not a key name: {name[:40]!r}")
    return Signature(name, raw[:4], raw[4:])


def unbase64(text: str) -> bytes:
    """Standard base64 in its one canonical spelling. Raises: NoteMalformed."""
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError as error:  # not base64, or not ASCII
        raise NoteMalformed("not base64") from error
    if base64.b64encode(raw).decode() != text:
        raise NoteMalformed("base64 that is not in canonical form")
    return raw
