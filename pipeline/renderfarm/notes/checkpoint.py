"""The log's signed head: C2SP tlog-checkpoint in a C2SP signed note, with Ed25519. Pure: bytes in, bytes out.

    renderfarm/mockups                 origin: which log
    43                                 size: number of parts
    CsUYapGG...=                       root of the log tree over those parts, base64

Specification: c2sp.org/tlog-checkpoint. Signatures by unknown keys (witnesses, rotated keys) are kept and ignored.
Which keys are trusted is the caller's to say.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace
from urllib.parse import quote

from cryptography.exceptions import InvalidSignature

from renderfarm.notes import note
from renderfarm.notes.keys import Keys, Signer, key_id, lines_by
from renderfarm.notes.note import NoteMalformed, NoteUntrusted, Signature

ROOT_BYTES = 32
SIZE_MAX = 10**8
"""Parts are numbered with 8 digits."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A signed head. `size`: parts in the log; `root`: 32 bytes."""

    origin: str
    size: int
    root: bytes
    signatures: tuple[Signature, ...] = ()

    def text(self) -> bytes:
        """The note's text: what is signed."""
        root = base64.b64encode(self.root).decode()
        return f"{self.origin}\n{self.size}\n{root}\n".encode()

    def to_bytes(self) -> bytes:
        """The signed note."""
        return note.to_bytes(self.text(), self.signatures)


def origin(job_name: str) -> str:
    """The origin line of a job's log. Spaces, plus signs and controls are percent-encoded, as C2SP wants none of
    them."""
    return "renderfarm/" + quote(job_name, safe="-._~")


def sign(checkpoint: Checkpoint, signer: Signer) -> Checkpoint:
    """The same head with this signer's signature added."""
    if len(checkpoint.root) != ROOT_BYTES:
        raise ValueError("a root is 32 bytes")
    made = Signature(signer.name, key_id(signer.name, signer.public_key), signer.sign(checkpoint.text()))
    return replace(checkpoint, signatures=(*checkpoint.signatures, made))


def verify(checkpoint: Checkpoint, keys: Keys) -> str:
    """The name of a given key whose signature is good.

    Raises: NoteUntrusted when no line is by a given key, or one is and its signature is bad.
    """
    good = []
    for line, public_key in lines_by(keys, checkpoint.signatures):
        try:
            public_key.verify(line.value, checkpoint.text())
        except InvalidSignature as error:
            raise NoteUntrusted(f"the signature by {line.name} is bad") from error
        good.append(line.name)
    if not good:
        names = ", ".join(sorted({f"{line.name} ({line.key_id.hex()})" for line in checkpoint.signatures}))
        raise NoteUntrusted(f"no signature by a known key; signed by {names or 'nobody'}")
    return good[0]


def parse(data: bytes) -> Checkpoint:
    """A checkpoint with its signatures, none of them checked. Raises: NoteMalformed."""
    lines, signatures = note.parse(data)
    if len(lines) != 3:
        raise NoteMalformed("the text is not three lines (extension lines are not used here)")
    name, size, root = lines
    if not name:
        raise NoteMalformed("no origin")
    digits = len(size) <= 9 and size.isascii() and size.isdigit()
    if not digits or (size[0] == "0" and size != "0") or int(size) > SIZE_MAX:
        raise NoteMalformed("the size is no number")
    raw = note.unbase64(root)
    if len(raw) != ROOT_BYTES:
        raise NoteMalformed("the root is not 32 bytes")
    return Checkpoint(name, int(size), raw, signatures)
