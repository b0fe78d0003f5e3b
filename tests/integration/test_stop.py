"""SIGTERM while pictures are rendered, as a service manager sends it: what is in flight is finished and committed, then the run pauses."""

from __future__ import annotations

import os
import signal

from tests.integration.conftest import TIMEOUT_S, Farm


def test_sigterm_drains_commits_and_pauses(farm: Farm) -> None:
    farm.manifest([{"id": f"row {n}", "prompt": "a red mug", "images": 100} for n in range(3)])
    job = farm.job(model={"batch": 2})
    process = farm.start("render", job, "--json")
    assert process.stderr is not None
    seen = next((line for line in process.stderr if "image.accepted" in line), None)
    assert seen is not None, "nothing was accepted before the end"
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 75, err
    assert '"paused": true' in out
    status = farm.json("status", farm.folder / "out")
    stored = len(list((farm.folder / "out" / "images").rglob("*.png")))
    assert 0 < stored == status["accepted"] < 300
    audit = farm.json("audit", farm.folder / "out")
    assert (audit["verdict"], audit["orphans"]) == ("passed", 0)


def test_sigterm_to_the_whole_group_drains_as_well(farm: Farm) -> None:
    """As `timeout` sends it: Ray's own processes must not end before the pictures in flight are committed."""
    farm.manifest([{"id": f"row {n}", "prompt": "a red mug", "images": 100} for n in range(3)])
    job = farm.job(model={"batch": 2}, farm={"engine": "ray", "renderers": 1, "finishers": 1})
    process = farm.start("render", job, "--json", start_new_session=True)
    assert process.stderr is not None
    seen = next((line for line in process.stderr if "image.accepted" in line), None)
    assert seen is not None, "nothing was accepted before the end"
    os.killpg(process.pid, signal.SIGTERM)
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 75, err
    assert '"paused": true' in out
    assert "actor.died" not in err
    stored = len(list((farm.folder / "out" / "images").rglob("*.png")))
    assert 0 < stored == farm.json("status", farm.folder / "out")["accepted"] < 300


def test_sigterm_to_the_whole_group_while_ray_starts_is_a_pause(farm: Farm) -> None:
    farm.manifest([{"id": "row", "prompt": "a red mug"}])
    process = farm.start("render", farm.job(farm={"engine": "ray"}), "--json", start_new_session=True)
    assert process.stderr is not None
    seen = next((line for line in process.stderr if "plan.recorded" in line), None)
    assert seen is not None, "no plan was recorded"
    os.killpg(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 75, err
