"""Records as Arrow tables, and the two names that are derived from a record.

In: `schema.Record` values. Out: Arrow tables with one readable column per field, in the order of the fields. The bytes
that are hashed are made in `canonical`, from these same columns; nothing else in a part stands in for them. Reads and
writes no file.
"""

from __future__ import annotations

import dataclasses
import hashlib
import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from renderfarm.log.canonical import claim_digest
from renderfarm.schema import RECORD_FIELDS, RECORD_VERSION, Box, ObjectCount, Record, Verdict, record_fields

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["arrow_schema", "as_dict", "claim_digest", "from_dict", "from_table", "record_id", "to_table", "upgraded"]

VERSION_KEY = b"renderfarm.record_version"
"""Key of the schema metadata that names `schema.RECORD_VERSION`."""

RECORD_ID_HEX = 11
"""Hex digits of a record id: the 44 bits that the watermark carries."""

_LISTS = ("objects", "tags", "batch", "verdicts")


def record_id(image_id: str, attempt: int) -> str:
    """The watermark's payload: the first 11 hex digits (44 bits) of a SHA-256 over image and attempt, under a name of
    its own.

    Raises: ValueError when `image_id` is empty or holds a line break, or `attempt` is below 1.
    """
    if not image_id or "\n" in image_id:
        raise ValueError(f"not an image id: {image_id!r}")
    if attempt < 1:
        raise ValueError(f"attempts count from 1, not {attempt}")
    text = f"renderfarm-record-id/1\n{image_id}\n{attempt}\n"
    return hashlib.sha256(text.encode()).hexdigest()[:RECORD_ID_HEX]


@cache
def arrow_schema(version: int = RECORD_VERSION) -> pa.Schema:
    """The columns of a part: one per field of a `Record` of this version, same names, same order; the version in the metadata.

    Text is utf8, whole numbers int64, others float64. Lists are never null, and neither is anything inside `objects`,
    `tags`, `batch` and `verdicts` but a verdict's score and threshold.
    """
    import pyarrow as pa

    text, number = pa.string(), pa.int64()
    box = pa.struct([pa.field(name, number, nullable=False) for name in ("x0", "y0", "x1", "y1")])
    lists: dict[str, pa.DataType] = {
        "objects": _list(pa.struct([pa.field("name", text, nullable=False), pa.field("count", number, nullable=False)])),
        "tags": pa.map_(text, pa.field("value", text, nullable=False)),
        "batch": _list(text),
        "verdicts": _list(
            pa.struct(
                [
                    pa.field("check", text, nullable=False),
                    pa.field("outcome", text, nullable=False),
                    pa.field("reason", text, nullable=False),
                    pa.field("score", pa.float64()),
                    pa.field("threshold", pa.float64()),
                    pa.field("boxes", _list(box), nullable=False),
                ]
            )
        ),
    }
    hints = typing.get_type_hints(Record)
    names = record_fields(version)
    fields = [pa.field(name, lists[name], nullable=False) if name in lists else _plain_field(name, hints[name]) for name in names]
    return pa.schema(fields, metadata={VERSION_KEY: str(version).encode()})


def upgraded(table: pa.Table, names: Iterable[str] = RECORD_FIELDS) -> pa.Table:
    """These columns of a table of any version, with nulls for the fields that its version did not have."""
    import pyarrow as pa

    newest = arrow_schema()
    present = set(table.schema.names)
    wanted = [newest.field(name) for name in names]
    columns = [table.column(f.name) if f.name in present else pa.nulls(table.num_rows, f.type) for f in wanted]
    return pa.Table.from_arrays(columns, schema=pa.schema(wanted, metadata=newest.metadata))


def _list(element: pa.DataType) -> pa.DataType:
    """A list whose elements are never null; `element` is the name that the Parquet specification gives them."""
    import pyarrow as pa

    return pa.list_(pa.field("element", element, nullable=False))


def _plain_field(name: str, hint: Any) -> pa.Field:
    """The column of a field that is text or a number, nullable where the type says `| None`."""
    import pyarrow as pa

    options = typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)
    nullable = type(None) in options
    (kind,) = (option for option in options if option is not type(None))
    arrow = pa.int64() if kind is int else pa.float64() if kind is float else pa.string()
    return pa.field(name, arrow, nullable=nullable)


def to_table(records: Sequence[Record], version: int = RECORD_VERSION) -> pa.Table:
    """`arrow_schema(version)` rows in the given order.

    Raises: ValueError when a field holds what the schema cannot: NaN, an integer beyond 64 bits, text that is not valid
    Unicode, a null where none may be; or a record is of another version.
    """
    import pyarrow as pa

    for record in records:
        if record.version != version:
            raise ValueError(f"a record of version {record.version} among those of version {version}")
    schema = arrow_schema(version)
    columns = []
    for field in schema:
        values = [_plain(field.name, getattr(record, field.name)) for record in records]
        if not field.nullable and any(value is None for value in values):
            raise ValueError(f"{field.name} may not be null")
        try:
            columns.append(pa.array(values, type=field.type))
        except (pa.ArrowException, UnicodeEncodeError, OverflowError) as error:
            raise ValueError(f"{field.name}: {error}") from error
    table = pa.Table.from_arrays(columns, schema=schema)
    _refuse_nan(records)
    return table


def _plain(name: str, value: Any) -> Any:
    """A field's value in the form that pyarrow takes for nested columns."""
    if name == "objects":
        return [{"name": wanted.name, "count": wanted.count} for wanted in value]
    if name == "verdicts":
        return [_plain_verdict(verdict) for verdict in value]
    return list(value) if name in _LISTS else value


def _plain_verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "check": verdict.check,
        "outcome": verdict.outcome,
        "reason": verdict.reason,
        "score": verdict.score,
        "threshold": verdict.threshold,
        "boxes": [{"x0": box.x0, "y0": box.y0, "x1": box.x1, "y1": box.y1} for box in verdict.boxes],
    }


def _refuse_nan(records: Iterable[Record]) -> None:
    """NaN has many bit patterns and equals nothing, so it is no value for evidence."""
    for record in records:
        numbers = [record.guidance, record.strength]
        numbers += [n for verdict in record.verdicts for n in (verdict.score, verdict.threshold)]
        if any(n is not None and n != n for n in numbers):
            raise ValueError(f"NaN in the record of image {record.image_id}")


def from_table(table: pa.Table | pa.RecordBatch) -> Iterator[Record]:
    """The rows of a table or batch of `arrow_schema()` as records, in order.

    Raises: ValueError when a column is missing or a nested value is malformed.
    """
    missing = [name for name in RECORD_FIELDS if name not in table.schema.names]
    if missing:
        raise ValueError(f"columns are missing: {', '.join(missing)}")
    columns = [table.column(name).to_pylist() for name in RECORD_FIELDS]
    for values in zip(*columns, strict=True):
        row = dict(zip(RECORD_FIELDS, values, strict=True))
        row["objects"] = tuple(ObjectCount(item["name"], item["count"]) for item in row["objects"])
        row["tags"] = tuple((key, value) for key, value in row["tags"])
        row["batch"] = tuple(row["batch"])
        row["verdicts"] = tuple(_verdict(item) for item in row["verdicts"])
        yield Record(**row)


def _verdict(item: dict[str, Any]) -> Verdict:
    boxes = tuple(Box(box["x0"], box["y0"], box["x1"], box["y1"]) for box in item["boxes"])
    return Verdict(item["check"], item["outcome"], item["reason"], item["score"], item["threshold"], boxes)


def as_dict(record: Record) -> dict[str, Any]:
    """A record as plain JSON values: lists for tuples, an object for tags and each verdict; the fields of its version,
    null ones too."""
    values = dataclasses.asdict(record)
    row = {name: values[name] for name in record_fields(record.version)}
    row["tags"] = [list(pair) for pair in record.tags]
    return row


def from_dict(row: dict[str, Any]) -> Record:
    """`as_dict` backwards.

    Raises: ValueError when a field is missing, unknown or of another type.
    """
    version = row.get("version")
    names = record_fields(version if isinstance(version, int) else RECORD_VERSION)
    if set(row) != set(names):
        wrong = sorted(set(row) ^ set(names))
        raise ValueError(f"not the fields of a record: {', '.join(map(str, wrong[:5]))}")
    try:
        fields = dict(row)
        fields["objects"] = tuple(ObjectCount(item["name"], item["count"]) for item in row["objects"])
        fields["tags"] = tuple((key, value) for key, value in row["tags"])
        fields["batch"] = tuple(row["batch"])
        fields["verdicts"] = tuple(_verdict(item) for item in row["verdicts"])
        record = Record(**fields)
        to_table([record], record.version)
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"not a record: {error}") from error
    return record
