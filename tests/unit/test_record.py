"""Records: Arrow and back, canonical bytes by two encoders, and the digests derived from them."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import struct
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from renderfarm.log import values as beside
from renderfarm.records import canonical
from renderfarm.records import tables as recording
from renderfarm.records.tables import VERSION_KEY, arrow_schema, as_dict, from_dict, from_table, record_id, to_table, view, view_schema
from renderfarm.schema import (
    AFTER_CREDENTIAL,
    RECORD_FIELDS,
    RECORD_VERSION,
    VALUE_FIELDS,
    Adapter,
    Box,
    Input,
    ObjectCount,
    Record,
    Subject,
    Verdict,
    record_fields,
)

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
    "settings": st.lists(st.tuples(TEXT, TEXT), max_size=3).map(tuple),
    "texts": st.lists(st.tuples(TEXT, TEXT), max_size=3).map(tuple),
    "adapters": st.lists(st.builds(Adapter, TEXT, TEXT, FLOAT), max_size=2).map(tuple),
    "inputs": st.lists(st.builds(Input, TEXT, TEXT, TEXT, st.lists(BOX, max_size=2).map(tuple)), max_size=2).map(tuple),
    "crop": st.lists(BOX, max_size=1).map(tuple),
    "subjects": st.lists(st.builds(Subject, TEXT, TEXT), max_size=2).map(tuple),
}
SALT = "0f" * 16
PLAIN_ONLY = set(record_fields(3)) - set(record_fields(4)) - set(VALUE_FIELDS)
"""Fields that no record of version 4 has."""


def _strategy(field: pa.Field) -> st.SearchStrategy[Any]:
    if field.name == "version":
        return st.just(RECORD_VERSION)
    if field.name == "salt":
        return st.just(SALT)
    if field.name in PLAIN_ONLY:
        return st.none()
    if field.name in LISTS:
        return LISTS[field.name]
    plain = INT64 if pa.types.is_integer(field.type) else FLOAT if pa.types.is_floating(field.type) else TEXT
    return plain | st.none() if field.nullable else plain


RECORDS = st.fixed_dictionaries({field.name: _strategy(field) for field in view_schema()}).map(lambda fields: Record(**fields))
SLOW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def test_the_schema_has_every_field_in_order_and_a_version() -> None:
    schema = arrow_schema()
    assert tuple(schema.names) == record_fields(RECORD_VERSION) and tuple(view_schema().names) == RECORD_FIELDS
    assert schema.metadata[VERSION_KEY] == b"4"
    assert set(record_fields(2)) - set(record_fields(1)) == {"reviewer", "reviewed_digest", "withdrawn_key"}
    assert set(record_fields(3)) - set(record_fields(2)) == {"control_image", "control_digest"}
    assert not set(record_fields(4)) & ({"salt"} | set(VALUE_FIELDS))
    assert not schema.field("kind").nullable and arrow_schema(3).field("prompt").nullable
    assert schema.field("guidance").type == pa.float64()


@SLOW
@given(st.lists(RECORDS, max_size=4))
def test_column_bytes_equal_the_plain_encoder(records: list[Record]) -> None:
    table = to_table(records)
    assert list(from_table(table)) == records
    encoded = canonical.ColumnBytes.of(recording.columns(table, RECORD_VERSION))
    plainly = canonical.ColumnBytes.of_records(records)
    assert (plainly.leaves(), plainly.claim_digests()) == (encoded.leaves(), encoded.claim_digests())
    assert [encoded.row(i) for i in range(len(encoded))] == [canonical.record_bytes(record) for record in records]
    assert encoded.claim_digests() == [canonical.claim_digest(record) for record in records]
    expected = [hashlib.sha256(b"\0" + canonical.record_bytes(record)).digest() for record in records]
    assert encoded.leaves() == expected


@SLOW
@given(st.lists(RECORDS, min_size=1, max_size=4))
def test_the_view_splits_into_columns_and_values_and_comes_back(records: list[Record]) -> None:
    table = to_table(records)
    columns, values = recording.columns(table, RECORD_VERSION), recording.values(table)
    assert list(from_table(view(columns, values))) == records
    committed = canonical.commitments(values)
    assert committed == [canonical.commitment(record) for record in records]
    assert beside.differing(values, committed) == [] and beside.differing(values, ["0" * 64, *committed[1:]]) == [0]
    sliced = table.slice(1)
    assert list(from_table(view(recording.columns(sliced, RECORD_VERSION), recording.values(sliced)))) == records[1:]
    bare = list(from_table(view(columns)))
    assert all(record.salt is None and record.prompt is None and not record.tags for record in bare)
    assert all(verdict.reason == "" for record in bare for verdict in record.verdicts)
    assert [canonical.record_bytes(record) for record in bare] == [canonical.record_bytes(record) for record in records]


@pytest.mark.parametrize("name", [*VALUE_FIELDS, "salt"])
def test_every_value_is_committed_to_and_in_no_canonical_byte(name: str) -> None:
    record = Record("attempt", salt=SALT, inputs=(Input("init", "0f", "/in/a.png"),), verdicts=(Verdict("text", "rejected", "LIYE"),))
    other: Any = {
        "seed": 7, "objects": (ObjectCount("mug", 1),), "tags": (("sku", "1"),), "texts": (("headline", "Hi"),), "salt": "1f" * 16,
    }.get(name, "other")  # fmt: skip
    inside: dict[str, Any] = {
        "input_uris": {"inputs": (Input("init", "0f", "/in/b.png"),)},
        "reasons": {"verdicts": (Verdict("text", "rejected", "LOYE"),)},
    }
    changed = dataclasses.replace(record, **inside.get(name, {name: other}))
    assert canonical.commitment(changed) != canonical.commitment(record)
    assert canonical.record_bytes(changed) == canonical.record_bytes(record)
    (digest,) = canonical.commitments(recording.values(to_table([changed])))
    assert digest == canonical.commitment(changed)


def test_a_forgotten_row_of_values_is_empty_or_named() -> None:
    records = [dataclasses.replace(Record("attempt", salt=SALT, prompt=f"mug {n}"), job=f"j{n}") for n in range(3)]
    values = recording.values(to_table(records))
    committed = canonical.commitments(values)
    gone = pa.Table.from_pylist([values.to_pylist()[0], *recording.values(to_table([Record("attempt")] * 2)).to_pylist()], values.schema)
    assert canonical.commitments(gone) == [committed[0], None, None] and beside.differing(gone, committed) == []
    saltless = pa.Table.from_pylist([*values.to_pylist()[:2], {**values.to_pylist()[2], "salt": None}], values.schema)
    assert beside.differing(saltless, committed) == [2]


@SLOW
@given(st.lists(RECORDS, min_size=3, max_size=4))
def test_column_bytes_of_a_slice_and_of_chunks(records: list[Record]) -> None:
    table = pa.concat_tables([to_table(records), to_table(records[:1])])
    sliced = canonical.ColumnBytes.of(recording.columns(table, RECORD_VERSION).slice(1))
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
    fields = dict(zip(record_fields(RECORD_VERSION), _parse(canonical.record_bytes(record)), strict=True))
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
    whole = [(canonical.record_bytes(record), canonical.values_bytes(record)) for record in (one, other)]
    assert (whole[0] == whole[1]) == to_table([one]).equals(to_table([other]))


PLAIN = functools.partial(Record, "attempt", 3)
NEIGHBOURS = [
    (PLAIN(prompt="ab", negative_prompt="c"), PLAIN(prompt="a", negative_prompt="bc")),
    (PLAIN(prompt=""), PLAIN(prompt=None)),
    (PLAIN(batch=("a", "b")), PLAIN(batch=("ab",))),
    (PLAIN(batch=("",)), PLAIN(batch=())),
    (PLAIN(tags=(("a", "b"), ("c", "d"))), PLAIN(tags=(("c", "d"), ("a", "b")))),
    (PLAIN(objects=(ObjectCount("cat", 1),)), PLAIN(tags=(("cat", "1"),))),
    (PLAIN(guidance=0.0), PLAIN(guidance=-0.0)),
    (PLAIN(adapter="x"), PLAIN(init_image="x")),
    (
        PLAIN(verdicts=(Verdict("text", "rejected", boxes=(Box(0, 0, 1, 1),)),)),
        PLAIN(verdicts=(Verdict("text", "rejected"), Verdict("text", "rejected"))),
    ),
]


@pytest.mark.parametrize(("one", "other"), NEIGHBOURS)
def test_near_misses_differ(one: Record, other: Record) -> None:
    assert canonical.record_bytes(one) != canonical.record_bytes(other)


def test_the_canonical_bytes_of_version_1_are_fixed() -> None:
    record = Record("attempt", 1, job="m", image_id="00", attempt=1, guidance=7.5, tags=(("sku", "7"),), finished_us=5)
    digest = hashlib.sha256(canonical.record_bytes(record)).hexdigest()
    assert digest == "2f9a14290dabed92defa621bd3e59403e802e3740e2036c8649b3e492764d429"
    assert canonical.ColumnBytes.of(recording.columns(to_table([record]), 1), 1).row(0) == canonical.record_bytes(record)


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
    assert set(row) == set(record_fields(1)) and set(as_dict(dataclasses.replace(record, version=3))) == set(record_fields(3))
    assert set(as_dict(dataclasses.replace(record, version=2))) - set(row) == {"reviewer", "reviewed_digest", "withdrawn_key"}
    assert from_dict(json.loads(json.dumps(row))) == record
    assert list(from_table(view(recording.columns(to_table([record]), 1)))) == [record]
    with pytest.raises(ValueError, match="not the fields of a record: reviewed_digest, reviewer, withdrawn_key"):
        from_dict({**row, "version": 2})
    with pytest.raises(ValueError, match="records of version 5; this program knows 1 to 4"):
        from_dict({**row, "version": 5})


def test_the_canonical_bytes_of_version_4_are_fixed() -> None:
    record = Record(
        "attempt",
        4,
        job="m",
        image_id="00",
        attempt=1,
        finished_us=5,
        salt=SALT,
        prompt="a mug",
        verdicts=(Verdict("text", "accepted", "why"),),
    )
    made = canonical.sealed(record)
    assert made.commitment == hashlib.sha256(canonical.values_bytes(record)).hexdigest()
    assert hashlib.sha256(canonical.record_bytes(made)).hexdigest() == "3fb593a5bd0d7a24d5b7103d904fad60a6153eaaf2c14ecb9713e7c9246d353a"


def test_the_claim_leaves_out_only_what_follows_the_credential() -> None:
    record = canonical.sealed(Record("attempt", image_id="00", attempt=1, prompt="a mug", salt=SALT))
    after = {name: 1 if name == "file_bytes" else "x" for name in AFTER_CREDENTIAL}
    finished = dataclasses.replace(record, **after)
    other = canonical.sealed(dataclasses.replace(record, prompt="a cup"))
    assert canonical.claim_digest(finished) == canonical.claim_digest(record)
    assert canonical.record_bytes(finished) != canonical.record_bytes(record)
    assert other.claim_digest != record.claim_digest


@pytest.mark.parametrize(
    ("record", "word"),
    [
        (Record("attempt", guidance=float("nan")), "NaN"),
        (Record("attempt", verdicts=(Verdict("text", "rejected", score=float("nan")),)), "NaN"),
        (Record("attempt", seed=2**63), "seed"),
        (Record("attempt", prompt="\ud800"), "prompt"),
        (Record("attempt", job=None), "job"),  # type: ignore[arg-type]
        (Record("attempt", prompt=7), "prompt"),  # type: ignore[arg-type]
    ],
)
def test_what_a_record_cannot_hold(record: Record, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        to_table([record])


def test_an_integer_guidance_hashes_as_the_float_that_is_stored() -> None:
    record = Record("attempt", guidance=7, verdicts=(Verdict("text", "accepted", score=1, threshold=0),))
    assert canonical.ColumnBytes.of(recording.columns(to_table([record]), 4)).row(0) == canonical.record_bytes(record)


@SLOW
@given(RECORDS)
def test_dictionaries_and_back(record: Record) -> None:
    assert from_dict(as_dict(record)) == record
    forgotten = next(from_table(view(recording.columns(to_table([record]), RECORD_VERSION))))
    assert from_dict(as_dict(forgotten)) == forgotten


@pytest.mark.parametrize("change", [{"prompt": 5}, {"extra": 1}, {"job": 5}, {"objects": [{"name": "cat"}]}, {"tags": [["a"]]}])
def test_a_dictionary_that_is_no_record(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        from_dict({**as_dict(Record("attempt", salt=SALT)), **change})


def test_record_ids() -> None:
    expected = hashlib.sha256(b"renderfarm-record-id/1\nab\n2\n").hexdigest()[:11]
    assert record_id("ab", 2) == expected
    assert record_id("ab", 1) != expected
    for image, attempt in (("", 1), ("a\n1", 1), ("ab", 0)):
        with pytest.raises(ValueError):
            record_id(image, attempt)
