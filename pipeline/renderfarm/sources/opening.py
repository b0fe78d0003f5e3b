"""Any source that people bring → rows with named cells: which kind it is, where it lies, and whether it may be opened at all."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from renderfarm.errors import ManifestError, NotStored
from renderfarm.sources import delimited, documents, lists
from renderfarm.sources.encoding import encoding_of
from renderfarm.sources.tables import named_rows
from renderfarm.sources.template import read_template
from renderfarm.sources.types import Brief, ReadAs, SourceRow
from renderfarm.storage import list_inputs, open_input

SOURCE_BYTES_MAX = 4 << 30
"""A million rows of long prompts are a quarter of it."""
SUFFIXES = frozenset({".xlsx", ".csv", ".tsv", ".tab", ".json", ".jsonl", ".ndjson", ".parquet", ".txt", ".yaml", ".yml"})
_KINDS = ".xlsx, .csv, .tsv, .json, .jsonl, .parquet, .txt or .yaml file, or a folder of .txt"
_OTHER = {
    ".xls": "save it as .xlsx", ".xlsb": "save it as .xlsx", ".xlsm": "save it as .xlsx, without macros", ".ods": "save it as .xlsx",
    ".numbers": "export it as .xlsx or CSV", ".gsheet": "download it as .xlsx",
    ".docx": "put the prompts into a table and save it as .xlsx",
    ".pdf": "save the table as .xlsx, or as 'CSV UTF-8'", ".zip": "unpack it first", ".gz": "unpack it first",
}  # fmt: skip
_UNITS = {".txt": "line", ".yaml": "rows entry", ".yml": "rows entry"}


@contextmanager
def open_source(uri: str, reading: ReadAs) -> Iterator[Brief]:
    """A source by its path or `s3://` URI. Its rows raise ManifestError for what is unusable.

    Raises: ManifestError for a source that is not there, of no known kind, or not to be opened.
    """
    with _local(uri) as path:
        if reading.sheet and path.suffix.lower() != ".xlsx":
            raise ManifestError(f"--sheet {reading.sheet} names a sheet, and this is no workbook", uri, "leave it out")
        if path.is_dir():
            _refuse_mapping(reading, uri)
            source = Brief("file")
            source.rows = _guarded(lists.folder(lists.folder_files(path), source), uri)
            yield source
            return
        if not path.is_file():
            raise ManifestError("no such file", uri, "check the path")
        suffix = path.suffix.lower()
        if path.stat().st_size > SOURCE_BYTES_MAX:
            raise ManifestError(f"larger than {SOURCE_BYTES_MAX >> 30} GiB", uri, "split it, and make a folder of manifests")
        source = Brief(_UNITS.get(suffix, "row"))
        source.rows = _guarded(_rows(path, suffix, source, reading), uri)
        yield source


def _rows(path: Path, suffix: str, source: Brief, reading: ReadAs) -> Iterator[SourceRow]:
    if suffix in (".csv", ".tsv", ".tab"):
        return named_rows(delimited.grid_of(path, source, reading.meanings), source, reading, str(path))
    if suffix == ".xlsx":
        return _sheet_rows(path, source, reading)
    if suffix == ".txt":
        return _text_rows(path, source, reading)
    if suffix in (".json", ".jsonl", ".ndjson"):
        begun = documents.begins(path) or ("document" if suffix == ".json" else "lines")
        source.unit = "entry" if begun == "document" else "line"
        return (documents.json_document if begun == "document" else documents.json_lines)(path, source, reading)
    if suffix == ".parquet":
        return documents.parquet(path, source, reading)
    if suffix in (".yaml", ".yml"):
        source.ids = True
        _refuse_mapping(reading, str(path))
        return (SourceRow(number, cells) for number, cells in read_template(path))
    remedy = _OTHER.get(suffix, f"name a {_KINDS}")
    raise ManifestError(f"no source of a known kind ({suffix or 'no suffix'})", str(path), remedy)


def _sheet_rows(path: Path, source: Brief, reading: ReadAs) -> Iterator[SourceRow]:
    from renderfarm.sources.workbook import Workbook

    source.decimal_comma = True
    with path.open("rb") as file:
        yield from named_rows(Workbook(path, file).grid(source, reading.sheet, reading.meanings), source, reading, str(path))


def _text_rows(path: Path, source: Brief, reading: ReadAs) -> Iterator[SourceRow]:
    """A prompt a line; or the table with tabs that spreadsheets call Unicode text, or JSON lines."""
    encoding = encoding_of(path, Brief("line"))
    if delimited.is_table(path, encoding, reading.meanings):
        source.unit = "row"
        return named_rows(delimited.grid_of(path, source, reading.meanings), source, reading, str(path))
    if documents.begins(path) == "lines":
        return documents.json_lines(path, source, reading)
    _refuse_mapping(reading, str(path))
    return lists.lines(path, source)


def _refuse_mapping(reading: ReadAs, where: str) -> None:
    """Raises: ManifestError for a mapping of columns where there are none."""
    if reading.mapping:
        raise ManifestError("--map or --id-from names columns, and this source has none", where, "leave it out")


def _guarded(rows: Iterator[SourceRow], uri: str) -> Iterator[SourceRow]:
    """The rows; what the disk or the text does on the way is one message."""
    try:
        yield from rows
    except UnicodeDecodeError as error:
        what = f"byte {error.object[error.start]:#04x} is none of the encoding {error.encoding}"
        raise ManifestError(what, uri, "save it as UTF-8; spreadsheets call it 'CSV UTF-8'") from error
    except OSError as error:
        raise ManifestError(f"cannot be read: {error.strerror or error}", uri, "check its permissions") from error


@contextmanager
def _local(uri: str) -> Iterator[Path]:
    """The source as a local file or folder; from S3 it is fetched into a folder that goes away."""
    if not uri.startswith("s3://"):
        yield Path(uri).expanduser()
        return
    try:
        uris = [uri] if Path(uri).suffix else list_inputs(uri, ".txt")
    except NotStored as error:
        raise ManifestError("no such file", uri, "check the path") from error
    with tempfile.TemporaryDirectory(prefix="renderfarm-brief-") as folder:
        for one in uris:
            try:
                with open_input(one) as remote, (Path(folder) / Path(one).name).open("wb") as local:
                    _copy(remote, local, one)
            except NotStored as error:
                raise ManifestError("no such file", one, "check the path") from error
        yield Path(folder) / Path(uri).name if Path(uri).suffix else Path(folder)


def _copy(remote: BinaryIO, local: BinaryIO, uri: str) -> None:
    size = 0
    while piece := remote.read(1 << 20):
        size += len(piece)
        if size > SOURCE_BYTES_MAX:
            raise ManifestError(f"larger than {SOURCE_BYTES_MAX >> 30} GiB", uri, "split it, and make a folder of manifests")
        local.write(piece)
