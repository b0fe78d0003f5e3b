"""Pictures that people's words move: whatever lies in the way, whoever stalls in between, whatever format the job has now.

And values that somebody altered: they lead nobody to another picture, and pass for nobody's words; what is gone is said to be gone.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from pathlib import Path

import pytest

from renderfarm import keys, notes
from renderfarm.audit.audit import audit
from renderfarm.cli import main
from renderfarm.errors import LogDamaged, UserError
from renderfarm.log import guarded, reading
from renderfarm.log.find import image_named
from renderfarm.log.lease import Lease
from renderfarm.log.writer import LogWriter
from renderfarm.output import PARTS
from renderfarm.resolve import read_job_file
from renderfarm.review.review import Word, review, rules_of
from renderfarm.schema import Record
from renderfarm.statements import inbox
from renderfarm.statements.intake import Inbox
from renderfarm.statements.reviews import people_of
from renderfarm.storage import LocalStorage, Storage
from tests import outputs, reviewed
from tests.outputs import Output, image_id, place
from tests.reviewed import word
from tests.statements import NOW_US, person, review_letter

ADA = person("Ada")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Output:
    base = tmp_path_factory.mktemp("moved")
    return reviewed.build(base / "out", base / "keys")


@pytest.fixture
def output(original: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Output:
    monkeypatch.setenv("RENDERFARM_KEYS", str(original.keys.folder))
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


def values(output: Output, number: int) -> Path:
    (path,) = (output.folder / "provenance" / "values").glob(f"{number:08d}-*")
    return path


def swap(output: Output, number: int, column: str) -> None:
    """Turns a column of values upside down, as somebody does who may write to the bucket."""
    import pyarrow.parquet as pq

    path = values(output, number)
    table = pq.read_table(path)
    at = table.schema.get_field_index(column)
    turned = table.column(column).combine_chunks().take(list(range(table.num_rows))[::-1])
    entries = dict(pq.read_metadata(path).metadata)
    path.write_bytes(guarded.write(table.set_column(at, table.schema.field(at), turned).replace_schema_metadata(None), entries))


def test_who_swaps_rows_ids_steers_no_word_to_another_image(output: Output) -> None:
    job = read_job_file(output.storage)
    swap(output, 1, "row_id")  # row-1, row-2, row-2
    for ask in (
        lambda: image_named(output.storage, "row-1:0"),
        lambda: review(output.storage, job, output.keys, "row-1:0", 2, Word("rejected", "Ada")),
        lambda: review(output.storage, job, output.keys, image_id(1), 1, Word("rejected", "Ada")),
        lambda: list(reading.records(output.storage)),
    ):
        with pytest.raises(LogDamaged, match="values-altered"):
            ask()
    assert list(inbox.keys(output.storage)) == []


def test_altered_prompts_are_neither_shown_nor_taken_for_forgotten(
    output: Output, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    swap(output, 1, "prompt")
    at = str(output.folder)
    for command in (
        ["review", at, "--list"],
        ["recheck", at],
        ["provenance", "export", at, "-o", str(tmp_path / "all.jsonl")],
        ["report", at],
    ):
        assert main(command) == 4
        assert "values-altered" in capsys.readouterr().err
    assert not (tmp_path / "all.jsonl").exists()


def test_what_is_gone_is_said_to_be_gone(output: Output, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(output.folder / "provenance" / "values")
    at = str(output.folder)
    assert main(["review", at, "--list"]) == 0
    shown = capsys.readouterr().out
    assert f"(forgotten) #0  {image_id(2)}" in shown and "None" not in shown
    assert main(["review", at, "--list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])["row_id"] is None
    assert main(["status", at]) == 0 and "4 × (forgotten)" in capsys.readouterr().out
    assert main(["review", at, image_id(2), "--attempt", "1", "--reject", "--by", "Ada"]) == 0
    assert "(forgotten) #0 attempt 1: rejected by Ada" in capsys.readouterr().out


def test_no_salt_lies_in_the_inbox_where_no_words_need_it(output: Output) -> None:
    lease = Lease(output.storage, fences=True)
    lease.take()
    try:
        assert word(output, 2, 1, "rejected").waits and word(output, 2, 2, "rejected", note="worse").waits
    finally:
        lease.release()
    plain, worded = [json.loads(output.storage.get(key)) for key in inbox.keys(output.storage)]
    assert plain["salt"] is plain["words"] is None and worded["words"] == "worse" and len(worded["salt"]) == 32


def test_by_is_no_name_of_somebody_who_has_a_key(output: Output, tmp_path: Path) -> None:
    shutil.copytree(output.keys.folder, tmp_path / "keys")
    (tmp_path / "keys" / "trust" / "ada.person").write_text(notes.verifier_key(ADA.name, ADA.public_key) + "\n")
    trusting, job = keys.load(tmp_path / "keys"), read_job_file(output.storage)
    with pytest.raises(UserError, match="has a key of their own"):
        review(output.storage, job, trusting, image_id(2), 1, Word("rejected", "ada"))
    assert list(inbox.keys(output.storage)) == []
    assert review(output.storage, job, trusting, image_id(2), 1, Word("rejected"), ADA).record.reviewer == "Ada"
    assert not review(output.storage, job, trusting, image_id(2), 2, Word("rejected", "Bob")).waits


def test_a_salt_is_known_from_whichever_record_still_has_it(output: Output) -> None:
    """Image 4's first attempt lost its values; its second one did not."""
    from renderfarm.log.writer import LogWriter

    writer = LogWriter.open(output.storage, outputs.JOB, output.signer)
    writer.append([outputs.attempt_record(4, 1, "rejected")])
    writer.append([outputs.attempt_record(4, 2, "rejected")])
    values(output, writer.size - 2).unlink()
    assert reading.read_state(output.storage).salts.of(["row-4"]) == [outputs.attempt_record(4).salt]
