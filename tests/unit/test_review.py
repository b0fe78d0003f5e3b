"""A person's word: what it moves, what it changes in the counts, what it refuses, and that everything that reads the log understands it."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from renderfarm.audit.audit import audit
from renderfarm.cli import main
from renderfarm.errors import AcceptedMeanwhile, Fenced, UserError
from renderfarm.identify.identify import identify
from renderfarm.job import JobSettings
from renderfarm.log import proofs as bundle
from renderfarm.log import reading
from renderfarm.log.export import Filter, export
from renderfarm.log.orphans import orphans
from renderfarm.log.rate import last_rate
from renderfarm.log.writer import LogWriter
from renderfarm.output import LEASE, SALTED_SNAPSHOT
from renderfarm.resolve import read_job_file
from renderfarm.review.reproduce import accepted
from renderfarm.review.review import Word, review, waiting
from renderfarm.run.duplicates import JobDuplicates
from renderfarm.schema import is_review
from renderfarm.statements import inbox
from renderfarm.storage import LocalStorage
from tests import outputs, reviewed
from tests.outputs import Output, image_id, place
from tests.reviewed import word

NOW = 1e12


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Output:
    base = tmp_path_factory.mktemp("reviewed")
    return reviewed.build(base / "out", base / "keys")


@pytest.fixture
def output(original: Output, tmp_path: Path) -> Output:
    shutil.copytree(original.folder, tmp_path / "out")
    return dataclasses.replace(original, folder=tmp_path / "out")


def passes(output: Output) -> bool:
    report = audit(output.storage, output.trust)
    assert report.ok and not report.orphans, report.text()
    return True


def files(output: Output, folder: str) -> list[str]:
    return sorted(stored.key for stored in output.storage.list(folder))


def test_an_accepted_attempt_is_delivered_with_its_own_bytes_mark_and_credential(output: Output) -> None:
    done = word(output, 2, 1, "accepted", "Ada Lovelace", "legible enough")
    key = done.record.object_key or ""
    assert key.startswith(place(2)) and done.standing == "accepted"
    assert str(done.counts) == "3 planned = 2 accepted + 1 exhausted + 0 failed + 0 remaining"
    assert output.storage.get(key) in [output.storage.get(name) for name in files(output, place(2, "review"))]
    assert passes(output)
    answer = identify(output.storage.get(key), [output.storage], output.trust)
    assert (answer.sureness, answer.matches[0].record.attempt, answer.matches[0].outcome) == ("certain", 1, "accepted")
    said = answer.as_json()["matches"][0]["review"]
    assert (said["reviewer"], said["reason"]) == ("Ada Lovelace", "legible enough")


def test_a_rejected_delivery_leaves_the_images_and_is_open_again(output: Output) -> None:
    (delivered,) = files(output, place(1))
    done = word(output, 1, 1, "rejected", note="wrong shade")
    assert (done.record.withdrawn_key, done.standing) == (delivered, "remaining")
    assert files(output, "images/") == [] and files(output, place(1, "review")) == [done.record.object_key]
    state = reading.read_state(output.storage)
    image = state.image(image_id(1))
    assert (image.accepted, image.rejected, image.last_attempt, state.reviews) == (False, 1, 1, 1)
    assert state.rejects["person"] == 1 and state.row_pdqs("row-1") == []
    assert passes(output)


def test_a_word_can_be_taken_back_as_often_as_people_like(output: Output) -> None:
    (delivered,) = files(output, place(1))
    for _ in range(2):
        word(output, 1, 1, "rejected")
        assert word(output, 1, 1, "accepted", "Bob").record.object_key == delivered
    word(output, 2, 1, "accepted")
    assert word(output, 2, 1, "rejected").standing == "exhausted"
    assert word(output, 2, 2, "accepted").standing == "accepted"
    assert passes(output)
    assert str(reading.read_state(output.storage).counts(2)) == "3 planned = 2 accepted + 1 exhausted + 0 failed + 0 remaining"


def test_the_list_shows_what_waits_until_every_attempt_had_a_word(output: Output) -> None:
    job = read_job_file(output.storage)
    first, second = waiting(output.storage, job)
    assert (first.row_id, [one.publishable for one in first.attempts]) == ("row-2", [True, True])
    assert (second.row_id, [one.publishable for one in second.attempts]) == ("row-3", [False, False])
    word(output, 2, 1, "rejected")
    assert [one.reviewer for one in next(waiting(output.storage, job)).attempts] == ["Ada", None]
    word(output, 2, 2, "rejected")
    word(output, 3, 2, "rejected")
    assert [image.row_id for image in waiting(output.storage, job)] == ["row-3"]
    word(output, 3, 1, "rejected")
    assert list(waiting(output.storage, job)) == [] and passes(output)


@pytest.mark.parametrize(
    ("number", "attempt", "outcome", "reviewer", "what"),
    [
        (1, 1, "accepted", "Ada", "is accepted already, with attempt 1"),
        (2, 3, "accepted", "Ada", "has no attempt 3"),
        (3, 1, "accepted", "Ada", "only a preview was kept"),
        (3, 2, "accepted", "Ada", "no picture of this attempt was kept"),
        (7, 1, "accepted", "Ada", "no image"),
        (2, 1, "accepted", "  ", "not a usable text"),
        (2, 1, "accepted", "A\x1b[31m", "not a usable text"),
        (2, 1, "rejected", "A" * 121, "not a usable text"),
    ],
)
def test_what_cannot_be_reviewed_so_is_one_message_and_changes_nothing(
    output: Output, number: int, attempt: int, outcome: str, reviewer: str, what: str
) -> None:
    before = files(output, "")
    with pytest.raises(UserError, match=what):
        word(output, number, attempt, outcome, reviewer)
    assert files(output, "") == before


def test_an_image_that_will_be_rendered_again_does_not_wait(output: Output) -> None:
    job = dataclasses.replace(read_job_file(output.storage), attempts=3)
    with pytest.raises(UserError, match="is remaining: it will be rendered again"):
        review(output.storage, job, output.keys, image_id(2), 1, Word("accepted", "Ada"))


@pytest.mark.parametrize(("altered", "what"), [(0.9, "not the one in the log"), (None, "the picture is gone")])
def test_a_picture_that_is_not_what_was_recorded_is_not_published(output: Output, altered: float | None, what: str) -> None:
    for key in files(output, place(2, "review")):
        path = output.folder / key
        data = bytearray(path.read_bytes())
        data[int((altered or 0) * len(data))] ^= 1
        path.unlink() if altered is None else path.write_bytes(data)
    with pytest.raises(UserError, match=what):
        word(output, 2, 1, "accepted")
    assert files(output, place(2)) == []


def test_a_picture_whose_mark_does_not_read_is_not_published(output: Output, tmp_path: Path) -> None:
    from renderfarm import keys

    other = dataclasses.replace(output.keys, mark_key=keys.init(tmp_path / "others").mark_key)
    with pytest.raises(UserError, match="its watermark does not read back"):
        review(output.storage, read_job_file(output.storage), other, image_id(2), 1, Word("accepted", "Ada"))


def test_a_row_and_index_name_an_image(output: Output) -> None:
    job = read_job_file(output.storage)
    assert review(output.storage, job, output.keys, "row-2:0", 2, Word("accepted", "Ada")).record.image_id == image_id(2)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("row-2:1", "no image 'row-2:1'"),
        ("row-2:99999999999999999999", "not the name of an image"),
        ("row-2:-1", "not the name of an image"),
        ("row-2:²", "not the name of an image"),
        ("row-2", "not the name of an image"),
        ("", "not the name of an image"),
        ("f" * 32, "no image"),
    ],
)
def test_what_names_no_image_is_one_message(output: Output, name: str, what: str) -> None:
    with pytest.raises(UserError, match=what):
        review(output.storage, read_job_file(output.storage), output.keys, name, 2, Word("accepted", "Ada"))


def test_a_crash_before_the_record_leaves_an_orphan_and_one_after_it_a_file_for_gc(output: Output) -> None:
    (delivered,) = files(output, place(1))
    data = output.storage.get(delivered)
    done = word(output, 1, 1, "rejected")
    output.storage.put_new(delivered, data)  # as if the driver of the review had died before it removed the file
    report = audit(output.storage, output.trust)
    assert report.ok and report.orphans == 1
    assert [found.key for found in orphans(output.storage, NOW)] == [delivered]
    for found in list(orphans(output.storage, NOW)):
        output.storage.delete(found.key)
    assert passes(output) and done.record.object_key in files(output, "review/")
    again = word(output, 1, 1, "accepted")
    assert list(orphans(output.storage, NOW)) == [] and again.record.object_key == delivered


def test_a_driver_takes_reviews_in_and_another_driver_is_fenced(output: Output) -> None:
    driver = LogWriter.open(output.storage, outputs.JOB, output.signer)
    word(output, 2, 1, "accepted")
    word(output, 1, 1, "rejected")
    assert driver.append([outputs.attempt_record(4, 1, "rejected")]).number == 5
    assert driver.state.image(image_id(2)).accepted and not driver.state.image(image_id(1)).accepted
    with pytest.raises(AcceptedMeanwhile, match="a person accepted image") as caught:
        driver.append([outputs.attempt_record(2, 3, "accepted")])
    assert caught.value.images == {image_id(2)}
    other = LogWriter.open(output.storage, outputs.JOB, output.signer)
    other.append([outputs.attempt_record(4, 2, "rejected")])
    with pytest.raises(Fenced, match="another driver owns"):
        driver.append([outputs.attempt_record(5, 1, "rejected")])


class Raced(LocalStorage):
    """A folder in which somebody else takes in Bob's word between the reading of the log and the writing of the next part."""

    def __init__(self, output: Output, number: int, attempt: int) -> None:
        super().__init__(output.folder, create=False)
        self.output, self.said = output, (number, attempt)

    def put_new(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> None:
        if key.startswith("provenance/parts/") and self.said:
            (number, attempt), self.said = self.said, ()
            self.delete(LEASE)
            word(self.output, number, attempt, "accepted", "Bob")
        super().put_new(key, data, content_type)


@pytest.mark.parametrize(("number", "attempt", "effect"), [(2, 2, None), (1, 1, "accepted")])
def test_who_loses_a_race_for_a_part_is_heard_all_the_same(output: Output, number: int, attempt: int, effect: str | None) -> None:
    """Whoever comes first takes in both words; the other one finds that, and writes neither again."""
    if number == 1:
        word(output, 1, 1, "rejected")
    storage = Raced(output, number, attempt)
    done = review(storage, read_job_file(storage), output.keys, image_id(2), 1, Word("accepted", "Ada"))
    assert not done.waits and done.record.outcome == "accepted"
    said = [(record.reviewer, record.outcome) for record in reading.records(output.storage) if is_review(record)]
    assert said[-2:] == [("Ada", "accepted"), ("Bob", effect)]
    assert list(inbox.keys(storage)) == []
    report = audit(output.storage, output.trust)
    assert report.ok, report.text()


def test_a_resume_knows_what_people_said(output: Output) -> None:
    word(output, 2, 1, "accepted")
    word(output, 1, 1, "rejected")
    state = reading.read_state(output.storage)
    job = JobSettings.model_validate({"name": "mugs", "manifest": "-", "output": "-"})
    known = JobDuplicates.of(job, output.storage, state)._settled()._rows
    assert {row: len(places) for row, places in known.items() if places} == {"row-2": 1}
    writer = LogWriter.open(output.storage, outputs.JOB, output.signer, snapshot_parts=1)
    again = LogWriter.open(output.storage, outputs.JOB, output.signer)
    assert output.storage.stat(SALTED_SNAPSHOT) is not None
    assert list(again.state.images()) == list(writer.state.images()) == list(state.images()) and again.state.reviews == 2
    assert last_rate(output.storage) is None


def test_proofs_exports_and_reproductions_know_the_review(output: Output, tmp_path: Path) -> None:
    done = word(output, 2, 2, "accepted", "Ada", "fine")
    proof = bundle.verify(bundle.prove(output.storage, image_id(2)), output.trust.log_keys)
    assert proof.ok and "attempt 2: accepted by Ada" in str(proof)
    assert export(output.storage, tmp_path / "all.jsonl", Filter(outcome="accepted")) == 2
    last = json.loads((tmp_path / "all.jsonl").read_text().splitlines()[-1])
    assert (last["kind"], last["reviewer"], last["reviewed_digest"]) == ("statement", "Ada", done.record.reviewed_digest)
    found = accepted(reading.records(output.storage), image_id(2))
    assert (found.kind, found.attempt, found.object_key) == ("attempt", 2, done.record.object_key)
    word(output, 2, 2, "rejected")
    with pytest.raises(UserError, match="no attempt of image"):
        accepted(reading.records(output.storage), image_id(2))


def test_the_command_line_says_what_it_did(output: Output, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RENDERFARM_KEYS", str(output.keys.folder))
    at = str(output.folder)
    assert main(["review", at, "--list"]) == 0 and "2 images wait for a person" in capsys.readouterr().out
    assert main(["review", at, image_id(2), "--attempt", "1", "--accept", "--by", "Ada"]) == 0
    assert "row-2 #0 attempt 1: accepted by Ada; the image is accepted" in capsys.readouterr().out
    assert main(["review", at, image_id(2), "--attempt", "2", "--reject", "--by", "Bob", "--note", "worse", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["standing"] == "accepted"
    assert main(["review", at, image_id(2), "--accept"]) == 2 and "--attempt, --by is missing" in capsys.readouterr().err
    monkeypatch.setenv("RENDERFARM_KEYS", str(output.folder / "none"))
    assert main(["review", at, image_id(2), "--attempt", "1", "--reject", "--by", "Ada"]) == 2
