"""A pid means nothing outside its namespace: what carries the identity of a driver that cannot be judged from here is spared.

What dies: nobody, but for processes that the tests start. What must hold: a sweep never ends a child of a driver that lives in another
container, never takes another container's numbers for its own, and still ends what a dead driver of its own namespace left.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from renderfarm.farm import leftovers

MINE = leftovers.identity(os.getpid())
pytestmark = pytest.mark.skipif(MINE is None, reason="no /proc of this process's namespaces on this system")
HERE = str(MINE).partition(":")[2].partition(":")[2]
DEAD = "999999999:1"
"""A pid above every kernel's limit, and a start time."""

DRIVER = """
import os, subprocess, sys
from renderfarm.farm import leftovers
with leftovers.marked_children():
    child = subprocess.Popen([sys.executable, "-c", "print('up', flush=True); import time; time.sleep(60)"], stdout=subprocess.PIPE)
child.stdout.readline()
print(leftovers.identity(os.getpid()), len(list(leftovers.orphaned())), len(list(leftovers.own())), flush=True)
sys.stdin.read()
child.kill()
"""
"""A driver with one child; it says its identity, how many orphans it sees and how many of its own, and waits for the end of its input."""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a Python program that has said its first line when this returns; ends them all."""
    started: list[subprocess.Popen[str]] = []

    def one(code: str, *before: str, driver: str = "") -> subprocess.Popen[str]:
        marked = {leftovers.VARIABLE: driver} if driver else {}
        command = [*before, sys.executable, "-c", code]
        env = {**os.environ, **marked}
        started.append(subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield one
    for process in started:
        process.kill()
        process.communicate()


def in_new(*namespaces: str) -> list[str]:
    """The beginning of a command that runs in new namespaces; skips where this user may not make them."""
    command = [shutil.which("unshare") or "unshare", "--fork", *namespaces]
    if sys.platform != "linux" or subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip(f"this user may not make namespaces here: {' '.join(command)}")
    return command


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


WAITS = "print('up', flush=True); import sys; sys.stdin.read()"


@pytest.mark.parametrize(
    "driver",
    [f"{DEAD}:pid:[1]time:[1]", DEAD, f"{DEAD}:", f"99{DEAD}:{HERE}", f":1:{HERE}", "1", "1:2"],
    ids=["other namespace", "before namespaces were said", "no namespace", "no pid at all", "no pid", "no start", "an old, wrong one"],
)
def test_what_cannot_be_judged_is_spared(start: Start, driver: str) -> None:
    spared, swept = start(WAITS, driver=driver), start(WAITS, driver=f"{DEAD}:{HERE}")
    assert first_line(spared) == first_line(swept) == "up"
    orphans = set(leftovers.orphaned())
    assert swept.pid in orphans and spared.pid not in orphans


def test_a_driver_in_another_pid_namespace_keeps_its_children(start: Start) -> None:
    """As a container's driver is seen from its host: its children are visible here, under other pids, and so is the driver."""
    driver = start(DRIVER, *in_new("--pid", "--mount-proc"))
    said, orphans, own = first_line(driver).split()
    assert said.split(":")[0] != str(driver.pid) and said.partition(":pid")[2] != str(MINE).partition(":pid")[2]
    assert (orphans, own) == ("0", "1"), "the driver sees what is its own, and no orphan in it"
    children = [int(entry.name) for entry in leftovers.PROC.iterdir() if entry.name.isdigit() and leftovers._driver_of(entry) == said]
    assert len(children) == 1, "its child is visible from here, and carries its identity"
    assert children[0] not in set(leftovers.orphaned())
    leftovers.sweep()
    os.kill(children[0], 0)  # it is there
    assert (leftovers.PROC / str(children[0]) / "stat").read_text().rpartition(")")[2].split()[0] != "Z", "its child was ended"


def test_a_dead_driver_of_the_same_new_namespace_is_still_swept(start: Start) -> None:
    code = f"""
import os, subprocess, sys
from renderfarm.farm import leftovers
here = leftovers.identity(os.getpid()).split(":", 2)[2]
child = subprocess.Popen([sys.executable, "-c", {WAITS!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                         env={{**os.environ, leftovers.VARIABLE: "{DEAD}:" + here}})
child.stdout.readline()
print(leftovers.sweep(), child.wait(), flush=True)
"""
    assert first_line(start(code, *in_new("--pid", "--mount-proc"))) == "1 -9"


def test_numbers_of_a_proc_that_is_another_namespaces_are_nobodys(start: Start) -> None:
    """Without a /proc of its own a new namespace sees pids that are not its own: it has no identity, marks nothing and ends nothing."""
    swept = start(WAITS, driver=f"{DEAD}:{HERE}")
    assert first_line(swept) == "up" and swept.pid in set(leftovers.orphaned())
    assert first_line(start(DRIVER, *in_new("--pid"))) == "None 0 0"


def test_a_driver_whose_clock_counts_elsewhere_keeps_its_children(start: Start) -> None:
    """A start time is said in the reader's time namespace: after `unshare --time` the same process has another one."""
    driver = start(DRIVER, *in_new("--time", "--boottime", "1000000"))
    said = first_line(driver).split()[0]
    pid, began = said.split(":")[:2]
    assert str(leftovers.identity(int(pid))).split(":")[1] != began
    marked = {int(entry.name) for entry in leftovers.PROC.iterdir() if entry.name.isdigit() and leftovers._driver_of(entry) == said}
    assert len(marked) == 1 and not marked & set(leftovers.orphaned())


@pytest.mark.skipif(os.getuid() != 0, reason="needs a process of another user: only root starts one")
def test_a_living_driver_of_another_user_is_judged_by_what_can_be_read(start: Start) -> None:
    """Another user's process answers a signal with PermissionError: it lives, and its start time tells whether it is the driver."""
    stranger = start(WAITS, "setpriv", "--reuid", "65534", "--clear-groups")
    assert first_line(stranger) == "up"
    identity = leftovers.identity(stranger.pid)
    code = f"""
from renderfarm.farm import leftovers
print(leftovers._gone({identity!r}), leftovers._gone({identity!r}.replace(":", ":9", 1)), flush=True)
"""
    assert first_line(start(code, "setpriv", "--reuid", "65533", "--clear-groups")) == "False True"
