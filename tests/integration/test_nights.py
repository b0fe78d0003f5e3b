"""The scheduler over real runs: a window from its opening to the message at its end, and a run that is killed."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

from tests.integration.conftest import TIMEOUT_S, Farm
from tests.unit.test_notify import Server, serving
from tests.waiting import wait_for

ALWAYS = {"cron": "0 0 1 1 *"}
"""A window that is open until the next new year."""


def nightly(farm: Farm, server: Server, /, **changes: Any) -> Any:
    farm.env |= {"XDG_STATE_HOME": str(farm.folder / "state"), "TEST_HOOK": server.url, "TEST_TOKEN": "s3cret-token"}
    farm.manifest([{"id": "a", "prompt": "a red mug"}])
    return farm.job(schedule=ALWAYS, notify={"webhook_env": "TEST_HOOK", "token_env": "TEST_TOKEN"}, **changes)


def test_a_window_is_run_told_and_not_run_again(farm: Farm) -> None:
    with serving(200) as server:
        job = nightly(farm, server, farm={"metrics": {"port": 0}}, budget={"hours": 1e-7, "then": "notify"})
        lines = [json.loads(line) for line in farm.run("schedule", job, "--once", "--json").splitlines()]
        assert [line["event"] for line in lines] == ["next", "started", "ended"]
        ended = lines[-1]
        assert (ended["exit_code"], ended["result"]["accepted"], ended["result"]["remaining"]) == (0, 1, 0)
        again = [json.loads(line)["event"] for line in farm.run("schedule", job, "--once", "--json").splitlines()]
        assert again == ["next"], "one window, one run"
        told = [json.loads(body) for _, body in server.seen]
    assert [message["event"] for message in told] == ["budget", "done"]
    assert (told[1]["accepted"], told[1]["exit_code"], told[1]["output"]) == (1, 0, str(farm.folder / "out"))
    kept = [path for path in farm.folder.rglob("*") if path.is_file() and path.name != "job.yaml"]
    assert kept and not any(b"s3cret" in path.read_bytes() for path in kept), "a secret was written"
    assert "notify" not in json.loads((farm.folder / "out" / "job.json").read_text())["settings"]
    assert farm.json("audit", farm.folder / "out")["verdict"] == "passed"


def test_a_run_that_is_killed_is_told_and_tried_again(farm: Farm) -> None:
    with serving(200) as server:
        process = farm.start("schedule", nightly(farm, server), "--json")
        assert process.stdout is not None
        events = (json.loads(line) for line in process.stdout)
        run = next(event["pid"] for event in events if event["event"] == "started")
        os.kill(run, signal.SIGKILL)
        killed = next(event for event in events if "exit_code" in event)
        assert (killed["event"], killed["exit_code"], killed["meaning"]) == ("again", -9, "killed by signal 9")
        wait_for(lambda: server.seen, TIMEOUT_S)
        message = json.loads(server.seen[0][1])
        assert (message["event"], message["exit_code"]) == ("failed", -9)
        assert "killed by signal 9" in message["text"]
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 0, err
