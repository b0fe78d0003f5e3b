"""A preview: which rows, which job; the loop that renders them is the one that renders everything."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from renderfarm import manifest
from renderfarm.cli import main
from renderfarm.cli.preview import RESET, ROWS_FILE, chosen, small_job
from renderfarm.errors import ManifestError
from renderfarm.job import JobSettings, load_job
from renderfarm.plan import Intent, plan_row
from renderfarm.schema import ObjectCount, PromptRow


def job_of(folder: Path, rows: int = 20, more: str = "") -> JobSettings:
    columns = {
        "id": [f"r{n}" for n in range(rows)],
        "prompt": [f"mug {n}" for n in range(rows)],
        "steps": pa.array([None, 4] * (rows // 2), pa.int32()),
    }
    pq.write_table(pa.table(columns), folder / "rows.parquet")
    (folder / "job.yaml").write_text(f"name: demo\nmanifest: rows.parquet\noutput: out\n{more}")
    return load_job(folder / "job.yaml")


def test_rows_come_evenly_and_bad_ones_are_left_out(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    assert [row.id for row in chosen(job, 4)] == ["r0", "r5", "r10", "r15"]
    assert len(chosen(job, 50)) == 20
    pq.write_table(pa.table({"id": ["a", "b"], "prompt": ["", "a mug"]}), tmp_path / "rows.parquet")
    assert [row.id for row in chosen(job, 4)] == ["b"]
    pq.write_table(pa.table({"id": ["a"], "prompt": [""]}), tmp_path / "rows.parquet")
    with pytest.raises(ManifestError, match="no row of it can be rendered"):
        chosen(job, 4)


def test_the_small_job_keeps_the_noise_and_tells_nobody(tmp_path: Path) -> None:
    more = "seed: 7\nchecks: {attempts: 5}\nbudget: {rejects: 1}\nnotify: {webhook_env: HOOK}\ndefaults: {images: 4, steps: 30}\n"
    job = job_of(
        tmp_path, more=more if "rejects" in JobSettings.model_json_schema()["$defs"]["BudgetSettings"]["properties"] else "seed: 7\n"
    )
    small = small_job(job, tmp_path / "p", 6)
    assert (small.name, small.checks.attempts, small.output.rejected, small.defaults.images) == ("demo-preview", 1, "all", 1)
    assert small.defaults.steps == 6 and small.output.to == str(tmp_path / "p")
    assert all(getattr(small, name) == JobSettings.model_fields[name].get_default(call_default_factory=True) for name in RESET)
    row = PromptRow("r", "a mug")
    whole, few = (plan_row(row, "d", Intent(one, "0" * 64))[0] for one in (job, small))
    assert whole.seed == few.seed and whole.image_id != few.image_id


def test_rows_survive_being_written_as_a_manifest_of_their_own(tmp_path: Path) -> None:
    row = PromptRow("r", "a mug", "blurry", 5, 256, 320, 8, 7.5, 2, "", (ObjectCount("mug", 2),), tags=(("sku", "7"),))
    manifest.write(tmp_path / ROWS_FILE, [row, PromptRow("s", "a box")])
    assert [found for _, found in manifest.show(str(tmp_path / ROWS_FILE))] == [row, PromptRow("s", "a box")]


def test_what_cannot_be_previewed_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job_of(tmp_path)
    job = str(tmp_path / "job.yaml")
    for arguments, what in (
        (["--output", str(tmp_path / "out")], "this is the job's own output"),
        (["--output", str(tmp_path / "job.yaml")], "cannot be made"),
        (["--manifest", str(tmp_path / "none.parquet")], "no such manifest"),
        (["--set", "defaults.stepz=3"], "did you mean steps?"),
    ):
        assert main(["preview", job, *arguments]) == 2
        assert what in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
