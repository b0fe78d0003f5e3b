"""C2SP notes. `checkpoint` is the signed head of a log, `cosign` what witnesses sign over it; `note` and `keys` are what both
are written in. Pure: which keys are trusted is the caller's to say."""

from renderfarm.notes.checkpoint import ROOT_BYTES, SIZE_MAX, Checkpoint, origin, parse, sign, verify
from renderfarm.notes.keys import (
    COSIGNATURE,
    ED25519,
    Keys,
    Signer,
    key_id,
    parse_signer_key,
    parse_verifier_key,
    signer_key,
    verifier_key,
)
from renderfarm.notes.note import NOTE_BYTES_MAX, NoteMalformed, NoteUntrusted, Signature

__all__ = [
    "COSIGNATURE",
    "ED25519",
    "NOTE_BYTES_MAX",
    "ROOT_BYTES",
    "SIZE_MAX",
    "Checkpoint",
    "Keys",
    "NoteMalformed",
    "NoteUntrusted",
    "Signature",
    "Signer",
    "key_id",
    "origin",
    "parse",
    "parse_signer_key",
    "parse_verifier_key",
    "sign",
    "signer_key",
    "verifier_key",
    "verify",
]
