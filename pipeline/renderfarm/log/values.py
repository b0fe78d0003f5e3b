"""What records only commit to, in files that can be rewritten: prompts, row ids, texts, tags, addresses of inputs, and the salts.

Beside part 42 of record version 4 lies `provenance/values/00000042-<12 hex of its row root>.parquet`, with as many rows and in their order,
and the columns of `tables.values_schema()`. Its footer says:

    renderfarm.values_version   1
    renderfarm.part             42
    renderfarm.row_root         of the part that it belongs to, hex

Nobody signs it: each row's `commitment` in the part does. A row whose salt is null was forgotten, and all else in it is null or empty. So a
row, or a whole file, can go, and nothing that is signed changes. Where no row has a salt there is no file. It is written before its part; a
crash between the two leaves an orphan.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from renderfarm.log import guarded
from renderfarm.log.parquet_footer import Chunk
from renderfarm.output import values_key
from renderfarm.records.canonical import commitments
from renderfarm.records.tables import INSIDE, OF_VALUES, values_schema

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

VERSION = b"1"
VERSION_KEY, PART_KEY, ROOT_KEY = b"renderfarm.values_version", b"renderfarm.part", b"renderfarm.row_root"
COLUMNS = frozenset(OF_VALUES)

_ROOT_IN_FOOTER = re.compile(rb"renderfarm\.row_root.{2}([0-9a-f]{64})", re.DOTALL)
_FOOTER_BYTES = 64 << 10


def asked(names: Iterable[str]) -> set[str]:
    """The columns of values that these columns of the view need."""
    wanted = set(names)
    inside = {value for value, holder in INSIDE.items() if holder in wanted}
    return (wanted & COLUMNS) | inside


def encode(table: pa.Table, number: int, row_root: bytes) -> bytes:
    """The file beside part `number`, from a table of `tables.values_schema()`."""
    footer = {VERSION_KEY: VERSION, PART_KEY: str(number).encode(), ROOT_KEY: row_root.hex().encode()}
    return guarded.write(table, footer)


def key_beside(part: bytes, number: int) -> str | None:
    """Where the values of a part would lie, by a look at the end of its bytes; None for a part that has none.

    A lead only, which costs microseconds: what lies there is held against the part when it is read.
    """
    end = part[-_FOOTER_BYTES:]
    root = _ROOT_IN_FOOTER.search(end) if b"renderfarm.index_root" in end else None
    return values_key(number, bytes.fromhex(root[1].decode())) if root else None


def read(data: bytes, number: int, row_root: bytes, rows: int, names: Iterable[str] | None = None) -> pa.Table:
    """The values beside a part, of all columns or these; whether they are what was committed to is for `differing`.

    Raises: ValueError for a file that cannot be read, or is not that of this part.
    """
    file, chunks = _opened(data, number, row_root, rows)
    return guarded.decoded(data, file, chunks, None if names is None else [name for name in OF_VALUES if name in set(names)])


def _opened(data: bytes, number: int, row_root: bytes, rows: int) -> tuple[pq.ParquetFile, list[Chunk]]:
    file, chunks = guarded.opened(data)
    stated = guarded.entries(file, (VERSION_KEY, PART_KEY, ROOT_KEY))
    if stated != {VERSION_KEY: VERSION, PART_KEY: str(number).encode(), ROOT_KEY: row_root.hex().encode()}:
        raise ValueError("it belongs to another part")
    guarded.check_shape(file, chunks, values_schema(), "values")
    if file.metadata.num_rows != rows:
        raise ValueError(f"it has {file.metadata.num_rows} rows, its part {rows}")
    return file, chunks


def differing(values: pa.Table, committed: Sequence[str | None]) -> list[int]:
    """Rows whose values are not what the part commits to. Raises: ValueError for what cannot be encoded."""
    found = commitments(values)
    forgotten = [row for row, made in enumerate(found) if made is None]
    wrong = [row for row, (made, stated) in enumerate(zip(found, committed, strict=True)) if made is not None and made != stated]
    rest = values.drop_columns(["salt"]).take(forgotten) if forgotten else None
    if rest is not None:
        wrong += [forgotten[row] for row in _not_empty(rest)]
    return sorted(wrong)


def _not_empty(table: pa.Table) -> set[int]:
    """Rows with a value in any column."""
    import pyarrow as pa
    import pyarrow.compute as pc

    rows: set[int] = set()
    for column in table.columns:
        nested = pa.types.is_list(column.type) or pa.types.is_map(column.type)
        full = pc.greater(_lengths(column), 0) if nested else column.is_valid()
        rows.update(pc.indices_nonzero(full).to_pylist())
    return rows


def _lengths(column: pa.ChunkedArray) -> pa.Array:
    import numpy as np
    import pyarrow as pa

    array = column.combine_chunks()
    return pa.array(np.diff(array.offsets.to_numpy()))
