"""An inbox into which anybody may write anything: whatever lies there ends nothing, blocks nobody, and poisons no log."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from renderfarm import keys
from renderfarm.audit.audit import audit
from renderfarm.cli import main
from renderfarm.errors import StorageRefused
from renderfarm.job import JobSettings
from renderfarm.log import reading
from renderfarm.log.writer import LogWriter
from renderfarm.notes import NoteMalformed
from renderfarm.output import INBOX, LEASE, PARTS, VALUES
from renderfarm.records.canonical import sealed
from renderfarm.resolve import ResolvedJob
from renderfarm.run.session import Session, answer_latecomers
from renderfarm.schema import Record
from renderfarm.statements import inbox
from renderfarm.statements.inbox import Letter
from renderfarm.statements.intake import HEAR_S, take_in
from renderfarm.storage import LocalStorage
from tests import inboxed, outputs
from tests.inboxed import RULES, opened, tried
from tests.outputs import Output
from tests.statements import letter, note, person, review_letter

ADA, EVE = person("Ada"), person("Eve")
ODD = f"{INBOX}a\\b.json"


@pytest.fixture(scope="module")
def key_set(tmp_path_factory: pytest.TempPathFactory) -> keys.KeySet:
    return inboxed.trusting(tmp_path_factory.mktemp("inbox") / "keys", ADA)


@pytest.fixture
def output(key_set: keys.KeySet, tmp_path: Path) -> Output:
    return inboxed.build(tmp_path / "out", key_set)


def said(output: Output) -> list[Record]:
    return [record for record in reading.records(output.storage) if record.kind == "statement"]


def notes_of(output: Output) -> str:
    report = audit(output.storage, output.trust)
    assert report.ok, report.text()
    return "\n".join(report.notes)


def test_empty_words_are_no_words(output: Output) -> None:
    for made in (letter(note("approval", ADA, (tried(1),), words=""), ""), review_letter(ADA, tried(1), "rejected", 1, "")):
        with pytest.raises(NoteMalformed, match="words"):
            inbox.parse(made.key, made.to_bytes())
        output.storage.put(made.key, made.to_bytes())
    found = opened(output)[1]
    assert found.take() == 0 and len(found.troubles) == 2
    assert "2 of them cannot be taken in: malformed: its words are not what the note commits to" in notes_of(output)


def test_a_name_that_is_no_key_ends_nothing(output: Output, capsys: pytest.CaptureFixture[str]) -> None:
    for folder, name in itertools.product((INBOX, VALUES, "images/"), (b"a\\b.json", b"\xff.json", b"a\nb.json", b"9" * 200)):
        path = os.fsencode(output.folder) + b"/" + folder.encode() + name
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(b"{}")
    inbox.put(output.storage, review_letter(ADA, tried(1), "rejected"))
    assert len(take_in(output.storage, output.keys, RULES) or ()) == 1
    found = opened(output)[1]
    found.listen()
    assert len(found.troubles) == 4 and found.troubles[ODD] == "its name is not that of an object here"
    assert "1 of them cannot be taken in: malformed: its name" in notes_of(output)
    assert main(["gc", str(output.folder), "--older-than", "-1"]) == 0
    assert "images/a\\b.json" in capsys.readouterr().out
    assert main(["gc", str(output.folder), "--older-than", "3", "--delete"]) == 0


class Locked(LocalStorage):
    """A bucket in which one object may not be read: another owner's, or one that was put into an archive."""

    locked = ""

    def get(self, key: str, bytes_max: int | None = None) -> bytes:
        if key == self.locked:
            raise StorageRefused("the object is archived", key, "restore it")
        return super().get(key, bytes_max)


def test_an_object_that_nobody_can_read_blocks_nobody(output: Output) -> None:
    storage = Locked(output.folder, create=False)
    one, other = review_letter(ADA, tried(1), "rejected"), review_letter(ADA, tried(2), "rejected", 1)
    for each in (one, other):
        inbox.put(storage, each)
    storage.locked = one.key
    report = audit(storage, output.trust)
    assert report.ok and "1 of them cannot be taken in: the object is archived" in report.notes
    found = opened(output, storage)[1]
    found.listen()
    assert found.troubles == {one.key: "the object is archived"} and len(said(output)) == 1
    assert take_in(storage, output.keys, RULES) == []
    assert opened(output)[1].take() == 1


def test_what_an_object_says_beside_its_note_costs_no_memory_and_no_search(output: Output) -> None:
    """Anybody may write an object; only what somebody known signed is kept, or looked for."""
    content = json.loads(review_letter(ADA, tried(1), "rejected").to_bytes())
    content["parts"] = [0] * 500_000
    key = review_letter(ADA, tried(1), "rejected").key
    assert inbox.parse(key, json.dumps(content, separators=(",", ":")).encode()).parts == ()
    writer, found = opened(output)
    for at in range(3):
        inbox.put(output.storage, review_letter(EVE, tried(1), "rejected", at))
    gone = output.folder / "provenance/parts/00000001.parquet"
    gone.write_bytes(b"damaged")
    assert found.take() == 0 and all("no known person's key" in why for why in found.troubles.values())
    inbox.put(output.storage, letter(note("approval", ADA, (tried(1),), at=9)))
    inbox.put(output.storage, letter(note("approval", ADA, (tried(3),), at=10)))
    assert found.take() == 1 and len(found.troubles) == 4 and writer.size == 4


def salted(number: int) -> Letter:
    """Words on image 1 under the salt of this one's row."""
    salt = str(tried(number).salt)
    return letter(note("approval", ADA, (tried(1),), words="no", salt=salt), "no", salt)


WRONG: dict[str, Callable[[], Letter]] = {
    "attempt true": lambda: letter(note("review", ADA, (tried(1),), attempt=True, outcome="rejected")),
    "words under the salt of another row": lambda: salted(2),
    "a time to come": lambda: letter(note("approval", ADA, (tried(1),), at=8_000_000_000_000_000)),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_the_audit_would_find_is_not_taken_in(output: Output, name: str) -> None:
    inbox.put(output.storage, WRONG[name]())
    assert opened(output)[1].take() == 0 and "cannot" not in notes_of(output)


def test_words_of_any_type_are_salted_with_their_rows_salt(output: Output) -> None:
    salt = str(tried(2).salt)
    inbox.put(output.storage, letter(note("approval", ADA, (tried(1), tried(2)), words="yes", salt=salt), "yes", salt))
    assert opened(output)[1].take() == 1 and said(output)[0].reason == "yes"


def test_an_older_word_never_overrides_a_newer_one(output: Output) -> None:
    """Whoever writes to the bucket may hold a word back and put it later."""
    old, new = review_letter(ADA, tried(1), "rejected", 1), review_letter(ADA, tried(1, 2), "rejected", 2)
    inbox.put(output.storage, new)
    assert opened(output)[1].take() == 1
    inbox.put(output.storage, old)
    writer, found = opened(output)
    assert found.take() == 1 and (said(output)[-1].outcome, said(output)[-1].subjects) == (None, old.statement.subjects)
    assert "too late" in said(output)[-1].verdicts[0].reason and writer.state.reviews == 1
    again = dataclasses.replace(new.statement, nonce="1" * 32)
    assert again.time_us == writer.state.spoken(str(tried(1).image_id))


class Unleased(LocalStorage):
    """A bucket that lets nobody write a lease any more."""

    def put_new(self, key: str, data: bytes, media_type: str = "") -> None:
        if key == LEASE:
            raise StorageRefused("explicit deny in a policy", key, "change it")
        super().put_new(key, data, media_type)


def test_a_finished_run_that_cannot_hear_latecomers_is_finished_all_the_same(output: Output) -> None:
    storage = Unleased(output.folder, create=False)
    writer, found = opened(output, storage)
    job = JobSettings.model_validate({"name": outputs.JOB, "manifest": "-", "output": "-"})
    session = Session(cast(ResolvedJob, SimpleNamespace(job=job)), storage, output.keys, writer, inbox=found)
    inbox.put(storage, review_letter(ADA, tried(1), "rejected"))
    answer_latecomers(session)
    assert session.notes == ["statements of people wait in the inbox: provenance/lease: explicit deny in a policy\n  remedy: change it"]


def plain(output: Output) -> Record:
    """A log of record version 3 with one image that is exhausted; its first attempt."""
    for stored in list(output.storage.list("provenance/")):
        output.storage.delete(stored.key)
    writer = LogWriter.open(output.storage, outputs.JOB, output.signer)
    writer.record_version = 3
    first = sealed(dataclasses.replace(tried(1), version=3, salt=None, commitment=None))
    writer.append([dataclasses.replace(outputs.plan_record(1, b"{}"), version=3)])
    writer.append([first, sealed(dataclasses.replace(first, attempt=2))])
    return first


def test_a_log_without_notes_never_takes_an_older_word_later(output: Output) -> None:
    first = plain(output)
    old, new, newest = (review_letter(ADA, first, "rejected", at) for at in (1, 2, 3))
    inbox.put(output.storage, new)
    assert opened(output)[1].take() == 1
    for one in (old, newest):
        inbox.put(output.storage, one)
    for taken in (1, 0):
        found = opened(output)[1]
        assert found.take() == taken and found.troubles == {old.key: "a newer word on this image is in the log"}


class Counting(LocalStorage):
    """A folder that counts how often a part is read."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, create=False)
        self.parts = 0

    def get(self, key: str, bytes_max: int | None = None) -> bytes:
        self.parts += key.startswith(PARTS)
        return super().get(key, bytes_max)


def test_a_log_without_notes_is_not_read_for_what_stays_outside(output: Output) -> None:
    first, storage = plain(output), Counting(output.folder)
    found = opened(output, storage)[1]
    before = storage.parts
    inbox.put(output.storage, review_letter(EVE, first, "rejected"))
    output.storage.put(f"{INBOX}0.json", b"{}")
    for _ in range(3):
        assert found.take() == 0
    assert storage.parts == before
    inbox.put(output.storage, dataclasses.replace(review_letter(ADA, first, "rejected", 1), parts=(1,)))
    (output.folder / PARTS / "00000000.parquet").write_bytes(b"damaged")
    found.listen()
    assert len(found.troubles) == 3 and any("00000000.parquet" in why for why in found.troubles.values()), found.troubles


def test_a_run_hears_no_more_at_once_than_its_other_work_can_wait_for(output: Output) -> None:
    now = itertools.count(0.0, HEAR_S / 2)  # every look at the clock takes so long
    for at in range(6):
        inbox.put(output.storage, letter(note("approval", ADA, (tried(1),), at=at)))
    found = opened(output, clock=lambda: next(now))[1]
    counts = []
    while list(inbox.keys(output.storage)):
        found.hear(set)
        counts.append(len(said(output)))
    assert counts == [3, 6] and [record.finished_us for record in said(output)] == sorted(record.finished_us for record in said(output))
