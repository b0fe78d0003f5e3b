"""Briefs as people bring them: each kind of file, and what becomes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from renderfarm import brief, manifest
from renderfarm.errors import ManifestError
from renderfarm.manifest import BuildReport
from renderfarm.schema import PromptRow


def built(tmp_path: Path, name: str, content: str | bytes, **said: object) -> tuple[BuildReport, list[PromptRow]]:
    path, out = tmp_path / name, tmp_path / "m.parquet"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    report = brief.build(path, out, reading=brief.ReadAs(**said))  # type: ignore[arg-type]
    rows = [row for shard in manifest.read(str(out)) for row in shard.rows] if not report.faults else []
    assert report.rows == len(rows)
    return report, rows


def told(report: BuildReport) -> list[tuple[int | None, str | None]]:
    return [(fault.row, fault.column) for fault in report.faults]


def warned(report: BuildReport) -> list[tuple[int | None, str | None]]:
    return [(doubt.row, doubt.column) for doubt in report.warnings]


def test_semicolons_a_byte_order_mark_and_decimal_commas(tmp_path: Path) -> None:
    report, rows = built(tmp_path, "s.csv", "\ufeffid;prompt;guidance;width\r\nA-1;a red mug, on a table;7,5;512\r\n;;;\r\n")
    assert rows == [PromptRow("A-1", "a red mug, on a table", guidance=7.5, width=512)] and report.seen == 1


def test_a_decimal_comma_between_commas_may_be_two_things(tmp_path: Path) -> None:
    assert told(built(tmp_path, "s.csv", 'id,prompt,guidance\nA-1,a mug,"7,5"\n')[0]) == [(2, "guidance")]


@pytest.mark.parametrize("first", ["sep=;", '"sep=;"', "SEP=;"])
def test_the_separator_that_excel_states_is_obeyed(tmp_path: Path, first: str) -> None:
    assert [row.prompt for row in built(tmp_path, "s.csv", f"{first}\r\nid;prompt\r\nA-1;a mug, red\r\n")[1]] == ["a mug, red"]


def test_names_of_columns_in_any_spelling_and_of_other_tools(tmp_path: Path) -> None:
    header = "ID,Prompt,Negative Prompt,CFG Scale,Aspect Ratio,Filename,Sampler Name,Campaign"
    report, rows = built(tmp_path, "s.csv", f"{header}\r\nA-1,a red mug,blurry,7,16:9,mug.png,Euler a,spring\r\n")
    tags = (("campaign", "spring"), ("filename", "mug.png"), ("sampler_name", "Euler a"))
    assert rows == [PromptRow("A-1", "a red mug", "blurry", width=1280, height=720, guidance=7.0, tags=tags)]
    assert report.notes == (
        "columns: 'CFG Scale' as guidance, 'Aspect Ratio' as aspect, 'Filename', 'Sampler Name', 'Campaign' kept as tags",
    )


@pytest.mark.parametrize(
    ("header", "column"),
    [
        ("NegativePrompt", "negative_prompt"), ("negative-prompt", "negative_prompt"), ("Negative_Prompt:", "negative_prompt"),
        ("negativeprompt", "negative_prompt"),
        ("num_inference_steps", "steps"), ("Step", "steps"), ("cfg", "guidance"), ("guidanceScale", "guidance"), ("Seed*", "seed"),
        ("Num Images", "images"), (" W I D T H ", "width"), ("Init Image", "init_image"), ("LoRA", "adapter"),
    ],
)  # fmt: skip
def test_synonyms_are_taken(tmp_path: Path, header: str, column: str) -> None:
    value = {"init_image": "/p.png", "width": "512", "adapter": "x", "negative_prompt": "blur"}.get(column, "8")
    row = built(tmp_path, "s.csv", f"id,prompt,{header}\na,a mug,{value}\n")[1][0]
    assert str(getattr(row, column)) in (value, f"{value}.0")


@pytest.mark.parametrize(
    "header",
    [
        "Nr.;Prompt;Negativer Prompt;Text im Bild;Breite;Höhe;Anzahl;Kampagne",
        "N°;Invite;Prompt négatif;Texte;Largeur;Hauteur;Nombre d'images;Campagne",
        "ID;Indicación;Prompt negativo;Texto;Ancho;Alto;Cantidad de imágenes;Campaña",
        "ID;Prompt;Prompt negativo;Testo;Larghezza;Altezza;Numero immagini;Campagna",
        "ID;Prompt;Prompt negativo;Texto;Largura;Altura;Número de imagens;Campanha",
        "Nr;Prompt;Negatieve prompt;Tekst;Breedte;Hoogte;Aantal;Campagne",
        "Lp.;Prompt;Negatywny prompt;Tekst;Szerokość;Wysokość;Liczba obrazów;Kampania",
        "番号;プロンプト;ネガティブプロンプト;文字;幅;高さ;枚数;キャンペーン",
        "编号;提示词;反向提示词;文字;宽度;高度;张数;活动",
        "번호;프롬프트;부정 프롬프트;텍스트;너비;높이;개수;캠페인",
    ],
)
def test_headers_in_other_languages(tmp_path: Path, header: str) -> None:
    _, rows = built(tmp_path, "s.csv", f"{header}\n7;a mug;blur;OPEN;512;768;2;Spring\n")
    row = rows[0]
    assert (row.id, row.negative_prompt, row.text, row.width, row.height, row.images) == ("7", "blur", "OPEN", 512, 768, 2)
    assert [value for _, value in row.tags] == ["Spring"]


def test_a_text_that_a_spreadsheet_was_told_is_one(tmp_path: Path) -> None:
    """`="007"` in CSV, so that Excel keeps the zeros."""
    for name, mark in (("s.csv", ","), ("s.tsv", "\t")):
        assert built(tmp_path, name, f'id{mark}prompt\n="007"{mark}="a ""red"" mug"\n')[1] == [PromptRow("007", 'a "red" mug')]


def test_a_synonym_gives_way_to_the_name_itself_and_two_of_them_are_asked_about(tmp_path: Path) -> None:
    _, rows = built(tmp_path, "s.csv", "id,prompt,caption,name\na,a mug,the caption,Mug\n")
    assert rows == [PromptRow("a", "a mug", tags=(("caption", "the caption"), ("name", "Mug")))]
    with pytest.raises(ManifestError, match="'caption' and 'positive prompt' would all be 'prompt'"):
        built(tmp_path, "s.csv", "id,caption,positive prompt\na,b,c\n")


def test_empty_columns_are_ignored_and_filled_ones_without_a_name_are_faults(tmp_path: Path) -> None:
    assert len(built(tmp_path, "s.csv", "id,prompt,,,\nA-1,a red mug,,,\nA-2,a blue mug,,,\n")[1]) == 2
    report, _ = built(tmp_path, "s.csv", "id,prompt,,,\nA-1,a red mug,,,\nA-2,a blue mug,,x,\n")
    assert told(report) == [(3, None)] and "column 4 holds 'x' and has no name" in report.faults[0].what


def test_a_title_above_the_header_is_left_out_and_said(tmp_path: Path) -> None:
    report, rows = built(tmp_path, "s.csv", "Campaign Spring 2027,,\n,,\nid,prompt,text\nA-1,a red mug,\nA-2,,\n"[:-6])
    assert [row.id for row in rows] == ["A-1"] and report.notes == ("the header is row 3; left out above it: 'Campaign Spring 2027'",)


def test_made_ids_stay_when_rows_are_moved_or_inserted(tmp_path: Path) -> None:
    report, rows = built(tmp_path, "s.csv", "prompt\r\na red mug\r\na blue mug\r\n")
    assert "ids are made of what each row says" in report.notes[0] and rows[0].id.startswith("a-red-mug-")
    moved = built(tmp_path, "s.csv", "prompt\r\na box\r\na blue mug\r\na red mug\r\n")[1]
    assert {row.prompt: row.id for row in rows}.items() <= {row.prompt: row.id for row in moved}.items()
    assert built(tmp_path, "s.csv", "prompt,steps\na red mug,8\na red mug,9\n")[0].rows == 2
    assert [row.id for row in built(tmp_path, "s.csv", "prompt\na\n\nb\n", id_from="row")[1]] == ["row-2", "row-4"]


def test_an_id_that_is_left_out_where_others_have_one_is_a_fault(tmp_path: Path) -> None:
    assert told(built(tmp_path, "s.csv", "id,prompt\na,a mug\n,a box\n")[0]) == [(3, "id")]


def test_whole_numbers_that_are_written_as_decimals(tmp_path: Path) -> None:
    source = 'id,prompt,width,height,seed,images\nA-1,m,512.0,768.0,"1,234",2.0\nA-2,m,1.024,512 px,1E+05,3 variants\n'
    report, _ = built(tmp_path, "s.csv", source)
    assert told(report) == [(2, "seed"), (3, "width"), (3, "height"), (3, "seed"), (3, "images")]
    row = built(tmp_path, "s.csv", 'id,prompt,width,height,seed,images\nA-1,m,512.0,768.00,"1,234,567",2.0\n')[1][0]
    assert (row.width, row.height, row.seed, row.images) == (512, 768, 1_234_567, 2)


@pytest.mark.parametrize("number", ["1.000", "1,000", "1 px", "1e3", "1.5", "1/2", "ten", "1,2"])
def test_what_may_be_two_numbers_is_refused(tmp_path: Path, number: str) -> None:
    assert told(built(tmp_path, "s.csv", f'id;prompt;seed\na;m;"{number}"\n')[0]) == [(2, "seed")]


def test_faults_have_the_spreadsheets_own_row(tmp_path: Path) -> None:
    source = 'id,prompt,steps\nA-1,"line one\nline two\nline three",20\nA-2,"x\ny",20\nA-3,mug,20.5\n'
    report, _ = built(tmp_path, "s.csv", source)
    assert str(report.faults[0]).startswith("row 4 (id 'A-3'), column steps: '20.5' is no whole number")


def test_a_tab_file_has_no_quoting_unless_a_whole_field_is_quoted(tmp_path: Path) -> None:
    source = 'id\tprompt\n1\t24" monitor\n2\t"SALE"\n3\t"half open\n4\tmug\n5\tend"\n6\t"two\nlines, ""quoted"""\n7\t"odd" one\n'
    _, rows = built(tmp_path, "s.tsv", source)
    assert [row.prompt for row in rows] == ['24" monitor', "SALE", '"half open', "mug", 'end"', 'two\nlines, "quoted"', '"odd" one']


def test_a_blank_after_the_separator_is_no_part_of_the_cell(tmp_path: Path) -> None:
    _, rows = built(tmp_path, "s.csv", 'id, prompt\nA-2, "a product photo, of a red mug"\n')
    assert [row.prompt for row in rows] == ["a product photo, of a red mug"]


def test_a_list_of_styles_is_refused_by_name_and_taken_as_styles(tmp_path: Path) -> None:
    listed = 'name,prompt,negative_prompt\ncinematic,"cinematic still {prompt}, film grain",anime\nsoft,soft light,\nStyle,,\n'
    with pytest.raises(ManifestError, match="a list of styles"):
        built(tmp_path, "s.csv", listed)
    (tmp_path / "styles.csv").write_text(listed)
    source = "id,prompt,style,negative_prompt\na,a mug,Cinematic,blur\nb,a box,,\nc,a lamp,cinematic; soft,\nd,a cup,noir,\n"
    report, _ = built(tmp_path, "s.csv", source, styles=tmp_path / "styles.csv")
    assert told(report) == [(5, "prompt")]
    _, rows = built(tmp_path, "s.csv", source.replace("noir", ""), styles=tmp_path / "styles.csv")
    assert [(row.prompt, row.negative_prompt) for row in rows] == [
        ("cinematic still a mug, film grain", "blur, anime"), ("a box", None),
        ("cinematic still a lamp, film grain, soft light", "anime"), ("a cup", None),
    ]  # fmt: skip
    assert told(built(tmp_path, "s.csv", "id,prompt,style\na,a mug,Cinematic\n")[0]) == [(2, "prompt")]


def test_a_pasted_block_is_taken_apart(tmp_path: Path) -> None:
    settings = "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 123, Size: 512x768, Model: sdxl"
    block = f"a red mug <lora:x:0.8>\nNegative prompt: blurry, text\n{settings}"
    report, rows = built(tmp_path, "s.csv", f'id,prompt\r\n1,"{block}"\r\n')
    expected = PromptRow(
        "1", "a red mug", "blurry, text", seed=123, width=512, height=768, steps=20, guidance=7.0, adapter="x:0.8",
        tags=(("model", "sdxl"), ("sampler", "Euler a")),
    )  # fmt: skip
    assert rows == [expected] and any("taken apart" in note for note in report.notes)
    assert built(tmp_path, "s.csv", f'id,prompt\n1,"{block.replace(chr(10), " ")}"\n')[1] == [expected]
    assert told(built(tmp_path, "s.csv", f'id,prompt,seed\n1,"{block}",7\n')[0]) == [(2, "seed")]


def test_advertising_sizes_are_planned_and_said(tmp_path: Path) -> None:
    source = "id,prompt,width,height\nfb,m,1200,628\nsq,n,1080,1080\nlead,o,728,90\nsky,p,160,600\n"
    report, rows = built(tmp_path, "s.csv", source)
    assert [(row.width, row.height) for row in rows] == [(1200, 628), (1080, 1080), (728, 90), (160, 600)]
    assert [(doubt.row_id, doubt.what) for doubt in report.warnings] == [
        ("fb", "1200x628 is no multiple of 8: it is drawn as 1200x632 and cut to 1200x628"),
        ("lead", "728x90 is no multiple of 8: it is drawn as 728x96 and cut to 728x90"),
        ("lead", "728x90 is too small to carry the mark"),
        ("sky", "160x600 is too small to carry the mark"),
    ]


@pytest.mark.parametrize(
    ("column", "said", "size"),
    [
        ("size", "Story", (1080, 1920)), ("size", "1200 x 628 px", (1200, 628)), ("Aspect", "4:5", (896, 1120)),
        ("Format", "16/9", (1280, 720)),
       
        ("size", "leaderboard", (728, 90)), ("ar", "1.91:1", (1408, 736)), ("aspect", "1:1", (1024, 1024)),
        ("resolution", "1024×768", (1024, 768)), ("size", "Feed 4:5", (896, 1120)), ("size", "IG Story 9:16", (1080, 1920)),
        ("size", "Feed (1080x1350)", (1080, 1350)), ("size", "1080w x 1350h", (1080, 1350)), ("aspect", "9 by 16", (720, 1280)),
        ("aspect", "4x5", (896, 1120)), ("aspect", "1.91", (1408, 736)), ("aspect", '"1,5"', (1248, 832)),
        ("size", "Leaderboard – 728x90", (728, 90)),
    ],
)  # fmt: skip
def test_sizes_as_people_say_them(tmp_path: Path, column: str, said: str, size: tuple[int, int]) -> None:
    row = built(tmp_path, "s.csv", f"id,prompt,{column}\na,m,{said}\n")[1][0]
    assert (row.width, row.height) == size


@pytest.mark.parametrize(
    "said", ["banner", "landscape", "A4", "16:0", "1000000:1", "big", "1:1 or 4:5", "Story 1:1", "512x512 / 1024x1024", "2"]
)
def test_sizes_that_may_be_two_things_or_none_are_refused(tmp_path: Path, said: str) -> None:
    assert told(built(tmp_path, "s.csv", f"id,prompt,size\na,m,{said}\n")[0]) == [(2, "width")]


BROKEN = '''id,prompt,text
1,#REF!,#N/A
2,"=A2&"" mug""",#NAME?
3,TRUE,0
4,nan,nan
5,NULL,None
6,{{product_name}} on a table,{{headline}}
7,[Product Name] on table,
8,<<colour>> mug,
9,%%product%% mug,
10,Salt &amp; pepper mug,
11,CafÃ© mug with â€œSALEâ€\x9d,
12,Caf\ufffd mug,
'''


def test_spreadsheet_errors_are_refused_and_what_nobody_meant_is_warned_of(tmp_path: Path) -> None:
    report, _ = built(tmp_path, "s.csv", BROKEN)
    assert told(report) == [(2, "prompt"), (2, "text"), (3, "text")]
    expected = [(3, "prompt"), (4, "prompt"), (5, "prompt"), (5, "text"), (6, "prompt"), (7, "prompt"), (7, "text")]
    assert warned(report) == [*expected, *((row, "prompt") for row in range(8, 14))]
    assert all(doubt.remedy and f"row {doubt.row} " in str(doubt) for doubt in report.warnings)


def test_strict_makes_warnings_faults(tmp_path: Path) -> None:
    path, out = tmp_path / "s.csv", tmp_path / "m.parquet"
    path.write_text("id,prompt\na,[Name] mug\n")
    assert brief.build(path, out, strict=True).rows == 0 and not out.exists()
    assert brief.build(path, out).rows == 1 and out.exists()


@pytest.mark.parametrize(
    "prompt",
    [
        "a {product} mug", "a ${name} mug", "a %NAME% mug", "a *|FNAME|* mug", "a [[name]] mug", "a <name> mug", "mug, TBD",
        "lorem ipsum mug", "n/a", "?",
        "12",
        "=CONCAT(A1;B1)", "a mug #N/A", "Gr\u00c3\u00bc\u00c3\u009fe", "caf&#233;", "a mug<br>red", "a\u200bmug", "a [red:blue:0.5] mug",
        "a mug::2 box",
        "a mug https://x.example/a.png", "a mug embedding:bad", "a mug —no text", "a mug --stylize 250",
        "a mug AND a cat :1.2", "a mug++ and a cat", "a (blurry)-0.5 mug", '("a cat", "a dog").blend(0.5,0.5)', "1.2::red mug",
        "mug :: white box",
        "<|endoftext|> mug", "{red mug", "red|blue mug", "a mug, aspect ratio 4:5", "AR 16:9 a mug", "Prompt: a mug", "a mug -s 30",
        "a \u202egum\u202c mug", "a mug\u2028box", "a \u2067mug\u2069 box",
        "a %s mug", "two\\nlines", 'a sign ""SALE"" in red', "a :product_name: mug", "M?ller mug",
    ],
)  # fmt: skip
def test_each_of_these_prompts_is_warned_of(tmp_path: Path, prompt: str) -> None:
    report, rows = built(tmp_path, "s.tsv", f"id\tprompt\na\t{prompt}\n")
    assert (2, "prompt") in warned(report) and len(rows) == 1


@pytest.mark.parametrize(
    "cell",
    ["?", "see brief", "siehe Briefing", "same as above", "ditto", "wie oben", "s. o.", "voir ci-dessus", "同上", "TBD", "to be defined"],
)
def test_a_text_that_stands_elsewhere_is_warned_of(tmp_path: Path, cell: str) -> None:
    assert (2, "text") in warned(built(tmp_path, "s.tsv", f"id\tprompt\ttext\na\ta mug\t{cell}\n")[0])


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ("negative_prompt", "{bad|worse} hands"), ("negative_prompt", "__bad__"), ("negative_prompt", "bad <lora:x:1>"),
        ("negative_prompt", "bad --ar 1:1"), ("negative_prompt", "#REF! hands"), ("text", "{SALE|NEW}"), ("text", "__headline__"),
        ("text", "only #NOM? Euro"),
    ],
)  # fmt: skip
def test_syntax_where_it_is_not_read_is_warned_of(tmp_path: Path, column: str, cell: str) -> None:
    assert (2, column) in warned(built(tmp_path, "s.tsv", f"id\tprompt\t{column}\na\ta mug\t{cell}\n")[0])


@pytest.mark.parametrize(
    "prompt",
    [
        "a mug (red:1.3) BREAK a box", "mug – box", "a mug, 24\" tall, 50% off", "a mug & a box", "Café “SALE” – für Übergröße",
        "a 3:2 photo",
        "co-op, C# & F#",
        "C++ on a mug, 10-20 cm, rock--and--roll", "salt and pepper, ratio of 2 to 1", "an L-shaped sofa -W style",
        "日本語の看板", "a mug #1 @home", "AT&T store", "नमस्ते दुनिया",
    ],
)  # fmt: skip
def test_ordinary_prompts_are_not_warned_of(tmp_path: Path, prompt: str) -> None:
    report, rows = built(tmp_path, "s.tsv", f"id\tprompt\na\t{prompt}\n")
    assert report.warnings == () and rows[0].prompt == prompt


def test_rows_that_ask_for_the_same_picture_are_said(tmp_path: Path) -> None:
    assert built(tmp_path, "s.csv", "id,prompt,steps\na,m,9999\nb,m,9998\nc,m,\n")[0].warnings == ()
    source = "id,prompt,seed\na,A red mug on the table,\nb,a blue mug on the table,\nc,red mug on a table!,\nd,a red mug on the table,7\n"
    report, _ = built(tmp_path, "s.csv", source)
    assert [(doubt.row, doubt.what) for doubt in report.warnings] == [(4, "asks for nearly the same picture as the row with id 'a'")]


def test_ids_and_article_numbers_that_a_spreadsheet_changed_are_said(tmp_path: Path) -> None:
    report, _ = built(tmp_path, "s.csv", 'id,prompt,SKU\n4.00638E+12,a mug,x\nb,a box,"4,00638E+12"\nnan,a cup,x\n'.replace('\\"', '"'))
    assert warned(report) == [(2, "id"), (3, "tags"), (4, "id")]
    assert told(built(tmp_path, "s.csv", "id,prompt\n#N/A,a mug\n")[0]) == [(2, "id")]


@pytest.mark.parametrize("source", [",id,prompt\n0,a,m\n1,b,n\n", "Unnamed: 0,id,prompt\n0,a,m\n1,b,n\n"])
def test_the_index_that_pandas_writes_is_left_out(tmp_path: Path, source: str) -> None:
    assert built(tmp_path, "s.csv", source)[1] == [PromptRow("a", "m"), PromptRow("b", "n")]


def test_remarks_in_headers_and_blanks_behind_quoted_cells(tmp_path: Path) -> None:
    _, rows = built(tmp_path, "s.csv", 'ID (unique), Prompt (EN) , Width (px),Seed (optional)\n"a" , "a mug, ""red"" , big" ,512,-1\n')
    assert rows == [PromptRow("a", 'a mug, "red" , big', width=512)]


def test_a_list_without_a_header_is_told_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"save it as \.txt"):
        built(tmp_path, "s.csv", "a red mug\na blue mug\n")
    with pytest.raises(ManifestError, match="no cell of row 1 is the name of a column that is known"):
        built(tmp_path, "s.csv", "a,a red mug,SALE\nb,a blue mug,NEW\n")


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
def test_every_kind_of_line_end(tmp_path: Path, end: str) -> None:
    assert len(built(tmp_path, "s.csv", f"id,prompt{end}a,m{end}{end}b,x{end}")[1]) == 2
    assert len(built(tmp_path, "s.tsv", f"id\tprompt{end}a\tm{end}b\tx")[1]) == 2
    assert len(built(tmp_path, "s.txt", f"a mug{end}{end}a box")[1]) == 2


@pytest.mark.parametrize(
    ("width", "height", "size"),
    [
        ("512", "", (512, 640)),
        ("", "640", (512, 640)),
        ("512", "640", (512, 640)),
        ("512", "632", (512, 632)),
        ("512", "512", None),
        ("x", "", None),
    ],
)
def test_an_aspect_beside_sides(tmp_path: Path, width: str, height: str, size: tuple[int, int] | None) -> None:
    report, rows = built(tmp_path, "s.csv", f"id,prompt,aspect,width,height\na,m,4:5,{width},{height}\n")
    assert (size is None) is bool(report.faults)
    assert size is None or (rows[0].width, rows[0].height) == size
