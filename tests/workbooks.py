"""Workbooks for tests: the few parts that .xlsx needs, with cells as XML where a test wants something special."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape, quoteattr

NS = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
LINKS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"

Cell = str | int | float | None
"""A text that begins with `<c` is XML of its own; `@` in it stands for the cell's place."""


def sheet(rows: Sequence[Sequence[Cell]], *, hidden: Sequence[int] = (), before: str = "", after: str = "", first: int = 1) -> str:
    """The XML of a sheet. `hidden`: numbers of rows; `before` and `after`: what stands around the rows."""
    lines = []
    for number, cells in enumerate(rows, first):
        inner = "".join(_cell(value, f"{chr(65 + at)}{number}") for at, value in enumerate(cells) if value is not None)
        said = ' hidden="1"' if number in hidden else ""
        lines.append(f'<row r="{number}"{said}>{inner}</row>' if inner else "")
    return f'<?xml version="1.0"?><worksheet {NS}>{before}<sheetData>{"".join(lines)}</sheetData>{after}</worksheet>'


def _cell(value: Cell, place: str) -> str:
    if isinstance(value, str) and value.startswith("<c"):
        return value.replace("@", place, 1)
    if isinstance(value, str):
        return f'<c r="{place}" t="inlineStr"><is><t xml:space="preserve">{escape(value)}</t></is></c>'
    return f'<c r="{place}"><v>{value}</v></c>'


def workbook(
    sheets: Mapping[str, str],
    *,
    formats: Sequence[str] = (),
    shared: str = "",
    hidden: Sequence[str] = (),
    extra: Mapping[str, bytes] | None = None,
) -> bytes:
    """The file. `formats`: codes of the cell styles 1, 2 …; `shared`: `<si>` elements; `hidden`: names of sheets; `extra`: more parts."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as file:
        listed, links = [], []
        for number, (name, xml) in enumerate(sheets.items(), 1):
            state = ' state="hidden"' if name in hidden else ""
            listed.append(f'<sheet name={quoteattr(name)} sheetId="{number}"{state} r:id="rId{number}"/>')
            links.append(f'<Relationship Id="rId{number}" Type="{LINKS}/worksheet" Target="worksheets/sheet{number}.xml"/>')
            file.writestr(f"xl/worksheets/sheet{number}.xml", xml)
        file.writestr("xl/workbook.xml", f'<workbook {NS} xmlns:r="{LINKS}"><sheets>{"".join(listed)}</sheets></workbook>')
        file.writestr("xl/_rels/workbook.xml.rels", f"<Relationships>{''.join(links)}</Relationships>")
        codes = "".join(f'<numFmt numFmtId="{164 + at}" formatCode={quoteattr(code)}/>' for at, code in enumerate(formats))
        used = "".join(f'<xf numFmtId="{number}"/>' for number in (0, *range(164, 164 + len(formats))))
        file.writestr("xl/styles.xml", f"<styleSheet {NS}><numFmts>{codes}</numFmts><cellXfs>{used}</cellXfs></styleSheet>")
        if shared:
            file.writestr("xl/sharedStrings.xml", f"<sst {NS}>{shared}</sst>")
        for name, content in (extra or {}).items():
            file.writestr(name, content)
    return data.getvalue()
