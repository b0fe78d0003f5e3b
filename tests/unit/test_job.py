"""Job files: every mistake named with its place, nothing guessed."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog
from pydantic import ValidationError

from renderfarm.errors import JobError
from renderfarm.job import describe, load_job
from renderfarm.job.checks import JudgeSettings
from renderfarm.job.operations import NotifySettings
from renderfarm.job.section import Section
from renderfarm.job.settings import CommitSettings, FarmSettings, JobSettings, OutputSettings

GOOD = "name: demo\nmanifest: rows.parquet\noutput: out\n"


def job_file(folder: Path, text: str) -> Path:
    path = folder / "job.yaml"
    path.write_text(text)
    return path


def test_paths_are_relative_to_the_job_file_and_uris_stay(tmp_path: Path) -> None:
    text = "name: demo\nmanifest: s3://b/rows\noutput: out\nmodel: {weights: ./sd}\ninputs: {allow: [pictures]}\n"
    job = load_job(job_file(tmp_path, text))
    assert job.manifest == "s3://b/rows"
    assert job.output.to == str(tmp_path / "out")
    assert job.model.weights == str(tmp_path / "sd")
    assert job.inputs.allow == (str(tmp_path / "pictures"),)


def test_overrides_take_yaml_values_and_reach_into_sections(tmp_path: Path) -> None:
    job = load_job(job_file(tmp_path, GOOD), ["checks.attempts=5", "output.format=jpeg", "defaults.guidance=2.5"])
    assert (job.checks.attempts, job.output.format, job.defaults.guidance) == (5, "jpeg", 2.5)
    assert job.output.to == str(tmp_path / "out")


def test_manifest_and_output_options_are_relative_to_where_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jobs").mkdir()
    job = load_job(job_file(tmp_path / "jobs", GOOD), manifest="m.parquet", output="o")
    assert (job.manifest, job.output.to) == (str(tmp_path / "m.parquet"), str(tmp_path / "o"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD + "chekcs: {attempts: 2}\n", "chekcs: unknown key; did you mean checks?"),
        (GOOD + "checks: {atempts: 2}\n", "checks.atempts: unknown key; did you mean attempts?"),
        (GOOD + "defaults: {width: 100000}\n", "defaults.width: input should be less than or equal to 4096"),
        (GOOD + "defaults: {width: 250}\n", "defaults.width: input should be a multiple of 8"),
        (GOOD + "defaults: {steps: 0}\n", "defaults.steps"),
        (GOOD + "seed: -1\n", "seed"),
        ("manifest: m\noutput: o\n", "name: missing; add it"),
        ("name: 'Bad Name'\nmanifest: m\noutput: o\n", "name"),
        ("name: demo\nname: twice\n", "key 'name' is given twice"),
        ("name: [unclosed\n", "not valid YAML"),
        ("- a\n- b\n", "not a mapping of settings"),
        ("\x00", "not valid YAML"),
        ("name: demo\nmanifest: m\noutput: 2026-13-45\n", "not valid YAML: month must be in 1..12"),
        (GOOD.replace("rows.parquet", "''"), "manifest: string should have at least 1 character"),
        (GOOD.replace("out\n", "''\n"), "output.to: string should have at least 1 character"),
        (GOOD + "cost: {per_hour: .inf}\n", "cost.per_hour: input should be a finite number"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(JobError) as caught:
        load_job(job_file(tmp_path, text))
    assert expected.lower() in str(caught.value).lower()
    assert str(tmp_path / "job.yaml") in caught.value.where


def test_all_mistakes_come_in_one_message(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="3 mistake") as caught:
        load_job(job_file(tmp_path, GOOD + "sede: 1\nseed: x\ncommit: {images: 0}\n"))
    assert all(word in str(caught.value) for word in ("did you mean seed", "commit.images", "given 'x'"))


@pytest.mark.parametrize(("old", "new", "value"), [("commit.seconds", "commit.interval_s", 7), ("notify.tries", "notify.retries", 7)])
def test_a_change_overrides_a_field_whichever_spelling_says_it(tmp_path: Path, old: str, new: str, value: int) -> None:
    section, name = new.split(".")
    for said, change, wanted in ((old, new, value), (new, old, value - (old == "notify.tries"))):
        load = load_job(job_file(tmp_path, GOOD + f"{section}: {{{said.split('.')[1]}: 3}}\n"), [f"{change}={value}"])
        assert getattr(getattr(load, section), name) == wanted


def test_a_change_by_value_is_that_value(tmp_path: Path) -> None:
    """No YAML is made of it and read again."""
    checks = {"attempts": 2}
    changes = {"negative_prompt": "no 😀, yes: [no", "output.to": tmp_path / "elsewhere", "checks": checks, "checks.attempts": 5}
    job = load_job(job_file(tmp_path, GOOD), changes=changes)
    assert (job.negative_prompt, job.output.to) == ("no 😀, yes: [no", str(tmp_path / "elsewhere"))
    assert job.checks.attempts == 5 and checks == {"attempts": 2}


@pytest.mark.parametrize(
    "override", ["checks.attempts", "=3", "checks..attempts=1", "name.first=x", "seed=[1", "seed=2026-13-45", "seed=0b_"]
)
def test_a_malformed_override_is_refused(tmp_path: Path, override: str) -> None:
    with pytest.raises(JobError):
        load_job(job_file(tmp_path, GOOD), [override])


@pytest.mark.parametrize("path", ["~no-such-user/x", r"a\0b"])
def test_a_path_that_cannot_be_is_one_message(tmp_path: Path, path: str) -> None:
    for field in ("manifest", "output.to"):
        with pytest.raises(JobError, match="not a usable path"):
            load_job(job_file(tmp_path, GOOD), [f'{field}="{path}"'])


def test_yaml_merge_keys_work(tmp_path: Path) -> None:
    job = load_job(job_file(tmp_path, GOOD + "defaults: {<<: {width: 256, height: 512}, height: 256}\n"))
    assert (job.defaults.width, job.defaults.height) == (256, 256)


def test_a_missing_job_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="no such job file"):
        load_job(tmp_path / "absent.yaml")
    with pytest.raises(JobError, match="cannot be read"):
        load_job(tmp_path)


def test_every_field_is_described() -> None:
    rows = [line.split(" | ") for line in describe().splitlines()[2:]]
    assert len(rows) > 40
    assert all(row[-1].rstrip(" |") for row in rows), [row for row in rows if not row[-1].rstrip(" |")]
    assert any("`checks.attempts`" in row[0] for row in rows)


def test_forbidden_words_come_from_the_job_and_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "brand.txt").write_text("\ufeff# ours not\nPepsi\n\nCoca Cola  # two words\n", encoding="utf-8")
    job = load_job(job_file(tmp_path, GOOD + "forbidden_words: [gun]\nforbidden_words_file: brand.txt\n"))
    assert job.forbidden_words == ("gun", "Pepsi", "Coca Cola")
    for text, what in (
        ("forbidden_words_file: none.txt\n", "cannot be read: No such file"),
        ("forbidden_words: ['']\n", "forbidden_words.0"),
        ("forbidden_words: ['--']\n", "forbidden_words.0"),
        ("forbidden_words: gun\n", "forbidden_words"),
        ("forbidden_words_file: [a]\n", "forbidden_words_file"),
    ):
        with pytest.raises(JobError, match=what):
            load_job(job_file(tmp_path, GOOD + text))


@pytest.mark.parametrize(
    ("ladder", "what"),
    [
        ("[{after: 2, steps: 30}, {after: 2, steps: 40}]", "checks.ladder: .*each rung begins after more rejections"),
        ("[{after: 2}]", "a rung says steps, guidance or negative_prompt"),
        ("[{after: 0, steps: 3}]", "checks.ladder.0.after"),
        ("[{after: 1, stepz: 3}]", "did you mean steps"),
        ("{after: 1}", "checks.ladder"),
    ],
)
def test_a_ladder_climbs(tmp_path: Path, ladder: str, what: str) -> None:
    with pytest.raises(JobError, match=what):
        load_job(job_file(tmp_path, GOOD + f"checks: {{ladder: {ladder}}}\n"))


@pytest.mark.parametrize(
    ("section", "old", "new"),
    [
        (CommitSettings, {"seconds": 5}, {"interval_s": 5}),
        (OutputSettings, {"to": "out", "patience_seconds": 9}, {"to": "out", "patience_s": 9}),
        (FarmSettings, {"hang_seconds": 60}, {"hang_s": 60}),
        (NotifySettings, {"timeout_seconds": 3, "tries": 4}, {"timeout_s": 3, "retries": 3}),
        (NotifySettings, {"tries": "3"}, {"retries": 2}),
        (JudgeSettings, {"key_variable": "JUDGE"}, {"key_env": "JUDGE"}),
    ],
)
def test_old_spellings_are_read_with_a_note(section: type[Section], old: dict[str, object], new: dict[str, object]) -> None:
    with structlog.testing.capture_logs() as said:
        assert section.model_validate(old) == section.model_validate(new)
    assert {line["event"] for line in said} == {"job.old_spelling"}
    with pytest.raises(ValidationError):  # both at once: which one counts is not ours to say
        section.model_validate(old | new)


def test_of_several_needs_as_many_attempts() -> None:
    said = {"name": "t", "manifest": "m", "output": "o", "defaults": {"of": 4}}
    with pytest.raises(ValidationError, match=r"defaults\.of: 4 needs checks\.attempts of 4 or more, and it is 3"):
        JobSettings.model_validate(said)
    assert JobSettings.model_validate({**said, "checks": {"attempts": 4}}).defaults.of == 4
