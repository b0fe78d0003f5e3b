"""Cosignatures: that a witness saw a checkpoint at a time, and that it continues whatever it saw of this log before.

A witness's line in a signed note is `name base64(key id, 8 bytes of time, Ed25519 signature)`; it signs

    cosignature/v1
    time 1679315147
    <the note's text>

Specifications: c2sp.org/tlog-cosignature and, for the body that a witness is sent, c2sp.org/tlog-witness. Pure: bytes in, bytes
out. Which witnesses are trusted is the caller's to say.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import replace

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from renderfarm.notes.checkpoint import Checkpoint, parse
from renderfarm.notes.keys import COSIGNATURE, Keys, key_id, lines_by
from renderfarm.notes.note import NoteMalformed, NoteUntrusted, Signature

SIGNATURE_BYTES = 8 + 64
TIME_MAX_S = 1 << 40
LINES_MAX = 16
PROOF_MAX = 63


def cosign(checkpoint: Checkpoint, name: str, key: Ed25519PrivateKey, time_s: int) -> Checkpoint:
    """The checkpoint with a witness's line added; time_s: seconds since 1970 UTC."""
    value = time_s.to_bytes(8, "big") + key.sign(_text(checkpoint, time_s))
    line = Signature(name, key_id(name, key.public_key(), COSIGNATURE), value)
    return replace(checkpoint, signatures=(*checkpoint.signatures, line))


def verify(checkpoint: Checkpoint, keys: Keys) -> dict[str, int]:
    """Which of these witnesses cosigned the checkpoint, and when, in seconds since 1970 UTC.

    Raises: NoteUntrusted when a line is by one of the keys and its signature is bad.
    """
    seen: dict[str, int] = {}
    for line, public_key in lines_by(keys, checkpoint.signatures, COSIGNATURE):
        time_s = int.from_bytes(line.value[:8], "big")
        try:
            if len(line.value) != SIGNATURE_BYTES or time_s >= TIME_MAX_S:
                raise InvalidSignature
            public_key.verify(line.value[8:], _text(checkpoint, time_s))
        except InvalidSignature as error:
            raise NoteUntrusted(f"the cosignature by {line.name} is bad") from error
        seen[line.name] = max(time_s, seen.get(line.name, 0))
    return seen


def request(old_size: int, proof: Sequence[bytes], checkpoint: Checkpoint) -> bytes:
    """The body of `add-checkpoint`: the size that the witness knows, the proof from there, and the checkpoint."""
    if len(proof) > PROOF_MAX:
        raise ValueError(f"{len(proof)} hashes are more than a witness takes")
    lines = [f"old {old_size}", *(base64.b64encode(item).decode() for item in proof)]
    return ("\n".join(lines) + "\n\n").encode() + checkpoint.to_bytes()


def answer(body: bytes, checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint with the lines that a witness answered. Raises: NoteMalformed for anything but a few signature lines."""
    lines = parse(checkpoint.text() + b"\n" + body).signatures
    if len(lines) > LINES_MAX:
        raise NoteMalformed(f"{len(lines)} signatures are too many")
    return replace(checkpoint, signatures=tuple(dict.fromkeys((*checkpoint.signatures, *lines))))


def _text(checkpoint: Checkpoint, time_s: int) -> bytes:
    return f"cosignature/v1\ntime {time_s}\n".encode() + checkpoint.text()
