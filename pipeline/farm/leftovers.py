"""What a killed driver leaves on its host, and its end.

Ray's processes die with the driver that started them, but two of its agents, when the driver ends while they are just starting, were
seen to live on (Ray 2.60). They do nothing, and hold memory. So each private cluster carries its driver's identity in the environment: a
driver ends what is left of its own when it shuts Ray down, and the next start ends what a killed one left. Linux only; elsewhere nothing
is found.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

VARIABLE = "RENDERFARM_DRIVER"
PROC = Path("/proc")


def identity(pid: int) -> str | None:
    """A process as `pid:start time`, which no later process with the same pid shares; None when there is none."""
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else f"{pid}:{fields[19]}"


def mark_children() -> None:
    """From now on this process's children carry its identity."""
    mine = identity(os.getpid())
    if mine is not None:
        os.environ[VARIABLE] = mine


def orphaned() -> Iterator[int]:
    """Processes of this user that belong to a driver which is gone."""
    for entry in PROC.iterdir() if PROC.is_dir() else ():
        driver = _driver_of(entry) if entry.name.isdigit() else None
        if driver is not None and identity(int(driver.partition(":")[0])) != driver:
            yield int(entry.name)


def _driver_of(process: Path) -> str | None:
    """The driver in a process's environment; None for other users' processes and those that belong to no driver."""
    prefix = f"{VARIABLE}=".encode()
    try:
        entries = (process / "environ").read_bytes().split(b"\0")
    except OSError:
        return None
    found = next((entry.removeprefix(prefix).decode("ascii", "replace") for entry in entries if entry.startswith(prefix)), None)
    return found if found is not None and found.partition(":")[0].isdigit() else None


def own() -> Iterator[int]:
    """Processes that this one started after `mark_children`, and theirs."""
    mine = os.environ.get(VARIABLE)
    for entry in PROC.iterdir() if mine and PROC.is_dir() else ():
        if entry.name.isdigit() and int(entry.name) != os.getpid() and _driver_of(entry) == mine:
            yield int(entry.name)


def end_own(grace_s: float = 5.0) -> int:
    """End what is left of this driver's own cluster after it was shut down, `grace_s` later; how many processes."""
    deadline = time.monotonic() + grace_s
    while any(own()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return _kill(own())


def sweep() -> int:
    """End what dead drivers left; how many processes."""
    return _kill(orphaned())


def _kill(pids: Iterable[int]) -> int:
    count = 0
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
            count += 1
    return count
