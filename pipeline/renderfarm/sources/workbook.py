"""An .xlsx workbook (ECMA-376, part 1, SpreadsheetML): which of its sheets is meant, and what is refused before anything is read.

Read here and not by a library, since none says all of what a brief needs: hidden rows and columns, formulas whose value was never saved,
errors apart from texts, and numbers and dates as the sheet shows them. Macros, passwords and zip bombs are refused.
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
from xml.parsers import expat

from renderfarm.errors import ManifestError
from renderfarm.sources.headers import recognised
from renderfarm.sources.parts import read_part, unescaped
from renderfarm.sources.sheet import Shared, rows_of
from renderfarm.sources.shown import built_in
from renderfarm.sources.types import Brief

PART_BYTES_MAX = 2 << 30
TEXTS_CHARS_MAX = 256 << 20
RATIO_MAX = 400
"""A part of more than `_RATIO_FROM` bytes that unpacks to so many times its packed size is a bomb. One word repeated reaches 200."""
_RATIO_FROM = 32 << 20
_MACROS = re.compile(r"vbaProject|/macrosheets/|(?:^|/)workbook\.bin$|vbaData", re.I)
_ENCIPHERED = 1
"""The flag of a part that has a password (APPNOTE, 4.4.4)."""
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    expat.ExpatError,
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
            self._sheets, epoch_1904 = self._read_workbook()
            self._shared = Shared(self._read_texts(), self._read_formats(), epoch_1904)
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
        if not any(name.startswith("xl/workbook") or name == "_rels/.rels" for name in names):
            raise ManifestError("no .xlsx workbook", str(self._path), "save it as .xlsx, or as 'CSV UTF-8'")
        if any(info.flag_bits & _ENCIPHERED for info in infos):
            raise ManifestError("a workbook with a password", str(self._path), "take the password away")
        for info in infos:
            bomb = info.file_size > _RATIO_FROM and info.file_size > RATIO_MAX * max(info.compress_size, 1)
            if bomb or info.file_size > PART_BYTES_MAX:
                what = f"{info.filename} would unpack to {info.file_size >> 20} MiB from {info.compress_size >> 10} KiB"
                raise ManifestError(what, str(self._path), "split the sheet, or save it as 'CSV UTF-8'")

    def _elements(self, name: str) -> Iterator[tuple[str, Mapping[str, str] | None, str]]:
        """(name, attributes, "") of each element of a part that begins, and (name, None, its text) of each that ends."""
        seen: list[tuple[str, Mapping[str, str] | None, str]] = []

        def start(tag: str, attributes: Mapping[str, str]) -> None:
            seen.append((tag, attributes, ""))

        def end(tag: str, text: str) -> None:
            seen.append((tag, None, text))

        with self._zip.open(name) as part:
            for _ in read_part(part, name, str(self._path), start, end):
                yield from seen
                seen.clear()

    def _book(self) -> str:
        """The part that lists the sheets: where the links of the whole say, as a rule xl/workbook.xml."""
        links = self._links("") if "_rels/.rels" in self._zip.namelist() else {}
        return next((target for kind, target in links.values() if kind.endswith("/officeDocument")), "xl/workbook.xml")

    def _links(self, part: str) -> dict[str, tuple[str, str]]:
        """(type, part) of each link of a part, by its id."""
        folder, name = posixpath.split(part)
        links = {}
        for tag, said, _ in self._elements(posixpath.join(folder, "_rels", f"{name}.rels")):
            if tag == "Relationship" and said is not None:
                target = said.get("Target", "")
                links[said.get("Id", "")] = (said.get("Type", ""), posixpath.normpath(posixpath.join("/", folder, target)).lstrip("/"))
        return links

    def _read_workbook(self) -> tuple[list[_Sheet], bool]:
        book = self._book()
        links = self._links(book)
        sheets, epoch = [], False
        for tag, said, _ in self._elements(book):
            if tag == "sheet" and said is not None:
                link = next((value for name, value in said.items() if name.endswith(":id")), "")
                _, part = links.get(link, ("", ""))
                if "worksheets/" in part:
                    sheets.append(_Sheet(said.get("name", ""), part, said.get("state", "visible") != "visible"))
            elif tag == "workbookPr" and said is not None:
                epoch = said.get("date1904") in ("1", "true")
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
        for tag, said, _ in self._elements("xl/styles.xml"):
            if tag == "cellXfs":
                inside = said is not None
            elif tag == "numFmt" and said is not None:
                codes[said.get("numFmtId", "")] = said.get("formatCode", "")
            elif tag == "xf" and said is not None and inside:
                number = said.get("numFmtId", "0")
                formats.append(codes.get(number) or built_in(number))
        return formats

    def _read_texts(self) -> list[str]:
        """The table of texts; readings of ideographs (`rPh`) are no part of them."""
        name = next((name for name in self._zip.namelist() if name.lower() == "xl/sharedstrings.xml"), None)
        texts: list[str] = []
        runs: list[str] = []
        chars, phonetic = 0, False
        for tag, said, text in self._elements(name) if name else ():
            if tag == "rPh":
                phonetic = said is not None
            elif tag == "t" and said is None and not phonetic:
                runs.append(text)
            elif tag == "si" and said is None:
                texts.append(unescaped("".join(runs)))
                runs.clear()
                chars += len(texts[-1])
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
        return rows_of(lambda: self._zip.open(sheet.part), sheet.part, self._shared, source, str(self._path))


def _refuse_wrappings(path: Path, file: IO[bytes]) -> None:
    head = file.read(8)
    file.seek(0)
    if head.startswith(b"\xd0\xcf\x11\xe0"):
        remedy = "take the password away, or save it as .xlsx"
        raise ManifestError("a workbook with a password, or of the old kind (.xls)", str(path), remedy)
    if not head.startswith(b"PK"):
        raise ManifestError("no .xlsx workbook", str(path), "save it as .xlsx, or as 'CSV UTF-8'")
