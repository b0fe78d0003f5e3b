"""Parquet files of a log, opened with care: whoever wrote them may be hostile.

Everything raises ValueError with the reason; what it means, and of which file, is the caller's to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from renderfarm.log.decoded_size import too_large
from renderfarm.log.parquet_footer import Chunk, column_chunks

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

BYTES_MAX = 256 << 20
ROWS_MAX = 100_000
ROW_GROUPS_MAX = 1000
DECODED_BYTES_MAX = 1 << 30
_ROW_GROUP = 10_000


def write(table: pa.Table, footer: Mapping[bytes, bytes]) -> bytes:
    """The file's bytes: no statistics (nobody signs them), a checksum on each page, and the footer's entries."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        table.schema,
        compression="zstd",
        write_statistics=False,
        write_page_checksum=True,
        store_schema=False,
        version="2.6",
    ) as file:
        file.write_table(table, row_group_size=_ROW_GROUP)
        file.add_key_value_metadata(dict(footer))
    return bytes(sink.getvalue())


def opened(data: bytes) -> tuple[pq.ParquetFile, list[Chunk]]:
    """The file and what its footer says of its column chunks; no row is decoded."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if len(data) > BYTES_MAX:
        raise ValueError(f"more than {BYTES_MAX >> 20} MiB")
    try:
        chunks = column_chunks(data)
        file = pq.ParquetFile(
            pa.BufferReader(data),
            page_checksum_verification=True,
            thrift_string_size_limit=16 << 20,
            thrift_container_size_limit=1_000_000,
        )
        file.schema_arrow  # noqa: B018  a schema that Arrow cannot express fails here
    except (pa.ArrowException, ValueError, OSError, MemoryError) as error:
        raise ValueError(f"not a Parquet file: {brief(error)}") from error
    return file, chunks


def entries(file: pq.ParquetFile, known: Iterable[bytes]) -> dict[bytes, bytes]:
    """The footer's entries, which are exactly the known ones."""
    stated: dict[bytes, bytes] = file.metadata.metadata or {}
    if set(stated) != set(known):
        wrong = b", ".join(sorted(set(stated) ^ set(known))).decode(errors="replace")
        raise ValueError(f"its footer lacks, or has too much: {wrong[:200]}")
    return stated


def check_shape(file: pq.ParquetFile, chunks: list[Chunk], schema: pa.Schema, what: str) -> None:
    """That the columns are those of `schema`, and that the footer says nothing that Arrow cannot take or that nobody signed."""
    metadata = file.metadata
    if not file.schema_arrow.equals(schema, check_metadata=False):
        raise ValueError(f"its columns are not those of {what}")
    if not 0 < metadata.num_rows <= ROWS_MAX:
        raise ValueError(f"{metadata.num_rows} rows, outside 1 to {ROWS_MAX}")
    if metadata.num_row_groups > ROW_GROUPS_MAX:
        raise ValueError(f"{metadata.num_row_groups} row groups")
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    if sum(group.num_rows for group in groups) != metadata.num_rows:
        raise ValueError("its row groups do not add up")
    if sum(max(group.total_byte_size, 0) for group in groups) > DECODED_BYTES_MAX:
        raise ValueError(f"more than {DECODED_BYTES_MAX >> 20} MiB when decoded")
    _check_chunks(file, chunks)


def _check_chunks(file: pq.ParquetFile, chunks: list[Chunk]) -> None:
    columns = [file.schema.column(i) for i in range(len(file.schema))]
    levels = [(column.max_definition_level, column.max_repetition_level) for column in columns]
    if len(chunks) != len(levels) * file.metadata.num_row_groups:
        raise ValueError("its row groups do not have all columns")
    for place, chunk in enumerate(chunks):
        definition, repetition = levels[place % len(levels)]
        if chunk.statistics:
            raise ValueError("it carries statistics, which nobody signed")
        if chunk.definition not in (0, definition + 1) or chunk.repetition not in (0, repetition + 1):
            raise ValueError(f"the sizes of column {chunk.path[:80]} are malformed")


def decoded(data: bytes, file: pq.ParquetFile, chunks: list[Chunk], names: list[str] | None = None) -> pa.Table:
    """The rows, of all columns or these, if they do not grow beyond the limit."""
    import pyarrow as pa

    reason = too_large(data, chunks, DECODED_BYTES_MAX)
    if reason is not None:
        raise ValueError(reason)
    try:
        table = file.read(columns=names, use_threads=False)
        if names is None:
            table.validate(full=True)
        return table
    except (pa.ArrowException, ValueError, OSError, MemoryError) as error:
        raise ValueError(f"its rows cannot be read: {brief(error)}") from error


def brief(error: BaseException) -> str:
    """The first line of an error, or its kind."""
    return str(error).strip().split("\n")[0][:200] or type(error).__name__
