"""Hosts of a Ray cluster as network namespaces on one bridge: one can be cut off, healed, drained, stopped. Root and iproute2 only.

The first host holds Ray's head and the drivers, and no CPU for workers; the others have a renderer's GPU (which is only a number here)
and CPUs. All see one file system, as hosts with a network file system would.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from renderfarm.farm.cluster import HEALTH
from scripts.faults import processes
from scripts.faults.processes import HOST_MARK
from scripts.faults.servers import NoServer

PORT = 6379
START_S = 300
_OURS = "renderfarm-"
"""Begins the name of every namespace; the process that made it comes next, so that two runs do not meet."""


class Hosts:
    """A head and `workers` hosts. `env` is what every process in them gets; it carries the mark by which all of them are found."""

    def __init__(self, folder: Path, env: dict[str, str], workers: int = 2) -> None:
        self.folder, self.workers = folder, workers
        self._hub = f"{_OURS}{os.getpid()}-hub"
        self.env = {
            **env,
            "RAY_USAGE_STATS_ENABLED": "0",
            "PYTHONUNBUFFERED": "1",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
        }
        self.address = f"{_ip(0)}:{PORT}"
        ray = str(Path(sys.executable).parent / "ray")
        self._ray = [ray, "start", "--disable-usage-stats", "--object-store-memory=100000000", "--block"]

    @contextlib.contextmanager
    def running(self) -> Iterator[Hosts]:
        """Namespaces and Ray for the time of the block. Raises: NoServer where they cannot be had."""
        if os.geteuid() or shutil.which("ip") is None:
            raise NoServer("namespaces need root and iproute2 (`ip`)")
        _sweep()
        try:
            self._wire()
            self._start_head()
            for host in range(1, self.workers + 1):
                self.start(host)
            self._await_workers()
            yield self
        finally:
            processes.end_all(self.folder)
            for name in (*map(_name, range(self.workers, -1, -1)), self._hub):
                subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)

    def _wire(self) -> None:
        _ip_run(
            ["netns", "add", self._hub],
            ["-n", self._hub, "link", "add", "br0", "type", "bridge"],
            ["-n", self._hub, "link", "set", "br0", "up"],
        )
        for host in range(self.workers + 1):
            name, end = _name(host), _wire_end(host)
            _ip_run(
                ["netns", "add", name],
                ["link", "add", end, "netns", self._hub, "type", "veth", "peer", "name", "eth0", "netns", name],
                ["-n", self._hub, "link", "set", end, "master", "br0"],
                ["-n", self._hub, "link", "set", end, "up"],
                ["-n", name, "link", "set", "lo", "up"],
                ["-n", name, "link", "set", "eth0", "up"],
                ["-n", name, "addr", "add", f"{_ip(host)}/24", "dev", "eth0"],
            )

    def _start_head(self) -> None:
        head = ["--head", f"--node-ip-address={_ip(0)}", f"--port={PORT}", "--num-cpus=0", "--include-dashboard=false"]
        self._spawn(0, [*self._ray, *head, f"--temp-dir={self.folder}/ray", f"--system-config={json.dumps(HEALTH)}"])
        deadline = time.monotonic() + START_S
        probe = ["bash", "-c", f"</dev/tcp/{_ip(0)}/{PORT}"]
        while subprocess.run(self.inside(0, probe), capture_output=True, check=False).returncode:
            if time.monotonic() > deadline:
                raise NoServer(f"Ray's head did not answer within {START_S} s: see {self.folder}/host-0.log")
            time.sleep(0.3)

    def start(self, host: int, cpus: int = 2) -> None:
        """Ray on a worker host, for the first time or again; returns at once."""
        own = [f"--address={self.address}", f"--node-ip-address={_ip(host)}", f"--num-cpus={cpus}", "--num-gpus=1"]
        self._spawn(host, [*self._ray, *own])

    def _await_workers(self) -> None:
        deadline = time.monotonic() + START_S
        for host in range(1, self.workers + 1):
            said = self.folder / f"host-{host}.log"
            while b"Ray runtime started" not in said.read_bytes():
                if time.monotonic() > deadline:
                    raise NoServer(f"host {host} did not join within {START_S} s: {said.read_text()[-500:]}")
                if not self.pids(host):  # a raylet may miss its 30 s on a loaded machine
                    self.start(host)
                time.sleep(0.5)

    def _spawn(self, host: int, command: Sequence[str]) -> None:
        with open(self.folder / f"host-{host}.log", "ab") as log:
            subprocess.Popen(
                self.inside(host, command), env={**self.env, HOST_MARK: str(host)}, stdout=log, stderr=log,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip

    def inside(self, host: int, command: Sequence[str]) -> list[str]:
        """The command as it runs on this host."""
        return ["ip", "netns", "exec", _name(host), *command]

    def cut(self, host: int) -> None:
        """The host's wire is pulled; its processes know nothing."""
        _ip_run(["-n", self._hub, "link", "set", _wire_end(host), "down"])

    def heal(self, host: int) -> None:
        """The wire is back. A raylet that was cut off for too long has exited or will; `start` starts another."""
        _ip_run(["-n", self._hub, "link", "set", _wire_end(host), "up"])

    def terminate(self, host: int, *programs: str) -> None:
        """SIGTERM to these programs of the host: `ray` is `ray start`, which then drains its host for up to 30 s (Ray 2.60)."""
        for pid in self.pids(host):
            if processes.program(pid) in programs:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)

    def drain(self, host: int, seconds: int) -> None:
        """A notice, as a cloud gives: this host is taken away in so many seconds. Raises: RuntimeError where Ray refuses."""
        command = [
            self._ray[0], "drain-node", f"--address={self.address}", f"--node-id={self.node_id(host)}",
            "--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=spot", f"--deadline-remaining-seconds={seconds}",
        ]  # fmt: skip
        done = subprocess.run(self.inside(0, command), env=self.env, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            raise RuntimeError(f"ray drain-node: {done.stdout[-500:]}{done.stderr[-500:]}")

    def node_id(self, host: int) -> str:
        """Ray's name of the host, from its raylet's arguments."""
        for pid in self.pids(host):
            for argument in processes.arguments(pid):
                if argument.startswith("--node_id=") and processes.program(pid) == "raylet":
                    return argument.partition("=")[2]
        raise RuntimeError(f"host {host} has no raylet")

    def end(self, host: int) -> None:
        """Everything on the host is gone at once."""
        for pid in self.pids(host):
            processes.kill(pid)

    def pids(self, host: int) -> list[int]:
        """Living processes of the host."""
        return [pid for pid in processes.marked(self.folder) if processes.carries(pid, f"{HOST_MARK}={host}")]


def _name(host: int) -> str:
    return f"{_OURS}{os.getpid()}-{host}"


def _sweep() -> None:
    """Delete the namespaces of runs that were killed: their process is no more."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, timeout=30, check=False).stdout
    for name in (line.split()[0] for line in listed.splitlines() if line.startswith(_OURS)):
        pid = name.removeprefix(_OURS).partition("-")[0]
        if pid.isdecimal() and not Path(f"/proc/{pid}").exists():
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def _wire_end(host: int) -> str:
    return f"rfv{host}"


def _ip(host: int) -> str:
    return f"10.77.0.{host + 1}"


def _ip_run(*commands: Sequence[str]) -> None:
    for command in commands:
        done = subprocess.run(["ip", *command], capture_output=True, text=True, timeout=30, check=False)
        if done.returncode:
            raise NoServer(f"ip {' '.join(command)}: {done.stderr.strip()}")
