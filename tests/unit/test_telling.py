"""What is told at the end, at a pause, at a failure and when a budget is crossed, to a real HTTP server and a real command."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from renderfarm.cli import main
from renderfarm.cli.schedule import untold_by_its_run
from renderfarm.errors import JobError, StorageAway
from renderfarm.job import JobSettings, load_job
from renderfarm.log.state import Counts
from renderfarm.resolve import UNRECORDED
from renderfarm.run.budget import BudgetStop, Crossed
from renderfarm.run.loop import Tally
from renderfarm.run.session import RunResult
from renderfarm.run.stop import StopSignals
from renderfarm.run.telling import Teller
from renderfarm.schedule.runner import Report
from tests.unit.test_notify import serving

SECRET = "s3cret-path"


def job(**values: Any) -> JobSettings:
    return JobSettings.model_validate({"name": "night", "manifest": "-", "output": "s3://b/out", **values})


@pytest.fixture
def logged(capfd: pytest.CaptureFixture[str]) -> Any:
    from renderfarm.cli import logs

    logs.configure()
    return lambda: [json.loads(line) for line in capfd.readouterr().err.splitlines() if line.startswith("{")]


def result(accepted: int = 3, exhausted: int = 0, remaining: int = 0, paused: bool = False) -> RunResult:
    planned = accepted + exhausted + remaining
    return RunResult(Counts(planned, accepted, exhausted, 0, remaining), Tally(planned, attempts_now=9, elapsed_s=2.04), paused)


@pytest.mark.parametrize(
    ("ended", "reason", "event", "code", "text"),
    [
        (result(), "", "done", 0, "night: done: "),
        (result(2, 1), "", "done", 3, "night: finished with losses: "),
        (result(1, 0, 4, True), "the till is empty", "paused", 75, "night: paused (the till is empty): "),
    ],
)
def test_the_end_of_a_run_is_told(monkeypatch: pytest.MonkeyPatch, ended: RunResult, reason: str, event: str, code: int, text: str) -> None:
    with serving(200) as server:
        monkeypatch.setenv("TEST_HOOK", server.url)
        monkeypatch.setenv("TEST_TOKEN", "s3cret-token")
        Teller(job(notify={"webhook_env": "TEST_HOOK", "token_env": "TEST_TOKEN"})).ended(ended, reason)
        ((headers, body),) = server.seen
    message = json.loads(body)
    assert headers["Authorization"] == "Bearer s3cret-token"
    assert (message["event"], message["exit_code"], message["job"], message["output"]) == (event, code, "night", "s3://b/out")
    assert message["text"].startswith(text)
    assert message["planned"] == message["accepted"] + message["exhausted"] + message["failed"] + message["remaining"]
    assert (message["attempts"], message["seconds"], message["reason"]) == (9, 2.0, reason or None)
    assert b"s3cret" not in body


@pytest.mark.parametrize(
    ("error", "event", "code"),
    [
        (StorageAway("the bucket stays away"), "paused", 75),
        (JobError("no such thing", "x"), "failed", 2),
        (ZeroDivisionError(), "failed", 1),
    ],
)
def test_what_ends_a_run_by_an_exception_is_told_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, error: Exception, event: str, code: int
) -> None:
    with serving(200) as server:
        monkeypatch.setenv("TEST_HOOK", server.url)
        with pytest.raises(type(error)), Teller(job(notify={"webhook_env": "TEST_HOOK"})).failures():
            raise error
        message = json.loads(server.seen[0][1])
    assert (message["event"], message["exit_code"]) == (event, code)
    assert (str(error) or "ZeroDivisionError") in message["reason"]


def test_only_what_was_asked_for_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    out = tmp_path / "told"
    told = "os.environ['RENDERFARM_EVENT'] + sys.stdin.read()[:1] + os.environ['RENDERFARM_JOB']"
    code = f"import os, sys; open({str(out)!r}, 'a').write({told})"
    teller = Teller(job(notify={"command": [sys.executable, "-c", code], "events": ["paused"]}))
    teller.ended(result())
    assert not out.exists()
    teller.ended(result(remaining=1, paused=True))
    assert out.read_text() == "paused{night"


@pytest.mark.parametrize("status", [404, 500])
def test_what_does_not_arrive_is_one_log_line_without_a_secret(monkeypatch: pytest.MonkeyPatch, logged: Any, status: int) -> None:
    with serving(status) as server:
        monkeypatch.setenv("TEST_HOOK", server.url)
        monkeypatch.setenv("TEST_TOKEN", "s3cret-token")
        settings = {"webhook_env": "TEST_HOOK", "token_env": "TEST_TOKEN", "retries": 0, "command": ["/no/such/program"]}
        Teller(job(notify=settings)).ended(result())
    lines = logged()
    assert [(line["event"], line["way"]) for line in lines] == [("notify.undelivered", "webhook"), ("notify.undelivered", "command")]
    assert str(status) in lines[0]["reason"]
    assert "s3cret" not in json.dumps(lines)


def test_a_variable_that_is_not_set_is_said_when_the_run_begins(monkeypatch: pytest.MonkeyPatch, logged: Any) -> None:
    monkeypatch.delenv("TEST_HOOK", raising=False)
    teller = Teller(job(notify={"webhook_env": "TEST_HOOK"}))
    teller.warn_early()
    teller.ended(result())
    assert [line["event"] for line in logged()] == ["notify.not_set", "notify.undelivered"]


def test_a_secret_where_its_name_should_stand_is_refused_and_not_repeated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("name: night\nmanifest: rows.parquet\noutput: out\nnotify: {webhook_env: 'https://hooks.example/s3cret-path'}\n")
    assert main(["render", str(path)]) == 2
    said = capsys.readouterr().err
    assert "notify.webhook_env: write the name of an environment variable" in said
    assert SECRET not in said


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("notify: {webhook: X}", "did you mean webhook_env?"),
        ("notify: {command: echo}", "write a list"),
        ("notify: {events: [sometimes]}", "notify.events"),
        ("budget: {money: 5}", "needs cost.per_hour"),
        ("budget: {hours: 0}", "budget.hours"),
        ("budget: {then: stop}", "budget.then"),
        ("farm: {metrics: {port: 70000}}", "farm.metrics.port"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(f"name: night\nmanifest: rows.parquet\noutput: out\n{text}\n")
    with pytest.raises(JobError) as caught:
        load_job(path)
    assert expected in str(caught.value)


# --- budgets ---


@pytest.mark.parametrize(
    ("budget", "below", "above", "unit"),
    [
        ({"rejects": 5}, Tally(9, rejected_attempts=4), Tally(9, rejected_attempts=5), "attempts"),
        ({"failures": 2}, Tally(9, failed=8, failed_now=1), Tally(9, failed=9, failed_now=2), "images"),
        ({"hours": 0.5}, Tally(9, elapsed_s=1799), Tally(9, elapsed_s=1800), "hours"),
        ({"money": 6}, Tally(9, elapsed_s=3599, renderers=2), Tally(9, elapsed_s=3600, renderers=2), "EUR"),
        ({"money": 6}, Tally(9, elapsed_s=7199, renderers=8, priced=1), Tally(9, elapsed_s=7200, renderers=8, priced=1), "EUR"),
    ],
)
def test_a_budget_is_told_once_and_drains(budget: dict[str, float], below: Tally, above: Tally, unit: str) -> None:
    told: list[Crossed] = []
    stop = BudgetStop(job(budget=budget, cost={"per_hour": 3}), StopSignals(), told.append)
    stop(below)
    assert not told and not stop.draining(0.0)
    stop(above)
    stop(above)
    assert [(found.budget, found.limit, found.unit) for found in told] == [(*budget, *budget.values(), unit)]
    assert stop.draining(0.0) and stop.pauses and not stop.abandon()


def test_a_budget_that_only_tells_lets_the_run_go_on() -> None:
    told: list[Crossed] = []
    stop = BudgetStop(job(budget={"rejects": 1, "then": "notify"}), StopSignals(), told.append)
    stop(Tally(9, rejected_attempts=3))
    assert len(told) == 1 and not stop.draining(0.0) and not stop.pauses


def test_the_budget_reaches_the_webhook_beside_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(200) as server:
        monkeypatch.setenv("TEST_HOOK", server.url)
        teller = Teller(job(notify={"webhook_env": "TEST_HOOK"}))
        teller.crossed(Crossed("rejects", 5, 7, "attempts"))
        teller.ended(result(remaining=1, paused=True), "x")
        first, second = (json.loads(body) for _, body in server.seen)
    assert first["budget"] == {"budget": "rejects", "limit": 5, "value": 7, "unit": "attempts"}
    assert (first["event"], second["event"]) == ("budget", "paused")
    assert "7 of 5 attempts" in first["text"]


def test_a_budget_ends_a_simulated_run_and_all_is_committed() -> None:
    from renderfarm.log import reading
    from renderfarm.log.writer import LogWriter
    from renderfarm.run.loop import Loop
    from renderfarm.run.units import UnitQueue
    from tests.simulation.test_loop import calm
    from tests.simulation.world import SIGNER, NoDuplicates, SimEngine

    world = calm(5, images=60, rejects=0.5)
    storage = world.calm()
    writer = LogWriter.open(storage, world.job.name, SIGNER)
    engine = SimEngine(world.rng, world.fate, 6, world.machines, lambda: None)
    stop = BudgetStop(job(budget={"rejects": 10}), StopSignals())
    tally = Tally(len(world.plan))
    queue = UnitQueue(world._open_work(writer), 4)
    Loop(world.job, "plan", queue, engine, writer, NoDuplicates(), stop, tally, stop, clock=engine.clock).run()
    recorded = [record for record in reading.records(storage) if record.kind == "attempt"]
    assert tally.remaining > 0 and 10 <= tally.rejected_attempts < 10 + 6 * 4
    assert len(recorded) == tally.attempts_now == len(engine.rendered_attempts), "what was leased was finished and committed"


def test_none_of_it_is_in_job_json() -> None:
    noisy = job(notify={"webhook_env": "X"}, budget={"rejects": 1}, schedule={"window": "22:00-06:00"}, farm={"metrics": {"port": 1}})
    assert noisy.model_dump(mode="json", exclude=UNRECORDED) == job().model_dump(mode="json", exclude=UNRECORDED)
    assert "farm" not in noisy.model_dump(mode="json", exclude=UNRECORDED)


def test_the_scheduler_tells_of_a_run_that_could_not_read_whom_to_tell(tmp_path: Path) -> None:
    path, refused = tmp_path / "job.yaml", Report("ended", "night", code=2)
    path.write_text("name: night\nmanifest: rows.parquet\noutput: out\n")
    assert untold_by_its_run(refused, path) == "", "the run itself tells what else is wrong"
    path.write_text("name: night\nmanifest: rows.parquet\noutput: out\nbugdet: {hours: 8}\n")
    assert "bugdet" in untold_by_its_run(refused, path)
    path.unlink()
    assert "no such job file" in untold_by_its_run(refused, path)
    assert untold_by_its_run(Report("ended", "night", code=3), path) == ""
    assert "signal" in untold_by_its_run(Report("ended", "night", code=-9), path)
