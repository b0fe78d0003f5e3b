"""The Parquet files of a manifest: what their footers say, and their rows as plain values, streamed.

A manifest is one file or all `.parquet` files under a folder or prefix, in the order of their names. Rows count from 0
over all of them. No more than one row group's pages and `CHUNK_ROWS` decoded rows are in memory at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from renderfarm.errors import ManifestError, NotStored
from renderfarm.manifest.columns import COLUMNS, LIST_OF_ADAPTERS, TEXTS, column_faults, readable_columns
from renderfarm.manifest.faults import Fault
from renderfarm.storage import list_inputs, open_input

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

CHUNK_ROWS = 8192
"""Rows decoded at once, and with it the most rows of a shard."""

_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """One Parquet file of a manifest: where its rows begin in the whole, which columns can be read, its faults."""

    uri: str
    name: str
    first_row: int
    rows: int
    columns: tuple[str, ...]
    faults: tuple[Fault, ...]


def survey(uri: str) -> list[ManifestFile]:
    """Every file of the manifest by its footer alone. A damaged file is listed with its fault and no rows.

    Raises: ManifestError when nothing is there; StorageRefused, StorageAway.
    """
    try:
        uris = list_inputs(uri, ".parquet")
    except NotStored as error:
        remedy = "check the path; `renderfarm manifest build` makes one from CSV, JSONL or YAML"
        raise ManifestError("no such manifest file, or a folder without .parquet files", uri, remedy) from error
    files: list[ManifestFile] = []
    for file in uris:
        name = file[len(uri) :].strip("/") if len(uris) > 1 else ""
        first = files[-1].first_row + files[-1].rows if files else 0
        files.append(_survey_file(file, name, first))
    return files


def _survey_file(uri: str, name: str, first_row: int) -> ManifestFile:
    try:
        with _opened(uri) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
            faults = tuple(column_faults(schema, name))
            return ManifestFile(uri, name, first_row, rows, tuple(readable_columns(schema)), faults)
    except ManifestError as error:
        what = f"{name}: {error.what}" if name else error.what
        return ManifestFile(uri, name, first_row, 0, (), (Fault(None, None, None, what, error.remedy),))


def chunks(file: ManifestFile, columns: tuple[str, ...] = COLUMNS) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """The rows of one file as raw rows (see `rows`), with the number of the first, at most `CHUNK_ROWS` at a time.

    Columns that are null throughout a chunk are left out of its rows.

    Raises: ManifestError for pages that cannot be read; StorageRefused, StorageAway.
    """
    wanted = [name for name in (*columns, *((LIST_OF_ADAPTERS,) if "adapter" in columns else ())) if name in file.columns]
    row = file.first_row
    if not file.rows:
        return
    with _opened(file.uri) as opened:
        for batch in opened.iter_batches(batch_size=CHUNK_ROWS, columns=wanted, use_threads=False):
            names = [name for name in batch.schema.names if batch.column(name).null_count < batch.num_rows]
            values = [_plain(batch.column(name), name) for name in names]
            if LIST_OF_ADAPTERS in names:
                at = names.index(LIST_OF_ADAPTERS)
                names[at], values[at] = "adapter", [", ".join(map(str, cell)) if isinstance(cell, list) else cell for cell in values[at]]
            raws: list[dict[str, Any]] = [dict(zip(names, cells, strict=True)) for cells in zip(*values, strict=True)]
            yield row, raws or [{} for _ in range(batch.num_rows)]
            row += batch.num_rows


@contextmanager
def _opened(uri: str) -> Iterator[pq.ParquetFile]:
    """The file as Parquet; whatever Arrow cannot read in it, then or while it is open, becomes a ManifestError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        source = open_input(uri)
    except NotStored as error:
        raise ManifestError("no such file any more", uri, "run again") from error
    with source:
        try:
            yield pq.ParquetFile(source, buffer_size=_BUFFER_BYTES, pre_buffer=False)
        except (pa.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            remedy = "write it again; `renderfarm manifest build` makes Parquet from CSV, JSONL or YAML"
            raise ManifestError(f"not Parquet, or damaged ({reason})", uri, remedy) from error


def _plain(column: pa.Array, name: str) -> list[Any]:
    """One column as Python values. Texts that are no UTF-8 become bytes; lists that hold such texts become [None]."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    try:
        values: list[Any] = column.to_pylist()
        return values
    except UnicodeDecodeError:
        return [_decoded(column[at], name in TEXTS) for at in range(len(column))]


def _decoded(value: pa.Scalar, text: bool) -> Any:
    try:
        return value.as_py()
    except UnicodeDecodeError:
        return value.as_buffer().to_pybytes() if text else [None]
