"""Fields that name an environment variable take a name and nothing else, and what was written there instead is repeated nowhere."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from pydantic import BaseModel

from renderfarm import keys
from renderfarm.audit.audit import audit
from renderfarm.cli import main
from renderfarm.errors import JobError
from renderfarm.job import JobSettings, load_checks, load_job
from renderfarm.job.load import section_of
from renderfarm.log import reading
from renderfarm.output import JOB_FILE
from renderfarm.plan import attempt_of, plan_digest
from renderfarm.records.canonical import sealed
from renderfarm.resolve import ResolvedJob, resolve_job
from renderfarm.run import session as farm
from renderfarm.workers.finish import failed_record
from tests.older import begin_plain

BASE = "name: night\nmanifest: rows.parquet\noutput: out\n"
SECRETS = [
    "https://hooks.example/s3cret",
    "hooks.example",
    "sk-proj-s3cret",
    "sk_live_S3cretS3cret",
    "hf_AbCdEfGhIjKlMnOpQrStUvWxYzAbCdEfGh",
    "ghp_0123456789abcdefABCDEF0123456789abcd",
    "0123456789abcdef0123456789abcdef",
    "abcdef0123456789abcdef0123456789",
    "Bearer s3cret",
    "NAME=s3cret",
    "1NAME",
    "NAME\n",
    "ÜBER",
    "",
    123456789,
    ["s3cret"],
    {"s3cret": 1},
    True,
]


def naming(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every field that names an environment variable, by its name or by what it says of itself."""
    for name, info in model.model_fields.items():
        inner = section_of(info.annotation)
        if inner is not None:
            yield from naming(inner, f"{prefix}{name}.")
        elif name.endswith(("_env", "_variable")) or "environment variable" in (info.description or ""):
            yield prefix + name


FIELDS = sorted(naming(JobSettings))


def nested(path: str, value: object) -> dict[str, Any]:
    """{"a": {"b": value}} for "a.b"."""
    for name in reversed(path.split(".")):
        value = {name: value}
    return value  # type: ignore[return-value]


def test_the_fields_are_known() -> None:
    assert FIELDS == ["checks.judge.key_env", "notify.token_env", "notify.webhook_env", "witness.webhook_env"]


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", SECRETS, ids=str)
def test_what_is_no_name_is_refused_and_not_repeated(field: str, value: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(BASE + yaml.safe_dump(nested(field, value)))
    assert main(["render", str(path)]) == 2
    said = capsys.readouterr()
    assert f"{field}: write the name of an environment variable here" in said.err
    text = str(value).strip()
    assert not text or text not in said.err + said.out
    assert "s3cret" not in (said.err + said.out).lower() and "given" not in said.err


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("name", ["HOOK", "RENDERFARM_WEBHOOK_URL", "_X9", "team_hook", "A", None])
def test_a_name_is_taken(field: str, name: str | None, tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(BASE + yaml.safe_dump(nested(field, name)))
    found: Any = load_job(path)
    for part in field.split("."):
        found = getattr(found, part)
    assert found == name


@pytest.mark.parametrize(
    "text",
    [
        "notify: https://hooks.example/s3cret",
        "notify: s3cret",
        "checks: {judge: s3cret}",
        "checks: {judge: {key: s3cret}}",
        "notify: {token: s3cret}",
        "witness: {urls: ['https://ada:s3cret@witness.example/w']}",
        "witness: {webhook_env: 'https://witness.example/s3cret', urls: ['ftp://ada:s3cret@w']}",
        "checks: {judge: {enabled: true, model: m, url: 'https://ada:s3cret@judge.example/v1'}}",
        "checks: {plugins: {theirs: s3cret}}",
    ],
)
def test_no_mistake_near_a_secret_repeats_it(text: str, tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(BASE + text + "\n")
    with pytest.raises(JobError) as caught:
        load_job(path)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("field", ["key_env", "key_variable"])
def test_recorded_checks_are_read_whatever_an_earlier_version_took_for_a_name(field: str) -> None:
    """`recheck` asks no judge, so it needs no key."""
    assert load_checks({"attempts": 2, "judge": {field: "sk-s3cret"}}, [], "job.json").attempts == 2


def test_a_name_that_looks_like_a_key_is_refused_with_the_rule(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(BASE)
    with pytest.raises(JobError, match="at most 24 letters and digits in a row"):
        load_job(path, ["checks.judge.key_env=ABCDEFGHIJKLMNOPQRSTUVWXY"])


def test_an_override_that_is_no_yaml_and_a_recorded_override_do_not_repeat_it(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(BASE)
    with pytest.raises(JobError, match=r"--set notify.token_env: the value is not valid YAML") as caught:
        load_job(path, ["notify.token_env={s3cret"])
    assert "s3cret" not in str(caught.value)
    with pytest.raises(JobError, match=r"checks.judge.key_env: write the name") as caught:
        load_checks({}, ["checks.judge.key_env=sk-s3cret"], "job.json")
    assert "s3cret" not in str(caught.value)


# --- what is told to whom is no part of the plan ---


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a job of two rows and a key set."""
    pq.write_table(pa.Table.from_pylist([{"id": "a", "prompt": "a mug"}, {"id": "b", "prompt": "a box"}]), tmp_path / "rows.parquet")
    keys.init(tmp_path / "keys")
    return tmp_path


def resolved(folder: Path, **changes: object) -> ResolvedJob:
    settings = {"name": "tests", "manifest": "rows.parquet", "output": "out", "keys": "keys", "defaults": {"width": 256, "height": 256}}
    (folder / "job.yaml").write_text(yaml.safe_dump({**settings, **changes}))
    return resolve_job(load_job(folder / "job.yaml"))


def test_a_change_of_witness_is_no_new_plan_and_not_in_job_json(folder: Path) -> None:
    named = {"urls": ["https://witness.example/w"], "webhook_env": "HOOK", "command": ["mail", "-s", "s3cret", "a@b.example"]}
    plain, told = resolved(folder), resolved(folder, witness=named)
    assert (told.plan_digest, told.job_json) == (plain.plan_digest, plain.job_json)
    assert told.job.witness.named and "witness" not in json.loads(told.job_json)["settings"]
    assert farm.open_session(plain).writer.size == farm.open_session(told).writer.size == 1


def test_an_output_whose_job_json_still_has_it_records_one_plan_and_renders_nothing_again(folder: Path) -> None:
    new = resolved(folder, witness={"webhook_env": "HOOK"})
    content = json.loads(new.job_json)
    content["settings"]["witness"] = new.job.witness.model_dump(mode="json")
    job_json = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"
    digest = hashlib.sha256(job_json).hexdigest()
    before = dataclasses.replace(
        new, job_json=job_json, settings_digest=digest, plan_digest=plan_digest(new.manifest_digest, digest, new.planned)
    )
    begin_plain(before)
    old = farm.open_session(before)
    first, second = new.images()
    done = failed_record(attempt_of(first, 1), "tests", before.plan_digest, "")
    old.writer.append([sealed(dataclasses.replace(done, outcome="accepted"))])
    assert "witness" in json.loads(old.storage.get(JOB_FILE))["settings"]

    again = farm.open_session(new)
    assert [record.kind for record in reading.records(again.storage)] == ["plan", "attempt", "plan"]
    assert [work.attempt.image.image_id for work in farm.open_work(again, retry_failed=False)] == [second.image_id]
    assert again.storage.get(JOB_FILE) == new.job_json
    assert farm.open_session(new).writer.size == again.writer.size == 3
    assert not {"job-altered", "job-missing", "counts-differ"} & set(audit(again.storage, again.keys.trust(), quick=True).found)
