"""Lists of structs in Arrow, with a member more or less. Pure; copies as little as it can."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa


def as_one(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array that begins with its first row."""
    import pyarrow as pa

    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return pa.concat_arrays([array]) if array.offset else array


_MEMBER = {"verdicts": "reason", "inputs": "uri", "reasons": "reason", "input_uris": "uri"}


def with_member(column: pa.ChunkedArray, texts: pa.ChunkedArray | None, kind: pa.DataType) -> pa.Array:
    """A list of structs with one member more, from a list of texts as long in each row; where it is not, the member is missing."""
    import pyarrow as pa

    array = as_one(column)
    starts = array.offsets.to_numpy()
    child = array.values.slice(starts[0], starts[-1] - starts[0])
    element = kind.value_type
    (name,) = {field.name for field in element} - {field.name for field in child.type}
    missing = None if element.field(name).nullable else ""
    if texts is not None and (np.diff(as_one(texts).offsets.to_numpy()) == np.diff(starts)).all():
        member = as_one(texts).flatten()
    else:
        sizes, lists = np.diff(starts).tolist(), texts.to_pylist() if texts is not None else [[]] * len(array)
        rows = (row if len(row) == size else [missing] * size for size, row in zip(sizes, lists, strict=True))
        member = pa.array([text for row in rows for text in row], pa.string())
    by_name = {**dict(zip([f.name for f in child.type], child.flatten(), strict=True)), name: member}
    joined = pa.StructArray.from_arrays([by_name[f.name] for f in element], fields=list(element))
    return pa.ListArray.from_arrays(pa.array(starts - starts[0], pa.int32()), joined, type=kind)


def without_member(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """A list of structs with only the members of `kind`."""
    import pyarrow as pa

    if array.type == kind:
        return array
    child = array.values
    by_name = dict(zip([f.name for f in child.type], child.flatten(), strict=True))
    left = pa.StructArray.from_arrays([by_name[f.name] for f in kind.value_type], fields=list(kind.value_type))
    return pa.ListArray.from_arrays(array.offsets, left, type=kind)


def member_of(array: pa.Array, field: pa.Field) -> pa.Array:
    """One member of the structs in a list, as a list of texts; none of a row where one is missing."""
    import pyarrow as pa

    texts = array.values.flatten()[array.values.type.get_field_index(_MEMBER[field.name])]
    if texts.null_count:
        rows = [[item[_MEMBER[field.name]] for item in row] for row in array.to_pylist()]
        return pa.array([[] if None in row else row for row in rows], field.type)
    return pa.ListArray.from_arrays(array.offsets, texts, type=field.type)


def empty(field: pa.Field, rows: int) -> pa.Array:
    """So many nulls, or empty lists where the field may not be null."""
    import pyarrow as pa

    if field.nullable:
        return pa.nulls(rows, field.type)
    offsets = pa.array(np.zeros(rows + 1, np.int32))
    if pa.types.is_map(field.type):
        return pa.MapArray.from_arrays(offsets, pa.array([], pa.string()), pa.array([], pa.string())).cast(field.type)
    return pa.ListArray.from_arrays(offsets, pa.array([], field.type.value_type), type=field.type)
