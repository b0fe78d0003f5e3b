"""Pictures that people's words move: whatever lies in the way, whoever stalls in between, and whatever format the job has now."""

from __future__ import annotations

import dataclasses
import shutil
import time
from pathlib import Path

import pytest

from renderfarm.audit.audit import audit
from renderfarm.log import reading
from renderfarm.log.writer import LogWriter
from renderfarm.output import PARTS
from renderfarm.resolve import read_job_file
from renderfarm.review.review import rules_of
from renderfarm.schema import Record
from renderfarm.statements import inbox
from renderfarm.statements.intake import Inbox
from renderfarm.statements.reviews import people_of
from renderfarm.storage import LocalStorage, Storage
from tests import outputs, reviewed
from tests.outputs import Output, image_id, place
from tests.reviewed import word
from tests.statements import NOW_US, review_letter


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Output:
    base = tmp_path_factory.mktemp("moved")
    return reviewed.build(base / "out", base / "keys")


@pytest.fixture
def output(original: Output, tmp_path: Path) -> Output:
    shutil.copytree(original.folder, tmp_path / "out")
    return dataclasses.replace(original, folder=tmp_path / "out")


def files(output: Output, folder: str) -> list[str]:
    return sorted(stored.key for stored in output.storage.list(folder))


def attempt(output: Output, number: int, tried: int) -> Record:
    found = (record for record in reading.records(output.storage) if record.kind == "attempt")
    return next(record for record in found if (record.image_id, record.attempt) == (image_id(number), tried))


def opened(output: Output, storage: Storage) -> Inbox:
    writer = LogWriter.open(storage, outputs.JOB, output.signer)
    return Inbox(storage, writer, people_of(output.keys), rules_of(read_job_file(storage), output.keys))


def test_what_lies_where_a_picture_is_to_go_is_a_trouble_of_that_word_alone(output: Output) -> None:
    tried, other = attempt(output, 2, 1), attempt(output, 3, 1)
    output.storage.put(f"{place(2)}{str(tried.file_sha256)[:12]}.png", b"junk")
    first, second = review_letter(output.signer, tried, "accepted"), review_letter(output.signer, other, "rejected", 1)
    for one in (first, second):
        inbox.put(output.storage, one)
    found = opened(output, output.storage)
    found.listen()
    assert found.troubles == {first.key: "something else lies where its picture is to go"} and len(found.taken) == 1
    done = word(output, 2, 1, "accepted", "Bob")
    assert done.waits and done.trouble == found.troubles[first.key]


class Stalling(LocalStorage):
    """A folder whose user stalls right after its commit, while somebody else takes in a later word."""

    def __init__(self, output: Output) -> None:
        super().__init__(output.folder, create=False)
        self.output, self.stalled = output, False

    def put_new(self, key: str, data: bytes, media_type: str = "") -> None:
        super().put_new(key, data, media_type)
        if key.startswith(PARTS) and not self.stalled:
            self.stalled = True
            assert word(self.output, 1, 1, "accepted", "Bob").standing == "accepted"


def test_who_stalls_after_a_commit_removes_no_picture_that_was_accepted_again(output: Output) -> None:
    (delivered,) = files(output, place(1))
    inbox.put(output.storage, review_letter(output.signer, attempt(output, 1, 1), "rejected", by_name="Ada"))
    opened(output, Stalling(output)).listen()
    assert files(output, place(1)) == [delivered] and files(output, "provenance/inbox/") == []
    report = audit(output.storage, output.trust)
    assert report.ok and report.counts is not None and report.counts.accepted == 1, report.text()


def test_what_a_crash_kept_from_being_removed_goes_with_the_word_that_took_it_back(output: Output) -> None:
    (delivered,) = files(output, place(1))
    data = output.storage.get(delivered)
    one = review_letter(output.signer, attempt(output, 1, 1), "rejected")
    inbox.put(output.storage, one)
    opened(output, output.storage).take()
    for lead in ((), (1,)):
        output.storage.put(delivered, data)
        inbox.put(output.storage, dataclasses.replace(one, parts=lead))
        opened(output, output.storage).take()
        assert files(output, place(1)) == files(output, "provenance/inbox/") == []
    word(output, 1, 1, "accepted", "Bob")
    inbox.put(output.storage, one)
    opened(output, output.storage).take()
    assert files(output, place(1)) == [delivered] and files(output, "provenance/inbox/") == []


def test_a_job_that_delivers_another_format_now_still_takes_pictures_back(output: Output) -> None:
    output.storage.put("job.json", reviewed.job_json(format="jpeg"))
    done = word(output, 1, 1, "rejected")
    assert done.standing == "remaining" and str(done.record.object_key).endswith(".png") and files(output, place(1)) == []
    assert word(output, 1, 1, "accepted").standing == "accepted"
    with pytest.raises(Exception, match="only a preview was kept"):
        word(output, 2, 1, "accepted")


def test_a_word_comes_after_what_its_speaker_saw_whatever_their_clock(output: Output) -> None:
    ahead = int(time.time() * 1e6) + 600_000_000 - NOW_US
    inbox.put(output.storage, review_letter(output.signer, attempt(output, 1, 1), "rejected", ahead))
    opened(output, output.storage).take()
    state = reading.read_state(output.storage)
    assert state.spoken(image_id(1)) == ahead + NOW_US and state.spoken(image_id(2)) == 0
    assert word(output, 1, 1, "accepted").standing == "accepted"
