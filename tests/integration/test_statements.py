"""People who say much while a run goes on, as real processes of which some are killed; the long run is scripts/statements.py."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.integration.conftest import TIMEOUT_S

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "statements.py"


def test_no_statement_is_lost_or_doubled_and_the_run_is_unharmed() -> None:
    few = ["--statements", "16", "--speakers", "2", "--kills", "2", "--images", "16", "--pause-ms", "20", "--seed", "3"]
    done = subprocess.run([sys.executable, str(SCRIPT), *few], capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["ok"] and told["in_log"] >= 16 and told["lost"] == told["twice"] == told["left"] == 0
