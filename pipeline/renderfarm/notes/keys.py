"""Keys of C2SP signed notes as text, and the ids that signature lines name them by. Pure.

    renderfarm/mockups+033de0ae+Ac4zctda...=                verifier key: name+key id+base64(type, public key)
    PRIVATE+KEY+renderfarm/mockups+033de0ae+AYEKFALV...=    signer key, as Go's sumdb/note writes it: base64(type, seed)

The key id is the first 4 bytes of SHA-256(name, LF, type, public key), in hex. The type is one byte: 01 plain Ed25519
(c2sp.org/signed-note), 04 a witness's cosignature (c2sp.org/tlog-cosignature). No message repeats any part of a key.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from renderfarm.notes.note import KEY_NAME, NoteMalformed, Signature, unbase64

ED25519, COSIGNATURE = b"\x01", b"\x04"
KEY_CHARS_MAX = 1024
_PRIVATE = "PRIVATE+KEY+"

Keys = Mapping[str, Ed25519PublicKey]
"""Public keys by their note key name."""


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
        return cls(name, key.public_key(), key.sign)


def key_id(name: str, public_key: Ed25519PublicKey, kind: bytes = ED25519) -> bytes:
    """The 4 bytes that a signature line begins with."""
    return hashlib.sha256(name.encode() + b"\n" + kind + public_key.public_bytes_raw()).digest()[:4]


def verifier_key(name: str, public_key: Ed25519PublicKey, kind: bytes = ED25519) -> str:
    """A public key as the text that other tools take."""
    return _format(name, public_key, kind, public_key.public_bytes_raw())


def signer_key(name: str, key: Ed25519PrivateKey) -> str:
    """A private key as the text that other tools take."""
    return _PRIVATE + _format(name, key.public_key(), ED25519, key.private_bytes_raw())


def parse_verifier_key(text: str, kind: bytes = ED25519) -> tuple[str, Ed25519PublicKey]:
    """`verifier_key` backwards. Raises: NoteMalformed, also when the id does not fit."""
    name, stated, raw = _parse(text.strip(), kind)
    public_key = Ed25519PublicKey.from_public_bytes(raw)
    return _fitting(name, public_key, kind, stated), public_key


def parse_signer_key(text: str) -> tuple[str, Ed25519PrivateKey]:
    """`signer_key` backwards. Raises: NoteMalformed, also when the id does not fit."""
    if not text.strip().startswith(_PRIVATE):
        raise NoteMalformed(f"a private key is {_PRIVATE}name+id+base64")
    name, stated, raw = _parse(text.strip().removeprefix(_PRIVATE), ED25519)
    key = Ed25519PrivateKey.from_private_bytes(raw)
    return _fitting(name, key.public_key(), ED25519, stated), key


def lines_by(keys: Keys, signatures: Iterable[Signature], kind: bytes = ED25519) -> Iterator[tuple[Signature, Ed25519PublicKey]]:
    """The signatures that say that one of these keys made them, each with the key; whether it did is not looked at."""
    for line in signatures:
        public_key = keys.get(line.name)
        if public_key is not None and line.key_id == key_id(line.name, public_key, kind):
            yield line, public_key


def _format(name: str, public_key: Ed25519PublicKey, kind: bytes, raw: bytes) -> str:
    return f"{name}+{key_id(name, public_key, kind).hex()}+{base64.b64encode(kind + raw).decode()}"


def _parse(text: str, kind: bytes) -> tuple[str, str, bytes]:
    """Name, stated id, 32 bytes of key."""
    parts = text.split("+", 2)
    if len(text) > KEY_CHARS_MAX or len(parts) != 3 or not KEY_NAME.fullmatch(parts[0]):
        raise NoteMalformed("a key is name+id+base64")
    raw = unbase64(parts[2])
    if len(raw) != 33 or raw[:1] != kind:
        raise NoteMalformed("no Ed25519 key" if kind == ED25519 else "no key of a witness (Ed25519, cosignature/v1)")
    return parts[0], parts[1], raw[1:]


def _fitting(name: str, public_key: Ed25519PublicKey, kind: bytes, stated: str) -> str:
    if key_id(name, public_key, kind).hex() != stated.lower():
        raise NoteMalformed("the key's id does not fit its name and key")
    return name
