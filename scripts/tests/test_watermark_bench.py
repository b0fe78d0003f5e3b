"""The watermark's bench: which rows of an earlier run count, and what its pictures are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from scripts.bench import watermark as bench
from scripts.bench.watermark_pictures import sample_at
from scripts.bench.watermark_report import Row


def test_rows_of_another_origin_are_measured_again_and_kept_beside(tmp_path: Path) -> None:
    path, asked = tmp_path / "rows.jsonl", []

    def row(index: int) -> Row:
        asked.append(index)
        return {"nth": len(asked)}

    assert bench.kept(path, "flat", "one", 3, row) == [{"nth": 1}, {"nth": 2}, {"nth": 3}]
    assert bench.kept(path, "flat", "one", 4, row)[3] == {"nth": 4} and asked == [0, 1, 2, 3]
    assert bench.kept(path, "flat", "two", 2, row) == [{"nth": 5}, {"nth": 6}]
    assert bench.kept(path, "null", "one", 1, row) == [{"nth": 7}]
    assert bench.kept(path, "flat", "one", 2, row) == [{"nth": 1}, {"nth": 2}] and len(asked) == 7
    with path.open("a") as file:
        file.write(json.dumps({"part": "flat", "index": 0, "row": {"nth": 0}}) + "\n")  # as files before 2026-11-26 have them
    assert bench.kept(path, "flat", "one", 1, row) == [{"nth": 1}]


def test_an_origin_tells_seeds_pictures_and_code_apart(tmp_path: Path) -> None:
    black, white = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 255, np.uint8)
    asked = [(1, []), (2, []), (1, [black]), (1, [white]), (1, [black, white]), (1, [black.reshape(4, 16, 3)])]
    assert len({bench.origin(seed, made) for seed, made in asked}) == len(asked)
    assert bench.origin(1, [black]) == bench.origin(1, [black.copy()])
    for name in ("pipeline/renderfarm/watermark/code.py", "scripts/bench/watermark_attacks.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("first")
    first = bench.origin(1, [], tmp_path)
    (tmp_path / "scripts/bench/watermark_report.py").write_text("measures nothing")
    assert bench.origin(1, [], tmp_path) == first
    for name in ("pipeline/renderfarm/watermark/code.py", "scripts/bench/watermark_attacks.py"):
        (tmp_path / name).write_text("second")
        assert bench.origin(1, [], tmp_path) != first, name
        (tmp_path / name).write_text("first")
    assert bench.origin(1, [], tmp_path) == first


def test_a_quarter_of_the_pictures_is_generated_half_of_them_at_their_own_size() -> None:
    made = [np.full((256, 256, 3), 60 + k, np.uint8) for k in range(3)]
    found = [sample_at(index, np.random.default_rng(index), made) for index in range(16)]
    assert [sample.kind for sample in found].count("generated") == 4 and found[1].pixels is made[0]
    assert {min(found[index].pixels.shape[:2]) for index in (1, 9)} == {256}
    assert not [sample for sample in (sample_at(i, np.random.default_rng(i), []) for i in range(8)) if sample.kind == "generated"]
    assert sample_at(1, np.random.default_rng(1), made, 512).pixels.shape == (512, 512, 3)
