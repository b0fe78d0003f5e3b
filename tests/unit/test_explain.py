"""What a brief will render and check: each row's line, the sums, the page's text."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from renderfarm.cli import main
from renderfarm.explain import RowLine, write_page

JOB = Path(__file__).parents[2] / "jobs" / "mockups.yaml"
FEW = [f"--set=checks.{name}.enabled=false" for name in ("hands", "copies", "broken")]


def blocks(page: Path) -> tuple[list[dict[str, object]], dict[str, object]]:
    """The rows as the page's script sees them, and what stands above."""
    text = page.read_text()
    meta = json.loads(re.findall(r'id="meta">(.*?)</script>', text, re.S)[0])
    rows = [row for block in re.findall(r'class="rows">(.*?)</script>', text, re.S) for row in json.loads(block)]
    return [dict(zip(meta["fields"], row, strict=True)) for row in rows], meta


def test_a_brief_is_explained_row_by_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, page = tmp_path / "b.csv", tmp_path / "b.html"
    source.write_text(
        'id,prompt,campaign,objects,seed,images,text\na,"a red mug with a sign that says ""SALE""",spring,1 mug,,2,\n'
        "b,,spring,,,,\nc,[Name] lamp --seed 7,autumn,,,,\nd,a box,,,,,none\n"
    )
    assert main(["brief", str(source), "--job", str(JOB), "-o", str(page), *FEW]) == 2
    told = capsys.readouterr()
    assert "3 rows of 4, 4 images, 1 batches" in told.out and "campaign spring: 2 images" in told.out and "row 5" not in told.out
    assert "row 3 (id 'b'), column prompt: missing" in told.err
    rows, meta = blocks(page)
    first, second, third = rows
    assert (first["row"], first["row_id"], first["size"], first["images"]) == (2, "a", "256x256", 2)
    assert (first["lettering"], first["objects"], first["checks"], first["unchecked"]) == ("SALE", "1 mug", ["text", "counts"], [])
    assert str(first["read_from"]).startswith("the prompt: ") and first["tokens_max"] == 30 and first["tokens"] == 11
    assert (second["row"], second["seed"], second["lettering"]) == (4, "7 (of the row)", None)
    assert second["unchecked"] == [["text", "the row neither asks for text nor forbids it"], ["counts", "the row asks for no objects"]]
    assert "looks like a placeholder" in str(second["warnings"])
    assert (third["lettering"], third["read_from"]) == ("", "the column text")
    assert meta["faults"] == ["row 3 (id 'b'), column prompt: missing; say what the picture shows, or remove the row"]


def test_sizes_that_are_cut_are_planned_and_what_the_job_cannot_render_is_a_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "b.csv").write_text("id,prompt,size\na,a mug,500x300\nb,a box,728x90\nc,a hat,512x512\n")
    assert main(["brief", str(tmp_path / "b.csv"), "--job", str(JOB), "-o", str(tmp_path / "b.html"), *FEW]) == 2
    told = capsys.readouterr()
    assert "2 rows of 3, 2 images, 2 batches" in told.out
    rows, meta = blocks(tmp_path / "b.html")
    assert [(row["row"], row["size"]) for row in rows] == [(2, "500x300"), (4, "512x512")]
    assert "it is drawn as 504x304 and cut to 500x300" in str(rows[0]["warnings"])
    (fault,) = meta["faults"]  # type: ignore[misc]
    assert str(fault).startswith("row 3 (id 'b'): the job cannot render it: 728x96 pictures cannot carry the watermark")


@pytest.mark.parametrize("out", ["b.csv", "none/b.html", "."])
def test_a_page_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path, out: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "b.csv").write_text("id,prompt\na,a mug\n")
    assert main(["brief", str(tmp_path / "b.csv"), "--job", str(JOB), "-o", str(tmp_path / out)]) == 2
    assert "page" in capsys.readouterr().err and (tmp_path / "b.csv").read_text() == "id,prompt\na,a mug\n"


def test_what_is_warned_of_the_source_stands_above_the_rows(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_bytes("id,prompt\na,crème brûlée\n".encode("cp1252"))
    assert main(["brief", str(tmp_path / "b.csv"), "--job", str(JOB), "-o", str(tmp_path / "b.html"), *FEW]) == 0
    _, meta = blocks(tmp_path / "b.html")
    assert [text.partition(",")[0] for text in meta["warnings"]] == ["read as Windows-1252"]  # type: ignore[attr-defined]


def test_a_check_that_cannot_run_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "b.txt"
    source.write_text("a mug\n")
    said = [f"--set=checks.counts.weights={tmp_path / 'none'}"]
    assert main(["brief", str(source), "--job", str(JOB), *FEW, *said]) == 0
    assert re.search(r"check counts: will not run: ", capsys.readouterr().out)


def test_nothing_of_a_brief_is_markup(tmp_path: Path) -> None:
    hostile = "</script><script>alert(1)</script><!--\u2028"
    line = RowLine(2, hostile, hostile, "1x1", 1, hostile, hostile, hostile, hostile, hostile, (), (), 1, 2, ((hostile, hostile),))
    assert write_page(tmp_path / "p.html", hostile, [(line, [hostile])], lambda: {"source": hostile}) == 1
    text = (tmp_path / "p.html").read_text()
    assert "alert(1)</script>" not in text and "&lt;/script&gt;" in text.split("</title>")[0]
    rows, meta = blocks(tmp_path / "p.html")
    assert rows[0]["prompt"] == hostile and meta["source"] == hostile and [path.name for path in tmp_path.iterdir()] == ["p.html"]
