"""Which watermark keys `reproduce` finds: --trust, the job's own set, the user's; and what it says when none is the record's."""

from __future__ import annotations

import dataclasses
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from renderfarm import keys, watermark
from renderfarm.cli import main
from renderfarm.credential import Issuer
from renderfarm.job import JobSettings
from renderfarm.keys.keyset import KeySet
from renderfarm.log.writer import LogWriter
from renderfarm.models import ModelSettings, resolve
from renderfarm.render import Renderer
from renderfarm.review.reproduce import known_mark_keys
from renderfarm.storage import LocalStorage
from renderfarm.workers.finish import Decision, Finisher, payload_of
from tests import standins

IMAGE = "a" * 32


@dataclass(frozen=True, slots=True)
class Made:
    """An output with one picture, made under a key set that only job.json names."""

    out: Path
    keys: KeySet


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Rendered, marked and stored by the real renderer and finisher, without Ray."""
    base = tmp_path_factory.mktemp("reproduce")
    made = Made(base / "out", keys.init(base / "team"))
    settings = ModelSettings(weights=str(standins.folder_of("sd2")))
    job = JobSettings.model_validate(
        {"name": "mugs", "manifest": "-", "output": str(made.out), "keys": str(made.keys.folder), "model": settings}
    )
    storage, resolved = LocalStorage(made.out, create=True), resolve(settings)
    attempt = standins.attempt(IMAGE, size=(256, 256))
    pixels, info = Renderer(resolved, settings).render([attempt])
    marked = watermark.embed(pixels, [payload_of(attempt)], made.keys.mark_key)[0]
    finisher = Finisher(job, "plan", storage, [], Issuer(made.keys), made.keys.mark_key)
    checked = finisher.check(attempt, marked, marked=True)
    decision = Decision("accepted", "", checked.verdicts, True)
    record = finisher.store(attempt, marked, info, checked, decision, marked=True, started_us=1).record
    writer = LogWriter.open(storage, "mugs", made.keys.signer())
    writer.record_version = record.version
    writer.append([record])
    storage.put("job.json", json.dumps({"name": "mugs", "settings": job.model_dump(mode="json")}).encode())
    return made


@pytest.fixture
def made(original: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """A copy whose key set lies where job.json says; the user has keys too, which are others."""
    shutil.copytree(original.out, tmp_path / "out")
    copy = dataclasses.replace(original, out=tmp_path / "out")
    name_keys(copy, original.keys.folder)
    monkeypatch.setenv("RENDERFARM_KEYS", str(keys.init(tmp_path / "users").folder))
    return copy


def name_keys(made: Made, folder: Path | None) -> None:
    """Makes job.json name this key set."""
    job = json.loads((made.out / "job.json").read_bytes())
    job["settings"]["keys"] = None if folder is None else str(folder)
    (made.out / "job.json").write_text(json.dumps(job))


def test_the_jobs_own_key_set_is_found(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", str(made.out), IMAGE]) == 0
    said = capsys.readouterr()
    assert "bit-identical to the stored picture" in said.out and said.err == ""


def test_a_trust_folder_is_enough(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name_keys(made, tmp_path / "on-another-machine")
    shutil.copytree(made.keys.folder / keys.TRUST, tmp_path / "trust")
    assert main(["reproduce", str(made.out), IMAGE, "--trust", str(tmp_path / "trust")]) == 0
    assert "bit-identical" in capsys.readouterr().out


def test_the_users_configuration_is_the_last_resort(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RENDERFARM_KEYS", str(made.keys.folder))
    for named in (None, tmp_path / "on-another-machine"):
        name_keys(made, named)
        assert main(["reproduce", str(made.out), IMAGE]) == 0


def test_without_the_key_the_answer_is_no_difference_but_what_is_missing(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    away = tmp_path / "on-another-machine"
    name_keys(made, away)
    others = str(keys.init(tmp_path / "others").folder)
    for more, note in (([], f"note: the key set {away} cannot be read here"), (["--trust", others], "")):
        assert main(["reproduce", str(made.out), IMAGE, *more]) == 2
        said = capsys.readouterr()
        assert said.out == "" and note in said.err
        assert f"marked with watermark key {made.keys.mark_key.key_id}, which is not at hand" in said.err
        assert "remedy: name a trust folder that holds this key as *.markkey: --trust DIR" in said.err


def test_a_rotated_key_is_found_in_the_trust_folder_of_the_set(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new, old = keys.init(tmp_path / "new"), made.keys
    shutil.copy(old.folder / keys.TRUST / "watermark.markkey", new.folder / keys.TRUST / "old.markkey")
    monkeypatch.setenv("RENDERFARM_KEYS", str(tmp_path / "nowhere"))
    found, unread = known_mark_keys(None, str(new.folder))
    assert {key.key_id for key in found} == {new.mark_key.key_id, old.mark_key.key_id} and not unread
    (new.folder / keys.TRUST / "watermark.markkey").unlink()
    assert known_mark_keys(None, str(new.folder))[0][0].key_id == new.mark_key.key_id, "what the set marks with is in watermark.key"


@pytest.mark.parametrize("named", ["~nobody-of-this-name/keys", "a\0b", "/dev/null"])
def test_what_a_hostile_job_file_names_is_a_note(named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RENDERFARM_KEYS", str(tmp_path / "nowhere"))
    found, unread = known_mark_keys(None, named)
    assert found == () and len(unread) == 1
