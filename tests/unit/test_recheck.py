"""Recorded scores by other thresholds: what would change is what the checks themselves would have said, and what has no score is said."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from renderfarm.checks import registry
from renderfarm.checks.base import Bars, Check, Rejudged, judge
from renderfarm.cli import main
from renderfarm.errors import JobError
from renderfarm.job.checks import ChecksSettings
from renderfarm.log.writer import LogWriter
from renderfarm.records.canonical import sealed
from renderfarm.resolve import read_job_file
from renderfarm.review import recheck
from renderfarm.schema import ObjectCount, Record, Verdict
from renderfarm.storage import LocalStorage
from tests import outputs
from tests.reviewed import job_json
from tests.simulation.world import SIGNER
from tests.unit.test_writer import image_id, plan

NOT_RUN = Verdict("copies", "not_run", registry.REJECTED_EARLIER)


def attempt(number: int, verdicts: Sequence[Verdict], attempt: int = 1, **more: object) -> Record:
    outcome = "rejected" if any(v.outcome == "rejected" for v in verdicts) else "accepted"
    record = outputs.attempt_record(number, attempt, outcome)
    fields = {"image_id": image_id(number), "verdicts": tuple(verdicts), "text": "OPEN", "prompt": "a sign", **more}
    return sealed(dataclasses.replace(record, salt="0f" * 16, **fields))


def text(score: float, bar: float = 0.9) -> Verdict:
    return Verdict("text", "accepted" if score >= bar else "rejected", "the sign reads OPFN, expected OPEN", score, bar)


def look(folder: Path, records: Sequence[Record], **settings: object) -> tuple[list[recheck.Rejudgement], recheck.Outlook]:
    storage = LocalStorage(folder, create=True)
    LogWriter.open(storage, "mugs", SIGNER).append(records)
    again = recheck.Recheck(storage, 2, ChecksSettings.model_validate({"attempts": 2, **settings}))
    return list(again.changes()), again.outlook


def test_a_lower_bar_accepts_what_it_can_and_says_what_nobody_scored(tmp_path: Path) -> None:
    records = [plan(3), attempt(1, [text(0.85)]), attempt(1, [text(0.85), NOT_RUN], 2), attempt(2, [text(0.95)])]
    found, outlook = look(tmp_path, records, text={"min_score": 0.8})
    assert [(one.attempt, one.was, one.now, one.unscored) for one in found] == [
        (1, "rejected", "accepted", ()),
        (2, "rejected", "open", ("copies",)),
    ]
    (change,) = found[0].changes
    assert (change.check, change.was, change.now, change.threshold, change.new_threshold) == ("text", "rejected", "accepted", 0.9, 0.82)
    assert (str(outlook.was), str(outlook.now)) == (
        "3 planned = 1 accepted + 1 exhausted + 0 failed + 1 remaining",
        "3 planned = 2 accepted + 0 exhausted + 0 failed + 1 remaining",
    )
    assert outlook.unrecorded["copies", registry.REJECTED_EARLIER] == 1 and outlook.open == 0


def test_an_output_is_judged_by_its_own_checks_and_the_changes_to_them(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path, create=True)
    storage.put("job.json", job_json())
    LogWriter.open(storage, "mugs", SIGNER).append([plan(1), attempt(1, [text(0.85), NOT_RUN])])
    job = read_job_file(storage)
    for changes, changed in (((), 0), (("checks.text.min_score=.8",), 1)):
        again = recheck.Recheck.of_job(storage, job, changes)
        assert len(list(again.changes())) == changed
    sums = json.loads(json.dumps(again.outlook.as_json()))
    assert sums["verdicts"] == [{"check": "text", "was": "rejected", "now": "accepted", "count": 1}]
    assert {"check": "copies", "reason": registry.REJECTED_EARLIER, "count": 1} in sums["unrecorded"]
    assert sums["images"]["was"]["remaining"] == 1 and sums["images"]["open"] == 1
    with pytest.raises(JobError, match="not a setting of the checks"):
        recheck.Recheck.of_job(storage, job, ["text.min_score=.8"])


def test_an_image_that_hangs_on_a_check_that_did_not_look_is_counted_as_open(tmp_path: Path) -> None:
    found, outlook = look(tmp_path, [plan(1), attempt(1, [text(0.85), NOT_RUN])], text={"min_score": 0.8})
    assert found[0].now == "open" and outlook.open == 1


def test_a_higher_bar_takes_delivered_images_back_and_a_persons_word_stands(tmp_path: Path) -> None:
    review = Record("review", image_id=image_id(2), attempt=1, outcome="accepted", reviewer="Ada")
    records = [plan(2), attempt(1, [text(0.92)]), attempt(2, [text(0.5)]), review]
    found, outlook = look(tmp_path, records, text={"min_score": 0.95})
    assert [(one.image_id, one.now) for one in found] == [(image_id(1), "rejected")]
    assert (outlook.was.accepted, outlook.now.accepted, outlook.now.remaining) == (2, 1, 1)
    assert any("was read once" in note for note in outlook.notes)


def test_a_check_that_is_off_says_nothing_and_another_limit_opens_exhausted_images(tmp_path: Path) -> None:
    records = [plan(1), attempt(1, [text(0.5)]), attempt(1, [text(0.5)], 2)]
    found, _ = look(tmp_path / "a", records, text={"enabled": False})
    assert [one.now for one in found] == ["accepted", "accepted"] and found[0].changes[0].now == "not_run"
    found, outlook = look(tmp_path / "b", records, attempts=3)
    assert found == [] and outlook.differs and (outlook.was.exhausted, outlook.now.remaining) == (1, 1)


def test_twins_are_judged_by_where_they_were_found(tmp_path: Path) -> None:
    own = Verdict("duplicates", "rejected", "near-duplicate of a #0 in the same row", 0.08, 0.125)
    other = Verdict("duplicates", "flagged", "near-duplicate of b #0 in another row", 0.08, 0.125)
    alone = Verdict("duplicates", "accepted", "unlike the job's other images", 1.0, 0.125)
    records = [plan(3), attempt(1, [own]), attempt(2, [other]), attempt(3, [alone])]
    found, _ = look(tmp_path / "a", records, duplicates={"on_job_twin": "reject"})
    assert [(one.row_id, one.now) for one in found] == [("row-2", "rejected")]
    found, _ = look(tmp_path / "b", records, duplicates={"max_distance": 19, "variant_distance": 0})
    assert [(one.row_id, one.now) for one in found] == [("row-1", "accepted"), ("row-2", "accepted")]


def test_an_attempt_that_failed_stays_failed_and_superseded_images_do_not_count(tmp_path: Path) -> None:
    failed = dataclasses.replace(attempt(1, []), outcome="failed")
    gone = Record("superseded", image_id=image_id(2))
    found, outlook = look(tmp_path, [plan(1), failed, attempt(2, [text(0.5)]), gone], text={"min_score": 0.1})
    assert len(found) == 1 and (outlook.now.failed, outlook.now.accepted) == (1, 0)


@given(st.floats(0, 1), st.floats(0, 1), st.sampled_from(["reject", "flag"]))
def test_the_bars_that_judge_are_the_bars_that_judge_again(score: float, bar: float, on_fail: str) -> None:
    bars = Bars.one(bar, on_fail)  # type: ignore[arg-type]
    verdict = judge("x", score, bars, "bad")
    assert verdict.score is not None and bars.outcome(verdict.score) == (verdict.outcome, verdict.threshold)


@pytest.mark.parametrize("name", ["broken", "copies", "text"])
def test_each_check_judges_a_picture_as_recheck_judges_its_score(name: str, tmp_path: Path) -> None:
    rows = [attempt(1, [], text=None, prompt="a mug"), attempt(2, [], text=""), attempt(3, [], prompt="two mugs", text="OPEN")]
    picture = np.random.default_rng(1).integers(0, 255, (256, 256, 3), np.uint8)
    picture[40:90, 40:90] = picture[140:190, 140:190] = 128 + np.arange(50, dtype=np.uint8)[:, None, None]
    for bar in (0.05, 0.5, 0.999):
        settings = ChecksSettings.model_validate({name: {"min_score": bar}})
        check = next(c for c in registry.build(settings) if c.name == name)
        assert isinstance(check, Check) and isinstance(check, Rejudged)
        for at, row in enumerate(rows):
            prompt = recheck.PromptRow(str(at), row.prompt or "", text=row.text, objects=(ObjectCount("mug", 1),))
            bars = check.bars(prompt)
            verdict = check.check(picture, prompt)
            if bars is None:
                assert verdict.outcome == "not_run"
            else:
                assert verdict.score is not None and bars.outcome(verdict.score)[0] == verdict.outcome


def test_the_command_says_what_would_change_and_what_is_wrong_with_a_setting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    storage = LocalStorage(tmp_path, create=True)
    job = {"name": "mugs", "settings": {"checks": {"attempts": 2}, "output": {"quality": 92}, "model": {}}}
    storage.put("job.json", json.dumps(job).encode())
    LogWriter.open(storage, "mugs", SIGNER).append([plan(1), attempt(1, [text(0.85)])])
    assert main(["recheck", str(tmp_path)]) == 0
    assert "1 attempts judged again by the job's own settings; none would change" in capsys.readouterr().out
    assert main(["recheck", str(tmp_path), "--set", "checks.text.min_score=.8"]) == 5
    said = capsys.readouterr().out
    assert "text: rejected → accepted, score 0.85 (threshold 0.9 → 0.82)  the sign reads OPFN, expected OPEN" in said
    assert main(["recheck", str(tmp_path), "--set", "checks.text.min_score=.8", "--json"]) == 5
    first, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["image_id"] == image_id(1) and last["images"]["now"]["accepted"] == 1
    for wrong, word in (
        ("text.min_score=.8", "not a setting of the checks"),
        ("checks.text.min_scor=.8", "did you mean min_score?"),
        ("checks.text.min_score=2", "less than or equal to 1"),
        ("checks.text.min_score", "not an override"),
    ):
        assert main(["recheck", str(tmp_path), "--set", wrong]) == 2
        assert word in capsys.readouterr().err
