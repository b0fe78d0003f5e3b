"""Workbooks: what a person sees in the sheet is what is read, and what must not be opened is one message."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path

import pytest

from renderfarm import brief, manifest
from renderfarm.errors import ManifestError
from renderfarm.manifest import BuildReport
from renderfarm.schema import PromptRow
from renderfarm.sources.shown import built_in, shown
from tests.workbooks import NS, sheet, workbook

HEAD = ["id", "prompt", "seed", "tag.note"]


def built(tmp_path: Path, data: bytes, **said: str) -> tuple[BuildReport, list[PromptRow]]:
    path, out = tmp_path / "brief.xlsx", tmp_path / "m.parquet"
    path.write_bytes(data)
    report = brief.build(path, out, reading=brief.ReadAs(**said))
    return report, [row for shard in manifest.read(str(out)) for row in shard.rows] if out.exists() else []


def refused(tmp_path: Path, data: bytes) -> str:
    with pytest.raises(ManifestError) as caught:
        built(tmp_path, data)
    assert not (tmp_path / "m.parquet").exists()
    return str(caught.value)


def test_texts_numbers_dates_and_formulas_are_as_they_are_shown(tmp_path: Path) -> None:
    shared = "<si><t>a mug</t></si><si><r><t>a </t></r><r><t>blue</t></r><rPh><t>ruby</t></rPh><r><t> mug_x000D_</t></r></si>"
    rows = [
        HEAD,
        [7, '<c r="@" t="s"><v>0</v></c>', 512.0, '<c r="@" s="1"><v>19.9</v></c>'],
        ["B", '<c r="@" t="s"><v>1</v></c>', None, '<c r="@" s="2"><v>46022</v></c>'],
        ["C", '<c r="@" t="str"><f>A2&amp;B2</f><v>a red mug</v></c>', '<c r="@"><v>3.0</v></c>', '<c r="@" s="3"><v>0.5</v></c>'],
        ["D", "a box", None, '<c r="@" t="b"><v>1</v></c>'],
    ]
    report, made = built(tmp_path, workbook({"Prompts": sheet(rows)}, formats=['0.00 "€"', "dd.mm.yyyy", "0%"], shared=shared))
    assert report.faults == () and report.seen == 4
    assert [(row.id, row.prompt, row.seed, dict(row.tags)["note"]) for row in made] == [
        ("7", "a mug", 512, "19.90 €"),
        ("B", "a blue mug", None, "31.12.2025"),
        ("C", "a red mug", 3, "50%"),
        ("D", "a box", None, "TRUE"),
    ]


def test_faults_have_the_rows_own_number_and_errors_are_refused(tmp_path: Path) -> None:
    rows = [
        ["Campaign Spring"],
        [],
        HEAD,
        ["a", "a mug", 1.5],
        [],
        ["b", '<c r="@" t="e"><f>A9</f><v>#REF!</v></c>'],
        ["c", '<c r="@"><f>A2&amp;B2</f></c>'],
    ]
    report, made = built(tmp_path, workbook({"Prompts": sheet(rows)}))
    assert [(fault.row, fault.column, fault.what) for fault in report.faults] == [
        (4, "seed", "1.5 is no whole number"),
        (6, "prompt", "the spreadsheet's error #REF!"),
        (7, "prompt", "a formula whose value was never saved"),
    ]
    assert made == [] and "the header is row 3; left out above it: 'Campaign Spring'" in report.notes


def test_what_is_hidden_or_merged_is_said(tmp_path: Path) -> None:
    rows = [HEAD, *([f"{n}", f"a mug {n}"] for n in range(2, 9))]
    xml = sheet(
        rows,
        hidden=(3, 5, 6, 7),
        before='<cols><col min="3" max="4" hidden="1"/></cols>',
        after='<mergeCells><mergeCell ref="A1:C1"/></mergeCells>',
    )
    report, made = built(tmp_path, workbook({"Prompts": xml}))
    assert len(made) == 7
    assert [warning.what for warning in report.warnings] == [
        "rows 3, 5-7 are hidden in the sheet and read like the others",
        "columns C-D are hidden in the sheet and read like the others",
    ]


def test_empty_columns_that_are_hidden_are_no_matter(tmp_path: Path) -> None:
    xml = sheet([["id", "prompt"], ["a", "a mug"]], before='<cols><col min="3" max="16384" hidden="1"/></cols>')
    assert built(tmp_path, workbook({"Prompts": xml}))[0].warnings == ()


def test_a_cell_that_is_merged_over_rows_is_the_value_of_each(tmp_path: Path) -> None:
    """A campaign over its rows, and a header of two rows; blank rows below stay blank."""
    rows = [
        ["id", "prompt", "Campaign"],
        ["a", "a mug", "Spring"],
        ["b", "a box"],
        ["c", "a jug"],
        [],
        ["d", "a hat", "Autumn"],
    ]
    after = '<mergeCells count="2"><mergeCell ref="C2:C5"/><mergeCell ref="A5:B5"/></mergeCells>'
    report, made = built(tmp_path, workbook({"Prompts": sheet(rows, after=after)}))
    assert [dict(row.tags)["campaign"] for row in made] == ["Spring", "Spring", "Spring", "Autumn"]
    assert report.faults == report.warnings == ()
    assert "cells that are merged over several rows (C2:C5) are the value of each of them" in report.notes
    two = [["id", "prompt", "Size"], [None, None, "width", "height"], ["a", "a mug", 512, 768]]
    after = '<mergeCells><mergeCell ref="A1:A2"/><mergeCell ref="B1:B2"/><mergeCell ref="C1:D1"/></mergeCells>'
    assert [(row.width, row.height) for row in built(tmp_path, workbook({"Prompts": sheet(two, after=after)}))[1]] == [(512, 768)]


@pytest.mark.parametrize("column", ["objects", "guidance", "seed"])
def test_a_date_that_a_spreadsheet_made_of_a_number_is_refused(tmp_path: Path, column: str) -> None:
    """`1-2` and, in many countries, `7.5` become days."""
    rows = [["id", "prompt", column], ["a", "a mug", '<c r="@" s="1"><v>46149</v></c>']]
    report, _ = built(tmp_path, workbook({"Prompts": sheet(rows)}, formats=["d. mmm"]))
    assert [(fault.column, fault.what) for fault in report.faults] == [
        (column, "'7. May' is a date; the spreadsheet made it of what was written there")
    ]


def test_a_workbook_lies_where_its_links_say_and_may_be_strict(tmp_path: Path) -> None:
    plain = workbook({"Prompts": sheet([HEAD, ["a", "a mug"]])})
    moved = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(plain)) as old, zipfile.ZipFile(moved, "w") as new:
        for name in old.namelist():
            text = old.read(name).decode().replace(NS, 'xmlns="http://purl.oclc.org/ooxml/spreadsheetml/main"')
            new.writestr(name.replace("workbook.xml", "workbook2.xml"), text)
        link = '<Relationship Type="http://x/officeDocument" Target="/xl/workbook2.xml"/>'
        new.writestr("_rels/.rels", f"<Relationships>{link}</Relationships>")
    assert [row.id for row in built(tmp_path, moved.getvalue())[1]] == ["a"]


def test_the_sheet_is_named_or_the_only_one_that_has_prompts(tmp_path: Path) -> None:
    notes, prompts = sheet([["what we said"]]), sheet([HEAD, ["a", "a mug"]])
    report, made = built(tmp_path, workbook({"Notes": notes, "Prompts": prompts}))
    assert [row.id for row in made] == ["a"] and "sheet 'Prompts'; not read: 'Notes'" in report.notes
    two = workbook({"Spring": prompts, "Autumn": sheet([HEAD, ["b", "a box"]])})
    (tmp_path / "m.parquet").unlink()
    assert "several sheets may be meant: 'Spring', 'Autumn'" in refused(tmp_path, two)
    assert [row.id for row in built(tmp_path, two, sheet="autumn")[1]] == ["b"]
    with pytest.raises(ManifestError, match="there is no sheet 'Winter'"):
        built(tmp_path, two, sheet="Winter")
    report, made = built(tmp_path, workbook({"Spring": prompts, "Old": prompts}, hidden=["Old"]))
    assert [row.id for row in made] == ["a"]


def test_a_time_that_was_meant_as_an_aspect_is_one(tmp_path: Path) -> None:
    """`16:9` in a cell becomes the time of day 16:09."""
    rows = [["id", "prompt", "Aspect Ratio"], ["a", "a mug", f'<c r="@" s="1"><v>{(16 * 60 + 9) / 1440}</v></c>']]
    _, made = built(tmp_path, workbook({"Prompts": sheet(rows)}, formats=["h:mm"]))
    assert (made[0].width, made[0].height) == (1280, 720)


def deflated(name: str, size: int) -> bytes:
    data = io.BytesIO(workbook({"Prompts": sheet([HEAD])}))
    with zipfile.ZipFile(data, "a", zipfile.ZIP_DEFLATED) as file, file.open(name, "w") as part:
        for _ in range(size >> 20):
            part.write(b" " * (1 << 20))
    return data.getvalue()


def locked(data: bytes) -> bytes:
    """With the flag of every part that says that it is enciphered."""
    return re.sub(rb"(PK\x01\x02.{4}).", lambda match: match.group(1) + b"\x01", data, flags=re.S)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 100, "a workbook with a password, or of the old kind (.xls)"),
        (b"id,prompt\na,b\n", "no .xlsx workbook"),
        (b"", "no .xlsx workbook"),
        (workbook({"S": sheet([HEAD])})[:-100], "a damaged workbook"),
        (workbook({"S": sheet([HEAD])}, extra={"xl/vbaProject.bin": b"x"}), "a workbook with macros is not opened"),
        (workbook({}), "the workbook has no sheet"),
        (workbook({"S": f"<worksheet {NS}><sheetData><row>"}), "a damaged workbook"),
        (workbook({"S": f'<!DOCTYPE x [<!ENTITY a "b">]><worksheet {NS}/>'}), "declares entities of its own"),
        (workbook({"S": sheet([HEAD, ["a", '<c r="ZZZZ2"><v>1</v></c>']])}), "row 2 has cells beyond the last column"),
        (workbook({"S": sheet([HEAD, ["a", '<c r="@" t="s"><v>9</v></c>']])}), "a damaged workbook"),
        (workbook({"S": sheet([HEAD, ["a", '<c r="@" t="s"><v>-1</v></c>']])}, shared="<si><t>x</t></si>"), "a damaged workbook"),
        (workbook({"S": sheet([HEAD, ["a", '<c r="@" s="-1"><v>1</v></c>']])}), "a damaged workbook"),
        (workbook({"S": sheet([HEAD, ["a", "<c t='n'><v>NaN</v></c>"]])}), "a damaged workbook"),
        (workbook({"S": sheet([HEAD]).replace('r="1"', f'r="{10**30}"')}), "lies beyond the last row"),
        (workbook({"S": sheet([["<c/>" * 16_385]])}), "row 1 has cells beyond the last column"),
        (workbook({"S": f'<!--{"x" * 9000}--><!DOCTYPE x [<!ENTITY a "b">]><worksheet {NS}/>'}), "declares entities of its own"),
        (locked(workbook({"S": sheet([HEAD])})), "a workbook with a password"),
        (deflated("xl/media/bomb.xml", 64 << 20), "would unpack to 64 MiB"),
    ],
)
def test_what_must_not_be_opened_is_one_message(tmp_path: Path, data: bytes, said: str) -> None:
    assert said in refused(tmp_path, data)


@pytest.mark.parametrize(
    ("value", "code", "text"),
    [
        (512.0, "General", "512"),
        (0.1 + 0.2, "General", "0.3"),
        (1e15, "General", "1E+15"),
        (1234.5, "#,##0.00", "1,234.50"),
        (-3.0, "0;(0)", "(3)"),
        (0.125, "0.0%", "12.5%"),
        (1.005, "0.00", "1.01"),
        (7.0, "000", "007"),
        (0.5, "#.##", ".5"),
        (1500.0, "0,", "2"),
        (12.0, '"No. "0', "No. 12"),
        (19.9, "[$€-407] #,##0.00", "€ 19.90"),
        (5.0, "@", "5"),
        (46022.75, "yyyy-mm-dd hh:mm", "2025-12-31 18:00"),
        (46022.75, "d mmmm yyyy", "31 December 2025"),
        (46022.0, built_in("14"), "2025-12-31"),
        (0.75, "h:mm AM/PM", "6:00 PM"),
        (1.5, "[h]:mm", "36:00"),
        (59.0, "yyyy-mm-dd", "1900-02-28"),
        (61.0, "yyyy-mm-dd", "1900-03-01"),
        (1e12, "yyyy", "1E+12"),
    ],
)
def test_numbers_as_a_sheet_shows_them(value: float, code: str, text: str) -> None:
    assert shown(value, code).text == text
