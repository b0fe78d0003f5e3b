"""What the record of a person's statement repeats of the signed note that it keeps. Pure; whose signature it is, is not looked at."""

from __future__ import annotations

from renderfarm.notes import NoteMalformed
from renderfarm.notes import statement as notes
from renderfarm.notes.statement import Statement
from renderfarm.schema import REVIEW, Record


def kept(record: Record) -> Statement:
    """The statement whose note this record keeps. Raises: NoteMalformed."""
    if record.signed is None:
        raise NoteMalformed("its record keeps no signed note")
    try:
        return notes.parse(record.signed.encode())
    except UnicodeEncodeError as error:
        raise NoteMalformed("not Unicode") from error


def differing(record: Record, statement: Statement) -> str:
    """What the record says otherwise than the note that it keeps; "" for nothing."""
    stated: dict[str, tuple[object, object]] = {
        "type": (record.statement, statement.kind),
        "subjects": (record.subjects, statement.subjects),
        "time": (record.finished_us, statement.time_us),
        "speaker": (record.reviewer, statement.speaker),
    }
    if statement.kind == REVIEW and record.outcome is not None:
        about = statement.subjects[0].image_id if len(statement.subjects) == 1 else None
        stated["image"] = (record.image_id, about)
        stated |= {name: (getattr(record, name), statement.get(name)) for name in ("attempt", "outcome")}
    elif record.outcome is not None or record.image_id is not None:
        return "its record says how an image came out"
    if record.salt is not None or record.commitment is None:
        words = None if record.reason is None else notes.words_commitment(record.salt or "", record.reason)
        stated["words"] = ("empty" if record.reason == "" else words, statement.words)
    return ", ".join(name for name, (here, there) in stated.items() if here != there or type(here) is not type(there))
