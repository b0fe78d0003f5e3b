"""An output whose inbox people write to: two images exhausted, one open; no pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from renderfarm import keys, notes
from renderfarm.log.writer import LogWriter
from renderfarm.notes import Signer
from renderfarm.schema import Record
from renderfarm.statements.intake import Inbox
from renderfarm.statements.reviews import ReviewRules, people_of
from renderfarm.storage import LocalStorage, Storage
from tests import outputs, reviewed
from tests.outputs import Output, attempt_record

RULES = ReviewRules(outputs.JOB, 2, "image/png", False)


def trusting(folder: Path, *people: Signer) -> keys.KeySet:
    """A key set that trusts these people by name."""
    made = keys.init(folder)
    for number, one in enumerate(people):
        (made.folder / "trust" / f"{number}.person").write_text(notes.verifier_key(one.name, one.public_key) + "\n")
    return made


def tried(number: int, attempt: int = 1) -> Record:
    """A rejected attempt as it stands in that log."""
    return attempt_record(number, attempt, "rejected")


def build(folder: Path, key_set: keys.KeySet) -> Output:
    """Images 1 and 2 exhausted after two attempts, image 3 rejected once and open."""
    LocalStorage(folder, create=True)
    made = Output(folder, key_set, key_set.trust())
    made.storage.put("job.json", reviewed.job_json())
    writer = LogWriter.open(made.storage, outputs.JOB, made.signer)
    writer.append([outputs.plan_record(3, reviewed.job_json())])
    writer.append([tried(number, attempt) for number in (1, 2) for attempt in (1, 2)])
    writer.append([tried(3)])
    return made


def opened(output: Output, storage: Storage | None = None, **more: Any) -> tuple[LogWriter, Inbox]:
    """The log, and the inbox beside it, as a driver has them."""
    storage = storage or output.storage
    writer = LogWriter.open(storage, outputs.JOB, output.signer)
    return writer, Inbox(storage, writer, people_of(output.keys), RULES, **more)
