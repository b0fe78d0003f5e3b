"""Processes of a chaos run: found by a mark in their environment, so that nobody else's are ever touched; a Ray cluster made of them."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from renderfarm.farm.cluster import HEALTH
from scripts.faults.servers import free_port

MARK = "RENDERFARM_CHAOS"
HOST_MARK = "RENDERFARM_CHAOS_HOST"
TITLES = {"renderer": b"ray::Renderer", "finisher": b"ray::Finisher", "worker": b"renderfarm.workers.process"}


def marked(folder: Path) -> Iterator[int]:
    """Living processes that carry the mark of this run, this one left out."""
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid() and f"{MARK}={folder}".encode() in _read(int(name), "environ").split(b"\0"):
            yield int(name)


def _read(pid: int, what: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{what}").read_bytes()
    except OSError:
        return b""


def carries(pid: int, entry: str) -> bool:
    """Whether NAME=VALUE is in a process's environment."""
    return entry.encode() in _read(pid, "environ").split(b"\0")


def arguments(pid: int) -> list[str]:
    """A process's command line; empty when it is gone."""
    return [part.decode(errors="replace") for part in _read(pid, "cmdline").split(b"\0")]


def program(pid: int) -> str:
    """The name of the program, or of the script that an interpreter runs."""
    found = [Path(part).name for part in arguments(pid)[:2]]
    return found[1] if len(found) > 1 and found[0].startswith("python") else found[0] if found else ""


def workers(folder: Path, kind: str) -> list[int]:
    """Processes of one kind of worker: Ray's by the class, which it writes into a process's title, the local engine's by their module."""
    return sorted(pid for pid in marked(folder) if TITLES[kind] in _read(pid, "cmdline"))


def kill(pid: int) -> None:
    """SIGKILL; one that is gone already is no error."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def end_all(folder: Path, wait_s: float = 10.0) -> int:
    """End everything that carries the mark; how many there were at first."""
    found = list(marked(folder))
    deadline = time.monotonic() + wait_s
    while (left := list(marked(folder))) and time.monotonic() < deadline:
        for pid in left:
            kill(pid)
        time.sleep(0.2)
    return len(found)


class Cluster:
    """A Ray cluster that outlives its drivers: a head without CPUs, and hosts that may be killed. `env` holds its token."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.folder = folder
        self.env = {**env, "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self.port, self._hosts = free_port(), 0
        self.address = f"127.0.0.1:{self.port}"
        ray = Path(sys.executable).parent / "ray"
        self._start = [str(ray), "start", "--disable-usage-stats", "--object-store-memory=200000000"]
        config = json.dumps(HEALTH)
        head = ["--head", f"--port={self.port}", "--num-cpus=0", "--include-dashboard=false", f"--temp-dir={folder}/ray"]
        self._run([*self._start, *head, "--node-ip-address=127.0.0.1", f"--system-config={config}"], self.env)

    def add_host(self, cpus: int = 2) -> None:
        """One more raylet with `cpus` CPUs."""
        self._hosts += 1
        host = [f"--address={self.address}", "--node-ip-address=127.0.0.1", f"--num-cpus={cpus}"]
        self._run([*self._start, *host], {**self.env, HOST_MARK: str(self._hosts)})

    def _run(self, command: list[str], env: dict[str, str]) -> None:
        for _ in range(3):  # a raylet may miss its 30 s on a loaded machine
            done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=180, start_new_session=True)
            if done.returncode == 0:
                return
        raise RuntimeError(f"ray start failed: {done.stderr[-500:]}{done.stdout[-500:]}")

    def raylet(self) -> int | None:
        """The newest host's raylet, None when it is gone."""
        mark = f"{HOST_MARK}={self._hosts}".encode()
        for pid in marked(self.folder):
            if _read(pid, "cmdline").split(b"\0")[0].endswith(b"/raylet") and mark in _read(pid, "environ").split(b"\0"):
                return pid
        return None
