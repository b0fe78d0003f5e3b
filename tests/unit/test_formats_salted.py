"""The verifier of docs/examples against what is done to a log of version 4, to its values, statements and bundles.

Each row of a table does one thing, and it must be named. What was only forgotten is no fault.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from renderfarm import notes, output
from renderfarm.log import guarded, parts
from renderfarm.log.proofs import prove
from renderfarm.log.writer import LogWriter
from renderfarm.notes import Signer
from renderfarm.notes.statement import parse, sign
from renderfarm.records import canonical
from renderfarm.records.tables import OF_VALUES, columns, from_table, to_table, values_schema
from renderfarm.schema import Adapter, Box, Input, ObjectCount, Record, Subject, Verdict, record_fields
from renderfarm.storage import LocalStorage
from tests.formats import (
    ADA,
    EXAMPLES,
    OTHER,
    PARTS_4,
    RECORDS_4,
    SIGNER,
    VKEY,
    forget,
    values_beside,
    verify_each,
    write_example_4,
)

TRUST = EXAMPLES / "trust"
Attack = Callable[[Path], object]


def at(folder: Path) -> LocalStorage:
    return LocalStorage(folder, create=False)


def part_path(folder: Path, number: int) -> Path:
    return folder / output.part_key(number)


def values_path(folder: Path, number: int) -> Path:
    return folder / values_beside(at(folder), number)[1]


# What is done to a part.


def rewritten(number: int, edit: Callable[[list[Record]], list[Record]] = list, **footer: bytes | None) -> Attack:
    """A part with edited records or footer entries, its values as they were, all else as a careful forger leaves it."""

    def attack(folder: Path) -> None:
        path = part_path(folder, number)
        records = edit(list(from_table(parts.read_part(path.read_bytes(), number).table)))
        entries: dict[bytes, bytes | None] = {**pq.read_metadata(path).metadata}
        entries |= {f"renderfarm.{name}".encode(): value for name, value in footer.items()}
        left = {name: value for name, value in entries.items() if value is not None}
        path.write_bytes(guarded.write(columns(to_table(records), 4), left))

    return attack


def edited(row: int, **fields: Any) -> Callable[[list[Record]], list[Record]]:
    return lambda records: [dataclasses.replace(record, **fields) if place == row else record for place, record in enumerate(records)]


def other(name: str, value: Any) -> Any:
    """Another value of the same kind."""
    lists: dict[str, Any] = {
        "settings": (("x", "1"),), "texts": (("x", "1"),), "tags": (("x", "1"),), "adapters": (Adapter("x", "1", 0.5),), "batch": ("x",),
        "inputs": (Input("init", "1"),), "crop": (Box(0, 0, 1, 1),), "subjects": (Subject("1", "2"),), "objects": (ObjectCount("x", 2),),
        "verdicts": (Verdict("x", "accepted"),), "input_uris": ["x"], "reasons": ["x"],
    }  # fmt: skip
    if name in lists:
        return lists[name]
    if name in ("guidance", "strength"):
        return 0.125
    kinds = {field.name: field.type for field in values_schema()} | {field.name: field.type for field in to_table([]).schema}
    return (value or 0) + 1 if kinds[name] == pa.int64() else "0" * 32 if name == "salt" else f"{value or ''}x"


FIRST = RECORDS_4["accepted-4"]
FIELDS = {f"{name} of a record": (rewritten(0, edited(1, **{name: other(name, getattr(FIRST, name))})), "00000000.parquet: ")
          for name in record_fields(4) if name != "version"}  # fmt: skip


# What is done to values.


def other_values(number: int, edit: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] = list, **footer: bytes) -> Attack:
    """The values beside a part, edited."""

    def attack(folder: Path) -> None:
        path = values_path(folder, number)
        rows = edit(pq.read_table(path, schema=values_schema()).to_pylist())
        entries = dict(pq.read_metadata(path).metadata) | {f"renderfarm.{name}".encode(): value for name, value in footer.items()}
        path.write_bytes(guarded.write(pa.Table.from_pylist(rows, schema=values_schema()), entries))

    return attack


def value(row: int, **fields: Any) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    return lambda rows: [said | fields if place == row else said for place, said in enumerate(rows)]


def plain(name: str) -> Any:
    made = other(name, getattr(FIRST, name, None))
    if name in ("tags", "texts"):
        return [("x", "1")] if name == "tags" else [{"name": "x", "value": "1"}]
    return [{"name": "x", "count": 2}] if name == "objects" else made


ABOUT = {"input_uris": "row 1: 1 input_uris for 0 inputs"}
COMMITTED = "row 1: the values are not what the record committed to"
VALUE_FIELDS: dict[str, tuple[Attack, str]] = {
    f"the value {name}": (
        other_values(0, value(1, **{name: plain(name)})),
        {"input_uris": "row 1: 1 input_uris for 0"}.get(name, COMMITTED),
    )
    for name in OF_VALUES
}


def swapped_values(folder: Path) -> None:
    one, two = (values_path(folder, number) for number in (0, 1))
    first = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(first)


def replayed_values(folder: Path) -> None:
    """What another log's part of this number left, under the name that this one looks at."""
    again = folder.with_name(folder.name + ".other")
    writer = LogWriter.open(LocalStorage(again, create=True), "mugs", SIGNER)
    writer.append([RECORDS_4[name] for name in ("plan-4", "again-4", "failed-4")])
    values_path(folder, 0).write_bytes(values_path(again, 0).read_bytes())


def flipped(path: Callable[[Path], Path], place: float = 0.4) -> Attack:
    def attack(folder: Path) -> None:
        data = bytearray(path(folder).read_bytes())
        data[int(place * len(data))] ^= 1
        path(folder).write_bytes(data)

    return attack


BESIDE = {
    "a byte of the values flipped": (flipped(lambda folder: values_path(folder, 0), 0.05), "provenance/values/00000000-"),
    "values cut off": (lambda folder: values_path(folder, 0).write_bytes(values_path(folder, 0).read_bytes()[:-9]), "not a Parquet file"),
    "values of two parts swapped": (swapped_values, "it belongs to another part"),
    "values of another log's part": (replayed_values, "it belongs to another part"),
    "a row of values dropped": (other_values(0, lambda rows: rows[:-1]), "it has 2 rows, its part 3"),
    "a row of values twice": (other_values(0, lambda rows: [*rows, rows[-1]]), "it has 4 rows, its part 3"),
    "two rows of values swapped": (other_values(0, lambda rows: [rows[0], rows[2], rows[1]]), "row 1: "),
    "values for a record without any": (other_values(0, lambda rows: [rows[1], *rows[1:]]), "row 0: "),
    "a value in a forgotten row": (other_values(1, value(0, prompt="a mug")), "row 0: it was forgotten, and has a value"),
    "a reason in a forgotten row": (other_values(1, value(0, reasons=[""])), "row 0: it was forgotten, and has a value"),
    "a forgotten row filled by another": (other_values(1, lambda rows: [rows[1], rows[1]]), "row 0: "),
    "another version of values": (other_values(0, values_version=b"2"), "it belongs to another part"),
    "an entry too many": (other_values(0, note=b"x"), "it belongs to another part"),
    "another part's number": (other_values(0, part=b"1"), "it belongs to another part"),
    "another root of rows": (other_values(0, row_root=b"0" * 64), "it belongs to another part"),
    "the part in place of its values": (lambda folder: shutil.copy(part_path(folder, 0), values_path(folder, 0)), "another part"),
}  # fmt: skip

PARTS = {
    "the index root edited": (rewritten(0, index_root=b"0" * 64), "its rows do not give the index root that it states"),
    "the index root of another part": (lambda folder: _index_of_another(folder), "its rows do not give the index root that it states"),
    "no index root": (rewritten(0, index_root=None), "its footer lacks an entry, or has one too many"),
    "an index root in capitals": (rewritten(0, index_root=b"A" * 64), "a hash is 64 hex digits"),
    "a row dropped": (rewritten(2, lambda records: records[:-1]), "its rows do not give the row root"),
    "two rows swapped": (rewritten(2, lambda records: [records[1], records[0], *records[2:]]), "its rows do not give the row root"),
    "a part in place of another": (lambda folder: shutil.copy(part_path(folder, 0), part_path(folder, 1)), "it says that it is part 0"),
    "a version that it is not": (rewritten(0, record_version=b"3"), "its footer lacks an entry, or has one too many"),
}  # fmt: skip


def _index_of_another(folder: Path) -> None:
    two = parts.read_footer(part_path(folder, 1).read_bytes(), 1)
    assert two.index_root is not None
    rewritten(0, index_root=two.index_root.hex().encode())(folder)


# What whoever holds the log's key may have written: every hash is right, and signed.


def lied(name: str, **fields: Any) -> Attack:
    """A log in which one record was written otherwise from the start."""

    def attack(folder: Path) -> None:
        shutil.rmtree(folder / "provenance")
        writer = LogWriter.open(at(folder), "mugs", SIGNER)
        for names in PARTS_4:
            writer.append([canonical.sealed(dataclasses.replace(RECORDS_4[n], **fields)) if n == name else RECORDS_4[n] for n in names])

    return attack


def restated(name: str, by: Any = ADA, **fields: Any) -> str:
    """A record's note, said otherwise and signed anew."""
    return sign(dataclasses.replace(parse(str(RECORDS_4[name].signed).encode()), **fields), by).to_bytes().decode()


def respelled(name: str, old: str, new: str) -> str:
    text = str(RECORDS_4[name].signed)
    assert text.count(old) == 1
    return text.replace(old, new)


REVIEW, APPLAUSE = RECORDS_4["review-4"], RECORDS_4["applause-4"]
BOB, ANOTHER_ADA = Signer.of("renderfarm-person/Bob", OTHER), Signer.of(ADA.name, OTHER)
UNSAID = "the words are not what the statement committed to"
SAYS_ELSE = "the record says something else than the statement in it"
LIES = {
    "a review turned round": (lied("review-4", outcome="rejected"), "another review than the note's"),
    "a review of another attempt": (lied("review-4", attempt=2, watermark_payload=None), "another review than the note's"),
    "a review of another image": (lied("review-4", image_id="0" * 32, watermark_payload=None), "another review than the note's"),
    "a review of a claim that is not the subject's": (lied("review-4", reviewed_digest="0" * 64), "a review of another attempt"),
    "another reviewer": (lied("review-4", reviewer="Bob"), SAYS_ELSE),
    "another time": (lied("review-4", finished_us=REVIEW.finished_us + 1), SAYS_ELSE),
    "another type": (lied("applause-4", statement="approval"), SAYS_ELSE),
    "other words": (lied("review-4", reason="reads badly"), UNSAID),
    "a subject dropped": (lied("applause-4", subjects=APPLAUSE.subjects[:1]), SAYS_ELSE),
    "subjects swapped": (lied("applause-4", subjects=APPLAUSE.subjects[::-1]), SAYS_ELSE),
    "a subject that is not there": (
        lied("applause-4", subjects=(Subject("0" * 32, "0" * 64),), signed=restated("applause-4", subjects=(Subject("0" * 32, "0" * 64),))),
        "a statement about a record that is not there"),
    "a statement for another log": (
        lied("applause-4", signed=restated("applause-4", origin="renderfarm/cups")), "the statement is for the log renderfarm/cups"),
    "a statement by a stranger": (
        lied("applause-4", signed=restated("applause-4", BOB), reviewer="Bob"), "by nobody who is trusted"),
    "a stranger in Ada's name": (lied("applause-4", signed=restated("applause-4", ANOTHER_ADA)), "by nobody who is trusted"),
    "an outcome in another statement": (lied("applause-4", outcome="accepted"), "a statement that says how an image came out"),
    "an image in another statement": (lied("applause-4", image_id="0" * 32), "a statement that says how an image came out"),
    "words without a commitment": (lied("applause-4", salt="0" * 32, reason="never said"), UNSAID),
    "words dropped": (lied("review-4", reason=None), UNSAID),
    "a review without a note": (lied("review-4", kind="review", statement=None, subjects=(), signed=None), "of unknown kind review"),
    "a note dropped": (lied("applause-4", signed=None), "a statement without its note"),
    "a note in an attempt": (lied("again-4", signed=APPLAUSE.signed), "a note in a record that is no statement"),
    "a note that is there already": (
        lied("late-4", **{name: getattr(APPLAUSE, name) for name in ("statement", "subjects", "signed", "finished_us", "reviewer")}),
        "a statement that is in the log already"),
    "a field of a note edited": (lied("applause-4", signed=respelled("applause-4", "stars 5", "stars 1")), "the signature by"),
    "a note's signature flipped": (lied("applause-4", signed=respelled("applause-4", " Hb5x9L", " Hb5x9M")), "the signature by"),
    "another spelling of a note": (lied("applause-4", signed=respelled("applause-4", "stars 5", "stars  5")), "is not compact JSON"),
    "a note without its nonce": (
        lied("applause-4", signed=respelled("applause-4", "nonce 15d181bf6d50c23470af680a439a4eeb\n", "")), "not a statement"),
    "a note under another's name": (
        lied("applause-4", signed=respelled("applause-4", "by renderfarm-person/Ada", "by renderfarm-person/Bob"), reviewer="Bob"),
        "not signed by the key that it names"),
}  # fmt: skip
ATTACKS: dict[str, tuple[Attack, str]] = {**FIELDS, **VALUE_FIELDS, **BESIDE, **PARTS, **LIES}


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("salted") / "output"
    write_example_4(folder, {1: (0,)})
    return folder


@pytest.fixture(scope="session")
def attacked(example: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    """What the verifier says after each attack."""
    base = tmp_path_factory.mktemp("attacked")
    folders = {name: base / str(number) for number, name in enumerate(ATTACKS)}
    for name, folder in folders.items():
        shutil.copytree(example, folder)
        ATTACKS[name][0](folder)
    return dict(zip(folders, verify_each(*(("log", folder, "--key", VKEY, "--person", TRUST) for folder in folders.values())), strict=True))


@pytest.mark.parametrize("name", ATTACKS)
def test_what_is_done_to_a_log_is_named(name: str, attacked: dict[str, tuple[int, str]]) -> None:
    code, said = attacked[name]
    assert code == 1 and said.startswith("not verified: ") and ATTACKS[name][1] in said and said.count("\n") == 1, said


def test_every_field_of_version_4_is_in_the_table() -> None:
    assert {name.removesuffix(" of a record") for name in FIELDS} == set(record_fields(4)) - {"version"}
    assert {name.removeprefix("the value ") for name in VALUE_FIELDS} == set(OF_VALUES)


def verified(folder: Path, *more: object) -> str:
    ((code, said),) = verify_each(("log", folder, "--key", VKEY, "--pictures", *more))
    assert code == 0, said
    return said


def test_what_is_forgotten_is_said_and_no_fault(example: Path, tmp_path: Path) -> None:
    shutil.copytree(example, tmp_path / "out")
    for number in range(len(PARTS_4)):
        said = verified(tmp_path / "out", "--person", TRUST)
        assert f"{[1, 3, 4][number]} records whose values are not there: forgotten, and no fault" in said
        forget(at(tmp_path / "out"), number, None) if number != 1 else forget(at(tmp_path / "out"), number, (1,))
    (tmp_path / "out" / output.SALT).unlink()
    said = verified(tmp_path / "out", "--person", TRUST)
    assert "6 records whose values are not there" in said and "3 statements by renderfarm-person/Ada" in said


def test_files_beside_that_belong_to_no_part_are_ignored(example: Path, tmp_path: Path) -> None:
    """What a loser of a race, or a crash before its part, left there."""
    shutil.copytree(example, tmp_path / "out")
    shutil.copy(values_path(example, 0), tmp_path / "out" / output.values_key(3, bytes(32)))
    shutil.copy(values_path(example, 0), tmp_path / "out" / output.values_key(0, bytes(32)))
    assert "3 parts, 10 records" in verified(tmp_path / "out")


def test_statements_by_people_who_are_not_known_are_said(example: Path) -> None:
    said = verified(example)
    assert "3 statements by keys that were not given" in said and "1 statement applause" in said
    assert "1 statements that wait, and are not in the log" in said


def test_a_person_may_have_several_keys(example: Path, tmp_path: Path) -> None:
    shutil.copytree(TRUST, tmp_path / "trust")
    (tmp_path / "trust" / "a-new.person").write_text(notes.verifier_key(ADA.name, OTHER.public_key()) + "\n")
    assert "3 statements by renderfarm-person/Ada" in verified(example, "--person", tmp_path / "trust")


# Bundles.

Edit = Callable[[dict[str, Any]], object]


def put(*steps: Any) -> Callable[[Any], Edit]:
    """What puts a value at this place of the last proof of a bundle."""

    def edit_to(value: Any) -> Edit:
        def edit(document: dict[str, Any]) -> None:
            place: Any = document["proofs"][-1]
            for step in steps[:-1]:
                place = place[step]
            place[steps[-1]] = value(place[steps[-1]]) if callable(value) else value

        return edit

    return edit_to


def without(*names: str) -> Edit:
    def edit(document: dict[str, Any]) -> None:
        for name in names:
            del document["proofs"][-1][name]

    return edit


def forgotten(document: dict[str, Any]) -> None:
    """The values taken out of the last record, as whoever forgets does."""
    record = document["proofs"][-1]["record"]
    for name in set(OF_VALUES) - {"reasons", "input_uris"}:
        del record[name]
    for holder, member in (("verdicts", "reason"), ("inputs", "uri")):
        for element in record[holder]:
            del element[member]


def smuggled(document: dict[str, Any]) -> None:
    forgotten(document)
    document["proofs"][-1]["record"]["verdicts"][0]["reason"] = "by Ada: forged"


def unsalted(document: dict[str, Any]) -> None:
    """A salt that is null commits to nothing: no value beside it is proven."""
    document["proofs"][-1]["record"] |= {"salt": None, "prompt": "a gun"}


LOST, ROOT = "the values are not what the record committed to", "does not lead to the signed root"
BUNDLE_ATTACKS: dict[str, tuple[Edit, str]] = {
    "a prompt edited": (put("record", "prompt")("a gun"), LOST),
    "a reason edited": (put("record", "verdicts", 0, "reason")("by Bob"), LOST),
    "words edited": (put("record", "reason")("reads badly"), LOST),
    "a salt edited": (put("record", "salt")("0" * 32), LOST),
    "a seed edited": (put("record", "seed")(1), LOST),
    "no salt beside values": (unsalted, "a salt that is none"),
    "a value alone": (lambda document: document["proofs"][-1]["record"].pop("alt"), "not the fields of a record of version 4"),
    "a reason where values are gone": (smuggled, "verdicts has a malformed element"),
    "a commitment edited": (put("record", "commitment")("0" * 64), ROOT),
    "a setting edited": (put("record", "settings")([{"name": "x", "value": "1"}]), ROOT),
    "a drawing's id edited": (put("record", "drawing_id")("0" * 32), ROOT),
    "an index root edited": (put("index_root")("0" * 64), ROOT),
    "no index root": (without("index_root"), "malformed"),
    "an index root that is none": (put("index_root")("x"), "a hash is 64 hex digits"),
    "a note edited": (put("record", "signed")(lambda note: note.replace("accepted", "rejected")), ROOT),
    "an older version": (put("record", "version")(3), "not the fields of a record of version 3"),
    "a newer version": (put("record", "version")(5), "a record of version 5"),
}  # fmt: skip


@pytest.fixture(scope="session")
def bundle(example: Path) -> dict[str, Any]:
    """Of an image with a rejected attempt and a review."""
    document: dict[str, Any] = json.loads(prove(at(example), str(REVIEW.image_id)))
    return document


@pytest.fixture(scope="session")
def attacked_bundles(bundle: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    """What the verifier says after each edit, and after none, and of a bundle whose last values are gone."""
    base = tmp_path_factory.mktemp("edited")
    edits: dict[str, Edit] = {name: edit for name, (edit, _) in BUNDLE_ATTACKS.items()} | {"": len, "forgotten": forgotten}
    files = {name: base / f"{number}.json" for number, name in enumerate(edits)}
    for name, file in files.items():
        document = json.loads(json.dumps(bundle))
        edits[name](document)
        file.write_text(json.dumps(document))
    asked: Sequence[Sequence[object]] = [("bundle", file, "--key", VKEY, "--person", TRUST) for file in files.values()]
    return dict(zip(files, verify_each(*asked), strict=True))


@pytest.mark.parametrize("name", BUNDLE_ATTACKS)
def test_what_is_done_to_a_bundle_is_named(name: str, attacked_bundles: dict[str, tuple[int, str]]) -> None:
    code, said = attacked_bundles[name]
    assert code == 1 and said.startswith("not verified: ") and BUNDLE_ATTACKS[name][1] in said and said.count("\n") == 1, said


def test_a_bundle_verifies_with_its_values_and_without(attacked_bundles: dict[str, tuple[int, str]]) -> None:
    (code, said), (later, gone) = attacked_bundles[""], attacked_bundles["forgotten"]
    assert code == later == 0, (said, gone)
    assert "statement review 1 accepted by renderfarm-person/Ada" in said and "values" not in said
    assert gone.endswith("; its values are not there\n")
