"""The log's signed head: C2SP tlog-checkpoint in a C2SP signed note, with Ed25519. Pure: bytes in, bytes out.

    renderfarm/mockups                 origin: which log
    43                                 size: number of parts
    CsUYapGG...=                       root of the log tree over those parts, base64

    — renderfarm/mockups Az3grlgtz...=     one signature a line: key name, base64(key id, 4 bytes; signature)

Specifications: c2sp.org/signed-note and c2sp.org/tlog-checkpoint. Parsing is strict and bounded, since a checkpoint
comes from whoever wrote the output. Signatures by unknown keys (witnesses, rotated keys) are kept and ignored. Which
keys are trusted is the caller's to say.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from urllib.parse import quote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from renderfarm.log.tree import HASH_BYTES

NOTE_BYTES_MAX = 64 * 1024
SIGNATURES_MAX = 32
SIZE_MAX = 10**8
"""Parts are numbered with 8 digits."""

ED25519 = 0x01
_DASH = "\u2014 "


class NoteMalformed(ValueError):
    """The bytes are no checkpoint: the message says which rule is broken."""


class NoteUntrusted(ValueError):
    """No key that we were given made a good signature, or one made a bad one."""


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signs checkpoints. `sign` takes the note's text and returns 64 bytes, so the private key may lie in a token
    or a KMS."""

    name: str
    public_key: Ed25519PublicKey
    sign: Callable[[bytes], bytes]

    @classmethod
    def of(cls, name: str, key: Ed25519PrivateKey) -> Signer:
        """A signer with the key in memory."""
        return cls(_checked_name(name), key.public_key(), key.sign)


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line: key name, 4-byte key id, and the signature's bytes (64 for Ed25519; others are kept as they
    are)."""

    name: str
    key_id: bytes
    value: bytes


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
        lines = [f"{_DASH}{item.name} {base64.b64encode(item.key_id + item.value).decode()}\n" for item in self.signatures]
        return self.text() + b"\n" + "".join(lines).encode()


def origin(job_name: str) -> str:
    """The origin line of a job's log. Spaces, plus signs and controls are percent-encoded, as C2SP wants none of
    them."""
    return "renderfarm/" + quote(job_name, safe="-._~")


def key_id(name: str, public_key: Ed25519PublicKey) -> bytes:
    """The first 4 bytes of SHA-256(name, LF, 01, public key) (signed-note, Ed25519 signatures)."""
    return hashlib.sha256(name.encode() + b"\n" + _typed(public_key)).digest()[:4]


def verifier_key(name: str, public_key: Ed25519PublicKey) -> str:
    """A public key as the text that other tools take: `name+hex key id+base64(type, key)`."""
    return f"{name}+{key_id(name, public_key).hex()}+{base64.b64encode(_typed(public_key)).decode()}"


def parse_verifier_key(text: str) -> tuple[str, Ed25519PublicKey]:
    """`verifier_key` backwards.

    Raises: NoteMalformed.
    """
    parts = text.strip().split("+", 2)
    if len(text) > 1024 or len(parts) != 3:
        raise NoteMalformed("a verifier key is name+id+key")
    name, stated, encoded = parts
    raw = _unbase64(encoded)
    if len(raw) != 33 or raw[0] != ED25519:
        raise NoteMalformed("the verifier key is no Ed25519 key")
    key = Ed25519PublicKey.from_public_bytes(raw[1:])
    if key_id(_checked_name(name), key).hex() != stated.lower():
        raise NoteMalformed("the verifier key's id does not fit its name and key")
    return name, key


def sign(checkpoint: Checkpoint, signer: Signer) -> Checkpoint:
    """The same head with this signer's signature added."""
    if len(checkpoint.root) != HASH_BYTES:
        raise ValueError("a root is 32 bytes")
    made = Signature(signer.name, key_id(signer.name, signer.public_key), signer.sign(checkpoint.text()))
    return replace(checkpoint, signatures=(*checkpoint.signatures, made))


def verify(checkpoint: Checkpoint, keys: Mapping[str, Ed25519PublicKey]) -> str:
    """The name of a given key whose signature is good.

    Raises: NoteUntrusted when no line is by a given key, or one is and its signature is bad.
    """
    good = None
    for item in checkpoint.signatures:
        public_key = keys.get(item.name)
        if public_key is None or item.key_id != key_id(item.name, public_key):
            continue
        try:
            public_key.verify(item.value, checkpoint.text())
        except InvalidSignature as error:
            raise NoteUntrusted(f"the signature by {item.name} is bad") from error
        good = good or item.name
    if good is None:
        names = ", ".join(sorted({f"{item.name} ({item.key_id.hex()})" for item in checkpoint.signatures}))
        raise NoteUntrusted(f"no signature by a known key; signed by {names or 'nobody'}")
    return good


def parse(data: bytes) -> Checkpoint:
    """A checkpoint with its signatures, none of them checked.

    Raises: NoteMalformed on anything that a careful writer would not write, and on more than 64 KiB or 32 signatures.
    """
    if len(data) > NOTE_BYTES_MAX:
        raise NoteMalformed(f"{len(data)} bytes are too many for a checkpoint")
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
    return replace(_parse_text(head), signatures=tuple(_parse_signature(line) for line in lines))


def _parse_text(head: str) -> Checkpoint:
    lines = head.split("\n")
    if len(lines) != 3:
        raise NoteMalformed("the text is not three lines (extension lines are not used here)")
    name, size, root = lines
    if not name:
        raise NoteMalformed("no origin")
    digits = len(size) <= 9 and size.isascii() and size.isdigit()
    if not digits or (size[0] == "0" and size != "0") or int(size) > SIZE_MAX:
        raise NoteMalformed("the size is no number")
    raw = _unbase64(root)
    if len(raw) != HASH_BYTES:
        raise NoteMalformed("the root is not 32 bytes")
    return Checkpoint(name, int(size), raw)


def _parse_signature(line: str) -> Signature:
    if not line.startswith(_DASH):
        raise NoteMalformed("a signature line begins with an em dash and a space")
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    raw = _unbase64(encoded)
    if not space or len(raw) < 5:
        raise NoteMalformed("a signature line is name, space, base64 of key id and signature")
    return Signature(_checked_name(name), raw[:4], raw[4:])


def _checked_name(name: str) -> str:
    if not name or "+" in name or any(character.isspace() or character < " " for character in name):
        raise NoteMalformed(f"not a key name: {name[:40]!r}")
    return name


def _unbase64(text: str) -> bytes:
    """Standard base64 in its one canonical spelling."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise NoteMalformed("not base64") from error
    if base64.b64encode(raw).decode() != text:
        raise NoteMalformed("base64 that is not in canonical form")
    return raw


def _typed(public_key: Ed25519PublicKey) -> bytes:
    return bytes([ED25519]) + public_key.public_bytes_raw()
