"""Workers and drivers of both engines are killed with SIGKILL at seeded moments, over HTTP; what must hold: scripts/faults/ordeal.py.

The long version: scripts/chaos.py.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "chaos.py"


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("engine", "victims"), [("cluster", "renderer,driver"), ("local", "worker,driver")])
def test_two_kills_lose_nothing_and_render_nothing_committed_twice(engine: str, victims: str) -> None:
    command = [sys.executable, str(SCRIPT), "--kills", "2", "--seed", "5", "--engine", engine, "--server", "moto", "--victims", victims]
    done = subprocess.run(command, capture_output=True, text=True, timeout=880)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["ok"] == summary["kills"] == 2
    assert set(summary["victims"]) == set(victims.split(","))
    assert all(entry["lost"] == entry["recorded_twice"] == entry["committed_redone"] == 0 for entry in summary["rounds"])
