"""The tamper table of people's reviews: each row does one thing to a reviewed output, and the audit must name it and blame nothing else."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from renderfarm.audit.audit import audit
from renderfarm.audit.findings import AuditReport
from renderfarm.log import guarded, parts
from renderfarm.log.reading import fetch_part
from renderfarm.log.writer import LogWriter
from renderfarm.notes import Signer
from renderfarm.notes.statement import sign
from renderfarm.output import CHECKPOINT, part_key
from renderfarm.records.canonical import sealed
from renderfarm.records.tables import columns, from_table, to_table
from renderfarm.schema import Record, Subject
from renderfarm.statements import inbox
from tests import outputs, reviewed
from tests.outputs import Output, image_id, place
from tests.reviewed import word
from tests.statements import letter, note, person, review_letter

WRONG = Signer.of("renderfarm-development/a0cbdf2c", Ed25519PrivateKey.from_private_bytes(bytes([3] * 32)))
ACCEPTED, REJECTED = 3, 4
"""The parts of the two reviews: image 2 accepted with attempt 2, image 1 taken back."""


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Output:
    base = tmp_path_factory.mktemp("tamper-reviews")
    output = reviewed.build(base / "out", base / "keys")
    word(output, 2, 2, "accepted", "Ada", "legible")
    word(output, 1, 1, "rejected", "Bob", "wrong shade")
    return output


@pytest.fixture
def output(original: Output, tmp_path: Path) -> Output:
    shutil.copytree(original.folder, tmp_path / "out")
    return dataclasses.replace(original, folder=tmp_path / "out")


def run(output: Output, **options: Any) -> AuditReport:
    return audit(output.storage, output.trust, **options)


def part(output: Output, number: int) -> Path:
    return output.folder / part_key(number)


def records(output: Output, number: int) -> list[Record]:
    file = fetch_part(output.storage, number)
    assert file is not None
    return list(from_table(parts.read_part(file, number).table))


def edit(number: int, **fields: Any) -> Callable[[Output], None]:
    """One field of a review edited in its part, as a forger would who lets the rest stand."""

    def attack(output: Output) -> None:
        import pyarrow.parquet as pq

        entries = dict(pq.read_metadata(part(output, number)).metadata)
        (record,) = records(output, number)
        part(output, number).write_bytes(guarded.write(columns(to_table([dataclasses.replace(record, **fields)]), 4), entries))

    return attack


def resigned(output: Output, record: Record) -> Record:
    """The record with a fresh note by the log's key that says what the record says."""
    said = {"attempt": record.attempt, "outcome": record.outcome, "by_name": record.reviewer}
    made = note("review", output.signer, at=int(record.attempt or 0), words=record.reason, salt=record.salt or "", **said)  # type: ignore[arg-type]
    made = sign(dataclasses.replace(made, subjects=record.subjects), output.signer)
    return dataclasses.replace(record, signed=made.to_bytes().decode(), finished_us=made.time_us)


def signed(signer: Signer | None = None, note_too: bool = True, **fields: Any) -> Callable[[Output], None]:
    """One more review, signed and with its claim digest in order, that says something else than the last acceptance."""

    def attack(output: Output) -> None:
        (record,) = records(output, ACCEPTED)
        record = dataclasses.replace(record, **{"object_key": None, "file_sha256": None, **fields})
        if note_too:  # whoever holds the log key may sign notes in another's name, and does it well
            record = resigned(output, record)
        record = sealed(record)
        forged = output.folder.parent / "forged"
        shutil.copytree(output.folder, forged)
        writer = LogWriter.open(dataclasses.replace(output, folder=forged).storage, outputs.JOB, output.signer)
        if signer is not None:
            writer._signer = signer
        writer.append([record])
        shutil.copy(forged / part_key(5), part(output, 5))
        if signer is None:
            shutil.copy(forged / CHECKPOINT, output.folder / CHECKPOINT)

    return attack


def on_file(prefix: str, act: Callable[[Path], object]) -> Callable[[Output], None]:
    return lambda output: act(next(output.folder.glob(f"{prefix}*"))) and None


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[int(0.9 * len(data))] ^= 1
    path.write_bytes(data)


def values_edited(output: Output) -> None:
    """The words beside the log, with everything else in order."""
    import pyarrow.parquet as pq

    (path,) = (output.folder / "provenance" / "values").glob(f"{ACCEPTED:08d}-*")
    table = pq.read_table(path)
    at = table.schema.get_field_index("reason")
    entries = dict(pq.read_metadata(path).metadata)
    path.write_bytes(guarded.write(table.set_column(at, table.schema.field(at), [["horrible"]]).replace_schema_metadata(None), entries))


def stranger(output: Output, record: Record) -> Record:
    """A statement that nobody whom the auditor knows has signed."""
    made = letter(note("approval", EVE, at=5))
    return dataclasses.replace(blank(record), signed=made.signed, reviewer="Eve", finished_us=made.statement.time_us)


def blank(record: Record) -> Record:
    """A statement of another type, by the log's key."""
    return Record("statement", version=4, job=record.job, plan_digest=record.plan_digest, statement="approval")


def stated(make: Callable[[Output, Record], Record]) -> Callable[[Output], None]:
    """One more statement in the signed log, as whoever holds the log key writes it."""

    def attack(output: Output) -> None:
        (record,) = records(output, ACCEPTED)
        LogWriter.open(output.storage, outputs.JOB, output.signer).append([sealed(make(output, record))])

    return attack


def by_log(output: Output, record: Record, **changes: Any) -> Record:
    """An approval that the log's key signed, and what its record says otherwise."""
    made = letter(note("approval", output.signer, at=7, by_name="Ada"))
    kept = dataclasses.replace(blank(record), signed=made.signed, reviewer="Ada", finished_us=made.statement.time_us)
    return dataclasses.replace(kept, **changes)


def about(subject: Subject) -> Callable[[Output, Record], Record]:
    """An approval of a record that the log does not hold."""

    def make(output: Output, record: Record) -> Record:
        made = sign(dataclasses.replace(note("approval", output.signer, at=7), subjects=(subject,)), output.signer)
        signed, by = made.to_bytes().decode(), made.speaker
        return dataclasses.replace(blank(record), signed=signed, subjects=(subject,), reviewer=by, finished_us=made.time_us)

    return make


def forged(output: Output, record: Record) -> Record:
    """A note of the log's key with one letter of it changed."""
    kept = by_log(output, record)
    other = (kept.signed or "").replace('by_name "Ada"', 'by_name "Eve"')
    return dataclasses.replace(kept, signed=other, reviewer="Eve")


EVE = person("Eve")
OTHER: dict[str, Any] = {"reviewer": "Eve", "reviewed_digest": "0" * 64, "withdrawn_key": "images/row-9/0-0.png", "statement": "approval"}
OTHER |= {"signed": "hello", "subjects": (), "commitment": "0" * 64}
CASES: dict[str, tuple[Callable[[Output], None], str, str]] = {
    "the published picture: a byte flipped": (on_file(place(2), flip), "object-altered", place(2)),
    "the published picture: deleted": (on_file(place(2), Path.unlink), "object-missing", place(2)),
    "the withdrawn picture's copy: a byte flipped": (on_file(place(1, "review"), flip), "object-altered", place(1, "review")),
    "the withdrawn picture's copy: deleted": (on_file(place(1, "review"), Path.unlink), "object-missing", place(1, "review")),
    "the outcome edited": (edit(ACCEPTED, outcome="rejected"), "record-altered", part_key(ACCEPTED)),
    "the words edited": (values_edited, "values-altered", f"provenance/values/{ACCEPTED:08d}"),
    "the attempt edited": (edit(ACCEPTED, attempt=1), "record-altered", part_key(ACCEPTED)),
    "the kind edited": (edit(ACCEPTED, kind="attempt"), "record-altered", part_key(ACCEPTED)),
    **{f"{name} edited": (edit(ACCEPTED, **{name: OTHER[name]}), "record-altered", part_key(ACCEPTED)) for name in OTHER},
    "an acceptance deleted": (lambda output: part(output, ACCEPTED).unlink(), "part-missing", part_key(ACCEPTED)),
    "a review by a wrong key": (signed(WRONG, outcome="rejected"), "checkpoint-bad-signature", part_key(5)),
    "a review of an attempt that never was": (signed(attempt=7, watermark_payload=None), "review-unfounded", part_key(5)),
    "a review of an image that never was": (
        signed(image_id=image_id(9), watermark_payload=None, outcome="rejected"), "review-unfounded", part_key(5),
    ),
    "a review that names another record": (signed(reviewed_digest="0" * 64), "review-unfounded", part_key(5)),
    "a review without the record it is about": (signed(reviewed_digest=None), "review-unfounded", part_key(5)),
    "a review again": (stated(lambda output, record: dataclasses.replace(record, object_key=None)), "statement-twice", part_key(5)),
    "an approval without its note": (stated(lambda o, r: by_log(o, r, signed=None)), "statement-unsigned", part_key(5)),
    "an approval with a note that is none": (stated(lambda o, r: by_log(o, r, signed="hello")), "statement-malformed", part_key(5)),
    "an approval under another name": (stated(lambda o, r: by_log(o, r, reviewer="Eve")), "statement-differs", part_key(5)),
    "an approval at another time": (stated(lambda o, r: by_log(o, r, finished_us=1)), "statement-differs", part_key(5)),
    "an approval that is a delivery": (stated(lambda o, r: by_log(o, r, statement="delivery")), "statement-differs", part_key(5)),
    "an approval with words": (stated(lambda o, r: by_log(o, r, reason="no", salt="0f" * 16)), "statement-differs", part_key(5)),
    "an approval that accepts": (stated(lambda o, r: by_log(o, r, outcome="accepted")), "statement-differs", part_key(5)),
    "an approval of another subject": (
        stated(lambda o, r: by_log(o, r, subjects=(Subject(image_id(1), "0" * 64),))), "statement-differs", part_key(5)),
    "an approval of a record that is not there": (stated(about(Subject(image_id(1), "0" * 64))), "statement-unfounded", part_key(5)),
    "a note with another name in it": (stated(forged), "statement-bad-signature", part_key(5)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_audit_names_it_and_blames_nothing_else(output: Output, name: str) -> None:
    attack, finding, where = CASES[name]
    attack(output)
    report = run(output)
    follows = {"attempt-twice", "counts-differ", "statement-differs"}  # what it does to the sums; and its subject is another one
    others = follows if "never was" in name else set()
    assert [item.name for item in report.findings if item.name not in others] == [finding], report.text()
    assert next(item for item in report.findings if item.name == finding).where.startswith(where)
    assert report.exit_code == 4


def test_a_reviewed_output_passes_in_full_in_a_sample_and_in_brief(output: Output) -> None:
    for options in ({}, {"sample": 3}, {"quick": True}):
        report = run(output, **options)
        assert report.ok and not report.orphans, report.text()
        assert str(report.counts) == "3 planned = 1 accepted + 1 exhausted + 0 failed + 1 remaining"


def test_a_stranger_counts_where_people_are_trusted_by_name_and_is_a_note_elsewhere(output: Output) -> None:
    stated(stranger)(output)
    report = run(output)
    assert report.ok and any("no key of people is trusted" in line for line in report.notes), report.text()
    ada = person("Ada")
    trust = dataclasses.replace(output.trust, person_keys={ada.name: ada.public_key})
    assert [item.name for item in audit(output.storage, trust).findings] == ["statement-untrusted"]


def test_a_changed_key_is_a_strangers_until_it_is_trusted_beside_the_old_one(output: Output) -> None:
    ada, new = person("Ada"), dataclasses.replace(EVE, name=person("Ada").name)
    made = letter(note("approval", new, at=5))
    fields = {"signed": made.signed, "reviewer": "Ada", "finished_us": made.statement.time_us}
    stated(lambda o, record: dataclasses.replace(blank(record), **fields))(output)
    old = dataclasses.replace(output.trust, person_keys={ada.name: ada.public_key})
    assert [item.name for item in audit(output.storage, old).findings] == ["statement-untrusted"]
    both = {ada.name: ada.public_key, made.statement.signer: new.public_key}
    report = audit(output.storage, dataclasses.replace(output.trust, person_keys=both))
    assert report.ok and any("statements name a person who has a key of their own" in line for line in report.notes), report.text()


def test_what_waits_is_counted_and_blamed_on_nobody(output: Output) -> None:
    (tried,) = (record for record in records(output, 1) if record.image_id == image_id(2) and record.attempt == 1)
    for one in (review_letter(output.signer, tried, "rejected"), review_letter(EVE, tried, "rejected", 1)):
        inbox.put(output.storage, one)
    report = run(output)
    assert report.ok and any("2 statements of people wait" in line for line in report.notes)
    assert any(line.startswith("1 of them cannot be taken in: signed by renderfarm-person/Eve") for line in report.notes), report.notes


def test_a_second_acceptance_is_named(output: Output) -> None:
    first = next(record for record in records(output, 1) if record.image_id == image_id(2) and record.attempt == 1)
    signed(attempt=1, reviewed_digest=first.claim_digest, watermark_payload=None)(output)
    assert [item.name for item in run(output).findings] == ["attempt-twice"]


def test_without_the_rejection_the_withdrawn_picture_is_missed(output: Output) -> None:
    """Whoever cuts the newest part and the cache hides a rejection, but not that the delivered picture is gone."""
    cache = parts.read_footer(part(output, ACCEPTED).read_bytes(), ACCEPTED).checkpoint.to_bytes()
    part(output, REJECTED).unlink()
    (output.folder / CHECKPOINT).write_bytes(cache)
    assert [item.name for item in run(output).findings] == ["object-missing"]
