"""Records as Arrow tables, and the two names that are derived from a record.

Three shapes of one thing, each with one readable column per field:

    the view      every field of `schema.Record`, whatever version the record is of: what the program works with
    the columns   what a part holds and its canonical bytes cover, by version: `columns(view, version)`
    the values    what records of version 4 only commit to, and keeps beside the log: `values(view)`

The bytes that are hashed are made in `canonical` from the columns and the values; nothing else stands in for them. Reads and writes no
file.
"""

from __future__ import annotations

import dataclasses
import hashlib
import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from renderfarm.records.canonical import claim_digest
from renderfarm.records.nested import as_one, empty, member_of, with_member, without_member
from renderfarm.schema import (
    RECORD_FIELDS,
    RECORD_VERSION,
    REVIEW,
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

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "arrow_schema",
    "as_dict",
    "claim_digest",
    "columns",
    "from_dict",
    "from_table",
    "record_id",
    "review_rows",
    "to_table",
    "values",
    "values_schema",
    "view",
    "view_schema",
]

VERSION_KEY = b"renderfarm.record_version"
"""Key of the schema metadata that names the version of a part's records."""

RECORD_ID_HEX = 11
"""Hex digits of a record id: the 44 bits that the watermark carries."""

OF_VALUES = ("salt", *VALUE_FIELDS)
"""The columns of a file of values."""
INSIDE = {"reasons": "verdicts", "input_uris": "inputs"}
"""Values that the view holds inside another list."""


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
def _lists(version: int | None) -> dict[str, pa.DataType]:
    """The types of the fields that are lists. version None: of the view, which has what the values hold inside others."""
    import pyarrow as pa

    text, number, real = pa.string(), pa.int64(), pa.float64()
    whole, salted = version is None, version is not None and version >= 4
    boxes = _list(_struct(x0=number, y0=number, x1=number, y1=number))
    verdict = [pa.field("check", text, nullable=False), pa.field("outcome", text, nullable=False)]
    verdict += [] if salted else [pa.field("reason", text, nullable=False)]
    verdict += [pa.field("score", real), pa.field("threshold", real), pa.field("boxes", boxes, nullable=False)]
    given = [pa.field("role", text, nullable=False), pa.field("digest", text, nullable=False)]
    given += [pa.field("uri", text)] if whole else []
    given += [pa.field("boxes", boxes, nullable=False)]
    pairs = _list(_struct(name=text, value=text))
    return {
        "objects": _list(_struct(name=text, count=number)),
        "tags": pa.map_(text, pa.field("value", text, nullable=False)),
        "batch": _list(text),
        "verdicts": _list(pa.struct(verdict)),
        "settings": pairs,
        "texts": pairs,
        "adapters": _list(_struct(name=text, digest=text, weight=real)),
        "inputs": _list(pa.struct(given)),
        "crop": boxes,
        "subjects": _list(_struct(image_id=text, digest=text)),
        "input_uris": _list(text),
        "reasons": _list(text),
    }


@cache
def arrow_schema(version: int = RECORD_VERSION) -> pa.Schema:
    """The columns of a part: one per field that the canonical bytes cover, same names, same order; the version in the metadata.

    Text is utf8, whole numbers int64, others float64. Lists are never null, and neither is anything inside them but a verdict's score and
    threshold.
    """
    return _schema(record_fields(version), version, {VERSION_KEY: str(version).encode()})


@cache
def view_schema() -> pa.Schema:
    """Every field of a record, of any version: what the program works with. An input's uri may be null, too."""
    return _schema(RECORD_FIELDS, None, {VERSION_KEY: str(RECORD_VERSION).encode()})


@cache
def values_schema() -> pa.Schema:
    """The columns of a file of values: the salt, then what it salts. A row that was forgotten has nulls and empty lists."""
    return _schema(OF_VALUES, RECORD_VERSION, None)


def _schema(names: Iterable[str], version: int | None, metadata: dict[bytes, bytes] | None) -> pa.Schema:
    import pyarrow as pa

    lists, hints = _lists(version), typing.get_type_hints(Record)
    fields = [pa.field(name, lists[name], nullable=False) if name in lists else _plain_field(name, hints[name]) for name in names]
    return pa.schema(fields, metadata=metadata)


def _struct(**members: pa.DataType) -> pa.DataType:
    """A struct whose members are never null."""
    import pyarrow as pa

    return pa.struct([pa.field(name, kind, nullable=False) for name, kind in members.items()])


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


def view(table: pa.Table, values: pa.Table | None = None, names: Iterable[str] = RECORD_FIELDS) -> pa.Table:
    """These columns of the view, from a part's columns of any version and the values beside it, both with the same rows.

    What a version did not have, and what was forgotten, is null, or an empty list; a reason is then "".
    """
    import pyarrow as pa

    whole = view_schema()
    wanted = [whole.field(name) for name in names]
    given = {name: table.column(name) for name in table.schema.names}
    if values is not None:
        given |= {name: values.column(name) for name in values.schema.names}
    for inside, holder in INSIDE.items():
        if holder in given and given[holder].type != whole.field(holder).type:
            given[holder] = with_member(given[holder], given.get(inside), whole.field(holder).type)
    made = [given[f.name] if f.name in given else empty(f, table.num_rows) for f in wanted]
    return pa.Table.from_arrays(made, schema=pa.schema(wanted, metadata=whole.metadata))


def columns(table: pa.Table, version: int) -> pa.Table:
    """What a part of this version holds of a view's rows."""
    import pyarrow as pa

    schema = arrow_schema(version)
    made = [without_member(as_one(table.column(f.name)), f.type) if f.name in INSIDE.values() else table.column(f.name) for f in schema]
    return pa.Table.from_arrays(made, schema=schema)


def values(table: pa.Table) -> pa.Table:
    """What lies beside a part of version 4 or later, of a view's rows."""
    import pyarrow as pa

    schema = values_schema()
    made = [member_of(as_one(table.column(INSIDE[f.name])), f) if f.name in INSIDE else table.column(f.name) for f in schema]
    return pa.Table.from_arrays(made, schema=schema)


def to_table(records: Sequence[Record]) -> pa.Table:
    """The view of these records, in the given order.

    Raises: ValueError when a field holds what the schema cannot: NaN, an integer beyond 64 bits, text that is not valid
    Unicode, a null where none may be.
    """
    import pyarrow as pa

    schema = view_schema()
    made = []
    for field in schema:
        given = [_plain(field.name, getattr(record, field.name)) for record in records]
        if not field.nullable and any(value is None for value in given):
            raise ValueError(f"{field.name} may not be null")
        try:
            made.append(pa.array(given, type=field.type))
        except (pa.ArrowException, UnicodeEncodeError, OverflowError) as error:
            raise ValueError(f"{field.name}: {error}") from error
    table = pa.Table.from_arrays(made, schema=schema)
    _refuse_nan(records)
    return table


def _plain(name: str, value: Any) -> Any:
    """A field's value in the form that pyarrow takes for nested columns."""
    if isinstance(value, tuple):
        if name in ("settings", "texts"):
            return [{"name": first, "value": second} for first, second in value]
        return [_plain_struct(item) for item in value]
    return value


def _plain_struct(item: Any) -> Any:
    """A dataclass as a dict, its boxes too; `dataclasses.asdict` copies deeply and takes ten times as long."""
    if not dataclasses.is_dataclass(item):
        return item
    made = {field: getattr(item, field) for field in item.__dataclass_fields__}
    if "boxes" in made:
        made["boxes"] = [_plain_struct(box) for box in made["boxes"]]
    return made


def _refuse_nan(records: Iterable[Record]) -> None:
    """NaN has many bit patterns and equals nothing, so it is no value for evidence."""
    for record in records:
        numbers = [record.guidance, record.strength, *(adapter.weight for adapter in record.adapters)]
        numbers += [n for verdict in record.verdicts for n in (verdict.score, verdict.threshold)]
        if any(n is not None and n != n for n in numbers):
            raise ValueError(f"NaN in the record of image {record.image_id}")


def from_table(table: pa.Table | pa.RecordBatch) -> Iterator[Record]:
    """The rows of a view as records, in order.

    Raises: ValueError when a column is missing or a nested value is malformed.
    """
    missing = [name for name in RECORD_FIELDS if name not in table.schema.names]
    if missing:
        raise ValueError(f"columns are missing: {', '.join(missing)}")
    lists = [table.column(name).to_pylist() for name in RECORD_FIELDS]
    for row in zip(*lists, strict=True):
        yield _record(dict(zip(RECORD_FIELDS, row, strict=True)))


def _record(row: dict[str, Any]) -> Record:
    """From plain values, as `to_pylist` and JSON give them. Raises: TypeError, KeyError or AttributeError for what is malformed."""
    made = dict(row)
    for name, build in _BUILT.items():
        if name in made:
            made[name] = tuple(build(item) for item in row[name])
    return Record(**made)


_BUILT: dict[str, typing.Callable[[Any], Any]] = {
    "objects": lambda item: ObjectCount(item["name"], item["count"]),
    "tags": tuple,
    "batch": lambda item: item,
    "verdicts": lambda item: Verdict(
        item["check"], item["outcome"], item.get("reason", ""), item["score"], item["threshold"], _boxes(item["boxes"])
    ),
    "settings": lambda item: (item["name"], item["value"]),
    "texts": lambda item: (item["name"], item["value"]),
    "adapters": lambda item: Adapter(item["name"], item["digest"], item["weight"]),
    "inputs": lambda item: Input(item["role"], item["digest"], item.get("uri"), _boxes(item["boxes"])),
    "crop": lambda item: Box(item["x0"], item["y0"], item["x1"], item["y1"]),
    "subjects": lambda item: Subject(item["image_id"], item["digest"]),
}


def _boxes(items: list[dict[str, int]]) -> tuple[Box, ...]:
    return tuple(Box(box["x0"], box["y0"], box["x1"], box["y1"]) for box in items)


def as_dict(record: Record) -> dict[str, Any]:
    """A record as plain JSON values: lists for tuples, an object for each element; the fields of its version, null ones too, and from
    version 4 on the values with the salt, as far as they are there."""
    names = record_fields(record.version)
    names += OF_VALUES if record.version >= 4 and record.salt is not None else ()
    row = {name: _plain(name, getattr(record, name)) for name in names if name not in INSIDE}
    row["tags"] = [list(pair) for pair in record.tags]
    if record.version >= 4 and record.salt is None:
        del row["tags"]
        for items, member in ((row["verdicts"], "reason"), (row["inputs"], "uri")):
            for item in items:
                del item[member]
    return row


def from_dict(row: dict[str, Any]) -> Record:
    """`as_dict` backwards.

    Raises: ValueError when a field is missing, unknown or of another type.
    """
    version = row.get("version")
    names = record_fields(version if isinstance(version, int) else RECORD_VERSION)
    if "salt" in row and isinstance(version, int) and version >= 4:
        names += tuple(name for name in OF_VALUES if name not in INSIDE)
    if set(row) != set(names):
        wrong = sorted(set(row) ^ set(names))
        raise ValueError(f"not the fields of a record: {', '.join(map(str, wrong[:5]))}")
    try:
        record = _record(row)
        to_table([record])
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"not a record: {error}") from error
    if as_dict(record) != row:  # such as a value without the salt that commits to it
        raise ValueError("not a record: it says more, or otherwise, than a record can")
    return record


def review_rows(table: pa.Table) -> pa.ChunkedArray:
    """Which rows of a view, with its columns `kind` and `statement`, are a person's word on an attempt; bool, never null."""
    import pyarrow.compute as pc

    stated = pc.fill_null(pc.equal(table.column("statement"), REVIEW), False)
    return pc.or_(pc.equal(table.column("kind"), "review"), stated)
