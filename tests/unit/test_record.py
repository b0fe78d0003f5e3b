"""Records: Arrow and back, canonical bytes by two encoders, and the digests derived from them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import struct
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from renderfarm.log import canonical
from renderfarm.log.record import VERSION_KEY, arrow_schema, as_dict, from_dict, from_table, record_id, to_table, upgraded
from renderfarm.schema import ADDED, AFTER_CREDENTIAL, RECORD_FIELDS, RECORD_VERSION, Box, ObjectCount, Record, Verdict

INT64 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
FLOAT = st.floats(allow_nan=False)
BOX = st.builds(Box, INT64, INT64, INT64, INT64)
VERDICT = st.builds(Verdict, TEXT, TEXT, TEXT, FLOAT | st.none(), FLOAT | st.none(), st.lists(BOX, max_size=2).map(tuple))
LISTS: dict[str, st.SearchStrategy[Any]] = {
    "objects": st.lists(st.builds(ObjectCount, TEXT, INT64), max_size=3).map(tuple),
    "tags": st.lists(st.tuples(TEXT, TEXT), max_size=3).map(tuple),
    "batch": st.lists(TEXT, max_size=3).map(tuple),
    "verdicts": st.lists(VERDICT, max_size=3).map(tuple),
}


def _strategy(field: pa.Field) -> st.SearchStrategy[Any]:
    if field.name == "version":
        return st.just(RECORD_VERSION)
    if field.name in LISTS:
        return LISTS[field.name]
    plain = INT64 if pa.types.is_integer(field.type) else FLOAT if pa.types.is_floating(field.type) else TEXT
    return plain | st.none() if field.nullable else plain


RECORDS = st.fixed_dictionaries({field.name: _strategy(field) for field in arrow_schema()}).map(lambda fields: Record(**fields))
SLOW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def test_the_schema_has_every_field_in_order_and_a_version() -> None:
    schema = arrow_schema()
    assert tuple(schema.names) == RECORD_FIELDS
    assert schema.metadata[VERSION_KEY] == b"3"
    assert tuple(arrow_schema(1).names) == tuple(name for name in RECORD_FIELDS if name not in ADDED)
    assert not schema.field("kind").nullable and schema.field("prompt").nullable
    assert schema.field("guidance").type == pa.float64()


@SLOW
@given(st.lists(RECORDS, max_size=4))
def test_column_bytes_equal_the_plain_encoder(records: list[Record]) -> None:
    table = to_table(records)
    assert list(from_table(table)) == records
    encoded = canonical.ColumnBytes.of(table)
    plainly = canonical.ColumnBytes.of_records(records)
    assert (plainly.leaves(), plainly.claim_digests()) == (encoded.leaves(), encoded.claim_digests())
    assert [encoded.row(i) for i in range(len(encoded))] == [canonical.record_bytes(record) for record in records]
    assert encoded.claim_digests() == [canonical.claim_digest(record) for record in records]
    expected = [hashlib.sha256(b"\0" + canonical.record_bytes(record)).digest() for record in records]
    assert encoded.leaves() == expected


@SLOW
@given(st.lists(RECORDS, min_size=3, max_size=4))
def test_column_bytes_of_a_slice_and_of_chunks(records: list[Record]) -> None:
    table = pa.concat_tables([to_table(records), to_table(records[:1])])
    sliced = canonical.ColumnBytes.of(table.slice(1))
    rows = [*records[1:], records[0]]
    assert [sliced.row(i) for i in range(len(sliced))] == [canonical.record_bytes(record) for record in rows]


def _parse(data: bytes) -> list[bytes | None]:
    """The fields of canonical bytes, by the format's description alone."""
    assert data.startswith(canonical.magic(RECORD_VERSION))
    position, fields = len(canonical.magic(RECORD_VERSION)), []
    while position < len(data):
        (size,) = struct.unpack_from(">I", data, position)
        position += 4
        if size == 0xFFFFFFFF:
            fields.append(None)
            continue
        fields.append(data[position : position + size])
        position += size
    assert position == len(data)
    return fields


@SLOW
@given(RECORDS)
def test_canonical_bytes_parse_back_into_the_fields(record: Record) -> None:
    fields = dict(zip(RECORD_FIELDS, _parse(canonical.record_bytes(record)), strict=True))
    assert fields["kind"] == record.kind.encode()
    for name, encoded in fields.items():
        value = getattr(record, name)
        if value is None:
            assert encoded is None
        elif isinstance(value, str):
            assert encoded == value.encode()
        elif isinstance(value, int):
            assert encoded == value.to_bytes(8, "big", signed=True)


@SLOW
@given(RECORDS, RECORDS)
def test_different_records_never_give_the_same_bytes(one: Record, other: Record) -> None:
    same_columns = to_table([one]).equals(to_table([other])) and one == other
    if not same_columns:
        assert canonical.record_bytes(one) != canonical.record_bytes(other) or one == other


NEIGHBOURS = [
    (Record("attempt", prompt="ab", negative_prompt="c"), Record("attempt", prompt="a", negative_prompt="bc")),
    (Record("attempt", prompt=""), Record("attempt", prompt=None)),
    (Record("attempt", batch=("a", "b")), Record("attempt", batch=("ab",))),
    (Record("attempt", batch=("",)), Record("attempt", batch=())),
    (Record("attempt", tags=(("a", "b"), ("c", "d"))), Record("attempt", tags=(("c", "d"), ("a", "b")))),
    (Record("attempt", objects=(ObjectCount("cat", 1),)), Record("attempt", tags=(("cat", "1"),))),
    (Record("attempt", guidance=0.0), Record("attempt", guidance=-0.0)),
    (Record("attempt", adapter="x"), Record("attempt", init_image="x")),
    (
        Record("attempt", verdicts=(Verdict("text", "rejected", boxes=(Box(0, 0, 1, 1),)),)),
        Record("attempt", verdicts=(Verdict("text", "rejected"), Verdict("text", "rejected"))),
    ),
]


@pytest.mark.parametrize(("one", "other"), NEIGHBOURS)
def test_near_misses_differ(one: Record, other: Record) -> None:
    assert canonical.record_bytes(one) != canonical.record_bytes(other)


def test_the_canonical_bytes_of_version_1_are_fixed() -> None:
    record = Record("attempt", 1, job="m", image_id="00", attempt=1, guidance=7.5, tags=(("sku", "7"),), finished_us=5)
    digest = hashlib.sha256(canonical.record_bytes(record)).hexdigest()
    assert digest == "2f9a14290dabed92defa621bd3e59403e802e3740e2036c8649b3e492764d429"
    assert canonical.ColumnBytes.of(to_table([record], 1), 1).row(0) == canonical.record_bytes(record)


def test_the_canonical_bytes_of_version_2_are_fixed() -> None:
    record = Record("review", 2, job="m", image_id="00", attempt=1, outcome="accepted", finished_us=5, reviewer="Ada", reviewed_digest="0f")
    digest = hashlib.sha256(canonical.record_bytes(record)).hexdigest()
    assert digest == "cd96030f96e78b5fc3bb8ef2fc7565f0bf0c814838ab2431ea62635450268f62"
    assert digest != hashlib.sha256(canonical.record_bytes(dataclasses.replace(record, reviewer="Bob"))).hexdigest()


def test_the_canonical_bytes_of_version_3_are_fixed() -> None:
    record = Record("attempt", 3, job="m", image_id="00", attempt=1, finished_us=5, control_image="/in/edges.png", control_digest="0f")
    assert hashlib.sha256(canonical.record_bytes(record)).hexdigest() == "976375137c07d0fffd41e426b0c6dd98ee460809b634974605d3c9ea4c82baf7"


def test_a_record_of_version_1_has_no_later_fields_and_comes_back_from_json_and_arrow() -> None:
    record = Record("attempt", 1, image_id="00", attempt=1, prompt="a mug")
    row = as_dict(record)
    assert not set(ADDED) & set(row) and set(ADDED) <= set(as_dict(dataclasses.replace(record, version=3)))
    assert set(as_dict(dataclasses.replace(record, version=2))) - set(row) == {"reviewer", "reviewed_digest", "withdrawn_key"}
    assert from_dict(json.loads(json.dumps(row))) == record
    assert list(from_table(upgraded(to_table([record], 1)))) == [record]
    with pytest.raises(ValueError, match="not the fields of a record: reviewed_digest, reviewer, withdrawn_key"):
        from_dict({**row, "version": 2})
    with pytest.raises(ValueError, match="records of version 4; this program knows 1 to 3"):
        from_dict({**row, "version": 4})
    with pytest.raises(ValueError, match="a record of version 1 among those of version 3"):
        to_table([record])


def test_the_claim_leaves_out_only_what_follows_the_credential() -> None:
    record = Record("attempt", image_id="00", attempt=1, prompt="a mug")
    after = {name: 1 if name == "file_bytes" else "x" for name in AFTER_CREDENTIAL}
    finished = dataclasses.replace(record, **after)
    assert canonical.claim_digest(finished) == canonical.claim_digest(record)
    assert canonical.record_bytes(finished) != canonical.record_bytes(record)
    assert canonical.claim_digest(dataclasses.replace(record, prompt="a cup")) != canonical.claim_digest(record)


@pytest.mark.parametrize(
    ("record", "word"),
    [
        (Record("attempt", guidance=float("nan")), "NaN"),
        (Record("attempt", verdicts=(Verdict("text", "rejected", score=float("nan")),)), "NaN"),
        (Record("attempt", seed=2**63), "seed"),
        (Record("attempt", prompt="\ud800"), "prompt"),
        (Record("attempt", version=4), "version"),
        (Record("attempt", job=None), "job"),  # type: ignore[arg-type]
        (Record("attempt", prompt=7), "prompt"),  # type: ignore[arg-type]
    ],
)
def test_what_a_record_cannot_hold(record: Record, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        to_table([record])


def test_an_integer_guidance_hashes_as_the_float_that_is_stored() -> None:
    record = Record("attempt", guidance=7, verdicts=(Verdict("text", "accepted", score=1, threshold=0),))
    assert canonical.ColumnBytes.of(to_table([record])).row(0) == canonical.record_bytes(record)


@SLOW
@given(RECORDS)
def test_dictionaries_and_back(record: Record) -> None:
    assert from_dict(as_dict(record)) == record


@pytest.mark.parametrize("change", [{"prompt": 5}, {"extra": 1}, {"objects": [{"name": "cat"}]}, {"tags": [["a"]]}])
def test_a_dictionary_that_is_no_record(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        from_dict({**as_dict(Record("attempt")), **change})


def test_record_ids() -> None:
    expected = hashlib.sha256(b"renderfarm-record-id/1\nab\n2\n").hexdigest()[:11]
    assert record_id("ab", 2) == expected
    assert record_id("ab", 1) != expected
    for image, attempt in (("", 1), ("a\n1", 1), ("ab", 0)):
        with pytest.raises(ValueError):
            record_id(image, attempt)
