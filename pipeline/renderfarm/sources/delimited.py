"""Text in columns: CSV with any separator, and tab-separated text, as rows of cells with the number that a spreadsheet gives each.

The separator is what `sep=;` says, else the one with which a header is recognised. A tab file has no quoting, unless a whole field is
quoted and well formed: inch marks and loose quotes are what they are.
"""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO

from renderfarm.errors import ManifestError
from renderfarm.sources.encoding import encoding_of
from renderfarm.sources.headers import meaning, recognised
from renderfarm.sources.types import CELL_CHARS_MAX, Brief

Grid = Iterator[tuple[int, Sequence[object]]]
"""Rows of cells with the number of each where a person sees it."""

_SEPARATORS = ",;\t|"
_LOOKED_AT_CHARS = 1 << 16
_TEXT_FORMULA = re.compile(r'="((?:[^"]|"")*)"')


def grid_of(path: Path, source: Brief, mapping: Mapping[str, str]) -> Grid:
    """The rows of a CSV or TSV file, from 1. Raises: ManifestError, OSError; also while it is read."""
    encoding = encoding_of(path, source)
    with path.open(encoding=encoding, newline="") as file:
        first = file.readline(CELL_CHARS_MAX)
        stated = _stated(first)
        if stated is None:
            file.seek(0)
        separator = stated or _recognised_separator(file, path, mapping)
        if stated is None:
            file.seek(0)
        source.decimal_comma = separator != ","
        # Excel does not show the line that states the separator: the header is row 1 for it.
        yield from _tab_rows(file, path) if separator == "\t" else _csv_rows(file, separator, path)


def is_table(path: Path, encoding: str, mapping: Mapping[str, str]) -> bool:
    """Whether a text file begins with a header: several cells, each the name of a column."""
    with path.open(encoding=encoding, newline="") as file:
        head = file.read(_LOOKED_AT_CHARS)
    for separator in _SEPARATORS:
        for cells in _head_rows(head, separator)[:1]:
            names = [cell.strip() for cell in cells if cell.strip()]
            if len(names) > 1 and recognised(names, mapping) and all(meaning(name, mapping) for name in names):
                return True
    return _stated(head.partition("\n")[0]) is not None


def _stated(line: str) -> str | None:
    """The separator of Excel's own first line `sep=;`."""
    bare = line.strip("\r\n").strip('"')
    return bare[4] if len(bare) == 5 and bare.casefold().startswith("sep=") else None


def _recognised_separator(file: TextIO, path: Path, mapping: Mapping[str, str]) -> str:
    """The separator with which the best header stands among the first rows; where none does, the most frequent one of the first line."""
    head = file.read(_LOOKED_AT_CHARS)
    whole = len(head) < _LOOKED_AT_CHARS
    if path.suffix.lower() in (".tsv", ".tab"):
        return "\t"

    def score(separator: str) -> tuple[int, int]:
        rows = _head_rows(head if whole else head.rpartition("\n")[0], separator)
        named = max((recognised([str(cell) for cell in cells], mapping) for cells in rows), default=0)
        return named, max((len(cells) for cells in rows), default=0)

    return max(_SEPARATORS, key=score)


def _head_rows(head: str, separator: str) -> list[list[str]]:
    reader = csv.reader(head.splitlines(keepends=True), delimiter=separator, skipinitialspace=True)
    try:
        return list(itertools.islice(reader, 20))
    except csv.Error:
        return []


def _csv_rows(file: TextIO, separator: str, path: Path) -> Grid:
    csv.field_size_limit(CELL_CHARS_MAX)
    lines = csv.reader(_tidied(file, separator), delimiter=separator, strict=True, skipinitialspace=True)
    begun = 0
    try:
        for number, cells in enumerate(lines, 1):
            yield number, [_told(cell) if cell.startswith('="') else cell for cell in cells]
            begun = lines.line_num
    except csv.Error as error:
        # What csv says of an unclosed mark names the end of the file; what helps is where the row began.
        remedy = "mend the quotation marks there; one inside a cell is written twice"
        what = str(error) if "limit" not in str(error) else f"a cell of more than {CELL_CHARS_MAX} characters"
        raise ManifestError(f"not CSV: {what}", f"{path}, line {begun + 1}", remedy) from error


def _tidied(file: TextIO, separator: str) -> Iterator[str]:
    """The lines without blanks between a closing mark and the separator: inside a cell a single mark stands nowhere."""
    blanks = re.compile(rf'(?<=[^"\s{re.escape(separator)}])"[ \t]+(?={re.escape(separator)}|[\r\n]|$)')
    for line in file:
        yield blanks.sub('"', line) if '" ' in line or '"\t' in line else line


def _tab_rows(file: TextIO, path: Path) -> Grid:
    """Fields between tabs. A field that is opened by a mark and closed further down, with no tab before that, holds line breaks."""
    columns, number = 0, 1
    lines = iter(file)
    waiting: list[str] = []
    while (line := waiting.pop(0) if waiting else next(lines, None)) is not None:
        fields = line.rstrip("\r\n").split("\t")
        if columns > 1 and len(fields) <= columns and _opened(fields[-1]):
            joined, waiting = _continued(fields, lines, waiting, columns)
            fields = joined or fields
        if any(len(one) > CELL_CHARS_MAX for one in fields):
            raise ManifestError(f"a cell of more than {CELL_CHARS_MAX} characters", f"{path}, row {number}", "shorten it")
        columns = columns or len(fields)
        yield number, [_told(one) if one.startswith('="') else _unquoted(one) for one in fields]
        number += 1


def _continued(fields: list[str], lines: Iterator[str], waiting: list[str], columns: int) -> tuple[list[str] | None, list[str]]:
    """The whole row of a field that goes on over the next lines, or None; and the lines that were read and are not part of it."""
    seen: list[str] = []
    text = fields[-1]
    for line in itertools.chain(waiting, lines):
        seen.append(line)
        head, tab, tail = line.rstrip("\r\n").partition("\t")
        text += f"\n{head}"
        if _opened(text):
            if tab or len(seen) > 200:
                break
            continue
        whole = [*fields[:-1], text, *(tail.split("\t") if tab else [])]
        rest = waiting[len(seen) :]
        return (whole, rest) if len(whole) <= columns else (None, [*seen, *rest])
    return None, [*seen, *waiting[len(seen) :]]


def _told(cell: str) -> str:
    """What `="007"` says, which tells Excel that it is a text."""
    match = _TEXT_FORMULA.fullmatch(cell.rstrip())
    return match.group(1).replace('""', '"') if match else cell


def _opened(field: str) -> bool:
    """Whether a quotation mark opens this field and nothing closes it."""
    return field.startswith('"') and field.count('"') % 2 == 1


def _unquoted(field: str) -> str:
    """What a wholly quoted, well-formed field says; any other as it stands."""
    inner = field.strip()
    if len(inner) >= 2 and inner[0] == inner[-1] == '"' and '"' not in inner[1:-1].replace('""', ""):
        return inner[1:-1].replace('""', '"')
    return field
