"""Syntax of other tools in a prompt: it gets its meaning, or is refused; it is never drawn."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from renderfarm import brief, manifest
from renderfarm.brief import variants
from renderfarm.errors import ManifestError
from renderfarm.manifest import BuildReport
from renderfarm.schema import PromptRow


def built(tmp_path: Path, prompt: str, more: str = "", **said: object) -> tuple[BuildReport, list[PromptRow]]:
    path, out = tmp_path / "s.jsonl", tmp_path / "m.parquet"
    path.write_text(f'{{"id": "a", "prompt": {json.dumps(prompt)}{more}}}\n')
    report = brief.build(path, out, reading=brief.ReadAs(**said))  # type: ignore[arg-type]
    return report, [row for shard in manifest.read(str(out)) for row in shard.rows] if not report.faults else []


@pytest.mark.parametrize(
    ("prompt", "row"),
    [
        ("a mug --ar 16:9 --no text --seed 5", PromptRow("a", "a mug", "text", seed=5, width=1280, height=720, text="")),
        ("a mug —ar 16:9", PromptRow("a", "a mug", width=1280, height=720)),
        ("/imagine prompt: a mug --no blur, people --aspect 1:1", PromptRow("a", "a mug", "blur, people", width=1024, height=1024)),
        (
            "a mug --width 512 --height 768 --steps 20 --cfg_scale 7.5",
            PromptRow("a", "a mug", width=512, height=768, steps=20, guidance=7.5),
        ),
        ("**a red mug --ar 1:1 --no blur** - <@123> (fast)", PromptRow("a", "a red mug", "blur", width=1024, height=1024)),
        ("a mug --seed=7 on a table", PromptRow("a", "a mug on a table", seed=7)),
        ("a mug <lora:style:.8>", PromptRow("a", "a mug", adapter="style:0.8")),
        ("<lora:b:1> a mug, <lora:x/a.safetensors:-0.5>, red", PromptRow("a", "a mug, red", adapter="a:-0.5, b:1.0")),
        ("a mug <lora:style>", PromptRow("a", "a mug", adapter="style")),
        ("a non-slip mat -- blue, 3-in-1", PromptRow("a", "a non-slip mat -- blue, 3-in-1")),
        ("a (red:1.3) mug BREAK a box", PromptRow("a", "a (red:1.3) mug BREAK a box")),
        ("5 < 7 and 3 > 2", PromptRow("a", "5 < 7 and 3 > 2")),
        ("a mug--ar 16:9", PromptRow("a", "a mug", width=1280, height=720)),
        ("a mug `--ar 1:1`", PromptRow("a", "a mug", width=1024, height=1024)),
        ("`a mug --ar 1:1`", PromptRow("a", "a mug", width=1024, height=1024)),
        ('"a mug --ar 1:1"', PromptRow("a", "a mug", width=1024, height=1024)),
        ("a mug --seed 5 --seed 5", PromptRow("a", "a mug", seed=5)),
        ("a mug --w 1024 --h 768", PromptRow("a", "a mug", width=1024, height=768)),
        ("**a mug --ar 1:1** - Image #2 <@123>", PromptRow("a", "a mug", width=1024, height=1024)),
        ("**a mug** - Upscaled by @joe (fast)", PromptRow("a", "a mug")),
        (
            '"a mug" -W 512 -H 768 -s 30 -C 7.5 -S 123 -A k_euler',
            PromptRow("a", "a mug", seed=123, width=512, height=768, steps=30, guidance=7.5),
        ),
        ("a mug -s50 -W640 -H512", PromptRow("a", "a mug", width=640, height=512, steps=50)),
        (
            "Prompt: a mug\nNegative prompt: blur\nSteps: 20, Sampler: x",
            PromptRow("a", "a mug", "blur", steps=20, tags=(("sampler", "x"),)),
        ),
    ],
)
def test_syntax_gets_its_meaning(tmp_path: Path, prompt: str, row: PromptRow) -> None:
    report, rows = built(tmp_path, prompt)
    assert report.faults == () and rows == [row]


@pytest.mark.parametrize(
    ("prompt", "column", "what"),
    [
        ("a mug --fancy 7", "prompt", "--fancy is no flag that is known"),
        ("a mug --seed", "prompt", "--seed has no value"),
        ("a mug --seed 5 --seed 6", "prompt", "--seed is there more than once"),
        ("a mug --ar wide", "width", "'wide' may be the aspect 16:9 or 21:9"),
        ("a mug --seed x", "seed", "'x' is no whole number"),
        ("a mug <lora:style:loud>", "prompt", "has a weight that is no number"),
        ("a mug <lora:style:0.5:0.7>", "prompt", "has several weights"),
        ("a mug <lora:a:1> <lora:a:1>", "prompt", "'a' is named twice"),
        ("a mug <lora:a:9>", "prompt", "from -4 to 4"),
        ("a mug <hypernet:x:1>", "prompt", "is not known here"),
        ("a mug <random:a,b>", "prompt", "is not known here"),
        ("a {red|blue mug", "prompt", "a brace { is opened and not closed"),
        ("a __colour__ mug", "prompt", "names a list, and no folder of lists is given"),
        ("a {3$$red|blue} mug", "prompt", "asks for 3 to 3 of 2"),
        ("a {red|blue}} mug", "prompt", "a brace } closes nothing"),
        ("a __../x__ mug", "prompt", "names a list, and no folder of lists is given"),
        ("{@red|blue} mug", "prompt", "'@' before a choice"),
        ("${c={red|blue}} a ${c} mug", "prompt", "sets a variable"),
        ("a __clothes(season=winter)__ mug", "prompt", "gives a list a variable"),
    ],
)
def test_what_cannot_be_understood_is_refused(tmp_path: Path, prompt: str, column: str, what: str) -> None:
    report, _ = built(tmp_path, prompt)
    assert [(fault.column, what in fault.what) for fault in report.faults] == [(column, True)], report.faults


def test_a_column_and_the_prompt_that_say_different_things_are_refused(tmp_path: Path) -> None:
    assert [fault.column for fault in built(tmp_path, "a mug --seed 5", ', "seed": 6')[0].faults] == ["seed"]
    assert built(tmp_path, "a mug --seed 5", ', "seed": 5')[1][0].seed == 5
    assert built(tmp_path, "a mug --no blur", ', "negative_prompt": "text"')[1][0].negative_prompt == "text, blur"
    assert built(tmp_path, "a mug <lora:b:1>", ', "adapter": "a"')[1][0].adapter == "a, b:1.0"
    assert [fault.column for fault in built(tmp_path, "a mug <lora:b:1>", ', "adapter": "b"')[0].faults] == ["adapter"]


def test_no_text_beside_lettering_is_said_and_does_not_forbid_it(tmp_path: Path) -> None:
    report, rows = built(tmp_path, 'a sign that says "SALE" --no text')
    assert rows[0].text is None and rows[0].negative_prompt == "text"
    assert any("'SALE'" in doubt.what and "--no text" in doubt.what for doubt in report.warnings)
    assert built(tmp_path, "a sign --no text", ', "text": "SALE"')[1][0].text == "SALE"


def test_a_workflow_in_a_cell_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text('id,prompt\na,"{""3"": {""class_type"": ""KSampler"", ""inputs"": {}}}"\n')
    report = brief.build(path, tmp_path / "m.parquet")
    assert [(fault.row, fault.column) for fault in report.faults] == [(2, "prompt")]


def lists(folder: Path) -> Path:
    folder.mkdir()
    (folder / "colour.txt").write_text("# a comment\nred\nblue\n\n")
    (folder / "thing.txt").write_text("__colour__ mug\n0.1::box\n")
    (folder / "loop.txt").write_text("a __loop__\n")
    (folder / "sub").mkdir()
    (folder / "sub" / "size.txt").write_text("big\n")
    (folder / "link.txt").symlink_to(folder / "colour.txt")
    return folder


@pytest.mark.parametrize(
    ("prompt", "made"),
    [
        ("a {red|blue} mug", ["a red mug", "a blue mug"]),
        ("{a|b} {1|2}", ["a 1", "a 2", "b 1", "b 2"]),
        ("a { red | {light|dark} blue } mug", ["a red mug", "a light blue mug", "a dark blue mug"]),
        ("{0.2::a|3::b}", ["a", "b"]),
        ("{2$$a|b|c}", ["a,b", "a,c", "b,a", "b,c", "c,a", "c,b"]),
        ("{1-2$$ and $$a|b}", ["a", "b", "a and b", "b and a"]),
        ("a {|big }mug", ["a mug", "a bigmug"]),
        ("__colour__ mug", ["red mug", "blue mug"]),
        ("__thing__", ["red mug", "blue mug", "box"]),
        ("a __sub/size__ mug", ["a big mug"]),
        ("{2$$__colour__}", ["red,blue", "blue,red"]),
        ("a {big {red|blue}} mug", ["a big red mug", "a big blue mug"]),
        ("__c*__ mug", ["red mug", "blue mug"]),
        ("a __s*/*__ mug", ["a big mug"]),
        ("a __**/size__ mug", ["a big mug"]),
        (r"a \{red\} {a|b}", ["a {red} a", "a {red} b"]),
    ],
)
def test_variants_are_all_made(tmp_path: Path, prompt: str, made: list[str]) -> None:
    words = variants.parsed(prompt, variants.Wildcards(lists(tmp_path / "lists")))
    assert list(variants.every(words)) == made and variants.count(words) == len(made)


def test_each_variant_is_a_row_with_an_id_that_stays(tmp_path: Path) -> None:
    report, rows = built(tmp_path, "a {red|blue} mug <lora:{x|y}:1>")
    assert {(row.prompt, row.adapter) for row in rows} == {(f"a {c} mug", f"{style}:1.0") for c in ("red", "blue") for style in ("x", "y")}
    assert report.seen == 1 and report.rows == 4 and all(row.id.startswith("a-") for row in rows)
    more = built(tmp_path, "a {green|red|blue} mug <lora:{x|y}:1>")[1]
    assert {row.id for row in rows} < {row.id for row in more}


def test_some_variants_at_random_are_the_same_for_the_same_seed(tmp_path: Path) -> None:
    prompt = "{a|b|c|d} {1|2|3|4} {x|y|z}"
    made = [row.prompt for row in built(tmp_path, prompt, variants=5)[1]]
    assert len(set(made)) == 5 and made == [row.prompt for row in built(tmp_path, prompt, variants=5)[1]]
    assert made != [row.prompt for row in built(tmp_path, prompt, variants=5, variants_seed=1)[1]]
    assert len(built(tmp_path, prompt, variants=1000)[1]) == 48


def test_variants_are_counted_before_they_are_made(tmp_path: Path) -> None:
    prompt = " ".join(["{a|b|c|d|e|f|g|h|i|j}"] * 30)
    with pytest.raises(ManifestError, match=r"make 9{30} rows more than there are"):
        built(tmp_path, prompt)
    assert len(built(tmp_path, prompt, variants=3)[1]) == 3
    with pytest.raises(ManifestError, match="--variant-rows-max 99"):
        built(tmp_path, "{a|b|c|d|e|f|g|h|i|j}{a|b|c|d|e|f|g|h|i|j}", rows_made_max=98)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("loop", "more than 5 deep"),
        ("none", "there is no list none.txt"),
        ("../lists/colour", "is no plain name"),
        ("link", "is no plain name"),
        ("sub/../colour", "is no plain name"),
        ("../*", "is no plain name"),
        ("lin*", "there is no list lin*.txt"),
        ("~colour", "'~' before a choice"),
    ],
)
def test_lists_that_are_refused(tmp_path: Path, name: str, what: str) -> None:
    wildcards = variants.Wildcards(lists(tmp_path / "lists"))
    with pytest.raises(variants.NoVariants) as caught:
        wildcards.choice(name, 1)
    assert what in caught.value.what
