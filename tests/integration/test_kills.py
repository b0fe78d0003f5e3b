"""The driver is killed with SIGKILL at seeded moments, three times; the job goes on and the audit passes.

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
def test_three_kills_lose_nothing_and_render_nothing_accepted_twice() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), "--kills", "3", "--seed", "5"], capture_output=True, text=True, timeout=880)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["ok"] == summary["kills"] == 3
    assert all(entry["audit"] == "passed" and entry["same_as_undisturbed"] for entry in summary["rounds"])
