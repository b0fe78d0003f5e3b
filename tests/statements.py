"""Statements for tests: signed by whom one likes, about a record, as they lie in an inbox."""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from renderfarm import notes
from renderfarm.notes import Signer
from renderfarm.notes.statement import Statement, Value, person_key_name, sign, words_commitment
from renderfarm.schema import REVIEW, Record
from renderfarm.statements.inbox import Letter
from renderfarm.statements.reviews import subject_of

NOW_US = 1_790_000_000_000_000


def person(name: str) -> Signer:
    """A person with a key of their own, always the same."""
    seed = hashlib.sha256(f"key of {name}".encode()).digest()
    return Signer.of(person_key_name(name), Ed25519PrivateKey.from_private_bytes(seed))


def note(kind: str, signer: Signer, about: tuple[Record, ...] = (), job: str = "mugs", at: int = 0, words: str | None = None,
         salt: str = "0f" * 16, **fields: Value) -> Statement:  # fmt: skip
    """A signed statement."""
    nonce = hashlib.sha256(repr((kind, signer.name, at, words, fields)).encode()).hexdigest()[:32]
    committed = None if words is None else words_commitment(salt, words)
    subjects = tuple(subject_of(record) for record in about)
    return sign(Statement(notes.origin(job), kind, "", NOW_US + at, nonce, committed, subjects, tuple(sorted(fields.items()))), signer)


def letter(statement: Statement, words: str | None = None, salt: str = "0f" * 16, parts: tuple[int, ...] = ()) -> Letter:
    """It as it lies in an inbox."""
    return Letter(statement, statement.to_bytes().decode(), words, salt, parts)


def review_letter(signer: Signer, tried: Record, outcome: str, at: int = 0, words: str | None = None, **more: Value) -> Letter:
    """A person's word on an attempt."""
    salt = tried.salt or "0f" * 16
    said = note(REVIEW, signer, (tried,), tried.job, at, words, salt, attempt=tried.attempt, outcome=outcome, **more)
    return letter(said, words, salt)
