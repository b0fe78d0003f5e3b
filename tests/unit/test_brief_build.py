"""Building manifests from what people write: spreadsheets, JSON lines, templates."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from renderfarm import brief, manifest
from renderfarm.errors import ManifestError
from renderfarm.manifest import BuildReport, wanted_objects
from renderfarm.schema import ObjectCount, PromptRow

ROOT = Path(__file__).parents[2]


def built(tmp_path: Path, name: str, source: str | bytes) -> tuple[BuildReport, list[PromptRow]]:
    """The report, and the rows that were written."""
    path, out = tmp_path / name, tmp_path / "out" / "m.parquet"
    path.write_bytes(source if isinstance(source, bytes) else textwrap.dedent(source).encode())
    report = brief.build(path, out)
    assert out.exists() is not bool(report.faults)
    assert not list(tmp_path.rglob("*.tmp"))
    rows = [row for shard in manifest.read(str(out)) for row in shard.rows] if out.exists() else []
    assert len(rows) == report.rows
    return report, rows


def told(tmp_path: Path, name: str, source: str) -> list[str]:
    return [f"{fault.row} {fault.column} {fault.what}" for fault in built(tmp_path, name, source)[0].faults]


def refused(tmp_path: Path, name: str, source: str | bytes) -> str:
    with pytest.raises(ManifestError) as caught:
        built(tmp_path, name, source)
    return str(caught.value)


def test_a_spreadsheet_with_semicolons_and_a_byte_order_mark(tmp_path: Path) -> None:
    source = (
        "\ufeffid;prompt;steps;guidance;objects;text;tag.campaign\r\n"
        'a;"a mug; and ""a"" box\nbelow";24; 7.5 ;mug:2, box;"""""";spring\r\n'
        ";;;;;;\r\n"
        " b ;a box;;;tote bag:3;;\r\n"
        "c;mugs;;;2 mug, 1 tote bag;;\r\n"
    )
    _, rows = built(tmp_path, "s.csv", source.replace("mug:2, box", '"mug:2; box"').encode())
    objects = (ObjectCount("mug", 2), ObjectCount("box", 1))
    first = PromptRow("a", 'a mug; and "a" box\nbelow', steps=24, guidance=7.5, text="", objects=objects)
    assert rows[0].tags == (("campaign", "spring"),)
    assert rows[0] == PromptRow(**{**_fields(first), "tags": (("campaign", "spring"),)})
    assert rows[1] == PromptRow("b", "a box", objects=(ObjectCount("tote bag", 3),))
    assert rows[2] == PromptRow("c", "mugs", objects=(ObjectCount("mug", 2), ObjectCount("tote bag", 1)))


def _fields(row: PromptRow) -> dict[str, object]:
    return {name: getattr(row, name) for name in PromptRow.__slots__}


@pytest.mark.parametrize(
    ("cell", "asked"),
    [
        ("mug:2; box:1", {"mug": 2, "box": 1}),
        ("mug:2, box:1", {"mug": 2, "box": 1}),
        ("2 mug; 1 box", {"mug": 2, "box": 1}),
        ("2 mug, box:3; lamp", {"mug": 2, "box": 3, "lamp": 1}),
        ("mug, box", {"mug": 1, "box": 1}),
        ("mug:2;", {"mug": 2}),
        (" 2 mug , ", {"mug": 2}),
        ("mug:2\nbox:1\r\n", {"mug": 2, "box": 1}),
        ("2x mug, 3 × tote bag", {"mug": 2, "tote bag": 3}),
        ("2xl shirt, 2-seater sofa", {"2xl shirt": 1, "2-seater sofa": 1}),
        ("2 seater sofa:1; iPhone 15:2; mug : 4", {"2 seater sofa": 1, "iPhone 15": 2, "mug": 4}),
        ("1 tote bag; 2 person", {"tote bag": 1, "person": 2}),
        (" ; ,", {}),
    ],
)
def test_wanted_objects_in_the_ways_people_write_them(cell: str, asked: dict[str, int]) -> None:
    assert {one.name: one.count for one in wanted_objects(cell)} == asked


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        ("2 seater sofa", "in '2 seater sofa' a number may be a count or part of a name; write 2 seater sofa:1, or seater sofa:2"),
        ("box; 6 Pack beer", "in '6 Pack beer' a number may be a count or part of a name; write 6 Pack beer:1, or Pack beer:6"),
        ("mug 2, box 1", "in 'mug 2' a number may be a count or part of a name; write mug 2:1, or mug:2"),
        (
            "2 mug 1 box",
            "in '2 mug 1 box' a number may be a count or part of a name; write each class with its count behind a colon: mug:2; box:1",
        ),
        ("mug:2 box:1", "the class 'mug:2 box' holds ':'; give each class an entry of its own: mug:2; box:1"),
        ("mug:2, 1 mug", "'mug' is named twice; name each class once, with its whole count"),
        ("mug:", "'' is no whole number; write digits only, for example 24"),
        (":2", "an object has no readable class; name what is to be counted, for example mug"),
        ({"mug, box": 1}, "the class 'mug, box' holds ','; give each class an entry of its own: mug:2; box:1"),
        ("3", "'3' names no thing; say what is counted: mug:3"),
    ],
)
def test_wanted_objects_that_may_mean_two_things_are_refused(cell: object, told: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(told)}$"):
        wanted_objects(cell)


def test_every_fault_of_a_spreadsheet_with_its_row_there(tmp_path: Path) -> None:
    source = """\
        id,prompt,steps,width,objects
        a,"two
        lines",1.5,512,
        b,,10,100,mug:x
        a,p,10,512,,,
        c,p,10,512,mug,too,many
        """
    assert told(tmp_path, "s.csv", source) == [
        "2 steps '1.5' is no whole number",
        "2 id row 4 has the same id",
        "3 objects 'x' is no whole number",
        "3 prompt missing",
        "4 id row 2 has the same id",
        "5 None 7 cells and only 5 columns; put texts with separators in quotation marks",
    ]


def test_unknown_columns_of_a_spreadsheet_are_refused_with_the_nearest_name(tmp_path: Path) -> None:
    said = refused(tmp_path, "s.csv", "ID,promt,fancy,,seed,seed,Weight,Styles 2\n")
    assert (
        "no such column 'promt'; did you mean 'prompt'? Else keep it as a tag: --map promt=tag.promt, or leave it out: --map promt=-"
        in said
    )
    assert "no such column 'fancy'; keep it as a tag: --map fancy=tag.fancy" in said
    assert "'seed' is there more than once" in said
    assert "no such column 'Weight'; write the weight behind the adapter's name (style:0.8), or keep it" in said
    assert "no such column 'Styles 2'; keep it as a tag: --map 'Styles 2'=tag.styles_2" in said
    assert "'ID'" not in said and "'height'" not in said and "'steps'" not in said


@pytest.mark.parametrize(
    ("name", "source", "what"),
    [
        ("s.csv", "id,prompt\na,mañana\n".encode() + b"b,caf\xe9\n", "UTF-8 but for some bytes: the first is 0xe9 in line 3"),
        ("s.csv", b'id,prompt\na,"open\n', "not CSV"),
        ("s.xlsx", b"PK", "a damaged workbook"),
        ("s.xls", b"PK", "no source of a known kind (.xls)"),
        ("s.yaml", b"rows: [", "not YAML"),
        ("s.yaml", b"rows:\n - id: a\n   id: b\n", "the key 'id' is there twice"),
        ("s.yaml", b"row:\n - id: a\n", "unknown key 'row'"),
        ("s.yaml", b"rows:\n - id: a\n   promt: b\n", "no such column 'promt'"),
        ("s.yaml", b"- a\n", "no template"),
        ("s.yaml", b"rows: []\n", "'rows' must be a list"),
        ("s.yaml", b"lists: {a: x}\nrows: [{id: a}]\n", "'lists' must map"),
    ],
)
def test_sources_that_cannot_be_read_as_a_whole(tmp_path: Path, name: str, source: bytes, what: str) -> None:
    assert what in refused(tmp_path, name, source)


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no such file"):
        brief.build(tmp_path / "none.csv", tmp_path / "m.parquet")


def test_json_lines(tmp_path: Path) -> None:
    source = """\
        {"id": "a", "prompt": "p", "objects": {"mug": 2}, "tags": {"sku": 7, "none": ""}, "tag.campaign": "x", "text": ""}

        {"id": "b", "prompt": "p", "objects": [{"class": "box", "count": 1}], "guidance": 7, "seed": 9223372036854775807}
        """
    _, rows = built(tmp_path, "s.jsonl", source)
    assert rows == [
        PromptRow("a", "p", text="", objects=(ObjectCount("mug", 2),), tags=(("campaign", "x"), ("sku", "7"))),
        PromptRow("b", "p", guidance=7.0, seed=2**63 - 1, objects=(ObjectCount("box", 1),)),
    ]


def test_every_fault_of_json_lines(tmp_path: Path) -> None:
    source = r"""
        {"id": 7, "prompt": "p"}
        {"id": "a", "prompt": "half \ud800"}
        {"id": "b", "prompt": "p", "steps": true, "seed": 9223372036854775808, "tags": ["x"], "guidance": 1e999}
        {"id": "c", "prompt": "p", "id": "d"}
        {"id": "c",
        []
        {"id": "e", "prompt": "p", "promptt": "p"}
        """
    found = [line.split(" (")[0] for line in told(tmp_path, "s.jsonl", source)]
    assert found[:5] == [
        "3 prompt holds half a character",
        "4 steps True is no whole number",
        "4 seed 9223372036854775808 is out of range",
        "4 tags no map of tags",
        "4 guidance inf is out of range",
    ]
    assert found[5:] == [
        "5 None not JSON",
        "6 None not JSON",
        "7 None no JSON object; write {...} on one line",
        "8 None no such column 'promptt'; keep it as a tag: --map promptt=tag.promptt, or leave it out: --map promptt=-",
    ]


def test_a_template_multiplies_the_lists_that_a_row_names(tmp_path: Path) -> None:
    source = """\
        lists:
          colour: [light orange, blue]
          unused: [x, y]
          product:
            - {name: mug, sku: 007, n: 2}
            - {name: lamp, sku: no, n: 1}
        defaults:
          steps: 12
          tags: {campaign: spring}
        rows:
          - id: "{product.sku}-{colour|slug}"
            prompt: 'photo of {colour|a} {product.name} {{1}}'
            objects: {"{product.name}": "{product.n}"}
            tags: {sku: "{product.sku}"}
          - id: sign
            prompt: a sign
            text:
            steps: 4
        """
    _, rows = built(tmp_path, "s.yaml", source)
    assert [(row.id, row.prompt) for row in rows] == [
        ("007-light-orange", "photo of a light orange mug {1}"),
        ("no-light-orange", "photo of a light orange lamp {1}"),
        ("007-blue", "photo of a blue mug {1}"),
        ("no-blue", "photo of a blue lamp {1}"),
        ("sign", "a sign"),
    ]
    assert rows[0].objects == (ObjectCount("mug", 2),)
    assert rows[1].tags == (("campaign", "spring"), ("sku", "no"))
    assert [row.steps for row in rows] == [12, 12, 12, 12, 4]
    assert [row.text for row in rows] == [None, None, None, None, ""]


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ("{id: a, prompt: '{colour}'}", "the id does not name {colour}, so 2 rows would share each id"),
        ("{id: '{color}', prompt: p}", "use {colour}"),
        ("{id: '{colour', prompt: p}", "cannot read '{'"),
        ("{id: '{colour.x}', prompt: p}", "an entry of 'colour' has no field 'x'"),
        ("{id: '{colour|loud}', prompt: p}", "there is no form |loud"),
        ("{id: '{item}', prompt: p}", "the entries of 'item' have fields"),
        ("{id: '{colour.__class__}', prompt: p}", "has no field '__class__'"),
    ],
)
def test_templates_that_make_no_sense_name_the_entry(tmp_path: Path, row: str, what: str) -> None:
    source = f"lists: {{colour: [red, blue], item: [{{a: b}}]}}\nrows:\n - {row}\n"
    said = refused(tmp_path, "s.yaml", source)
    assert what in said and "rows entry 1" in said


def test_an_indefinite_article(tmp_path: Path) -> None:
    source = "lists: {c: [red, orange]}\nrows:\n - {id: '{c}', prompt: '{c|a} mug'}\n"
    assert [row.prompt for row in built(tmp_path, "s.yaml", source)[1]] == ["a red mug", "an orange mug"]


def test_faults_leave_the_old_manifest_as_it_was(tmp_path: Path) -> None:
    source, out = tmp_path / "s.csv", tmp_path / "m.parquet"
    source.write_text("id,prompt\na,p\n")
    assert brief.build(source, out) == BuildReport(1, (), seen=1)
    before = out.read_bytes()
    source.write_text("id,prompt\na,p\na,p\n")
    assert [fault.row for fault in brief.build(source, out).faults] == [2, 3]
    source.write_text("id,prompt\n")
    assert [fault.what for fault in brief.build(source, out).faults] == ["holds no rows"]
    assert out.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.parquet", "s.csv"]


def test_the_example_is_built_from_its_source_and_is_what_it_says(tmp_path: Path) -> None:
    report = brief.build(ROOT / "manifests/mockups.yaml", tmp_path / "m.parquet")
    assert report.faults == () and report.rows >= 60
    kept = str(ROOT / "manifests/mockups.parquet")
    assert manifest.digest(str(tmp_path / "m.parquet")) == manifest.digest(kept), "run `renderfarm manifest build` again"
    assert list(manifest.check(kept)) == []
    rows = [row for shard in manifest.read(kept) for row in shard.rows]
    assert sum(row.images or 1 for row in rows) <= 80
    assert all(row.negative_prompt and row.objects and dict(row.tags).keys() >= {"campaign", "sku"} for row in rows)
    assert any('"' in row.prompt for row in rows) and any((row.images or 1) > 1 for row in rows)
