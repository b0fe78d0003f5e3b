"""Processes of a dead driver are found and ended, those of a living one are left alone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from renderfarm.farm import leftovers

MINE = leftovers.identity(os.getpid())
pytestmark = pytest.mark.skipif(MINE is None, reason="no /proc of this process's namespaces on this system")
HERE = str(MINE).partition(":")[2].partition(":")[2]
"""The namespaces that this process's numbers count in, as an identity names them."""


@pytest.fixture
def sleeper() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


def start(driver: str) -> subprocess.Popen[bytes]:
    """A process that runs, as one that this driver started."""
    code = "print(flush=True); import time; time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, leftovers.VARIABLE: driver}, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline()
    return process


def test_only_what_a_dead_driver_left_is_ended(sleeper: list[subprocess.Popen[bytes]]) -> None:
    mine = leftovers.identity(os.getpid())
    assert mine is not None
    dead = subprocess.Popen([sys.executable, "-c", ""])
    gone = leftovers.identity(dead.pid) or f"{dead.pid}:0:{HERE}"
    dead.wait()
    living, orphan, reused = start(mine), start(gone), start(f"{os.getpid()}:1:{HERE}")
    sleeper += [living, orphan, reused]
    assert {orphan.pid, reused.pid} <= set(leftovers.orphaned())
    assert living.pid not in set(leftovers.orphaned())
    assert leftovers.sweep() >= 2
    assert orphan.wait(10) < 0 and reused.wait(10) < 0
    assert living.poll() is None


def test_a_driver_ends_what_is_left_of_its_own(sleeper: list[subprocess.Popen[bytes]]) -> None:
    mine = leftovers.identity(os.getpid())
    assert mine is not None
    left, other = start(mine), start(f"{os.getpid()}:78:{HERE}")
    sleeper += [left, other]
    assert leftovers.end_own(grace_s=0.2) == 1
    assert left.wait(10) < 0
    assert other.poll() is None


def test_a_process_that_is_gone_has_no_identity() -> None:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    assert leftovers.identity(done.pid) is None


def test_only_what_is_started_within_the_block_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command of a notification may start something that outlives the driver: it is not the driver's to end, nor a later one's."""
    monkeypatch.setenv(leftovers.VARIABLE, "1:2")
    with leftovers.marked_children():
        assert os.environ[leftovers.VARIABLE] == leftovers.identity(os.getpid())
    assert os.environ[leftovers.VARIABLE] == "1:2"
    monkeypatch.delenv(leftovers.VARIABLE)
    with leftovers.marked_children():
        pass
    assert leftovers.VARIABLE not in os.environ


def test_a_driver_that_a_dead_one_started_spares_itself_and_what_started_it() -> None:
    code = "import os; from renderfarm.farm import leftovers; print(*({os.getpid(), os.getppid()} & set(leftovers.orphaned())))"
    shell = ["sh", "-c", '"$0" -c "$1"; exit $?', sys.executable, code]
    done = subprocess.run(shell, env={**os.environ, leftovers.VARIABLE: f"999999999:1:{HERE}"}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and not done.stdout.split(), done.stderr
