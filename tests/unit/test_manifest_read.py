"""Reading manifests: every row in exactly one count, every fault with its row, column and remedy."""

from __future__ import annotations

import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from renderfarm import manifest
from renderfarm.errors import ManifestError
from renderfarm.manifest import Rules
from renderfarm.manifest.duplicates import find_twins
from renderfarm.manifest.faults import Doubt, Fault
from renderfarm.manifest.rows import examine, forbidden_word, raw_digest, row_digest
from renderfarm.schema import ObjectCount, PromptRow

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes columns as a Parquet file and gives its path; the columns `id` and `prompt` are made up where not given."""

    def writer(file: str = "m.parquet", rows: int = 1, **columns: Any) -> str:
        columns.setdefault("id", [f"row{n}" for n in range(rows)])
        columns.setdefault("prompt", ["a red mug"] * len(columns["id"]))
        path = tmp_path / file
        path.parent.mkdir(exist_ok=True)
        pq.write_table(pa.table(columns), path, row_group_size=2)
        return str(path)

    return writer


def only_fault(uri: str, rules: Rules | None = None) -> tuple[int | None, str | None, str, str]:
    (fault,) = manifest.check(uri, rules)
    return fault.row, fault.column, fault.what, fault.remedy


def all_rows(uri: str) -> list[PromptRow]:
    return [row for shard in manifest.read(uri) for row in shard.rows]


def test_a_full_row_arrives_as_it_was_written(write: Write) -> None:
    objects = pa.array([[{"class": "mug", "count": 2}]], pa.list_(pa.struct([("class", pa.string()), ("count", pa.int32())])))
    uri = write(
        negative_prompt=["blur"],
        seed=pa.array([2**62]),
        width=pa.array([512], pa.int32()),
        steps=pa.array([20], pa.int64()),
        guidance=pa.array([7.1], pa.float32()),
        text=[""],
        objects=objects,
        tags=pa.array([[("sku", "1"), ("campaign", "x")]], pa.map_(pa.string(), pa.string())),
    )
    (shard,) = manifest.read(uri)
    assert shard.bad == ()
    assert shard.rows == (
        PromptRow(
            "row0",
            "a red mug",
            negative_prompt="blur",
            seed=2**62,
            width=512,
            steps=20,
            guidance=7.1,
            text="",
            objects=(ObjectCount("mug", 2),),
            tags=(("campaign", "x"), ("sku", "1")),
        ),
    )


@pytest.mark.parametrize("row_id", ["../../etc/passwd", "a/b", "..", "x" * 200, "ひらがな", "a b", "%2F", "é"])
def test_ids_that_look_dangerous_are_legal(write: Write, row_id: str) -> None:
    assert [row.id for row in all_rows(write(id=[row_id]))] == [row_id]


@pytest.mark.parametrize(
    ("row_id", "what"),
    [
        (None, "missing"),
        ("", "empty"),
        ("x" * 201, "201 characters long"),
        ("a\0b", "holds the control character U+0000 NUL"),
        ("a\nb", "holds the control character U+000A"),
        ("a\x85b", "holds the control character U+0085"),
        ("gpj\u202e.exe", "holds the bidirectional character U+202E RIGHT-TO-LEFT OVERRIDE"),
        ("a\u2066b", "holds the bidirectional character U+2066 LEFT-TO-RIGHT ISOLATE"),
    ],
)
def test_ids_that_no_row_may_bear(write: Write, row_id: str | None, what: str) -> None:
    uri = write(id=pa.array([row_id], pa.string()), prompt=["p"])
    assert only_fault(uri)[:3] == (0, "id", what)
    (shard,) = manifest.read(uri)
    (bad,) = shard.bad
    assert bad.row_id == f"row-0-{bad.digest[:12]}"


@pytest.mark.parametrize(
    ("column", "value", "what"),
    [
        ("prompt", None, "missing"),
        ("prompt", "", "empty"),
        ("prompt", " \n", "empty"),
        ("prompt", "a\0b", "holds the control character U+0000 NUL"),
        ("width", -8, "-8 pixels is out of range"),
        ("height", 0, "0 pixels is out of range"),
        ("width", 100_000, "100000 pixels is out of range"),
        ("height", 2**31 + 8, "2147483656 pixels is out of range"),
        ("steps", 0, "0 is out of range"),
        ("images", 0, "0 is out of range"),
        ("images", -1, "-1 is out of range"),
        ("seed", -1, "-1 is out of range"),
        ("guidance", float("nan"), "nan is out of range"),
        ("guidance", float("inf"), "inf is out of range"),
        ("adapter", "", "empty"),
        ("mask_image", "m.png", "has no init_image to work on"),
        ("strength", 0.5, "has no init_image to work on"),
    ],
)
def test_values_out_of_range_name_row_and_column(write: Write, column: str, value: Any, what: str) -> None:
    uri = write(id=["fine", "bad"], **{"prompt": ["p", "p"], column: pa.array(["p" if column == "prompt" else None, value])})
    assert only_fault(uri)[:3] == (1, column, what)


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ([{"class": "mug", "count": 0}], "the count of 'mug' is 0"),
        ([{"class": "mug", "count": None}], "the count of 'mug' is null"),
        ([{"class": "mug", "count": 1}, {"class": "mug", "count": 2}], "'mug' is named twice"),
        ([{"class": None, "count": 1}], "an object has no readable class"),
        ([{"class": "mug, box", "count": 1}], "the class 'mug, box' holds ','"),
        ([{"class": "mug:2; box", "count": 1}], "the class 'mug:2; box' holds ':'"),
        ([{"class": "2 mug; 1 box", "count": 1}], "the class '2 mug; 1 box' holds ';'"),
        ([{"class": "mug\nbox", "count": 1}], "the class 'mug\\nbox' holds '\\n'"),
        ([None], "an object has no readable class"),
    ],
)
def test_objects_that_cannot_be_counted(write: Write, value: Any, what: str) -> None:
    kind = pa.list_(pa.struct([("class", pa.string()), ("count", pa.int64())]))
    assert only_fault(write(objects=pa.array([value], kind)))[:3] == (0, "objects", what)


def test_tags_that_say_a_thing_twice_or_nothing(write: Write) -> None:
    kind = pa.map_(pa.string(), pa.string())
    uri = write(rows=2, tags=pa.array([[("a", "1"), ("a", "2")], [("a", None)]], kind))
    assert [(f.row, f.what) for f in manifest.check(uri)] == [(0, "'a' is there twice"), (1, "the value of 'a' is null")]


def test_the_job_narrows_what_is_legal(write: Write) -> None:
    uri = write(rows=3, prompt=["a glass", "an ASS", "p"], adapter=pa.array([None, None, "watercolor"]))
    rules = Rules(adapters=frozenset({"watercolour", "ink"}), forbidden_words=("ass",))
    assert [(f.row, f.column, f.what, f.remedy) for f in manifest.check(uri, rules)] == [
        (1, "prompt", "holds the forbidden word 'ASS'", "say it in other words; the job lists what it forbids"),
        (2, "adapter", "the job has no adapter 'watercolor'", "use 'watercolour', or add it to the job's adapters"),
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a pepsi can", "pepsi"), ("PEPSI!", "PEPSI"), ("P\u00e9psi", "P\u00e9psi"), ("Pe\u0301psi", "Pe\u0301psi"),
        ("pe\u00adpsi", "pe\u00adpsi"),
        ("\uff30\uff25\uff30\uff33\uff29", "\uff30\uff25\uff30\uff33\uff29"), ("pepsico", None), ("epepsi", None), ("(pepsi)", "pepsi"),
        ("a  Coca \n Cola sign", "Coca \n Cola"), ("coca, cola", None),
        ("Stra\u00dfe", "Stra\u00dfe"), ("STRASSE", "STRASSE"), ("C++ book", "C++"),
        ("", None), ("\u200b", None),
    ],
)  # fmt: skip
def test_forbidden_words_are_found_in_any_dress_and_only_whole(text: str, found: str | None) -> None:
    assert forbidden_word(text, ("pepsi", "coca cola", "stra\u00dfe", "C++")) == found


def test_negative_prompts_may_name_what_is_forbidden(write: Write) -> None:
    uri = write(rows=2, prompt=["a mug", "a mug"], negative_prompt=["pepsi", None], text=[None, "PEPSI"])
    found = list(manifest.check(uri, Rules(forbidden_words=("pepsi",))))
    assert [(f.row, f.column, f.what) for f in found] == [(1, "text", "holds the forbidden word 'PEPSI'")]


def test_rows_that_share_an_id_name_each_other_across_files(write: Write, tmp_path: Path) -> None:
    write("d/a.parquet", id=["x", "y"])
    write("d/b.parquet", id=["z", "x", "y", "x"])
    found = {f.row: f.what for f in manifest.check(str(tmp_path / "d"))}
    assert found == {
        0: "row 3 and 1 more has the same id (row 0 of a.parquet)",
        1: "row 4 has the same id (row 1 of a.parquet)",
        3: "row 0 and 1 more has the same id (row 1 of b.parquet)",
        4: "row 1 has the same id (row 2 of b.parquet)",
        5: "row 3 and 1 more has the same id (row 3 of b.parquet)",
    }


def test_equal_twins_are_all_bad_and_keep_digests_of_their_own(write: Write) -> None:
    (shard,) = manifest.read(write(id=["x", "x", "x", "y"]))
    assert [row.id for row in shard.rows] == ["y"]
    assert [bad.row_id for bad in shard.bad] == ["x"] * 3
    assert len({bad.digest for bad in shard.bad}) == 3


@given(st.lists(st.one_of(st.none(), st.text("ab", min_size=1, max_size=2)), max_size=30), st.integers(1, 7))
def test_twins_are_what_a_dictionary_finds(ids: list[str | None], chunk: int) -> None:
    twins = find_twins(lambda: (ids[at : at + chunk] for at in range(0, len(ids), chunk)), len(ids))
    for row, row_id in enumerate(ids):
        same = [other for other, other_id in enumerate(ids) if other_id == row_id and row_id is not None]
        twin = twins.of(row)
        if len(same) < 2:
            assert twin is None
        else:
            assert twin is not None and twin.other in same and twin.other != row
            assert (twin.others, twin.place) == (len(same) - 1, same.index(row))


class Colliding(str):
    """A text whose first hash says nothing."""

    def __hash__(self) -> int:
        return 7


def test_ids_whose_first_hashes_meet_are_told_apart_by_the_second() -> None:
    ids: list[str | None] = [Colliding(name) for name in ("a", "b", "a")]
    twins = find_twins(lambda: [ids], 3)
    assert [twins.of(row) is not None for row in range(3)] == [True, False, True]


@pytest.mark.parametrize(
    ("columns", "column", "what", "remedy"),
    [
        ({"id": [7]}, "id", "the type is int64, and string is wanted", "astype(str)"),
        ({"width": [512.0]}, "width", "the type is double, and int32 is wanted", "astype('Int32')"),
        ({"guidance": ["7"]}, "guidance", "the type is string, and float is wanted", "manifest build"),
        ({"tags": [{"a": "b"}]}, "tags", "the type is struct<a: string>, and map<string, string> is wanted", "tag.NAME"),
        ({"Promt": ["x"]}, "Promt", "no such column", "keep it as a tag (tag.Promt"),
        ({"guidance_scale": [7.0]}, "guidance_scale", "no such column", "`renderfarm manifest build` knows what other tools call columns"),
        ({"campaign": ["x"]}, "campaign", "no such column", "tag.campaign"),
        ({"__index_level_0__": [1]}, "__index_level_0__", "no such column", "index=False"),
    ],
)
def test_wrong_columns_name_the_type_and_the_remedy(write: Write, columns: dict[str, Any], column: str, what: str, remedy: str) -> None:
    uri = write(**columns)
    row, at, said, mend = only_fault(uri)
    assert (row, at, said) == (None, column, what)
    assert remedy in mend
    with pytest.raises(ManifestError) as caught:
        manifest.read(uri)
    assert what in caught.value.what and caught.value.where == uri


def test_all_faults_are_told_at_once_those_of_the_columns_and_those_of_the_rows(write: Write) -> None:
    uri = write(rows=2, steps=pa.array([0, 5]), width=["a", "b"], extra=[1, 2])
    told = [(f.row, f.column) for f in manifest.check(uri)]
    assert told == [(None, "width"), (None, "extra"), (0, "steps")]


def test_a_missing_prompt_column_is_said_once(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["a", "b"]}), tmp_path / "m.parquet")
    assert only_fault(str(tmp_path / "m.parquet"))[:3] == (None, "prompt", "this column is missing")


def test_what_is_no_manifest_at_all(tmp_path: Path, write: Write) -> None:
    with pytest.raises(ManifestError, match="no such manifest file"):
        manifest.read(str(tmp_path / "none.parquet"))
    (tmp_path / "text.parquet").write_text("not Parquet, just text")
    with pytest.raises(ManifestError, match="not Parquet, or damaged"):
        manifest.read(str(tmp_path / "text.parquet"))
    with pytest.raises(ManifestError, match="holds no rows"):
        manifest.read(write(id=pa.array([], pa.string()), prompt=pa.array([], pa.string())))


def test_damaged_pages_are_one_message(write: Write) -> None:
    uri = write(rows=50)
    data = bytearray(Path(uri).read_bytes())
    data[4:60] = b"\xff" * 56
    Path(uri).write_bytes(data)
    (fault,) = manifest.check(uri)
    assert "not Parquet, or damaged" in fault.what


def test_a_newer_version_of_the_manifest_is_refused(tmp_path: Path) -> None:
    schema = pa.schema([("id", pa.string()), ("prompt", pa.string())], metadata={"renderfarm.manifest.version": "9"})
    pq.write_table(pa.table({"id": ["a"], "prompt": ["p"]}, schema=schema), tmp_path / "m.parquet")
    with pytest.raises(ManifestError, match="made for version 9"):
        manifest.read(str(tmp_path / "m.parquet"))


def test_bytes_that_are_no_utf8_are_a_fault_of_their_row(write: Write) -> None:
    broken = pa.array([b"fine", b"\xff\xfe"], pa.binary()).view(pa.string())
    uri = write(rows=2, prompt=broken)
    assert only_fault(uri)[:3] == (1, "prompt", "not UTF-8 text")


def test_the_digest_is_of_what_is_said_and_not_of_the_bytes(write: Write) -> None:
    narrow = write("a.parquet", rows=3, steps=pa.array([1, 2, 3], pa.int16()), guidance=pa.array([7.1] * 3, pa.float32()))
    wide = write(
        "b.parquet",
        id=pa.array(["row0", "row1", "row2"]).dictionary_encode(),
        guidance=pa.array([7.1] * 3, pa.float64()),
        steps=pa.array([1, 2, 3], pa.int64()),
        seed=pa.nulls(3, pa.int64()),
    )
    other = write("c.parquet", rows=3, steps=pa.array([1, 2, 4]), guidance=pa.array([7.1] * 3))
    assert all_rows(narrow) == all_rows(wide)
    assert manifest.digest(narrow) == manifest.digest(wide) != manifest.digest(other)


def test_the_digest_of_a_row_is_fixed_for_all_time() -> None:
    row = PromptRow("a", "p", guidance=7.5, objects=(ObjectCount("mug", 2),), tags=(("sku", "1"), ("campaign", "x")))
    assert manifest.row_digest(row) == "e4c91f5b53844df87262b88712ea35f6803aa3149a909389565f37c98da4f72c"


texts = st.text(string.ascii_letters + " é\u3042", min_size=1, max_size=8).filter(str.strip)


@given(
    st.fixed_dictionaries(
        {"id": texts, "prompt": texts},
        optional={
            "seed": st.integers(0, 2**63 - 1),
            "guidance": st.floats(0, 100, width=32),
            "text": st.just("") | texts,
            "objects": st.lists(texts, unique=True, max_size=3).map(lambda ns: [{"class": n, "count": 1} for n in ns]),
            "tags": st.dictionaries(texts, texts, max_size=3).map(lambda d: list(d.items())),
        },
    )
)
def test_good_rows_have_one_digest_raw_or_read(raw: dict[str, Any]) -> None:
    row, reasons = examine(raw, Rules())
    assert reasons == [] and row is not None
    assert manifest.row_digest(row) == raw_digest(raw)


def test_rows_are_streamed_and_each_is_in_one_shard(tmp_path: Path) -> None:
    ids = [f"r{n}" for n in range(20_000)]
    pq.write_table(pa.table({"id": ids, "prompt": ["p"] * len(ids)}), tmp_path / "m.parquet")
    shards = list(manifest.read(str(tmp_path / "m.parquet")))
    assert [shard.number for shard in shards] == list(range(len(shards))) and len(shards) > 2
    assert [row.id for shard in shards for row in shard.rows] == ids


def test_show_gives_the_rows_asked_for(write: Write, tmp_path: Path) -> None:
    write("d/a.parquet", rows=5)
    write("d/b.parquet", id=list("abc"))
    assert [number for number, _ in manifest.show(str(tmp_path / "d"), 3, 3)] == [3, 4, 5]
    assert manifest.count(str(tmp_path / "d")) == 8


def test_several_adapters_come_as_a_list_or_as_a_text(write: Write) -> None:
    listed = write(id=["a", "b", "c"], prompt=["x"] * 3, adapters=[["lcm", "style:.8"], ["lcm"], None])
    assert [row.adapter for row in all_rows(listed)] == ["lcm, style:.8", "lcm", None]
    written = write(id=["a", "b", "c"], prompt=["x"] * 3, adapter=["lcm, style:.8", "lcm", None])
    assert [row_digest(row) for row in all_rows(written)] == [row_digest(row) for row in all_rows(listed)]
    rules = Rules(adapters=frozenset({"lcm"}))
    unknown = write(id=["a"], prompt=["x"], adapters=[["lcm", "style"]])
    assert only_fault(unknown, rules)[1:3] == ("adapter", "the job has no adapter 'style'")
    assert "named twice" in only_fault(write(id=["a"], prompt=["x"], adapter=["lcm, lcm"]), rules)[2]
    both = write(id=["a"], prompt=["x"], adapter=["lcm"], adapters=[["lcm"]])
    assert "say the same" in str(next(manifest.check(both)))


def test_warnings_stand_among_the_faults_and_are_not_faults(tmp_path: Path) -> None:
    rows = [{"id": "a", "prompt": "[Name]"}, {"id": "b", "prompt": " "}, {"id": "c", "prompt": "a mug"}, {"id": "d", "prompt": "[Name]"}]
    manifest.write_raw(tmp_path / "m.parquet", iter(rows))

    def warner(row: PromptRow) -> list[manifest.Reason]:
        return [("prompt", "a placeholder", "fill it in")] if row.prompt == "[Name]" else []

    told = list(manifest.check(str(tmp_path / "m.parquet"), warners=[warner], places=[2, 5, 6, 9]))
    assert [(type(fault), fault.row, fault.row_id) for fault in told] == [(Doubt, 0, "a"), (Fault, 1, "b"), (Doubt, 3, "d")]
    assert str(told[0]) == "warning: row 0 (id 'a'), column prompt: a placeholder; fill it in"
