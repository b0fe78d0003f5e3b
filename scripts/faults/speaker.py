"""A person who says much: `python -m scripts.faults.speaker OUTPUT KEY_SET KEY COUNT SEED`. Prints each statement's key once it is durable.

Reviews of all kinds, approvals, and a type that nobody knows. What the rules refuse is not said; where no driver lives, they are taken in.
"""

from __future__ import annotations

import random
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

from renderfarm import keys, notes
from renderfarm.cli import logs
from renderfarm.errors import RenderfarmError, UserError
from renderfarm.log import parts, reading
from renderfarm.notes.statement import Statement, Value, sign, words_commitment
from renderfarm.records.tables import from_table
from renderfarm.resolve import read_job_file
from renderfarm.review import review
from renderfarm.schema import Record
from renderfarm.statements import inbox
from renderfarm.statements.inbox import Letter
from renderfarm.statements.intake import take_in
from renderfarm.statements.reviews import subject_of
from renderfarm.storage import Storage, open_storage
from renderfarm.workers.finish import now_us
from scripts.faults.listener import SHOWN

READ_EVERY = 40
"""Statements after which the log is read again."""
ASKED = 0.1
"""How many of the statements are said by the command's own function, which reads the log each time."""


def attempts_of(storage: Storage) -> list[tuple[int, Record]]:
    """Every attempt with its part."""
    found = []
    for number, file in reading.fetch_parts(storage):
        found += [(number, record) for record in from_table(parts.read_part(file, number).table) if record.kind == "attempt"]
    return found


def main(uri: str, key_set: str, key: str, count: str, seed: str) -> int:
    """All statements."""
    logs.configure(quiet=True)
    storage, signing, person, rng = open_storage(uri), keys.load(Path(key_set)), keys.load_person(Path(key)), random.Random(int(seed))
    job = read_job_file(storage)
    rules, known = review.rules_of(job, signing), attempts_of(storage)
    said = 0
    while said < int(count):
        if said % READ_EVERY == READ_EVERY - 1 or len(known) < SHOWN:
            known = attempts_of(storage)
        part, record = rng.choice(known)
        try:
            if rng.random() < ASKED:
                shown = [one for _, one in known if one.object_key is not None]
                chosen = rng.choice(shown or [record])
                word = review.Word(rng.choice(("accepted", "rejected")), note=rng.choice(("", "as I see it")))
                found = review.review(storage, job, signing, str(chosen.image_id), chosen.attempt or 1, word, person).key
            else:
                found = _say(storage, job.name, person, rng, record, part)
                take_in(storage, signing, rules)
        except UserError:
            continue  # the rules refuse it: it was not said
        except RenderfarmError as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            return error.exit_code
        said += 1
        print(found, flush=True)
    return 0


def _say(storage: Storage, job: str, person: notes.Signer, rng: random.Random, record: Record, part: int) -> str:
    """A review that confirms a rejection, an approval, or a word of a type that nobody knows."""
    kind = rng.choice(("review", "approval", "mood")) if record.outcome == "rejected" else rng.choice(("approval", "mood"))
    fields: dict[str, Value] = {"attempt": record.attempt, "outcome": "rejected"} if kind == "review" else {"stage": rng.choice(("a", "b"))}
    words, salt = rng.choice((None, f"in mood {rng.random()}")), record.salt or secrets.token_hex(16)
    committed = None if words is None else words_commitment(salt, words)
    signed = sign(_statement(job, kind, committed, record, sorted(fields.items())), person)
    letter = Letter(signed, signed.to_bytes().decode(), words, salt, rng.choice(((part,), ())))
    inbox.put(storage, letter)
    return letter.key


def _statement(job: str, kind: str, words: str | None, record: Record, fields: Sequence[tuple[str, Value]]) -> Statement:
    return Statement(notes.origin(job), kind, "", now_us(), secrets.token_hex(16), words, (subject_of(record),), tuple(fields))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
