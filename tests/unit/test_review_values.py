"""Values that somebody altered lead nobody to another picture, and pass for nobody's words; values that are gone are said to be gone."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from renderfarm import keys, notes
from renderfarm.cli import main
from renderfarm.errors import LogDamaged, UserError
from renderfarm.log import guarded, reading
from renderfarm.log.find import image_named
from renderfarm.log.lease import Lease
from renderfarm.resolve import read_job_file
from renderfarm.review.review import Word, review
from renderfarm.statements import inbox
from tests import outputs, reviewed
from tests.outputs import Output, image_id
from tests.reviewed import word
from tests.statements import person

ADA = person("Ada")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Output:
    base = tmp_path_factory.mktemp("valued")
    return reviewed.build(base / "out", base / "keys")


@pytest.fixture
def output(original: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Output:
    shutil.copytree(original.folder, tmp_path / "out")
    monkeypatch.setenv("RENDERFARM_KEYS", str(original.keys.folder))
    return dataclasses.replace(original, folder=tmp_path / "out")


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
