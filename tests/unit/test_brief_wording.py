"""Columns `text`, `objects`, `include` and `exclude`: from a person's file to the manifest, and what `manifest show` says of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from renderfarm import brief, cli, manifest
from renderfarm.manifest import BuildReport
from renderfarm.schema import PromptRow


def _built(tmp_path: Path, name: str, content: str) -> tuple[BuildReport, list[PromptRow]]:
    source, out = tmp_path / name, tmp_path / "m.parquet"
    source.write_text(content, "utf-8")
    report = brief.build(source, out)
    return report, [] if report.faults else [row for shard in manifest.read(str(out)) for row in shard.rows]


def test_cells_of_text(tmp_path: Path) -> None:
    cells = ["none", "N/A", "-", "no", "No text", '""', "ohne Text", "FALSE", "“HALF PRICE”", "Headline: NEW\nCTA: Try it", ""]
    rows = "".join(
        f'{at},a scene of number {at} with its own things,"{cell.replace(chr(34), chr(34) * 2)}"\n' for at, cell in enumerate(cells)
    )
    report, built = _built(tmp_path, "s.csv", "id,prompt,text\n" + rows)
    assert report.faults == () and [row.text for row in built] == [""] * 8 + [*cells[8:10], None]


def test_cells_of_objects(tmp_path: Path) -> None:
    cells = [
        "two cats",
        "a pair of boots",
        "cup:2",
        "3 cups, 1 jar",
        "cup x2",
        "cup (2)",
        "cup=2",
        "1-2 cups",
        "a dozen rolls",
        "no cars",
        "2.0 cup",
        "cat|cow",
    ]
    report, built = _built(
        tmp_path, "s.csv", "id,prompt,objects\n" + "".join(f'{at},scene {at},"{cell}"\n' for at, cell in enumerate(cells))
    )
    assert built == [] and [(fault.row, fault.column) for fault in report.faults] == [(13, "objects")]
    report, built = _built(
        tmp_path, "s.csv", "id,prompt,objects\n" + "".join(f'{at},scene {at},"{cell}"\n' for at, cell in enumerate(cells[:-1]))
    )
    assert [", ".join(map(str, row.objects)) for row in built] == [
        "2 cats", "2 boots", "2 cup", "3 cups, 1 jar", "2 cup", "2 cup", "2 cup", "at least 1 cups, at most 2 cups", "12 rolls", "no cars",
        "2 cup",
    ]  # fmt: skip


def test_genevals_columns_and_what_is_warned(tmp_path: Path) -> None:
    lines = [
        {
            "tag": "counting",
            "include": [{"class": "fork", "count": 3}],
            "exclude": [{"class": "fork", "count": 4}],
            "prompt": "a photo of three forks",
        },
        {"tag": "colors", "include": [{"class": "cup", "count": 1, "color": "red"}], "prompt": "a photo of a red cup"},
        {"tag": "counting", "include": [{"class": "vase", "count": 2}], "prompt": "a photo of one vase"},
        {"tag": "none", "include": [], "prompt": 'a poster for the play "The Storm"'},
    ]
    report, built = _built(tmp_path, "g.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    assert report.faults == () and [[str(one) for one in row.objects] for row in built] == [
        ["3 fork"],
        ["at least 1 cup"],
        ["at least 2 vase"],
        [],
    ]
    assert [(doubt.row, doubt.column) for doubt in report.warnings] == [(3, "objects"), (4, "prompt")]


def test_show_tells_no_text_from_nothing_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _built(tmp_path, "s.jsonl", '{"id": "a", "prompt": "p", "text": ""}\n{"id": "b", "prompt": "q", "objects": "up to 2 cups"}\n')
    assert cli.main(["manifest", "show", str(tmp_path / "m.parquet")]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith('{"text": ""}') and second.endswith('{"objects": ["at most 2 cups"]}')
