"""The plan in the log: a change of plan that a crash cut in two is finished at the next start."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from renderfarm import keys
from renderfarm.audit.audit import audit
from renderfarm.cli import main
from renderfarm.errors import Fenced
from renderfarm.job import load_job
from renderfarm.log.writer import LogWriter
from renderfarm.output import JOB_FILE, PARTS
from renderfarm.plan import attempt_of
from renderfarm.records.canonical import sealed
from renderfarm.resolve import ResolvedJob, resolve_job
from renderfarm.retry import farm_fault
from renderfarm.run import session as farm
from renderfarm.run.budget import BudgetStop
from renderfarm.run.loop import Tally
from renderfarm.run.session import Session
from renderfarm.run.stop import StopSignals
from renderfarm.schema import Record
from renderfarm.storage import LocalStorage, open_storage
from renderfarm.workers import finish
from renderfarm.workers.finish import failed_record


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a job of three rows, the last one bad, and a key set."""
    rows = [{"id": "a", "prompt": "a mug"}, {"id": "b", "prompt": "a box"}, {"id": "c", "prompt": ""}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    settings = {"name": "tests", "manifest": "rows.parquet", "output": "out", "keys": "keys"}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump({**settings, "defaults": {"width": 256, "height": 256}}))
    keys.init(tmp_path / "keys")
    return tmp_path


def resolved(folder: Path) -> ResolvedJob:
    return resolve_job(load_job(folder / "job.yaml"), skip_invalid=True)


def standings(session: Session) -> dict[str, bool]:
    """Image id → whether it is superseded."""
    return {image_id: state.superseded for image_id, state in session.state.images()}


def test_a_plan_is_recorded_once_and_its_bad_row_with_it(folder: Path) -> None:
    assert str(farm.open_session(resolved(folder)).counts()) == "3 planned = 0 accepted + 0 exhausted + 1 failed + 2 remaining"
    again = farm.open_session(resolved(folder))
    assert again.writer.size == 1


def test_images_that_a_change_cut_short_took_out_are_put_back(folder: Path) -> None:
    first = farm.open_session(resolved(folder))
    (bad,) = standings(first)
    first.writer.append([Record(kind="superseded", job="tests", plan_digest="half of another plan", image_id=bad)])
    assert first.counts().failed == 0
    again = farm.open_session(resolved(folder))
    assert standings(again) == {bad: False}
    assert str(again.counts()) == "3 planned = 0 accepted + 0 exhausted + 1 failed + 2 remaining"


def test_bad_rows_that_a_crash_kept_from_the_log_are_recorded_later(folder: Path) -> None:
    found = resolved(folder)
    made = keys.load(folder / "keys")
    writer = LogWriter.open(open_storage(found.job.output.to, create=True), "tests", made.signer())
    writer.append([Record(kind="plan", job="tests", plan_digest=found.plan_digest, planned=found.planned)])
    assert writer.state.counts(3).failed == 0
    again = farm.open_session(found)
    assert (again.counts().failed, again.writer.size) == (1, 2)


class Raced(LocalStorage):
    """A folder in which another driver commits a plan between the reading of the log and the writing of the next part."""

    def __init__(self, other: Session) -> None:
        super().__init__(Path(other.resolved.job.output.to), create=False)
        self.other = other

    def put_new(self, key: str, data: bytes, media_type: str = "application/octet-stream") -> None:
        if key.startswith(PARTS):
            plan = Record(kind="plan", job="tests", plan_digest=self.other.resolved.plan_digest, planned=3, finished_us=7)
            self.other.writer.append([plan])
        super().put_new(key, data, media_type)


def test_a_driver_that_is_fenced_leaves_job_json_alone(folder: Path) -> None:
    """Another driver commits between the second one's reading of the log and its plan: the second loses, and replaces nothing."""
    first = farm.open_session(resolved(folder))
    before = first.storage.get(JOB_FILE)
    other = (folder / "job.yaml").read_text().replace("256", "320")
    (folder / "job.yaml").write_text(other)
    second = resolved(folder)
    with pytest.raises(Fenced):
        farm.open_session(second, Raced(first))
    assert first.storage.get(JOB_FILE) == before


def test_the_audit_takes_a_plan_whose_job_json_a_crash_kept_back_for_what_it_is(folder: Path) -> None:
    session = farm.open_session(resolved(folder))
    trust = session.keys.trust()
    kept = session.storage.get(JOB_FILE)
    session.storage.delete(JOB_FILE)
    report = audit(session.storage, trust)
    assert report.ok and any("not there yet" in note for note in report.notes)
    session.storage.put(JOB_FILE, kept)
    (folder / "job.yaml").write_text((folder / "job.yaml").read_text().replace("256", "320"))
    again = farm.open_session(resolved(folder))
    newest = again.storage.get(JOB_FILE)
    again.storage.put(JOB_FILE, kept)
    report = audit(again.storage, trust)
    assert report.ok and any("the plan before" in note for note in report.notes)
    again.storage.put(JOB_FILE, newest + b" ")
    assert set(audit(again.storage, trust).found) == {"job-altered"}


HOUR_US = 3_600_000_000


def worked(folder: Path, **budget: object) -> Session:
    """A job whose first image was rejected twice, a quarter of an hour each, a day apart."""
    settings = yaml.safe_load((folder / "job.yaml").read_text())
    (folder / "job.yaml").write_text(yaml.safe_dump({**settings, "budget": budget, "cost": {"per_hour": 2}}))
    found = resolved(folder)
    session = farm.open_session(found)
    image = next(session.resolved.images(session.salts))
    for day in (1, 2):
        attempt = failed_record(attempt_of(image, day), "tests", session.resolved.plan_digest, "")
        times = {"started_us": 24 * day * HOUR_US, "finished_us": 24 * day * HOUR_US + HOUR_US // 4}
        session.writer.append([sealed(replace(attempt, outcome="rejected", **times))])
    return session


@pytest.mark.parametrize(
    ("name", "limit", "value"), [("rejects", 2, 2), ("hours", 0.5, 0.5), ("money", 1, 1.0)]
)  # two rejections in half an hour, at 2 an hour
def test_a_budget_of_the_job_counts_what_earlier_runs_used_up(folder: Path, name: str, limit: float, value: float) -> None:
    session = worked(folder, **{name: limit, "per": "job"})
    stop = BudgetStop(session.job, StopSignals())
    stop.begin(session, Tally(3))
    assert stop.crossed[name].value == value
    assert stop.draining(0.0)


def test_a_budget_of_a_run_begins_anew_and_one_that_is_not_used_up_goes_on(folder: Path) -> None:
    session = worked(folder, rejects=2)
    stop = BudgetStop(session.job, StopSignals())
    stop.begin(session, Tally(3))
    assert not stop.crossed
    session = worked(folder, rejects=3, failures=1, hours=0.6, money=9, per="job")
    stop = BudgetStop(session.job, StopSignals())
    stop.begin(session, Tally(3))
    assert set(stop.crossed) == {"rejects"}, "four by now, and the row that cannot be planned is no failure"


def test_a_job_that_used_up_its_budget_starts_no_worker_and_exits_75(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    worked(folder, rejects=2, per="job")
    assert main(["render", str(folder / "job.yaml"), "--skip-invalid", "--output", str(folder / "out")]) == 75
    said = capsys.readouterr()
    assert "budget.rejects is used up: 2 of 2 attempts" in said.err
    assert "nothing was rendered" in said.out


def test_what_another_thread_does_beside_is_no_stages_time() -> None:
    """As a model that is loaded while the same worker already checks."""

    def work() -> None:
        end = time.thread_time() + 0.2
        while time.thread_time() < end:
            pass

    clock = finish._Clock()
    beside = threading.Thread(target=work)
    beside.start()
    clock("store", beside.join)
    clock("check", work)
    assert clock.cpu_s["store"] < 0.1 and 0.2 <= clock.cpu_s["check"] < 0.3


def test_what_failed_by_the_farms_fault_opens_again_by_itself_three_times(folder: Path) -> None:
    session = farm.open_session(resolved(folder))
    first, second = (work.attempt for work in farm.open_work(session, retry_failed=False))
    session.writer.append([failed_record(second, "tests", session.resolved.plan_digest, "RenderFailed: width and height")])
    for number in range(1, 5):
        again = [work.attempt for work in farm.open_work(session, retry_failed=False)]
        assert [attempt.number for attempt in again] == [number], "and nothing of the image that failed by itself"
        reason = farm_fault("the worker was lost: exit -9")
        session.writer.append([failed_record(replace(first, number=number), "tests", session.resolved.plan_digest, reason)])
    assert list(farm.open_work(session, retry_failed=False)) == []
    assert len(list(farm.open_work(session, retry_failed=True))) == 3 - 1


def test_of_several_each_image_opens_with_as_many_attempts_as_are_left(folder: Path) -> None:
    session = farm.open_session(resolved(folder))
    job = session.job.model_copy(update={"defaults": session.job.defaults.model_copy(update={"of": 2})})
    session = replace(session, resolved=replace(session.resolved, job=job))
    rounds = list(farm.open_rounds(session, retry_failed=False))
    assert [[work.attempt.number for work in works] for works in rounds] == [[1, 2]] * len(rounds) and len(rounds) > 1
    first, second = rounds[0]
    assert first.attempt.image == second.attempt.image and first.attempt.seed != second.attempt.seed
    records = [failed_record(work.attempt, "tests", session.resolved.plan_digest, "") for work in rounds[0]]
    session.writer.append([replace(record, outcome="rejected", cause=None) for record in records])
    assert [work.attempt.number for work in next(farm.open_rounds(session, retry_failed=False))] == [3], "three attempts in all"
