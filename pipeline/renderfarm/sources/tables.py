"""A grid of cells → rows with named cells: where the header stands, which columns count, what lies beside them.

A title above the header, blank rows and empty columns are what spreadsheets have; a value in a column without a name is a fault of its row.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from renderfarm.errors import ManifestError
from renderfarm.sources.delimited import Grid
from renderfarm.sources.headers import Columns, meaning, plain, recognised, understood
from renderfarm.sources.types import CELL_CHARS_MAX, COLUMNS_MAX, STYLES, STYLES_REMEDY, Brief, ReadAs, SourceRow, Unreadable

_HEADER_WITHIN = 30
"""Rows that are looked at for the header."""


def named_rows(grid: Grid, source: Brief, reading: ReadAs, where: str) -> Iterator[SourceRow]:
    """The rows below the header. Raises: ManifestError for columns that are wrong, or far too many."""
    head = list(itertools.islice((row for row in grid if not _blank(row[1])), _HEADER_WITHIN))
    if not head:
        return
    at = max(range(len(head)), key=lambda n: (recognised(_texts(head[n][1], where), reading.meanings), -n))
    number, names = head[at][0], _texts(head[at][1], where)
    if not recognised(names, reading.meanings) and len([name for name in names if name]) == 1:
        remedy = "write `prompt` above the list, or save it as .txt: a prompt a line"
        raise ManifestError("no row names the column", where, remedy)
    if not any(meaning(name, reading.meanings) for name in names if name):
        remedy = "put a row above the others that names the columns, one of them prompt; or say what they are: --map NAME=prompt"
        shown = ", ".join(repr(name[:30]) for name in names if name)[:200]
        raise ManifestError(f"no cell of row {number} is the name of a column that is known: {shown}", where, remedy)
    columns = understood(names, reading.meanings, where, reading.mapping)
    if at:
        above = "; ".join(" ".join(text for text in _texts(cells, where) if text)[:60] for _, cells in head[:at])
        source.notes.append(f"the header is row {number}; left out above it: {above!r}")
    _refuse_styles(names, head[at + 1 :], where)
    source.notes += columns.notes
    source.ids = "id" in columns.targets
    for place, cells in itertools.chain(head[at + 1 :], grid):
        if not _blank(cells):
            yield _named(place, names, columns, cells)


def _named(place: int, names: Sequence[str], columns: Columns, cells: Sequence[object]) -> SourceRow:
    named: dict[str, Any] = {}
    for at, cell in enumerate(cells):
        value = cell.strip() if isinstance(cell, str) else cell
        if value is None or value == "":
            continue
        if isinstance(value, str) and len(value) > CELL_CHARS_MAX:
            value = Unreadable(f"more than {CELL_CHARS_MAX} characters", "shorten it")
        if at >= len(names):
            return SourceRow(place, {}, f"{len(cells)} cells and only {len(names)} columns; put texts with separators in quotation marks")
        if not names[at]:
            if at == 0 and _counts(value, place):
                continue
            return SourceRow(place, {}, f"column {at + 1} holds {str(value)[:40]!r} and has no name; name it, or empty the cell")
        if (target := columns.targets[at]) is not None:
            named[target] = value
    return SourceRow(place, named)


def _counts(value: object, place: int) -> bool:
    """Whether a nameless first column only counts the rows, as pandas writes its index."""
    text = value if isinstance(value, str) else getattr(value, "text", "")
    return text.isdecimal() and len(text) < 10 and int(text) <= place


def _blank(cells: Sequence[object]) -> bool:
    return all(cell is None or (isinstance(cell, str) and not cell.strip()) for cell in cells)


def _texts(cells: Sequence[object], where: str) -> list[str]:
    if len(cells) > COLUMNS_MAX:
        raise ManifestError(f"{len(cells)} columns", where, f"use {COLUMNS_MAX} at most; is the separator the right one?")
    return [cell.strip() if isinstance(cell, str) else "" if cell is None or isinstance(cell, Unreadable) else str(cell) for cell in cells]


def _refuse_styles(names: Sequence[str], rows: Sequence[tuple[int, Sequence[object]]], where: str) -> None:
    """Raises: ManifestError for a list of styles: what it holds goes around prompts and is none."""
    if {plain(name) for name in names if name} >= {"name", "prompt"} and any(
        "{prompt}" in str(cell) for _, cells in rows for cell in cells
    ):
        raise ManifestError(STYLES, where, STYLES_REMEDY)
