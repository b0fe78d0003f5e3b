"""A sheet of an .xlsx workbook as a grid (ECMA-376, part 1, SpreadsheetML): one row is in memory, beside the workbook's table of texts.

Read here and not by a library, since none says all of what a brief needs: hidden rows and columns, formulas whose value was never saved,
errors apart from texts, and numbers and dates as the sheet shows them. Macros, passwords and zip bombs are refused before anything is read.
"""

from __future__ import annotations

import posixpath
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from xml.etree import ElementTree as ET

from renderfarm.errors import ManifestError
from renderfarm.sources.headers import recognised
from renderfarm.sources.shown import built_in, shown
from renderfarm.sources.types import CELL_CHARS_MAX, COLUMNS_MAX, Brief, Unreadable

PART_BYTES_MAX = 2 << 30
TEXTS_CHARS_MAX = 256 << 20
RATIO_MAX = 400
"""A part of more than `_RATIO_FROM` bytes that unpacks to so many times its packed size is a bomb. One word repeated reaches 200."""
_RATIO_FROM = 32 << 20
_MACROS = re.compile(r"vbaProject|/macrosheets/|(?:^|/)workbook\.bin$|vbaData", re.I)
_ESCAPE = re.compile(r"_x([0-9A-Fa-f]{4})_")
_REF = re.compile(r"([A-Z]{1,4})([0-9]{1,8})$")
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    ET.ParseError,
    LookupError,
    ValueError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    OverflowError,
)
"""What a damaged archive or document makes of zipfile, zlib and expat."""


@dataclass(frozen=True, slots=True)
class _Sheet:
    name: str
    part: str
    hidden: bool


class Workbook:
    """An open workbook. `grid` gives the rows of the sheet that is meant; what is hidden or merged in it is said when it was read."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        """Raises: ManifestError for what is no workbook, or one that is not to be opened."""
        self._path = path
        try:
            _refuse_wrappings(path, file)
            self._zip = zipfile.ZipFile(file)
            self._refuse_contents()
            self._sheets, self._epoch_1904 = self._read_workbook()
            self._formats = self._read_formats()
            self._texts = self._read_texts()
        except ManifestError:
            raise
        except _BROKEN as error:
            raise self._damaged(error) from error

    def grid(self, source: Brief, wanted: str, mapping: Mapping[str, str]) -> Iterator[tuple[int, list[object]]]:
        """The rows of the sheet `wanted`, or of the one that has prompts, with their own numbers. Raises: ManifestError."""
        try:
            sheet = self._chosen(wanted, mapping)
            others = [one.name for one in self._sheets if one is not sheet]
            source.notes.append(f"sheet {sheet.name!r}" + (f"; not read: {', '.join(map(repr, others))}" if others else ""))
            yield from self._rows(sheet, source)
        except ManifestError:
            raise
        except _BROKEN as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> ManifestError:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return ManifestError(
            f"a damaged workbook ({reason})", str(self._path), "open it in the spreadsheet program and save it again as .xlsx"
        )

    def _refuse_contents(self) -> None:
        """Raises: ManifestError for macros, other kinds of files, and what would unpack to more than anybody wrote."""
        infos = self._zip.infolist()
        names = {info.filename for info in infos}
        if any(_MACROS.search(name) and not re.search(r"printerSettings|/media/|/embeddings/", name) for name in names):
            binary = "xl/workbook.bin" in names
            what = "a binary workbook" if binary else "a workbook with macros"
            raise ManifestError(f"{what} is not opened", str(self._path), "save it as .xlsx, without macros")
        if "xl/workbook.xml" not in names and not any(name.endswith("workbook.xml") for name in names):
            raise ManifestError("no .xlsx workbook", str(self._path), "save it as .xlsx, or as 'CSV UTF-8'")
        for info in infos:
            bomb = info.file_size > _RATIO_FROM and info.file_size > RATIO_MAX * max(info.compress_size, 1)
            if bomb or info.file_size > PART_BYTES_MAX:
                what = f"{info.filename} would unpack to {info.file_size >> 20} MiB from {info.compress_size >> 10} KiB"
                raise ManifestError(what, str(self._path), "split the sheet, or save it as 'CSV UTF-8'")

    def _part(self, name: str) -> Iterator[tuple[str, ET.Element]]:
        """(event, element) of one part's XML, with names of elements and attributes that have no namespace."""
        with self._zip.open(name) as part:
            if b"<!DOCTYPE" in part.peek(1024)[:1024]:  # type: ignore[attr-defined]  # a ZipExtFile is buffered
                raise ManifestError(f"{name} declares entities of its own", str(self._path), "save the workbook again")
            for event, element in ET.iterparse(part, events=("start", "end")):
                element.tag = element.tag.rpartition("}")[2]
                yield event, element

    def _read_workbook(self) -> tuple[list[_Sheet], bool]:
        targets = {}
        for event, element in self._part("xl/_rels/workbook.xml.rels"):
            if event == "end" and element.tag == "Relationship":
                target = element.get("Target", "")
                targets[element.get("Id")] = target.lstrip("/") if target.startswith("/") else posixpath.normpath(f"xl/{target}")
        sheets, epoch = [], False
        for event, element in self._part("xl/workbook.xml"):
            if event == "end" and element.tag == "sheet":
                link = next((value for name, value in element.attrib.items() if name.endswith("}id")), None)
                if (part := targets.get(link)) and "worksheets/" in part:
                    sheets.append(_Sheet(element.get("name", ""), part, element.get("state", "visible") != "visible"))
            elif element.tag == "workbookPr":
                epoch = element.get("date1904") in ("1", "true")
        if not sheets:
            raise ManifestError("the workbook has no sheet", str(self._path), "save it again as .xlsx")
        return sheets, epoch

    def _read_formats(self) -> list[str]:
        """The number format of each cell style, as a code."""
        if "xl/styles.xml" not in self._zip.namelist():
            return []
        codes: dict[str, str] = {}
        formats: list[str] = []
        inside = False
        for event, element in self._part("xl/styles.xml"):
            if element.tag == "cellXfs":
                inside = event == "start"
            elif event == "end" and element.tag == "numFmt":
                codes[element.get("numFmtId", "")] = element.get("formatCode", "")
            elif event == "end" and element.tag == "xf" and inside:
                number = element.get("numFmtId", "0")
                formats.append(codes.get(number) or built_in(number))
        return formats

    def _read_texts(self) -> list[str]:
        """The table of texts; readings of ideographs (`rPh`) are no part of them."""
        name = next((name for name in self._zip.namelist() if name.lower() == "xl/sharedstrings.xml"), None)
        texts: list[str] = []
        chars = 0
        root: ET.Element | None = None
        for event, element in self._part(name) if name else ():
            root = element if root is None else root
            if event == "end" and element.tag == "si":
                texts.append(_text(element))
                chars += len(texts[-1])
                root.clear()
                if chars > TEXTS_CHARS_MAX:
                    raise ManifestError(f"more than {TEXTS_CHARS_MAX >> 20} MiB of texts", str(self._path), "split the sheet")
        return texts

    def _chosen(self, wanted: str, mapping: Mapping[str, str]) -> _Sheet:
        """Raises: ManifestError where there is no such sheet, or several may be meant."""
        if wanted:
            named = [sheet for sheet in self._sheets if sheet.name.casefold() == wanted.casefold()]
            if not named:
                shown = ", ".join(repr(sheet.name) for sheet in self._sheets)
                raise ManifestError(f"there is no sheet {wanted!r}", str(self._path), f"the sheets are {shown}")
            return named[0]
        visible = [sheet for sheet in self._sheets if not sheet.hidden] or self._sheets
        if len(visible) == 1:
            return visible[0]
        likely = [sheet for sheet in visible if self._has_header(sheet, mapping)] or visible
        if len(likely) > 1:
            shown = ", ".join(repr(sheet.name) for sheet in likely)
            raise ManifestError(f"several sheets may be meant: {shown}", str(self._path), "name one: --sheet NAME")
        return likely[0]

    def _has_header(self, sheet: _Sheet, mapping: Mapping[str, str]) -> bool:
        for at, (_, cells) in enumerate(self._rows(sheet, Brief("row"))):
            if recognised([cell if isinstance(cell, str) else "" for cell in cells], mapping):
                return True
            if at > 30:
                break
        return False

    def _rows(self, sheet: _Sheet, source: Brief) -> Iterator[tuple[int, list[object]]]:
        number = 0
        hidden: list[int] = []
        hidden_columns, merged = 0, list[str]()
        data: ET.Element | None = None
        for event, element in self._part(sheet.part):
            if event == "start":
                data = element if element.tag == "sheetData" else data
            elif element.tag == "row":
                number = int(element.get("r") or number + 1)
                cells = self._cells(element, number)
                if cells and _true(element, "hidden"):
                    hidden.append(number)
                if cells:
                    yield number, cells
                if data is not None:
                    data.clear()
            elif element.tag == "col" and _true(element, "hidden"):
                hidden_columns += int(element.get("max", "0")) - int(element.get("min", "0")) + 1
            elif element.tag == "mergeCell":
                merged.append(element.get("ref", ""))
        _say_hidden(source, hidden, hidden_columns, [ref for ref in merged if not _in_one_row(ref)])

    def _cells(self, row: ET.Element, number: int) -> list[object]:
        """The row's values up to the last that is one."""
        cells: list[object] = []
        for at, cell in enumerate(row.findall("c")):
            column = at
            if ref := cell.get("r"):
                match = _REF.match(ref)
                column = _column(match.group(1)) if match else COLUMNS_MAX
            if column >= COLUMNS_MAX:
                raise ManifestError(f"cell {ref} lies beyond the last column of any spreadsheet", str(self._path), "save it again")
            value = self._value(cell)
            if value is not None and value != "":
                cells += [None] * (column + 1 - len(cells))
                cells[column] = value
        return cells

    def _value(self, cell: ET.Element) -> object:
        kind, value, formula = cell.get("t", "n"), cell.findtext("v"), cell.find("f")
        if kind == "inlineStr":
            inline = cell.find("is")
            text = "" if inline is None else _text(inline)
            return text if len(text) <= CELL_CHARS_MAX else Unreadable(f"{len(text)} characters long", f"use {CELL_CHARS_MAX} at most")
        if kind == "e":
            return Unreadable(f"the spreadsheet's error {value or ''}".rstrip(), "mend the formula")
        if value is None or value == "":
            if formula is None or kind == "str":
                return None
            return Unreadable("a formula whose value was never saved", "open the workbook in the spreadsheet program and save it")
        if kind == "s":
            return self._texts[int(value)]
        if kind == "b":
            return "TRUE" if value == "1" else "FALSE"
        if kind in ("str", "d"):
            return _unescaped(value)
        style = int(cell.get("s", "0"))
        return shown(float(value), self._formats[style] if style < len(self._formats) else "General", self._epoch_1904)


def _refuse_wrappings(path: Path, file: IO[bytes]) -> None:
    head = file.read(8)
    file.seek(0)
    if head.startswith(b"\xd0\xcf\x11\xe0"):
        remedy = "take the password away, or save it as .xlsx"
        raise ManifestError("a workbook with a password, or of the old kind (.xls)", str(path), remedy)
    if not head.startswith(b"PK"):
        raise ManifestError("no .xlsx workbook", str(path), "save it as .xlsx, or as 'CSV UTF-8'")


def _text(element: ET.Element) -> str:
    """The text of an `si` or `is` element: its own `t`, or those of its runs."""
    for part in element.iter():
        part.tag = part.tag.rpartition("}")[2]
    return _unescaped("".join(t.text or "" for t in [*element.findall("t"), *element.findall("r/t")]))


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match.group(1), 16)), text) if "_x" in text else text


def _true(element: ET.Element, name: str) -> bool:
    return element.get(name) in ("1", "true")


def _column(letters: str) -> int:
    """`A` → 0, `XFD` → 16383."""
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - 64
    return number - 1


def _in_one_row(ref: str) -> bool:
    rows = re.findall(r"[0-9]+", ref)
    return len(set(rows)) <= 1


def _say_hidden(source: Brief, rows: list[int], columns: int, merged: list[str]) -> None:
    if rows:
        named = f"{ranges(rows)} {'is' if len(rows) == 1 else 'are'} hidden in the sheet and read like the others"
        source.doubt(f"row{'s' if len(rows) > 1 else ''} {named}", "delete what is not meant; a filter hides rows too")
    if columns:
        source.doubt(f"{columns} column(s) are hidden in the sheet and read like the others", "delete what is not meant")
    if merged:
        shown_refs = ", ".join(merged[:5]) + (f" and {len(merged) - 5} more" if len(merged) > 5 else "")
        source.doubt(f"cells are merged over several rows ({shown_refs}): only the first of them has the value", "give each row its own")


def ranges(numbers: list[int]) -> str:
    """`3, 5-9`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1] = [runs[-1][0], number]
        else:
            runs.append([number])
    named = [f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs]
    return ", ".join(named[:10]) + (f" and {len(named) - 10} more" if len(named) > 10 else "")
