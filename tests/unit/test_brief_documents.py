"""Records and lists: JSON in any shape, Parquet with other columns, text files; encodings; mappings; the commands."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from renderfarm import brief, manifest
from renderfarm.brief import parsed_mapping
from renderfarm.cli import main
from renderfarm.errors import ManifestError
from renderfarm.manifest import BuildReport
from renderfarm.schema import PromptRow
from tests.workbooks import sheet, workbook


def built(tmp_path: Path, name: str, content: str | bytes, **said: object) -> tuple[BuildReport, list[PromptRow]]:
    path, out = tmp_path / name, tmp_path / "m.parquet"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    report = brief.build(path, out, reading=brief.ReadAs(**said))  # type: ignore[arg-type]
    return report, [row for shard in manifest.read(str(out)) for row in shard.rows] if not report.faults else []


@pytest.mark.parametrize(
    "content",
    [
        [{"id": "a", "prompt": "a mug"}, {"id": "b", "prompt": "a box"}],
        {"prompts": [{"id": "a", "prompt": "a mug"}, {"id": "b", "prompt": "a box"}]},
        {"a": {"prompt": "a mug"}, "b": {"prompt": "a box"}},
        {"a": "a mug", "b": "a box"},
        {"id": ["a", "b"], "prompt": ["a mug", "a box"]},
        {"id": {"0": "a", "1": "b"}, "caption": {"0": "a mug", "1": "a box"}},
        [{"sui_image_params": {"prompt": "a mug"}, "id": "a"}, {"sui_image_params": {"prompt": "a box"}, "id": "b"}],
    ],
)
def test_json_documents_of_every_shape(tmp_path: Path, content: object) -> None:
    assert built(tmp_path, "s.json", json.dumps(content))[1] == [PromptRow("a", "a mug"), PromptRow("b", "a box")]


def test_settings_of_other_programs_in_json(tmp_path: Path) -> None:
    invoke = {"positive_prompt": "a mug", "negative_prompt": "blur", "width": 512, "height": 768, "cfg_scale": 7.0, "steps": 20, "seed": 5}
    swarm = {
        "sui_image_params": {"prompt": "a box", "negativeprompt": "", "cfgscale": 6, "aspectratio": "1:1", "images": 2, "model": "sdxl"}
    }
    assert built(tmp_path, "s.json", json.dumps(invoke), id_from="row")[1] == [
        PromptRow("row-1", "a mug", "blur", seed=5, width=512, height=768, steps=20, guidance=7.0)
    ]
    row = built(tmp_path, "s.json", json.dumps([swarm]), id_from="row")[1][0]
    assert (row.prompt, row.negative_prompt, row.guidance, row.width, row.images, row.tags) == (
        "a box",
        None,
        6.0,
        1024,
        2,
        (("model", "sdxl"),),
    )


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("s.json", "[" * 100_000, "stands too deep"),
        ("s.json", '{"a": 1}', "no list of prompts"),
        ("s.json", '[{"prompt": "x"', "not JSON"),
        ("s.json", '{"3": {"class_type": "KSampler", "inputs": {}}}', "a workflow of ComfyUI"),
        ("s.parquet", b"PAR1", "not Parquet"),
        ("s.csv", b"PK\x03\x04", "a zip archive"),
        ("s.csv", "x," * 20_000 + "prompt\n", "columns"),
        ("s.csv", f'id,prompt\na,"{"x" * 200_000}"\n', "a cell of more than 100000 characters"),
        ("s.txt", "x" * 200_000, "more than 100000 characters"),
        ("s.ods", b"PK", "save it as .xlsx"),
        ("s.jsonl", '{"prompt": "a", "x": "' + "y" * 2_000_000 + '"}', "line 1 has more than"),
    ],
)
def test_what_cannot_be_read_is_one_message(tmp_path: Path, name: str, content: str | bytes, what: str) -> None:
    with pytest.raises(ManifestError) as caught:
        built(tmp_path, name, content)
    assert what in str(caught.value) and len(str(caught.value)) < 4000


def test_parquet_with_the_columns_of_another_program(tmp_path: Path) -> None:
    """DiffusionDB's names."""
    table = pa.table({
        "image_name": ["a.png", "b.png"], "prompt": ["a mug", "a box"], "seed": pa.array([5, 6], pa.uint32()), "step": [20, 30],
        "cfg": [7.0, 7.5], "sampler": [8, 8], "timestamp": pa.array([0, None], pa.timestamp("us")), "image_nsfw": [0.1, None],
    })  # fmt: skip
    data = io.BytesIO()
    pq.write_table(table, data)
    report, rows = built(tmp_path, "s.parquet", data.getvalue())
    tags = (("image_nsfw", "0.1"), ("sampler", "8"), ("timestamp", "1970-01-01 00:00:00"))
    assert rows == [
        PromptRow("a.png", "a mug", seed=5, steps=20, guidance=7.0, tags=tags),
        PromptRow("b.png", "a box", seed=6, steps=30, guidance=7.5, tags=tags[1:2]),
    ]
    assert "'image_name' as id" in report.notes[0]


def test_a_prompt_a_line_and_a_folder_of_files(tmp_path: Path) -> None:
    report, rows = built(tmp_path, "s.txt", "# a note\na red mug\n\na blue mug, big\n")
    assert [row.prompt for row in rows] == ["a red mug", "a blue mug, big"] and "1 line(s) that begin with #" in report.notes[0]
    block = "a mug\nNegative prompt: blur\nSteps: 20, Sampler: Euler a, Seed: 5\n\na box\nSteps: 9, Sampler: x, Seed: 6\n"
    assert [(row.prompt, row.negative_prompt, row.steps, row.seed) for row in built(tmp_path, "b.txt", block)[1]] == [
        ("a mug", "blur", 20, 5), ("a box", None, 9, 6),
    ]  # fmt: skip
    report, rows = built(tmp_path, "l.txt", "Prompt\n- a red mug\n* a blue mug\n• a box\n1. a jug\n12) a hat\n-1 mugs\n")
    assert [row.prompt for row in rows] == ["a red mug", "a blue mug", "a box", "a jug", "a hat", "-1 mugs"]
    assert "line 1 names the column" in report.notes and "marks of a list before 5 prompt(s) were left out" in report.notes
    folder = tmp_path / "prompts"
    folder.mkdir()
    for name in ("10", "2", "cat"):
        (folder / f"{name}.txt").write_text(f"prompt {name}\n")
    out = tmp_path / "f.parquet"
    assert brief.build(folder, out).rows == 3
    assert [row.id for shard in manifest.read(str(out)) for row in shard.rows] == ["2", "10", "cat"]


@pytest.mark.parametrize(
    "prompt",
    ['"SALE" banner on a shop, red', '"half open', "prompt, a red mug", "a mug\twith a tab", "id; a mug", '{"a": 1'],
)
def test_the_first_prompt_of_a_list_is_a_prompt(tmp_path: Path, prompt: str) -> None:
    """Whatever in it looks like a table."""
    assert [row.prompt for row in built(tmp_path, "s.txt", f"{prompt}\na box\n")[1]] == [prompt, "a box"]


def test_json_under_the_other_name(tmp_path: Path) -> None:
    made = [PromptRow("a", "a mug"), PromptRow("b", "a box")]
    document = '[\n {"id": "a", "prompt": "a mug"},\n {"id": "b", "prompt": "a box"}\n]\n'
    lines = '{"id": "a", "prompt": "a mug"}\n{"id": "b", "prompt": "a box"}\n'
    for name, content in (("s.jsonl", document), ("s.json", lines), ("s.txt", lines), ("t.jsonl", f'{{"rows": {document}}}')):
        assert built(tmp_path, name, content)[1] == made, name


def test_what_programs_say_beside_their_settings(tmp_path: Path) -> None:
    """InvokeAI, SwarmUI, Midjourney's export and the batches of OpenAI, as these programs write them."""
    invoke = {
        "app_version": "4.2", "generation_mode": "txt2img", "positive_prompt": "a mug", "negative_prompt": "bad", "seed": 1,
        "rand_device": "cpu", "cfg_scale": 7.5, "cfg_rescale_multiplier": 0, "steps": 30, "scheduler": "euler",
        "model": {"name": "sdxl"}, "controlnets": [],
        "loras": [{"model": {"key": "k", "name": "style"}, "weight": 0.75}, {"lora": {"model_name": "detail"}, "weight": 1}],
    }  # fmt: skip
    row = built(tmp_path, "s.json", json.dumps(invoke))[1][0]
    assert (row.adapter, row.guidance, row.steps) == ("style:0.75, detail:1", 7.5, 30)
    swarm = {"sui_image_params": {"prompt": "a mug", "swarm_version": "0.9", "cfgscale": 7}, "sui_extra_data": {"date": "2026-01-01"}}
    assert built(tmp_path, "s.json", json.dumps(swarm))[1][0].guidance == 7.0
    journey = {"id": "u", "prompt": "a mug --ar 1:1", "full_command": "a mug --ar 1:1 --v 6", "enqueue_time": "x", "event": {"width": 1}}
    assert built(tmp_path, "s.json", json.dumps([journey]))[1][0].width == 1024
    batch = {
        "custom_id": "r1",
        "method": "POST",
        "url": "/v1/images",
        "body": {"model": "m", "prompt": "a mug", "n": 2, "size": "1024x1536"},
    }
    assert built(tmp_path, "s.jsonl", json.dumps(batch))[1] == [
        PromptRow("r1", "a mug", width=1024, height=1536, images=2, tags=(("method", "POST"), ("model", "m"), ("url", "/v1/images")))
    ]


@pytest.mark.parametrize(
    ("encoding", "prompt"),
    [
        ("cp1252", "Café “SALE” – crème brûlée"),
        ("cp1251", "красная кружка на столе"),
        ("cp932", "赤いマグカップの写真"),
        ("mac_roman", "garçon à la fenêtre"),
        ("iso8859_15", "Kaffee für 5 €"),
        ("cp1250", "Świeża kawa w niebieskim kubku"),
        ("cp1250", "červený hrnek a žlutý květ"),
        ("iso8859_2", "kubek ze świeżą kawą i źdźbło trawy"),
        ("cp1254", "kırmızı kupa ile şeker ve iğde"),
    ],
)
def test_an_encoding_is_guessed_and_said_with_the_line(tmp_path: Path, encoding: str, prompt: str) -> None:
    report, rows = built(tmp_path, "s.csv", f"id,prompt\na,plain\nb,{prompt}\n".encode(encoding))
    assert rows[1].prompt == prompt and "in line 3 is no UTF-8" in report.warnings[0].what


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_byte_order_marks_and_wide_encodings(tmp_path: Path, encoding: str) -> None:
    report, rows = built(tmp_path, "s.txt", "id\tprompt\r\na\tCafé “SALE”\r\n".encode(encoding))
    assert rows == [PromptRow("a", "Café “SALE”")] and report.warnings == ()


def test_a_mapping_says_what_columns_mean(tmp_path: Path) -> None:
    source = "SKU,Motiv,Headline,Weight\nA-1,a mug,SALE,12\n"
    mapping = parsed_mapping(["SKU=id", "motiv = prompt", "Headline=text", "Weight=-"])
    report, rows = built(tmp_path, "s.csv", source, mapping=mapping)
    assert rows == [PromptRow("A-1", "a mug", text="SALE")]
    assert report.notes == ("columns: 'SKU' as id, 'Motiv' as prompt, 'Headline' as text, 'Weight' left out",)
    rest = parsed_mapping(["SKU=id", "Motiv=prompt", "*=tag.*"])
    assert built(tmp_path, "s.csv", source, mapping=rest)[1] == [PromptRow("A-1", "a mug", tags=(("headline", "SALE"), ("weight", "12")))]
    with pytest.raises(ManifestError, match="a column 'nothere' that is not there"):
        built(tmp_path, "s.csv", source, mapping=parsed_mapping(["Nothere=id"]))


@pytest.mark.parametrize(
    ("said", "what"),
    [("prompt", "does not say"), ("x=promt", "use 'prompt'"), ("*=prompt", "not every other"),
     ("=prompt", "does not say"), ("x=tag.", "no column")]
)  # fmt: skip
def test_mappings_that_mean_nothing_are_refused(said: str, what: str) -> None:
    with pytest.raises(ManifestError) as caught:
        parsed_mapping([said])
    assert what in str(caught.value)


def test_what_somebody_says_of_a_column_wins_over_its_name(tmp_path: Path) -> None:
    said = brief.parsed_mapping(["SKU=id", "Motif=prompt"])
    made = built(tmp_path, "s.csv", "id,SKU,prompt,Motif\n1,a,old,a mug\n", mapping=said)[1]
    assert made == [PromptRow("a", "a mug", tags=(("id", "1"), ("prompt", "old")))]


@pytest.mark.parametrize(
    ("name", "content", "said", "what"),
    [
        ("s.csv", "id,prompt\na,m\n", {"sheet": "Foo"}, "--sheet Foo names a sheet, and this is no workbook"),
        ("s.txt", "a mug\n", {"mapping": {"x": "prompt"}}, "this source has none"),
        ("s.yaml", "rows:\n - {id: a, prompt: m}\n", {"mapping": {"x": "prompt"}}, "this source has none"),
        ("s.csv", "id,prompt\na,m\n", {"id_from": "id,Nope"}, "--id-from names a column 'Nope' that means nothing"),
        ("s.csv", "id,prompt\na,m\n", {"mapping": {"nope": "id"}}, "--map or --id-from names a column 'nope' that is not there"),
    ],
)
def test_what_is_said_of_a_source_and_cannot_be_done_is_refused(
    tmp_path: Path, name: str, content: str, said: dict[str, object], what: str
) -> None:
    with pytest.raises(ManifestError) as caught:
        built(tmp_path, name, content, **said)
    assert what in str(caught.value)


@pytest.mark.parametrize("out", ["s.csv", "other.csv", "m.xlsx"])
def test_no_source_is_written_over(tmp_path: Path, out: str) -> None:
    (tmp_path / "s.csv").write_text("id,prompt\na,m\n")
    with pytest.raises(ManifestError, match="no manifest: it is not written over"):
        brief.build(tmp_path / "s.csv", tmp_path / out)
    assert (tmp_path / "s.csv").read_text() == "id,prompt\na,m\n" and len(list(tmp_path.iterdir())) == 1


def test_ids_from_several_columns(tmp_path: Path) -> None:
    source = "category,id,prompt\nx,1,a\ny,1,b\n"
    assert [row.id for row in built(tmp_path, "s.csv", source, id_from="category,id")[1]] == ["x-1", "y-1"]


def test_rows_that_say_the_same_have_made_ids_of_their_own(tmp_path: Path) -> None:
    report, rows = built(tmp_path, "s.csv", "prompt\na mug\na box\na mug\n")
    assert rows[2].id == f"{rows[0].id}-2" and [doubt.row for doubt in report.warnings] == [4]


def test_bad_rows_can_be_left_out_and_none_is_lost_from_the_counts(tmp_path: Path) -> None:
    path, out = tmp_path / "s.csv", tmp_path / "m.parquet"
    path.write_text("id,prompt,steps\na,a mug,8\nb,,8\nc,a box,x\nd,a cup,9\n")
    assert brief.build(path, out).rows == 0 and not out.exists()
    report = brief.build(path, out, skip_invalid=True)
    assert (report.seen, report.rows, len(report.faults)) == (4, 2, 2)
    assert [row.id for shard in manifest.read(str(out)) for row in shard.rows] == ["a", "d"] and sorted(
        p.name for p in tmp_path.iterdir()
    ) == ["m.parquet", "s.csv"]


def test_more_faults_than_are_kept_are_counted(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("id,prompt,steps\n" + "".join(f"{n},[Name] {n},x\n" for n in range(9)))
    report = brief.build(tmp_path / "s.csv", tmp_path / "m.parquet", told_max=4)
    assert (len(report.faults), len(report.warnings), report.counts) == (4, 4, "9 fault(s), 9 warning(s)")
    assert report.notes == ("5 more fault(s) are not shown", "5 more warning(s) are not shown")


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out, mapping = tmp_path / "b.xlsx", tmp_path / "m.parquet", tmp_path / "columns.map"
    source.write_bytes(workbook({"A": sheet([["Nr", "Motiv", "Preis"], ["a", "a mug", 7], ["b", "[Name] mug", 8]]), "B": sheet([["x"]])}))
    mapping.write_text("# ours, and some sheets have no SKU\nNr=id\nMotiv=prompt\nSKU=tag.sku\n")
    said = ["--map-from", str(mapping), "--map", "Preis=tag.price", "--sheet", "a"]
    assert main(["manifest", "build", str(source), "-o", str(out), *said]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{out}: 2 rows of 2 in the source, 0 fault(s), 1 warning(s)\n"
    assert "warning: row 3 (id 'b'), column prompt: '[Name]' looks like a placeholder" in captured.err
    assert main(["manifest", "check", str(source), *said]) == 0
    assert "2 rows, 0 fault(s), 1 warning(s)" in capsys.readouterr().out
    assert main(["manifest", "check", str(source), *said, "--strict"]) == 2
    assert main(["manifest", "check", str(out), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (shown["row"], shown["column"], shown["warning"]) == (1, "prompt", True)
    out.unlink()
    assert main(["manifest", "build", str(source), "-o", str(out), *said, "--strict"]) == 2 and not out.exists()


def test_a_job_adds_the_words_that_its_model_does_not_read_and_its_own_sizes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "s.csv"
    source.write_text(f"id,prompt,width,adapter\na,a mug {'and more ' * 40},,\nb,a mug,64,\nc,a cup,,none\n")
    job = Path(__file__).parents[2] / "jobs" / "mockups.yaml"
    assert main(["manifest", "check", str(source), "--job", str(job), "--json"]) == 2
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["row"], one["column"], one["warning"]) for one in told] == [(2, "prompt", True), (3, "width", True), (4, "adapter", False)]
    assert "longer than the model reads (30 tokens): lost are" in told[0]["what"] and "64x256 is too small" in told[1]["what"]


def test_sources_that_are_far_too_large_are_not_read(tmp_path: Path) -> None:
    for name, size, what in (("s.csv", 10 << 30, "larger than 4 GiB"), ("s.json", 300 << 20, "more than 256 MiB of JSON")):
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)
        with pytest.raises(ManifestError, match=what):
            brief.build(tmp_path / name, tmp_path / "m.parquet")


def test_a_template_may_say_sizes_by_name(tmp_path: Path) -> None:
    source = "rows:\n  - {id: a, prompt: a mug, size: story}\n  - {id: b, prompt: a mug, aspect: '4:5', seed: 7}\n"
    assert [(row.width, row.height) for row in built(tmp_path, "s.yaml", source)[1]] == [(1080, 1920), (896, 1120)]


def test_messages_stay_short_whatever_a_cell_holds(tmp_path: Path) -> None:
    long = "x" * 5000
    cells = {
        "width": long,
        "guidance": long,
        "size": long,
        "adapter": [{"a": long}],
        "text": {"a": long},
        "objects": {"mug": long},
        "seed": long,
    }
    for column, value in cells.items():
        report, _ = built(tmp_path, "s.json", json.dumps([{"prompt": "a mug", column: value}]))
        assert report.faults and all(len(str(fault)) < 500 for fault in report.faults), column
    table = pa.table({"prompt": ["a mug"], "image": pa.array([{"bytes": b"x" * 5000, "path": "x.png"}])})
    data = io.BytesIO()
    pq.write_table(table, data)
    assert len(str(built(tmp_path, "s.parquet", data.getvalue())[0].faults[0])) < 500
    data = io.BytesIO()
    pq.write_table(pa.table({"prompt": pa.array([b"a mug"], pa.binary())}), data)
    with pytest.raises(ManifestError, match=r"s\.parquet: the column 'prompt' holds bytes"):
        built(tmp_path, "s.parquet", data.getvalue())


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", "[]", "{}", "true", '"x"'])
def test_what_is_no_number_in_json_is_a_fault(tmp_path: Path, value: str) -> None:
    for column in ("guidance", "seed", "steps"):
        report, rows = built(tmp_path, "s.jsonl", f'{{"id": "a", "prompt": "m", "{column}": {value}}}\n')
        assert report.faults or (value in ("[]", "{}") and getattr(rows[0], column) is None)
