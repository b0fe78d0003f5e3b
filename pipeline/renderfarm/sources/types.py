"""What the modules of this room hand to each other. No files here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from renderfarm.manifest.faults import Doubt

CELL_CHARS_MAX = 100_000
"""A spreadsheet's own limit is 32,767. More in one cell is a quotation mark that nobody closed."""
COLUMNS_MAX = 16_384
"""Excel's own limit."""
ROWS_MADE_MAX = 100_000
"""Rows that `{a|b}` and wildcards may make, unless more are asked for."""


STYLES = "a list of styles (a name, and what goes around a prompt), and no prompts"
STYLES_REMEDY = "give it as --styles, beside a source whose column `style` names them"


def words(text: str) -> frozenset[str]:
    """A list of words that is written as one text."""
    return frozenset(text.split())


@dataclass(frozen=True, slots=True)
class ReadAs:
    """How a source is to be read, beyond what it says itself.

    `mapping`: a column's name, as `headers.plain` has it → what it means; `*` stands for every column that is not known. `shared`:
    the same from a file for many sources, some of which lack such a column. `id_from`: `row`,
    `prompt`, names of columns with commas between, or "" (the column of ids, else the whole row). `pixels`: the area of a picture of
    which only the aspect is said.
    """

    mapping: Mapping[str, str] = field(default_factory=dict)
    shared: Mapping[str, str] = field(default_factory=dict)
    id_from: str = ""
    sheet: str = ""
    styles: Path | None = None
    wildcards: Path | None = None
    variants: int | None = None
    variants_seed: int = 0
    rows_made_max: int = ROWS_MADE_MAX
    pixels: int = 1024 * 1024

    @property
    def meanings(self) -> dict[str, str]:
        """Both mappings; what was said for this source alone wins."""
        return {**self.shared, **self.mapping}


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands for the value of a cell that holds none: a spreadsheet's error, or a formula that was never computed."""

    what: str
    remedy: str


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One row as it was said, and where: a row, a line, or an entry of a template. `broken` says why nothing could be read."""

    place: int
    cells: dict[str, Any]
    broken: str = ""


@dataclass(slots=True)
class Brief:
    """A source that is open: its rows, and what is said of it as a whole while they are read.

    `unit`: what a place is called. `notes`: how it was understood, a line each; `doubts`: what a person should look at.
    `decimal_comma`: whether `7,5` can only be a number (the cells are not separated by commas). `ids`: whether the rows bring their own.
    """

    unit: str
    rows: Iterator[SourceRow] = field(default_factory=lambda: iter(()))
    notes: list[str] = field(default_factory=list)
    doubts: list[Doubt] = field(default_factory=list)
    decimal_comma: bool = False
    ids: bool = False

    def doubt(self, what: str, remedy: str) -> None:
        """A warning about the source as a whole."""
        self.doubts.append(Doubt(None, None, None, what, remedy))
