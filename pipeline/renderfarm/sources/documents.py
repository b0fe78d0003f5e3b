"""Records instead of cells: JSON, JSON lines and Parquet files of any columns → rows with named cells.

A JSON document may be a list of records or of prompts, a map of ids to them, a table by columns, or any of these under a key such as
`prompts`; records in records (`sui_image_params`) are taken for their own keys.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from renderfarm.errors import ManifestError
from renderfarm.sources.encoding import encoding_of, head_of
from renderfarm.sources.headers import INFOTEXT, Columns, meaning, plain, understood
from renderfarm.sources.types import CELL_CHARS_MAX, COLUMNS_MAX, STYLES, STYLES_REMEDY, Brief, ReadAs, SourceRow

DOCUMENT_BYTES_MAX = 256 << 20
"""A JSON document is read as a whole. JSON lines may have any length."""
_LISTS = ("prompts", "rows", "data", "items", "entries", "images", "records", "samples", "examples", "annotations")
_WRAPPERS = ("suiimageparams", "params", "metadata", "meta", "settings", "generationsettings", "invokeaimetadata", "body")


class _Headers:
    """What the keys of records mean; each set of keys is understood once."""

    def __init__(self, source: Brief, reading: ReadAs, where: str) -> None:
        self._source, self._reading, self._where = source, reading, where
        self._known: dict[tuple[str, ...], Columns | str] = {}
        self._seen: set[str] = set()
        self._understood_any = False

    def row(self, place: int, record: Mapping[str, Any]) -> SourceRow:
        """One record as a row. What is wrong with its keys makes it a broken one."""
        names = tuple(record)
        columns = self._known.get(names)
        if columns is None:
            columns = self._understood(names)
            if len(self._known) < 10_000:
                self._known[names] = columns
        if isinstance(columns, str):
            return SourceRow(place, {}, columns)
        cells = {
            target: _adapters(value) if target == "adapter" else value
            for target, value in zip(columns.targets, record.values(), strict=True)
            if target and (_said(value) or (target == "text" and value == ""))
        }
        if "{prompt}" in str(cells.get("prompt", "")) and "name" in map(plain, names):
            raise ManifestError(STYLES, self._where, STYLES_REMEDY)
        long = next((name for name, value in cells.items() if isinstance(value, str) and len(value) > CELL_CHARS_MAX), None)
        return SourceRow(place, {}, f"{long} has more than {CELL_CHARS_MAX} characters; shorten it") if long else SourceRow(place, cells)

    def finish(self) -> None:
        """Raises: ManifestError for a mapping of a key that no record has."""
        for name in self._reading.mapping:
            if name not in ("*", *self._seen):
                raise ManifestError(f"--map names a key {name!r} that no record has", self._where, "check its name")

    def _understood(self, names: tuple[str, ...]) -> Columns | str:
        if len(names) > COLUMNS_MAX:
            return f"{len(names)} keys; use {COLUMNS_MAX} at most"
        here = {plain(name) for name in names}
        self._seen |= here
        mapping = {name: target for name, target in self._reading.meanings.items() if name in ("*", *here)}
        try:
            columns = understood(names, mapping, self._where)
        except ManifestError as error:
            return "; ".join(error.details)
        if not self._understood_any:
            self._source.ids = "id" in columns.targets
            self._understood_any = True
        self._source.notes += [note for note in columns.notes if note not in self._source.notes][: 20 - len(self._source.notes)]
        return columns


def begins(path: Path) -> Literal["document", "lines", ""]:
    """Whether a file begins as one JSON document, or as an object a line; "" for neither, and for one object on the only line."""
    head = [line.strip() for line in head_of(path).splitlines() if line.strip()][:2]
    if not head or head[0][0] not in "{[":
        return ""
    try:
        whole = isinstance(json.loads(head[0]), dict)
    except (ValueError, RecursionError):
        return "document" if head[0][0] == "[" or head[0][-1] in "{[,:" else ""
    return "" if whole and len(head) == 1 else "lines" if whole else "document"


def json_lines(path: Path, source: Brief, reading: ReadAs) -> Iterator[SourceRow]:
    """One JSON object a line; blank lines are skipped. Raises: ManifestError, OSError."""
    headers = _Headers(source, reading, str(path))
    with path.open(encoding=encoding_of(path, source)) as file:
        line = 0
        while text := file.readline(16 * CELL_CHARS_MAX):
            line += 1
            if len(text) >= 16 * CELL_CHARS_MAX:
                raise ManifestError(
                    f"line {line} has more than {16 * CELL_CHARS_MAX} characters", str(path), "write one object on one line"
                )
            if not text.strip():
                continue
            try:
                record = json.loads(text, object_pairs_hook=_once)
            except (ValueError, RecursionError) as error:
                yield SourceRow(line, {}, f"not JSON ({error}); write one object on one line")
                continue
            if isinstance(record, str):
                record = {"prompt": record}
            if not isinstance(record, dict):
                yield SourceRow(line, {}, "no JSON object; write {...} on one line")
            else:
                yield headers.row(line, _flat(record))
    headers.finish()


def json_document(path: Path, source: Brief, reading: ReadAs) -> Iterator[SourceRow]:
    """The entries of a JSON document, counted from 1. Raises: ManifestError, OSError."""
    if path.stat().st_size > DOCUMENT_BYTES_MAX:
        raise ManifestError(
            f"more than {DOCUMENT_BYTES_MAX >> 20} MiB of JSON", str(path), "write it as JSON lines (.jsonl): one object a line"
        )
    try:
        content = json.loads(path.read_text(encoding=encoding_of(path, source)), object_pairs_hook=_once)
    except RecursionError as error:
        raise ManifestError("not JSON: it stands too deep", str(path), "write a list of objects") from error
    except json.JSONDecodeError as error:
        raise ManifestError(f"not JSON: {error.msg}", f"{path}, line {error.lineno}", "mend it there") from error
    except ValueError as error:
        raise ManifestError(f"not JSON: {error}", str(path), "mend it there") from error
    headers = _Headers(source, reading, str(path))
    for number, record in enumerate(_records(content, path, reading), 1):
        if not isinstance(record, dict):
            yield SourceRow(number, {}, 'no object and no text; write {"prompt": "…"}')
        else:
            yield headers.row(number, _flat(record))
    headers.finish()


def parquet(path: Path, source: Brief, reading: ReadAs) -> Iterator[SourceRow]:
    """The rows of a Parquet file with any columns, counted from 1. Raises: ManifestError, OSError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    headers = _Headers(source, reading, str(path))
    try:
        with pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
            names = file.schema_arrow.names
            wanted = understood(names, reading.meanings, str(path), reading.mapping)
            read = [name for name, target in zip(names, wanted.targets, strict=True) if target]
            number = 0
            for batch in file.iter_batches(batch_size=1024, columns=read, use_threads=False):
                for record in batch.to_pylist():
                    number += 1
                    yield headers.row(number, _plain_values(record, str(path)))
    except (pa.ArrowException, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ManifestError(f"not Parquet, or damaged ({reason})", str(path), "write it again") from error


def _records(content: Any, path: Path, reading: ReadAs) -> list[Any]:
    """Raises: ManifestError for a document in which no list of prompts can be told."""
    if isinstance(content, list):
        return [{"prompt": entry} if isinstance(entry, str) else entry for entry in content]
    if isinstance(content, dict):
        if _workflow(content):
            raise ManifestError(
                "a workflow of ComfyUI, and no list of prompts", str(path), "write its prompts into a table or a .txt, one a line"
            )
        meant = {meaning(name, reading.meanings) for name in content}
        lists = [name for name, value in content.items() if isinstance(value, list | dict) and plain(name) in _LISTS]
        records = [name for name in lists if isinstance(content[name], list) and any(isinstance(entry, dict) for entry in content[name])]
        if len(records) == 1:
            return _records(content[records[0]], path, reading)
        if _by_columns(content, meant):
            return _turned(content)
        if len(lists) == 1:
            return _records(content[lists[0]], path, reading)
        if {"prompt", INFOTEXT} & meant or set(map(plain, content)) & set(_WRAPPERS):
            return [content]
        if content and all(isinstance(value, str | dict) for value in content.values()):
            return [
                {"id": key, **(value if isinstance(value, dict) else {"prompt": value})} if not _has_id(value) else value
                for key, value in content.items()
            ]
    raise ManifestError("no list of prompts can be told in it", str(path), 'write [{"id": "a", "prompt": "…"}]')


def _has_id(value: Any) -> bool:
    return isinstance(value, dict) and any(meaning(name, {}) == "id" for name in value)


def _by_columns(content: Mapping[str, Any], meant: set[str | None]) -> bool:
    """Whether this is a table that is written by columns, as pandas does."""
    return "prompt" in meant and all(isinstance(value, list) or (isinstance(value, dict) and "0" in value) for value in content.values())


def _turned(content: Mapping[str, Any]) -> list[Any]:
    columns = {name: list(value.values()) if isinstance(value, dict) else value for name, value in content.items()}
    length = max(map(len, columns.values()), default=0)
    return [{name: column[at] for name, column in columns.items() if at < len(column)} for at in range(length)]


def _workflow(content: Mapping[str, Any]) -> bool:
    nodes = content.get("nodes") if isinstance(content.get("nodes"), list) else list(content.values())
    return any(
        isinstance(node, dict) and ({"class_type", "inputs"} <= set(node) or {"type", "widgets_values"} <= set(node))
        for node in nodes or ()
    )


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    """A record with the keys of those records in it that only wrap settings."""
    flat: dict[str, Any] = {}
    for name, value in record.items():
        if isinstance(value, dict) and plain(name) in _WRAPPERS:
            flat |= {inner: one for inner, one in value.items() if inner not in record}
        else:
            flat[name] = value
    return flat


def _adapters(value: Any) -> Any:
    """A list of adapters as InvokeAI writes it, as a text; anything else as it is."""
    if not (isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value)):
        return value
    parts = []
    for entry in value:
        model = next((entry[key] for key in ("model", "lora") if isinstance(entry.get(key), dict)), entry)
        name, weight = model.get("name") or model.get("model_name"), entry.get("weight")
        if not isinstance(name, str):
            return value
        parts.append(name if weight is None else f"{name}:{weight}")
    return ", ".join(parts)


def _plain_values(record: dict[str, Any], where: str) -> dict[str, Any]:
    """Arrow's values as JSON has them: maps as objects, dates as text, no NaN."""

    def value_of(name: str, value: Any) -> Any:
        if isinstance(value, float) and math.isnan(value):
            return None
        if isinstance(value, bytes):
            raise ManifestError(
                f"the column {name!r} holds bytes, and no text", where, f"leave it out: --map {name}=-, or write it as text"
            )
        if isinstance(value, list) and value and all(isinstance(pair, tuple) and len(pair) == 2 for pair in value):
            return dict(value)
        return value if isinstance(value, str | int | float | bool | list | dict | None) else str(value)

    return {name: value_of(name, value) for name, value in record.items()}


def _said(value: Any) -> bool:
    return value is not None and value != "" and value != [] and value != {}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. Raises: ValueError for a key that is there twice."""
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} is there twice")
    return content
