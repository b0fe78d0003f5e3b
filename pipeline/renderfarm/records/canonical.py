"""Canonical bytes of records: what is hashed, independent of Parquet, of Arrow and of this program's version.

The format, for another implementation:

    record  = "renderfarm-record/" VERSION LF, then every field of `schema.record_fields(VERSION)` in order
    field   = FFFFFFFF                            when the value is null
            | length (4 bytes, big endian), then that many bytes
    bytes of a text      its UTF-8
    bytes of an integer  8 bytes, big endian, two's complement
    bytes of a float     8 bytes, big endian, IEEE 754 binary64
    bytes of a list      its elements in order, each written as a field; an element with several members (an object
                         wanted, a tag, a verdict, a box) is its members in order, each written as a field

The number of fields is fixed and each field tells its length, so two different records never give the same bytes. The
*claim* of a record is the beginning of its bytes, up to and not including `claim_digest`; `claim_digest` is the SHA-256
of the claim. A record's leaf in the row tree is RFC 6962's: SHA-256(00 || bytes).

What a record of version 4 or later only commits to has bytes of its own, and `commitment` is their SHA-256 in hex:

    values  = "renderfarm-values/1" LF, then the salt and every field of `schema.VALUE_FIELDS` in order, each as a field

Two encoders: `record_bytes` and `values_bytes` write one record, plainly; `ColumnBytes` writes a whole table column by column (a property
test holds them equal). Pure; reads and writes no file.
"""

from __future__ import annotations

import dataclasses
import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from renderfarm.records.column_bytes import NULL, encode, extend, offsets_of, scalar, sizes_of, spread
from renderfarm.schema import (
    AFTER_CREDENTIAL,
    RECORD_FIELDS,
    RECORD_VERSION,
    VALUE_FIELDS,
    Adapter,
    Box,
    ObjectCount,
    Record,
    Subject,
    Verdict,
    record_fields,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from renderfarm.records.column_bytes import Piece

_FLOATS = ("guidance", "strength")
VALUES_MAGIC = b"renderfarm-values/1\n"

if RECORD_FIELDS[-len(AFTER_CREDENTIAL) :] != AFTER_CREDENTIAL:
    raise TypeError("the fields after the credential must be the last ones of a record, in the same order")


def magic(version: int) -> bytes:
    """How a record of this version begins."""
    return f"renderfarm-record/{version}\n".encode()


def record_bytes(record: Record) -> bytes:
    """The canonical bytes of one record, by its own version.

    Raises: ValueError for an unknown version, or when an integer does not fit 64 bits or a text is not valid Unicode.
    """
    return claim_bytes(record) + b"".join(_named(record, name) for name in AFTER_CREDENTIAL)


def claim_bytes(record: Record) -> bytes:
    """The beginning of `record_bytes`, without the fields that depend on the credential."""
    claimed = record_fields(record.version)[: -len(AFTER_CREDENTIAL)]
    return magic(record.version) + b"".join(_named(record, name) for name in claimed)


def claim_digest(record: Record) -> str:
    """SHA-256 of the claim, 64 hex digits: what the credential carries and `Record.claim_digest` repeats."""
    return hashlib.sha256(claim_bytes(record)).hexdigest()


def values_bytes(record: Record) -> bytes:
    """What `commitment` is the hash of. Raises: ValueError as `record_bytes`, and for a record without a salt."""
    if record.salt is None:
        raise ValueError("its values are not there")
    inside = {
        "input_uris": tuple(item.uri for item in record.inputs) if all(item.uri is not None for item in record.inputs) else (),
        "reasons": tuple(verdict.reason for verdict in record.verdicts),
    }
    fields = (inside[name] if name in inside else getattr(record, name) for name in VALUE_FIELDS)
    return VALUES_MAGIC + _field(record.salt) + b"".join(map(_field, fields))


def commitment(record: Record) -> str:
    """The salted hash that stands for a record's values, 64 hex digits. Raises: ValueError as `values_bytes`."""
    return hashlib.sha256(values_bytes(record)).hexdigest()


def sealed(record: Record) -> Record:
    """The record with what follows from its other fields: the commitment, where it has values to commit to, and the claim digest."""
    if record.version >= 4 and record.salt is not None:
        record = dataclasses.replace(record, commitment=commitment(record))
    return dataclasses.replace(record, claim_digest=claim_digest(record))


def _named(record: Record, name: str) -> bytes:
    value = getattr(record, name)
    if record.version >= 4 and name == "verdicts":
        value = tuple((v.check, v.outcome, _float(v.score), _float(v.threshold), v.boxes) for v in value)
    elif name == "inputs":
        value = tuple((item.role, item.digest, item.boxes) for item in value)
    return _field(_float(value) if name in _FLOATS else value)


def _field(value: Any) -> bytes:
    if value is None:
        return NULL
    body = _body(value)
    return struct.pack(">I", len(body)) + body


def _body(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, float):
        return struct.pack(">d", value)
    if isinstance(value, int):
        try:
            return struct.pack(">q", value)
        except struct.error as error:
            raise ValueError(f"{value} does not fit 64 bits") from error
    if isinstance(value, tuple):
        return b"".join(_element(item) for item in value)
    raise ValueError(f"no canonical bytes for a {type(value).__name__}")


def _element(item: Any) -> bytes:
    if isinstance(item, ObjectCount):
        return _field(item.name) + _field(item.count)
    if isinstance(item, Verdict):
        members = (item.check, item.outcome, item.reason, _float(item.score), _float(item.threshold), item.boxes)
        return b"".join(map(_field, members))
    if isinstance(item, Adapter):
        return _field(item.name) + _field(item.digest) + _field(float(item.weight))
    if isinstance(item, Subject):
        return _field(item.image_id) + _field(item.digest)
    if isinstance(item, Box):
        return b"".join(map(_field, (item.x0, item.y0, item.x1, item.y1)))
    if isinstance(item, tuple):
        return b"".join(map(_field, item))
    return _field(item)


def _float(value: float | None) -> float | None:
    return None if value is None else float(value)


@dataclass(frozen=True, slots=True)
class ColumnBytes:
    """The canonical bytes of the n rows of one table, end to end in one buffer.

    `data`: uint8, each row led by the 00 of RFC 6962's leaf hash, so that a leaf is one hash of one slice. `starts`:
    int64 (n + 1,), where each row begins. `claim_ends`: int64 (n,), where each row's claim ends.
    """

    data: memoryview
    starts: np.ndarray
    claim_ends: np.ndarray

    @classmethod
    def of(cls, table: pa.Table | pa.RecordBatch, version: int = RECORD_VERSION) -> ColumnBytes:
        """Encodes the rows of a table whose columns are those of `tables.arrow_schema(version)`.

        Raises: ValueError when the bytes of the rows together pass 2 GB, or a column has an unexpected type.
        """
        rows = table.num_rows
        tail_sizes = np.zeros(rows, np.int64)
        data, starts = _joined(table, b"\x00" + magic(version), record_fields(version), AFTER_CREDENTIAL, tail_sizes)
        return cls(data, starts, starts[1:] - tail_sizes)

    @classmethod
    def of_records(cls, records: Sequence[Record]) -> ColumnBytes:
        """The same for records: a handful of them takes less time this way. Raises: ValueError as `record_bytes`."""
        claims = [claim_bytes(record) for record in records]
        tails = [b"".join(_named(record, name) for name in AFTER_CREDENTIAL) for record in records]
        sizes = np.array([1 + len(claim) + len(tail) for claim, tail in zip(claims, tails, strict=True)], np.int64)
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
        data = b"".join(b"\x00" + claim + tail for claim, tail in zip(claims, tails, strict=True))
        return cls(memoryview(data), starts, starts[:-1] + [1 + len(claim) for claim in claims])

    def __len__(self) -> int:
        return len(self.claim_ends)

    def leaves(self) -> list[bytes]:
        """The rows' leaf hashes for the row tree, 32 bytes each."""
        data, sha256 = self.data, hashlib.sha256
        return [sha256(data[start:end]).digest() for start, end in pairwise(self.starts.tolist())]

    def claim_digests(self, rows: Sequence[int] | None = None) -> list[str]:
        """SHA-256 of the claims of all rows, or of these, 64 hex digits each."""
        data, sha256 = self.data, hashlib.sha256
        starts, ends = self.starts.tolist(), self.claim_ends.tolist()
        chosen = range(len(self)) if rows is None else rows
        return [sha256(data[starts[row] + 1 : ends[row]]).hexdigest() for row in chosen]

    def row(self, row: int) -> bytes:
        """The canonical bytes of one row, as `record_bytes` gives them."""
        return bytes(self.data[int(self.starts[row]) + 1 : int(self.starts[row + 1])])


def commitments(values: pa.Table) -> list[str | None]:
    """What a file's rows of values are committed to by, 64 hex digits each; None for a row that was forgotten.

    Raises: ValueError as `ColumnBytes.of`.
    """
    data, starts = _joined(values, VALUES_MAGIC, ("salt", *VALUE_FIELDS))
    there = values.column("salt").is_valid().to_pylist()
    spans = zip(there, pairwise(starts.tolist()), strict=True)
    return [hashlib.sha256(data[start:end]).hexdigest() if valid else None for valid, (start, end) in spans]


def _joined(
    table: pa.Table | pa.RecordBatch, head: bytes, names: Sequence[str], tail: Sequence[str] = (), tail_sizes: np.ndarray | None = None
) -> tuple[memoryview, np.ndarray]:
    """Each row's `head` and fields, end to end, and where each row begins, int64 (n + 1,). Adds to `tail_sizes` what `tail` takes of each.

    Raises: ValueError when the bytes of the rows together pass 2 GB, or a column has an unexpected type.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    rows = table.num_rows
    if rows == 0:
        return memoryview(b""), np.zeros(1, np.int64)
    pieces: list[Piece] = [scalar(head)]
    for name in names:
        column = table.column(name)
        array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        encoded = encode(array)
        if name in tail and tail_sizes is not None:
            for piece in encoded:
                tail_sizes += sizes_of(piece)
        extend(pieces, encoded)
    try:
        options = pc.JoinOptions(null_handling="replace", null_replacement="")
        joined = pc.binary_join_element_wise(*spread(pieces, rows), scalar(b""), options=options)
    except pa.ArrowException as error:
        raise ValueError(f"the rows cannot be encoded: {error}") from error
    return memoryview(joined.buffers()[2]), offsets_of(joined)
