"""What earlier versions wrote stays readable for ever: outputs, logs and proofs of each record version. (Marks: test_watermark_golden.py.)

`tests/data/outputs/README.md` says how the data was made. A failure here is a promise broken, not data to be made anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from renderfarm import credential, keys, manifest
from renderfarm.cli import main
from renderfarm.job import load_job
from renderfarm.plan import ImageIds, Intent, invalid_image_id, plan_row
from renderfarm.resolve import read_job_file
from renderfarm.review.review import Word, review
from renderfarm.schema import PLAIN_VERSION, RECORD_VERSION
from renderfarm.storage import open_storage
from tests import older
from tests.older import Older

PLANNED = ("planned", "accepted", "exhausted", "failed", "remaining")


@pytest.fixture(params=range(1, RECORD_VERSION), ids="records of version {}".format)
def old(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Older:
    """A copy of the output of each version; nothing is trusted but its own trust folder."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("RENDERFARM_KEYS", raising=False)
    return older.copy(request.param, tmp_path)


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command here; what it printed. The exit code must be `expect`."""

    def run(*args: str | Path, expect: int = 0) -> str:
        code = main([str(arg) for arg in args])
        out, err = capsys.readouterr()
        assert code == expect, f"exit {code}, expected {expect}\n{out}\n{err}"
        return out

    return run


def test_each_version_of_records_has_its_data() -> None:
    """Whoever raises a version keeps a small output that the version before wrote."""
    assert {path.name for path in older.OUTPUTS.iterdir() if path.is_dir()} == {f"v{n}" for n in range(1, RECORD_VERSION)}


def test_the_audit_passes_with_the_same_facts(old: Older, ask: Any) -> None:
    found = json.loads(ask("audit", old.output, "--trust", old.trust, "--json"))
    facts = old.expected["audit"]
    assert {name: found[name] for name in facts} == facts
    text = ask("audit", old.output, "--trust", old.trust, "--since", old.kept)
    assert old.expected["counts_line"] in text
    assert f"its first 2 of {facts['parts']} parts are the same" in text


def test_a_flipped_byte_of_a_picture_is_still_found(old: Older, ask: Any) -> None:
    picture = old.output / old.delivered()[0]["object_key"]
    data = bytearray(picture.read_bytes())
    data[len(data) // 2] ^= 1
    picture.write_bytes(data)
    found = json.loads(ask("audit", old.output, "--trust", old.trust, "--json", expect=4))
    assert list(found["found"]) == ["object-altered"]


def test_status_report_and_review_read_it(old: Older, ask: Any) -> None:
    said = json.loads(ask("status", old.output, "--json"))
    facts = old.expected["status"]
    assert {name: said[name] for name in facts} == facts
    ask("report", old.output)
    assert (old.output / "report" / "index.html").exists()
    listed = [json.loads(line) for line in ask("review", old.output, "--list", "--json").splitlines()]
    assert [image["row_id"] for image in listed] == old.expected["waiting"]


def test_the_export_says_the_same_of_every_record(old: Older, ask: Any, tmp_path: Path) -> None:
    ask("provenance", "export", old.output, "-o", tmp_path / "now.jsonl")
    now = [json.loads(line) for line in (tmp_path / "now.jsonl").read_text("utf-8").splitlines()]
    then = old.records()
    assert [{name: record[name] for name in before} for record, before in zip(now, then, strict=True)] == then
    assert {record["version"] for record in now} == {old.expected["record_version"]}


def test_proofs_of_then_hold_and_the_same_are_made_now(old: Older, ask: Any, tmp_path: Path) -> None:
    for name in ("bundle.json", "consistency.json"):
        assert "proven" in ask("provenance", "verify", old.folder / name, "--trust", old.trust)
    facts = old.expected["bundle"]
    ask("provenance", "prove", old.output, f"{facts['row_id']}:{facts['index']}", "-o", tmp_path / "now.json")
    ask("provenance", "prove", old.output, "--since", old.kept, "-o", tmp_path / "since.json")
    then, now = (json.loads(path.read_text("utf-8")) for path in (old.folder / "bundle.json", tmp_path / "now.json"))
    assert len(then["proofs"]) == facts["records"]
    hashes = [{name: value for name, value in proof.items() if name != "record"} for proof in now["proofs"]]
    assert hashes == [{name: value for name, value in proof.items() if name != "record"} for proof in then["proofs"]]
    assert json.loads((tmp_path / "since.json").read_text()) == json.loads((old.folder / "consistency.json").read_text())


def test_a_copy_of_a_delivered_picture_leads_to_its_record(old: Older, ask: Any, tmp_path: Path) -> None:
    record = old.delivered()[-1]
    stray = tmp_path / "stray.jpg"
    Image.open(old.output / record["object_key"]).convert("RGB").save(stray, quality=60)
    answer = json.loads(ask("identify", stray, "--in", old.output, "--trust", old.trust, "--json"))
    best = answer["matches"][0]["record"]
    assert (answer["identified"], answer["trusted"], answer["credential"]["state"]) == (True, True, "absent")
    assert (best["image_id"], best["attempt"], best["prompt"]) == (record["image_id"], record["attempt"], record["prompt"])


def test_the_credential_still_answers_for_prompt_and_record(old: Older) -> None:
    """The prompt's salt comes from the watermark's secret: it must not change when the mark gets a new version."""
    trust = keys.load_trust(old.trust)
    (key,) = trust.mark_keys
    assert old.delivered()
    for record in old.delivered():
        found = credential.read((old.output / record["object_key"]).read_bytes(), record["media_type"], trust.anchors_pem)
        claimed = record["reviewed_digest"] if record["kind"] == "review" else record["claim_digest"]
        assert (found.state, found.claim_digest, found.watermark_payload) == ("trusted", claimed, record["watermark_payload"])
        assert found.prompt_digest == credential.prompt_digest(record["prompt"], record["image_id"], key)
        assert record["watermark_key_id"] == key.key_id


def test_image_ids_are_those_that_were_recorded(old: Older) -> None:
    """With the weights of then, whatever the starter weights have become since."""
    job = load_job(old.job)
    intent = Intent(job, old.expected["weights_digest"])
    ids = {}
    for shard in manifest.read(job.manifest):
        for row in shard.rows:
            ids |= {(image.row_id, image.index): image.image_id for image in plan_row(row, manifest.row_digest(row), intent)}
        ids |= {(bad.row_id, 0): invalid_image_id(bad.row_id, bad.row, bad.digest) for bad in shard.bad}
    recorded = {(image["row_id"], image["index"]): image["image_id"] for image in old.expected["images"]}
    assert ids == recorded
    quick = {
        key.hex() for raws in manifest.raw_rows(job.manifest) for raw in raws if raw["prompt"].strip() for key in ImageIds(intent).of(raw)
    }
    assert quick == {image_id for (row_id, _), image_id in recorded.items() if row_id != "empty"}


def test_a_plan_of_today_goes_on_in_its_log(old: Older, ask: Any) -> None:
    """A job whose budget is used up plans, and renders nothing."""
    used_up = ("--set", "budget.per=job", "--set", "budget.rejects=1")
    said = json.loads(ask("render", old.job, "--skip-invalid", *used_up, "--json", expect=75))
    assert said["attempts"] == 0
    found = json.loads(ask("audit", old.output, "--trust", old.trust, "--since", old.kept, "--json"))
    assert found["verdict"] == "passed"
    assert found["parts"] > old.expected["audit"]["parts"]
    assert found["counts"]["planned"] == old.expected["audit"]["counts"]["planned"] == len(old.expected["images"])
    assert {name: said[name] for name in PLANNED} == found["counts"]


def test_a_person_of_today_has_a_word_in_its_log(old: Older, ask: Any) -> None:
    storage = open_storage(str(old.output))
    done = review(storage, read_job_file(storage), keys.load(old.keys), "sign:0", 1, Word("rejected", "Ada Lovelace", "as it should be"))
    assert (done.record.version, done.record.reviewed_digest is None) == (PLAIN_VERSION, False)
    found = json.loads(ask("audit", old.output, "--trust", old.trust, "--since", old.kept, "--json"))
    assert (found["verdict"], found["parts"]) == ("passed", old.expected["audit"]["parts"] + 1)
