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
from renderfarm.log.canonical import claim_digest
from renderfarm.log.record import from_table, to_table
from renderfarm.log.writer import LogWriter
from renderfarm.notes import Signer
from renderfarm.output import CHECKPOINT, part_key
from renderfarm.schema import ADDED, Record
from tests import outputs, reviewed
from tests.outputs import Output, image_id, place
from tests.reviewed import word

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
    return list(from_table(parts.read_part(part(output, number).read_bytes(), number).table))


def edit(number: int, **fields: Any) -> Callable[[Output], None]:
    """One field of a review edited in its part, as a forger would who lets the rest stand."""

    def attack(output: Output) -> None:
        import pyarrow.parquet as pq

        entries = dict(pq.read_metadata(part(output, number)).metadata)
        (record,) = records(output, number)
        part(output, number).write_bytes(guarded.write(to_table([dataclasses.replace(record, **fields)]), entries))

    return attack


def signed(signer: Signer | None = None, **fields: Any) -> Callable[[Output], None]:
    """One more review, signed and with its claim digest in order, that says something else than the last acceptance."""

    def attack(output: Output) -> None:
        (record,) = records(output, ACCEPTED)
        record = dataclasses.replace(record, **{"object_key": None, "file_sha256": None, **fields})
        record = dataclasses.replace(record, claim_digest=claim_digest(record))
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


OTHER: dict[str, Any] = {"reviewer": "Eve", "reviewed_digest": "0" * 64, "withdrawn_key": "images/row-9/0-0.png"}
OTHER |= {"control_image": "/in/edges.png", "control_digest": "0" * 64}
CASES: dict[str, tuple[Callable[[Output], None], str, str]] = {
    "the published picture: a byte flipped": (on_file(place(2), flip), "object-altered", place(2)),
    "the published picture: deleted": (on_file(place(2), Path.unlink), "object-missing", place(2)),
    "the withdrawn picture's copy: a byte flipped": (on_file(place(1, "review"), flip), "object-altered", place(1, "review")),
    "the withdrawn picture's copy: deleted": (on_file(place(1, "review"), Path.unlink), "object-missing", place(1, "review")),
    "the outcome edited": (edit(ACCEPTED, outcome="rejected"), "record-altered", part_key(ACCEPTED)),
    "the note edited": (edit(ACCEPTED, reason="horrible"), "record-altered", part_key(ACCEPTED)),
    "the attempt edited": (edit(ACCEPTED, attempt=1), "record-altered", part_key(ACCEPTED)),
    "the kind edited": (edit(ACCEPTED, kind="attempt"), "record-altered", part_key(ACCEPTED)),
    **{f"{name} edited": (edit(ACCEPTED, **{name: OTHER[name]}), "record-altered", part_key(ACCEPTED)) for name in ADDED},
    "an acceptance deleted": (lambda output: part(output, ACCEPTED).unlink(), "part-missing", part_key(ACCEPTED)),
    "a review by a wrong key": (signed(WRONG, outcome="rejected"), "checkpoint-bad-signature", part_key(5)),
    "a review of an attempt that never was": (signed(attempt=7, watermark_payload=None), "review-unfounded", part_key(5)),
    "a review of an image that never was": (
        signed(image_id=image_id(9), watermark_payload=None, outcome="rejected"), "review-unfounded", part_key(5),
    ),
    "a review that names another record": (signed(reviewed_digest="0" * 64), "review-unfounded", part_key(5)),
    "a review without the record it is about": (signed(reviewed_digest=None), "review-unfounded", part_key(5)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_audit_names_it_and_blames_nothing_else(output: Output, name: str) -> None:
    attack, finding, where = CASES[name]
    attack(output)
    report = run(output)
    others = {"attempt-twice", "counts-differ"} if "never was" in name else set()  # what such a review does to the sums follows from it
    assert [item.name for item in report.findings if item.name not in others] == [finding], report.text()
    assert next(item for item in report.findings if item.name == finding).where.startswith(where)
    assert report.exit_code == 4


def test_a_reviewed_output_passes_in_full_in_a_sample_and_in_brief(output: Output) -> None:
    for options in ({}, {"sample": 3}, {"quick": True}):
        report = run(output, **options)
        assert report.ok and not report.orphans, report.text()
        assert str(report.counts) == "3 planned = 1 accepted + 1 exhausted + 0 failed + 1 remaining"


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
