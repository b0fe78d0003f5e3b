"""The one call that measures everything on a GPU: it stays within its budget, and leaves nothing running."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.bench import gpu

ROOT = Path(__file__).resolve().parents[2]

HANGS = """
import subprocess, sys, time
inner = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
subprocess.Popen([sys.executable, "-c", inner], start_new_session=True)
time.sleep(600)
"""
"""A step that hangs, and has a child in a session of its own, as Ray's are."""

WITHIN = """
import json, sys
from pathlib import Path
from scripts.bench import gpu
gpu.adopt_orphans()
print(json.dumps(gpu.run([sys.executable, "-c", sys.argv[1]], Path(sys.argv[2]), 1.5, grace_s=0.5)))
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc on this system")
def test_a_step_out_of_time_ends_with_all_that_it_started(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-c", WITHIN, HANGS, str(log)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["ended"] == "out of time" and result["processes_killed"] == 1
    with pytest.raises(ProcessLookupError):
        os.kill(int(log.read_text()), 0)


def test_steps_without_time_are_named_as_not_run(tmp_path: Path) -> None:
    results = gpu.run_all(gpu.STEPS, tmp_path, 0.0, rehearse=True)
    assert {result["ended"] for result in results.values()} == {"not run: no time left"}
    assert json.loads((tmp_path / "results.json").read_text()) == results and len(results) == len(gpu.STEPS)


def test_tests_that_were_all_skipped_are_not_ok() -> None:
    assert gpu.skipped("43 skipped in 2.10s")
    assert not gpu.skipped("40 passed, 3 skipped in 60.10s")


def test_a_rehearsal_passes_the_same_arguments() -> None:
    for step in gpu.STEPS:
        real, small = (gpu.call(step, Path("built"), rehearse=rehearse) for rehearse in (False, True))
        assert {word for word in real if word.startswith("-")} <= set(small)


def test_a_benchmark_that_is_told_to_end_says_what_it_has() -> None:
    """As `gpu.py` does with a step out of time; its children are ended by that."""
    command = [sys.executable, str(ROOT / "scripts/bench/overhead.py"), "--case", "starter", "--device", "cpu", "--images", "4"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline().startswith("starter: bare loop")
        process.terminate()
        lines, _ = process.communicate(timeout=60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    said = json.loads(lines.strip().splitlines()[-1])
    assert process.returncode == 143 and said["cut"] is True and said["case"] == "starter"
