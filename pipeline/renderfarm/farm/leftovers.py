"""What a killed driver leaves on its host, and its end.

Ray's processes die with the driver that started them, but two of its agents, when the driver ends while they are just starting, were
seen to live on (Ray 2.60). They do nothing, and hold memory. So each private cluster carries its driver's identity in the environment: a
driver ends what is left of its own when it shuts Ray down, and the next start ends what a killed one left. Linux only; elsewhere nothing
is found.

A pid means nothing outside its namespace: in another container, or seen from its host, a living driver has another pid or none. So an
identity names the namespaces that its numbers count in, and one that cannot be judged from here is spared.

Only what Ray starts may carry it: what a driver runs besides, such as the command of a notification, which may start something that
outlives it, even another driver, is nobody's to end.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

VARIABLE = "RENDERFARM_DRIVER"
PROC = Path("/proc")


def identity(pid: int) -> str | None:
    """A process as `pid:start time:namespaces`, which no other process on this host shares; None when there is none, or nobody can tell."""
    fields, namespaces = _stat(pid), _namespaces()
    return None if fields is None or namespaces is None or fields[0] == "Z" else f"{pid}:{fields[19]}:{namespaces}"


def _stat(pid: int) -> list[str] | None:
    """The fields behind the name in `/proc/PID/stat`; None where there is no such process, or it is hidden."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _namespaces() -> str | None:
    """Where this process's pids and, since Linux 5.6, its clock count; None where /proc does not say, or is another namespace's.

    NSpid has a number for each namespace from that of /proc down to the process's own (proc_pid_status(5)): one when they are the same.
    """
    try:
        status = (PROC / "self" / "status").read_text()
        links = [os.readlink(entry) for entry in sorted((PROC / "self" / "ns").iterdir()) if entry.name in ("pid", "time")]
    except OSError:
        return None
    return "".join(links) if links and re.search(r"^NSpid:\s*\d+$", status, re.MULTILINE) else None


@contextlib.contextmanager
def marked_children() -> Iterator[None]:
    """Processes that this one starts within the block carry its identity, and so do theirs."""
    mine, before = identity(os.getpid()), os.environ.get(VARIABLE)
    if mine is not None:
        os.environ[VARIABLE] = mine
    try:
        yield
    finally:
        os.environ.pop(VARIABLE, None)
        if before is not None:
            os.environ[VARIABLE] = before


def orphaned() -> Iterator[int]:
    """Processes of this user that belong to a driver which is gone; this one, and what it was started from, never."""
    spared = {str(pid) for pid in _lineage()}
    for entry in PROC.iterdir() if PROC.is_dir() else ():
        driver = _driver_of(entry) if entry.name.isdigit() and entry.name not in spared else None
        if driver is not None and _gone(driver):
            yield int(entry.name)


def _gone(driver: str) -> bool:
    """Whether a driver is known to have ended: its pid is free or another's. What counts elsewhere, or is hidden, is not known."""
    pid, _, namespaces = driver.split(":", 2)
    if namespaces != _namespaces():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # another user's
    return _stat(int(pid)) is not None and identity(int(pid)) != driver


def _driver_of(process: Path) -> str | None:
    """The driver in a process's environment; None for other users' processes and those that belong to no driver."""
    prefix = f"{VARIABLE}=".encode()
    try:
        entries = (process / "environ").read_bytes().split(b"\0")
    except OSError:
        return None
    found = next((entry.removeprefix(prefix).decode("ascii", "replace") for entry in entries if entry.startswith(prefix)), None)
    return found if found is not None and re.fullmatch(r"[0-9]{1,9}:[0-9]+:.+", found) else None


def _lineage() -> Iterator[int]:
    """This process, its parent, and so on."""
    pid = os.getpid()
    while pid > 0:
        yield pid
        try:
            pid = int((PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            return


def own() -> Iterator[int]:
    """Processes that this one started within `marked_children`, and theirs."""
    mine = identity(os.getpid())
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
