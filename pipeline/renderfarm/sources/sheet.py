"""The rows of one sheet, from its XML (ECMA-376, part 1, section 18.3): one row is in memory.

A cell that is merged over several rows is the value of each row that has any other; what is hidden or merged is said when all was read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO

from renderfarm.errors import ManifestError
from renderfarm.sources.parts import read_part, unescaped
from renderfarm.sources.shown import shown
from renderfarm.sources.types import CELL_CHARS_MAX, COLUMNS_MAX, Brief, Unreadable

ROWS_MAX = 1_048_576
"""Excel's own limit."""
_REF = re.compile(r"([A-Z]{1,4})([0-9]{1,8})$")
_MERGED = re.compile(rb"""<(?:\w+:)?mergeCell\s[^>]*?ref=["']([A-Z]{1,3})([0-9]{1,7}):[A-Z]{1,3}([0-9]{1,7})["']""")
_MERGED_MAX = 100_000


@dataclass(frozen=True, slots=True)
class Shared:
    """What the cells of all sheets refer to. `formats`: a code for each style."""

    texts: Sequence[str]
    formats: Sequence[str]
    epoch_1904: bool


@dataclass(slots=True)
class _Merged:
    """Cells that are merged over several rows: (column, first row, last row) in the order of first rows; and those that began."""

    waiting: list[tuple[int, int, int]]
    begun: list[tuple[int, int, object]] = field(default_factory=list)

    def fill(self, number: int, cells: list[object]) -> None:
        """Puts into a row what began above it, and remembers what begins in it."""
        self.begun = [one for one in self.begun if one[1] >= number]
        for column, _, value in self.begun:
            cells += [None] * (column + 1 - len(cells))
            if cells[column] is None:
                cells[column] = value
        while self.waiting and self.waiting[0][1] <= number:
            column, first, last = self.waiting.pop(0)
            if first == number and column < len(cells) and cells[column] is not None:
                self.begun.append((column, last, cells[column]))


class SheetRows:
    """Takes a sheet's elements and gives its rows."""

    def __init__(self, shared: Shared, where: str) -> None:
        self._shared, self._where = shared, where
        self.finished: list[tuple[int, list[object]]] = []
        self.hidden: list[int] = []
        self.hidden_columns: list[tuple[int, int]] = []
        self.width = 0
        self._number = self._at = 0
        self._row_hidden = self._phonetic = self._formula = False
        self._cells: list[object] = []
        self._cell: Mapping[str, str] = {}
        self._value: str | None = None
        self._inline: list[str] = []

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        """An element begins. Raises: ManifestError for a row or a cell that no spreadsheet has; ValueError."""
        if name == "c":
            self._cell, self._value, self._formula = attributes, None, False
        elif name == "f":
            self._formula = True
        elif name == "row":
            self._number = int(attributes.get("r") or self._number + 1)
            if not 0 < self._number <= ROWS_MAX:
                raise ManifestError(f"row {self._number} lies beyond the last row of any spreadsheet", self._where, "save it again")
            self._row_hidden, self._cells, self._at = _true(attributes.get("hidden")), [], 0
        elif name == "rPh":
            self._phonetic = True
        elif name == "is":
            self._inline = []
        elif name == "col" and _true(attributes.get("hidden")):
            self.hidden_columns.append((int(attributes.get("min", "1")), int(attributes.get("max", "0"))))

    def end(self, name: str, text: str) -> None:
        """An element ends. Raises: LookupError, ValueError for references that lead nowhere and values that are none."""
        if name == "c":
            self._end_cell()
        elif name == "v":
            self._value = text
        elif name == "t" and not self._phonetic:
            self._inline.append(text)
        elif name == "rPh":
            self._phonetic = False
        elif name == "row" and self._cells:
            self.width = max(self.width, len(self._cells))
            if self._row_hidden:
                self.hidden.append(self._number)
            self.finished.append((self._number, self._cells))

    def _end_cell(self) -> None:
        """Puts the cell's value into the row, which ends with the last that is one."""
        column = self._at
        if ref := self._cell.get("r"):
            match = _REF.match(ref)
            column = column_number(match.group(1)) if match else COLUMNS_MAX
        if column >= COLUMNS_MAX:
            raise ManifestError(f"row {self._number} has cells beyond the last column of any spreadsheet", self._where, "save it again")
        self._at = column + 1
        value = self._read()
        if value is not None and value != "":
            self._cells += [None] * (column + 1 - len(self._cells))
            self._cells[column] = value

    def _read(self) -> object:
        kind, value = self._cell.get("t", "n"), self._value
        if kind == "inlineStr":
            text = unescaped("".join(self._inline))
            self._inline = []
            return text if len(text) <= CELL_CHARS_MAX else Unreadable(f"more than {CELL_CHARS_MAX} characters", "shorten it")
        if kind == "e":
            return Unreadable(f"the spreadsheet's error {value or ''}".rstrip(), "mend the formula")
        if value is None or value == "":
            if not self._formula or kind == "str":
                return None
            return Unreadable("a formula whose value was never saved", "open the workbook in the spreadsheet program and save it")
        if kind == "s":
            return self._shared.texts[_index(value)]
        if kind == "b":
            return "TRUE" if value == "1" else "FALSE"
        if kind in ("str", "d"):
            return unescaped(value)
        number, style = float(value), _index(self._cell.get("s", "0"))
        if not math.isfinite(number):
            raise ValueError(f"{value!r} in row {self._number} is no number")
        formats = self._shared.formats
        return shown(number, formats[style] if style < len(formats) else "General", self._shared.epoch_1904)


def rows_of(open_part: Callable[[], IO[bytes]], name: str, shared: Shared, source: Brief, where: str) -> Iterator[tuple[int, list[object]]]:
    """The rows of a sheet with their own numbers. Raises: ManifestError; what damaged files make of zipfile, zlib and expat."""
    with open_part() as part:
        waiting = _merged_over_rows(part)
    said = [f"{column_letters(column)}{first}:{column_letters(column)}{last}" for column, first, last in waiting]
    merged = _Merged(waiting)
    rows = SheetRows(shared, where)
    with open_part() as part:
        for _ in read_part(part, name, where, rows.start, rows.end):
            for number, cells in rows.finished:
                merged.fill(number, cells)
                yield number, cells
            rows.finished.clear()
    _say_hidden(source, rows)
    if said:
        shown_refs = ", ".join(said[:5]) + (f" and {len(said) - 5} more" if len(said) > 5 else "")
        source.notes.append(f"cells that are merged over several rows ({shown_refs}) are the value of each of them")


def _merged_over_rows(part: IO[bytes]) -> list[tuple[int, int, int]]:
    """(column, first row, last row) of each. They stand behind the rows, which are read as they come: so this is looked for first."""
    found: list[tuple[int, int, int]] = []
    rest = b""
    while piece := part.read(1 << 20):
        rest += piece
        looked_at = max(0, len(rest) - 1024)
        for match in _MERGED.finditer(rest):
            first, last = int(match.group(2)), int(match.group(3))
            if first < last and len(found) < _MERGED_MAX:
                found.append((column_number(match.group(1).decode()), first, last))
            looked_at = max(looked_at, match.end())
        rest = rest[looked_at:]
    return sorted(found, key=lambda one: one[1])


def _say_hidden(source: Brief, rows: SheetRows) -> None:
    if rows.hidden:
        several = len(rows.hidden) > 1
        named = f"row{'s' if several else ''} {ranges(rows.hidden)} {'are' if several else 'is'}"
        source.doubt(f"{named} hidden in the sheet and read like the others", "delete what is not meant; a filter hides rows too")
    # Columns beyond the last that has a value are hidden by many, so that the sheet looks tidy.
    hidden = sorted({column for low, high in rows.hidden_columns for column in range(low, min(high, rows.width) + 1)})
    if hidden:
        named = ranges(hidden, lambda column: column_letters(column - 1))
        plural = f"s {named} are" if len(hidden) > 1 else f" {named} is"
        source.doubt(f"column{plural} hidden in the sheet and read like the others", "delete what is not meant")


def _index(text: str) -> int:
    """Raises: ValueError for what is no place in a table."""
    if (number := int(text)) < 0:
        raise ValueError(f"{number} is no place in a table")
    return number


def _true(text: str | None) -> bool:
    return text in ("1", "true")


def column_number(letters: str) -> int:
    """`A` → 0, `XFD` → 16383."""
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - 64
    return number - 1


def column_letters(number: int) -> str:
    """0 → `A`."""
    letters = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        letters = chr(65 + rest) + letters
    return letters


def ranges(numbers: Sequence[int], named: Callable[[int], str] = str) -> str:
    """`3, 5-9`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1] = [runs[-1][0], number]
        else:
            runs.append([number])
    texts = [f"{named(run[0])}-{named(run[-1])}" if len(run) > 1 else named(run[0]) for run in runs]
    return ", ".join(texts[:10]) + (f" and {len(texts) - 10} more" if len(texts) > 10 else "")
