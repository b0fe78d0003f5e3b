"""Parts by hostile hands: whatever the bytes, reading ends soon, within memory, with a part or with `PartDamaged`."""

from __future__ import annotations

import dataclasses
import io
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from renderfarm.log import decoded_size as bounds
from renderfarm.log import guarded, parts
from renderfarm.log.parquet_footer import _USUAL, Chunk, column_chunks
from renderfarm.log.parts import PartDamaged
from renderfarm.log.writer import LogWriter
from renderfarm.output import part_key
from renderfarm.records.tables import arrow_schema, from_table, to_table
from renderfarm.records.tables import columns as columns_of
from renderfarm.schema import Record, Verdict
from renderfarm.storage import LocalStorage
from tests.unit.test_writer import KEY, SIGNER, attempt, plan


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    storage = LocalStorage(tmp_path_factory.mktemp("log"), create=True)
    LogWriter.open(storage, "mugs", SIGNER).append([plan(5), attempt(1), attempt(2, "rejected")])
    return storage.get(part_key(0))


def _judge(data: bytes) -> list[Record] | None:
    """The records of a part that verifies; None for one that is refused."""
    try:
        part = parts.read_part(data, 0)
        parts.check_head(part.footer, {SIGNER.name: KEY.public_key()})
        parts.check_rows(part)
        return list(from_table(part.table))
    except PartDamaged as damage:
        assert damage.reason and damage.key == part_key(0)
        return None


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_flips_anywhere_are_refused_or_change_nothing(good: bytes, data: st.DataObject) -> None:
    edited = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        edited[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    found = _judge(bytes(edited))
    assert found is None or found == _judge(good)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 300))
def test_noise_is_refused(good: bytes, noise: bytes, cut: int) -> None:
    assert _judge(noise) is None
    assert _judge(b"PAR1" + noise + b"PAR1") is None
    assert _judge(good[:cut] + noise + good[-300:]) is None
    assert _judge(good[: len(good) - cut] + noise) in (None, _judge(good))


def _repeated(name: str, value: object, rows: int, footer: dict[bytes, bytes]) -> bytes:
    """A part whose column stores one large value once, and names it in every row."""
    one = columns_of(to_table([dataclasses.replace(attempt(1), **{name: value})]), 4)
    columns, fields = [], []
    for field in arrow_schema():
        array = one.column(field.name).combine_chunks()
        if field.name == name:
            array = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), array)
        else:
            array = array.take(pa.array(np.zeros(rows, np.int64)))
        columns.append(array)
        fields.append(pa.field(field.name, array.type, field.nullable))
    table, sink = pa.Table.from_arrays(columns, schema=pa.schema(fields)), pa.BufferOutputStream()
    options = {"compression": "zstd", "store_schema": False, "write_statistics": False}
    with pq.ParquetWriter(sink, table.schema, dictionary_pagesize_limit=64 << 20, **options) as file:
        file.write_table(table)
        file.add_key_value_metadata(footer)
    return bytes(sink.getvalue())


def test_a_small_file_that_stands_for_gigabytes_is_not_decoded(good: bytes) -> None:
    footer = dict(pq.read_metadata(pa.BufferReader(good)).metadata)
    bomb = _repeated("device", "x" * (4 << 20), 20_000, footer)
    assert len(bomb) < 100_000, "and it is 80 GB of text"
    begin = time.monotonic()
    with pytest.raises(PartDamaged, match="more than 1024 MiB when decoded"):
        parts.read_part(bomb, 0)
    with pytest.raises(PartDamaged, match="more than 1024 MiB when decoded"):
        parts.read_columns(bomb, 0, ["image_id"])
    assert time.monotonic() - begin < 20


def test_many_rows_of_ordinary_length_are_decoded(good: bytes) -> None:
    footer = dict(pq.read_metadata(pa.BufferReader(good)).metadata)
    table = columns_of(to_table([dataclasses.replace(attempt(1), device="word " * 2000)] * 4000), 4)
    assert parts.read_part(guarded.write(table, footer), 0).table.num_rows == 4000


def test_more_rows_than_a_part_may_have(good: bytes) -> None:
    footer = dict(pq.read_metadata(pa.BufferReader(good)).metadata)
    table = columns_of(to_table([attempt(1)]), 4).take(pa.array(np.zeros(parts.PART_ROWS_MAX + 1, np.int64)))
    with pytest.raises(PartDamaged, match="100001 rows, outside 1 to 100000"):
        parts.read_part(guarded.write(table, footer), 0)


def test_more_bytes_than_a_part_may_have() -> None:
    with pytest.raises(PartDamaged, match="more than 256 MiB"):
        parts.read_footer(bytes(parts.PART_BYTES_MAX + 1), 0)


def test_nulls_where_none_may_be(good: bytes) -> None:
    footer = dict(pq.read_metadata(pa.BufferReader(good)).metadata)
    table = columns_of(to_table([attempt(1)]), 4)
    for name in ("kind", "batch", "verdicts"):
        place = table.schema.get_field_index(name)
        nulls = pa.nulls(1, table.schema.field(name).type)
        edited = table.set_column(place, pa.field(name, nulls.type), nulls)
        with pytest.raises(PartDamaged, match="columns are not those"):
            parts.read_part(guarded.write(edited, footer), 0)


def test_a_footer_that_makes_arrow_abort_is_refused(good: bytes) -> None:
    """One level too many in a histogram of the size statistics: Arrow's accessor of column chunks ends the process on it."""
    length = int.from_bytes(good[-8:-4], "little")
    refused = 0
    for place in range(len(good) - 8 - length, len(good) - 8):
        if good[place] & 15 == 6 and good[place] >> 4 in (2, 3):  # perhaps the head of a list of 2 or 3 numbers
            data = bytearray(good)
            data[place] ^= 0x10
            try:
                parts.read_footer(bytes(data), 0)
            except PartDamaged:
                refused += 1
    assert refused > 20


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_what_the_walk_says_of_a_footer_is_what_arrow_says(data: st.DataObject) -> None:
    rows = data.draw(st.integers(1, 30))
    table = to_table([attempt(n) for n in range(rows)])
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=data.draw(st.integers(1, 30)), write_statistics=data.draw(st.booleans()))
    metadata = pq.read_metadata(io.BytesIO(sink.getvalue()))
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    expected = [
        (c.path_in_schema, c.num_values, c.total_uncompressed_size, c.has_dictionary_page, c.physical_type == "BYTE_ARRAY")
        for c in (group.column(i) for group in groups for i in range(group.num_columns))
    ]
    found = column_chunks(sink.getvalue())
    assert [(c.path, c.values, c.size, c.dictionary, c.byte_array) for c in found] == expected


def _walked(data: bytes, shortcuts: bool) -> list[Chunk] | str:
    try:
        return column_chunks(data, shortcuts)
    except ValueError as error:
        return str(error)


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_the_shortcuts_through_a_footer_lead_where_the_long_way_does(good: bytes, data: st.DataObject) -> None:
    """Flips, cuts and repetitions within the footer; one flip in a column chunk leaves the rest of them usual."""
    length = int.from_bytes(good[-8:-4], "little")
    footer = bytearray(good[-8 - length : -8])
    for _ in range(data.draw(st.integers(0, 2))):
        place = data.draw(st.integers(0, len(footer) - 1))
        size = data.draw(st.integers(0, 3))
        footer[place : place + size] = data.draw(st.binary(max_size=3))
    edited = good[: -8 - length] + bytes(footer) + len(footer).to_bytes(4, "little") + b"PAR1"
    assert _walked(edited, True) == _walked(edited, False)


def test_the_shortcuts_are_taken_for_what_the_writer_writes(good: bytes) -> None:
    start = good.index(b"\x26\x00\x1c", len(good) - 8 - int.from_bytes(good[-8:-4], "little"))
    for chunk in column_chunks(good):
        usual = _USUAL.match(good, start)
        assert usual is not None and usual[2].endswith(chunk.path.rpartition(".")[2].encode())
        start = usual.end()
    assert len(good) - 8 > start


def test_nested_texts_are_measured_over_several_row_groups() -> None:
    """A large honest part has more than one: each brings dictionaries of its own, which Arrow does not join."""
    record = dataclasses.replace(attempt(1, "rejected"), verdicts=(Verdict("text", "rejected", "no legible text", 0.1, 0.9),) * 3)
    file = io.BytesIO()
    pq.write_table(to_table([record] * 4), file, row_group_size=2)
    assert bounds._measured(file.getvalue(), {"verdicts.list.element.reason"}) >= 4 * 3 * len("no legible text")
