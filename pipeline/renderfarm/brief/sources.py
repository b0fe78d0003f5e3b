"""The sources that people write: CSV and JSONL, read row by row. Templates have a module of their own."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from renderfarm.brief.template import read_template
from renderfarm.errors import ManifestError
from renderfarm.manifest.cells import known_key
from renderfarm.manifest.columns import unknown_remedy

_CELL_CHARS_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One row as it was said, and where: a row, a line, or an entry of a template. `broken` says why nothing could be read."""

    place: int
    cells: dict[str, Any]
    broken: str = ""


def open_source(source: Path) -> tuple[str, Iterator[SourceRow]]:
    """What a place in this source is called, and its rows. The rows raise ManifestError for a source that is unusable.

    Raises: ManifestError for a source that is not there or of no known kind.
    """
    kinds: dict[str, tuple[str, Callable[[Path], Iterator[SourceRow]]]] = {
        ".csv": ("row", _read_csv),
        ".tsv": ("row", _read_csv),
        ".jsonl": ("line", _read_jsonl),
        ".ndjson": ("line", _read_jsonl),
        ".yaml": ("rows entry", _read_yaml),
        ".yml": ("rows entry", _read_yaml),
    }
    if not source.is_file():
        raise ManifestError("no such file", str(source), "check the path")
    if source.suffix.lower() not in kinds:
        remedy = "name a .csv, .tsv, .jsonl or .yaml file; from a spreadsheet save as 'CSV UTF-8'"
        raise ManifestError(f"no source of a known kind ({source.suffix or 'no suffix'})", str(source), remedy)
    label, reader = kinds[source.suffix.lower()]
    return label, _utf8(source, reader)


def _utf8(source: Path, reader: Callable[[Path], Iterator[SourceRow]]) -> Iterator[SourceRow]:
    try:
        yield from reader(source)
    except UnicodeDecodeError as error:
        remedy = "save it as UTF-8; spreadsheets call it 'CSV UTF-8'"
        raise ManifestError(f"not UTF-8 text (byte {error.object[error.start]:#04x})", str(source), remedy) from error
    except OSError as error:
        raise ManifestError(f"cannot be read: {error.strerror}", str(source), "check its permissions") from error


def _read_csv(source: Path) -> Iterator[SourceRow]:
    """Comma, semicolon or tab, whichever the header has most of; empty cells say nothing; blank lines are skipped."""
    csv.field_size_limit(_CELL_CHARS_MAX)
    with source.open(encoding="utf-8-sig", newline="") as file:
        header_line = file.readline()
        separator = max(",;\t", key=header_line.count)
        file.seek(0)
        lines = csv.reader(file, delimiter=separator, strict=True)
        try:
            header = [name.strip() for name in next(lines, [])]
            _refuse_unknown(source, header)
            for number, cells in enumerate(lines, 2):
                if any(cell.strip() for cell in cells):
                    yield _csv_row(number, header, cells)
        except csv.Error as error:
            remedy = "mend the quotation marks there; one inside a cell is written twice"
            raise ManifestError(f"not CSV: {error}", f"{source}, line {lines.line_num}", remedy) from error


def _csv_row(line: int, header: list[str], cells: list[str]) -> SourceRow:
    if any(cell.strip() for cell in cells[len(header) :]):
        return SourceRow(line, {}, f"{len(cells)} cells and only {len(header)} columns; put texts with separators in quotation marks")
    return SourceRow(line, {name: cell.strip() for name, cell in zip(header, cells, strict=False) if cell.strip()})


def _refuse_unknown(source: Path, names: list[str]) -> None:
    """Raises: ManifestError for columns that are doubled, nameless or unknown, all of them at once."""
    doubled = sorted({name for name in names if name and names.count(name) > 1})
    wrong = [f"{name!r} is there more than once; keep one of them" for name in doubled]
    wrong += [f"column {at} has no name; name it or remove it" for at, name in enumerate(names, 1) if not name]
    unknown = [name for name in dict.fromkeys(names) if name and not known_key(name)]
    wrong += [f"no such column {name!r}; {unknown_remedy(name, set(names))}" for name in unknown]
    wrong += [f"the column {name!r} is missing; add it" for name in ("id", "prompt") if name not in names]
    if wrong:
        raise ManifestError("the columns are wrong", str(source), "mend the first line", wrong)


def _read_jsonl(source: Path) -> Iterator[SourceRow]:
    """One JSON object a line; blank lines are skipped."""
    with source.open(encoding="utf-8-sig") as file:
        for line, text in enumerate(file, 1):
            if not text.strip():
                continue
            try:
                cells = json.loads(text, object_pairs_hook=_once)
            except (ValueError, RecursionError) as error:
                yield SourceRow(line, {}, f"not JSON ({error}); write one object on one line")
                continue
            if not isinstance(cells, dict):
                yield SourceRow(line, {}, "no JSON object; write {...} on one line")
            elif unknown := [key for key in cells if not known_key(key)]:
                hints = "; ".join(f"no such column {key!r}: {unknown_remedy(key, set(cells))}" for key in unknown)
                yield SourceRow(line, {}, hints)
            else:
                yield SourceRow(line, cells)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. Raises: ValueError for a key that is there twice."""
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} is there twice")
    return content


def _read_yaml(source: Path) -> Iterator[SourceRow]:
    for number, cells in read_template(source):
        yield SourceRow(number, cells)
