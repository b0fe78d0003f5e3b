"""Proofs as files, and the log exported: what they hold, what they refuse, and what a flip does to them."""

from __future__ import annotations

import csv
import dataclasses
import datetime as dt
import json
import random
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from renderfarm.errors import LogDamaged, UserError
from renderfarm.log import parts
from renderfarm.log.export import Filter, export
from renderfarm.log.proofs import prove, prove_consistency, verify, verify_any, verify_consistency
from renderfarm.log.reading import records
from renderfarm.log.writer import LogWriter
from renderfarm.output import part_key
from renderfarm.records.tables import from_table
from renderfarm.schema import RECORD_FIELDS, VALUE_FIELDS, Adapter, Box, Input, Record, Verdict
from renderfarm.storage import LocalStorage, Storage
from tests.unit.test_writer import KEY, OTHER, SIGNER, attempt, image_id, plan

KEYS = {SIGNER.name: KEY.public_key()}


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    made = LocalStorage(tmp_path / "out", create=True)
    writer = LogWriter.open(made, "mugs", SIGNER)
    writer.append([plan(30)])
    for start in range(1, 25, 3):
        writer.append([_attempt(number) for number in range(start, start + 3)])
    writer.append([attempt(30, "rejected", finished_us=5_000_000), attempt(30, attempt=2, prompt="=SUM(A1)\n'\"")])
    return made


def _attempt(number: int) -> Record:
    tags = (("campaign", "autumn" if number % 2 else "spring"), ("sku", str(number)))
    return attempt(number, tags=tags, guidance=7.1, weights="starter", finished_us=number * 1_000_000)


def test_every_record_is_provable_and_proven(storage: Storage) -> None:
    for number in (1, 2, 3, 13, 24):
        result = verify(prove(storage, image_id(number)), KEYS)
        assert result.ok and result.holds and [record.image_id for record in result.records] == [image_id(number)]
        assert "proven: 1 record under a trusted log key" in str(result)


def test_all_attempts_of_an_image_are_in_its_bundle(storage: Storage) -> None:
    result = verify(prove(storage, image_id(30)), KEYS)
    assert [record.outcome for record in result.records] == ["rejected", "accepted"]
    assert result.records == tuple(record for record in records(storage) if record.image_id == image_id(30))
    assert any("=SUM(A1)\n'" in line for line in result.lines()), "a prompt stays within its line, and is escaped where it is printed"


def test_without_a_trusted_key_a_bundle_holds_and_is_not_trusted(storage: Storage) -> None:
    bundle = prove(storage, image_id(1))
    result = verify(bundle, None)
    assert result.holds and not result.ok and result.reason.startswith("consistent, not trusted")
    result = verify(bundle, {SIGNER.name: OTHER.public_key})
    assert not result.holds and "no signature by a known key" in result.reason


def _changed(bundle: bytes, path: list[Any], value: Any) -> bytes:
    document = json.loads(bundle)
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("path", "value", "word"),
    [
        (["proofs", 0, "record", "prompt"], "a gun", "not what it committed to"),
        (["proofs", 0, "record", "salt"], "00" * 16, "not what it committed to"),
        (["proofs", 0, "record", "commitment"], "00" * 32, "signed root"),
        (["proofs", 0, "index_root"], "00" * 32, "signed root"),
        (["proofs", 0, "index_root"], None, "not a bundle"),
        (["proofs", 0, "record", "guidance"], 7.2, "signed root"),
        (["proofs", 0, "record", "seed"], "text", "seed"),
        (["proofs", 0, "record", "extra"], 1, "extra"),
        (["proofs", 0, "record"], None, "not a bundle"),
        (["proofs", 0, "part"], 3, "no leaf 3"),
        (["proofs", 0, "rows"], 4, "signed root|proof"),
        (["proofs", 0, "row"], 1, "signed root"),
        (["proofs", 0, "row"], -1, "place"),
        (["proofs", 0, "row"], 10**30, "place"),
        (["proofs", 0, "row"], True, "place"),
        (["proofs", 0, "row_proof"], [], "short"),
        (["proofs", 0, "row_proof"], ["00" * 32] * 100_000, "at most 64"),
        (["proofs", 0, "row_proof"], ["00"], "32 bytes"),
        (["proofs", 0, "log_proof"], ["zz"], "hex"),
        (["proofs", 0, "checkpoint"], "x", "signature"),
        (["proofs", 0, "checkpoint"], 5, "not a bundle|not proven"),
        (["proofs"], [], "1 to 1000"),
        (["proofs"], [5], "not a bundle"),
        (["padding"], "x" * (33 << 20), "32 MiB"),
        (["image_id"], image_id(2), "another image"),
        (["format"], "other", "format"),
    ],
)
def test_an_edited_bundle_proves_nothing(storage: Storage, path: list[Any], value: Any, word: str) -> None:
    import re

    result = verify(_changed(prove(storage, image_id(1)), path, value), KEYS)
    assert not result.ok and not result.holds
    assert re.search(word, result.reason), result.reason


def _without_values(record: dict[str, Any]) -> None:
    for name in {"salt", *VALUE_FIELDS} & record.keys():
        del record[name]
    for verdict in record["verdicts"]:
        del verdict["reason"]


@pytest.mark.parametrize("smuggled", ["a prompt beside a null salt", "a reason in a verdict", "an address in an input"])
def test_a_value_that_nothing_commits_to_proves_nothing(smuggled: str, storage: Storage) -> None:
    """The salt makes the commitment: where it is not there, nothing beside it is proven."""
    given = Input("init", "1" * 64, "s3://b/a.png")
    odd = attempt(40, verdicts=(Verdict("text", "accepted", "fine", 0.9, 0.5),), inputs=(given,))
    LogWriter.open(storage, "mugs", SIGNER).append([odd])
    document = json.loads(prove(storage, image_id(40)))
    record = document["proofs"][0]["record"]
    if smuggled == "a prompt beside a null salt":
        record |= {"salt": None, "prompt": "a gun"}
    else:
        _without_values(record)
        del record["inputs"][0]["uri"]
        assert verify(json.dumps(document).encode(), KEYS).ok, "forgotten values are no fault"
        holder, member = ("verdicts", "reason") if smuggled == "a reason in a verdict" else ("inputs", "uri")
        record[holder][0][member] = "forged"
    result = verify(json.dumps(document).encode(), KEYS)
    assert not result.holds and not result.records, result


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"\xff", b"[" * 100_000, b"null", b"1" * 5000])
def test_what_is_no_bundle(data: bytes) -> None:
    assert not verify(data, KEYS).holds
    assert not verify_consistency(data, KEYS).holds


def test_a_flipped_byte_never_proves_something_else(storage: Storage) -> None:
    bundle = prove(storage, image_id(30))
    true = verify(bundle, KEYS).records
    rng = random.Random(4)
    for _ in range(300):
        data = bytearray(bundle)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        result = verify(bytes(data), KEYS)
        assert not result.holds or result.records == true


def test_what_cannot_be_proven(storage: Storage) -> None:
    with pytest.raises(UserError, match="no record of image"):
        prove(storage, image_id(99))
    key = part_key(1)
    data = storage.get(key)
    storage.delete(key)
    storage.put(key, data.replace(b"renderfarm/mugs", b"renderfarm/cups"))
    with pytest.raises(LogDamaged):
        prove(storage, image_id(1))


def test_consistency_of_two_checkpoints(storage: Storage) -> None:
    heads = [parts.read_footer(storage.get(part_key(n)), n).checkpoint.to_bytes() for n in range(10)]
    for head in heads:
        result = verify_consistency(prove_consistency(storage, head), KEYS)
        assert result.ok and "begins with" in result.reason
    bundle = prove_consistency(storage, heads[4])
    assert not verify_consistency(_changed(bundle, ["old"], heads[5].decode()), KEYS).holds
    assert not verify_consistency(_changed(bundle, ["proof"], []), KEYS).holds
    assert not verify_consistency(bundle, {SIGNER.name: OTHER.public_key}).holds
    alone = verify_any(bundle, None)
    assert alone.holds and not alone.ok and "not trusted" in str(alone)
    assert verify_any(bundle, KEYS).ok and verify_any(prove(storage, image_id(1)), KEYS).ok
    assert not verify_any(b"[" * 100_000, KEYS).holds and not verify_any(b"{}", KEYS).holds
    with pytest.raises(UserError, match="not a checkpoint"):
        prove_consistency(storage, b"rubbish")


def test_consistency_with_another_history(storage: Storage, tmp_path: Path) -> None:
    other = LocalStorage(tmp_path / "other", create=True)
    head = LogWriter.open(other, "mugs", SIGNER).append([plan(1)]).checkpoint
    with pytest.raises(UserError, match="does not continue"):
        prove_consistency(storage, head.to_bytes())


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        (Filter(), 27),
        (Filter(tags=(("campaign", "autumn"),)), 12),
        (Filter(tags=(("campaign", "autumn"), ("sku", "7"))), 1),
        (Filter(outcome="rejected"), 1),
        (Filter(rejected_for="text"), 1),
        (Filter(rejected_for="hands"), 0),
        (Filter(weights="starter", outcome="accepted"), 24),
        (Filter(since=dt.datetime.fromtimestamp(3, dt.UTC), until=dt.datetime.fromtimestamp(6, dt.UTC)), 4),
        (Filter(since=dt.datetime(1970, 1, 1, 0, 0, 24)), 1),
    ],
)
def test_filters(storage: Storage, tmp_path: Path, wanted: Filter, count: int) -> None:
    for suffix in ("parquet", "csv", "jsonl"):
        assert export(storage, tmp_path / f"log.{suffix}", wanted) == count
    assert pq.read_table(tmp_path / "log.parquet").num_rows == count
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == count
    assert {path.name for path in tmp_path.iterdir()} == {"out", "log.parquet", "log.csv", "log.jsonl"}


def test_what_is_exported_is_what_was_recorded(storage: Storage, tmp_path: Path) -> None:
    export(storage, tmp_path / "log.parquet", Filter())
    assert list(from_table(pq.read_table(tmp_path / "log.parquet"))) == list(records(storage))
    export(storage, tmp_path / "log.csv", Filter())
    with (tmp_path / "log.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == RECORD_FIELDS
    assert rows[-1]["prompt"] == "'=SUM(A1)\n'\"", "a spreadsheet must not run a prompt"
    assert json.loads(rows[1]["tags"]) == [["campaign", "autumn"], ["sku", "1"]]


@pytest.mark.parametrize("prompt", ["=1+1", "\n=1+1", " \r\n +1", "\u200b@SUM", "＝1+1", "－1", "＋1", "＠A", "\ta", "-1", "\ufeff=1"])
def test_no_cell_begins_as_a_formula_would(tmp_path: Path, prompt: str) -> None:
    made = LocalStorage(tmp_path / "out", create=True)
    box = Box(0, 0, 8, 8)
    full = attempt(
        1, prompt=prompt, tags=(("=x", "y"),), settings=(("steps", "8"),), adapters=(Adapter("a", "0" * 64, 0.5),), crop=(box,),
        inputs=(Input("init", "0" * 64, "s3://b/a.png", (box,)),), texts=(("de", "=1"),),
        verdicts=(Verdict("text", "accepted", boxes=(box,)),),
    )  # fmt: skip
    LogWriter.open(made, "mugs", SIGNER).append([plan(1), full])
    export(made, tmp_path / "log.csv", Filter())
    with (tmp_path / "log.csv").open(encoding="utf-8-sig", newline="") as file:
        row = list(csv.DictReader(file))[-1]
    assert row["prompt"] == f"'{prompt}"
    assert json.loads(row["crop"]) == [{"x0": 0, "y0": 0, "x1": 8, "y1": 8}] and json.loads(row["texts"]) == [{"name": "de", "value": "=1"}]
    nested = ("objects", "tags", "settings", "adapters", "inputs", "crop", "texts", "batch", "verdicts", "subjects")
    assert all(isinstance(json.loads(row[name]), list) for name in nested)


def test_places_that_cannot_be_written(storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no format"):
        export(storage, tmp_path / "log.xlsx", Filter())
    with pytest.raises(UserError, match="cannot be written"):
        export(storage, tmp_path / "none" / "log.csv", Filter())


def test_an_export_that_breaks_leaves_the_old_file(storage: Storage, tmp_path: Path) -> None:
    target = tmp_path / "log.csv"
    target.write_text("old")
    storage.put(part_key(3), b"rubbish")
    with pytest.raises(LogDamaged):
        export(storage, target, Filter())
    assert target.read_text() == "old" and len(list(tmp_path.iterdir())) == 2
    assert dataclasses.is_dataclass(Filter)
