"""One job under real kills: what is killed when, and what must hold afterwards.

A round renders an output of its own. At a moment drawn from the round's seed one process gets SIGKILL: the driver (then the same command
runs again to the end), a worker of the local engine, or of Ray a renderer, a finisher, or the raylet of the only host with CPUs (then
another host joins). What must hold:

    lost             0   every planned image has an end, and the audit passes
    recorded twice   0   no (image, attempt) is in the log twice
    redone           at most what one commit interval holds, and the units in flight
    redone, though   0   no attempt, accepted or rejected, that was committed before the kill is leased again
    committed
    accepted set     that of an undisturbed run: every row that wants no word (the job-wide duplicate check is off)
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from renderfarm import keys
from renderfarm.audit.audit import audit
from renderfarm.errors import RenderfarmError
from renderfarm.log import reading
from renderfarm.log.orphans import orphans
from renderfarm.schema import Record
from renderfarm.storage import open_storage
from scripts.faults import processes
from scripts.faults.processes import Cluster

IMAGES = 12
COMMIT_IMAGES = 6
UNIT = 4
UNITS_IN_FLIGHT = 2 + 3
"""Two a renderer, three a finisher, of which the job has one each; the local engine's two workers are no further apart."""
REDONE_MAX = COMMIT_IMAGES + (UNITS_IN_FLIGHT + 1) * UNIT
"""A unit may land between the commit that is due and the kill."""
RUN_TIMEOUT_S = 900
VICTIMS = {"local": ("driver", "worker"), "ray": ("driver",), "cluster": ("driver", "renderer", "driver", "finisher", "raylet")}
"""Taken in turn, by engine."""
AT_START = 0.15
"""Share of the kills that fall before the first unit is leased; the others are spread over the rendering."""
JOB = """\
name: chaos
manifest: rows.parquet
output: {output}
defaults: {{width: 256, height: 256, steps: 2, guidance: 1.0}}
checks:
  attempts: 2
  text: {{second_look: false}}
  broken: {{enabled: false}}
  duplicates: {{on_job_twin: ignore, on_fail: flag}}
  copies: {{enabled: false}}
  counts: {{enabled: false}}
commit: {{images: 6, interval_s: 2}}
farm: {farm}
"""
FARM = {"local": "{engine: local}", "ray": "{engine: ray, renderers: 1, finishers: 1}"}
ROWS = [{"id": f"row-{n:02}", "prompt": "a red mug", "text": "ZYXWV" if n % 6 == 3 else None} for n in range(IMAGES)]
WANTED = [f"{row['id']}:0" for row in ROWS if row["text"] is None]
Attempt = tuple[str, int]


@dataclass(frozen=True)
class Round:
    """What one kill came to. `orphans`: pictures that are stored and in no part at the end: they were stored again, or never used."""

    number: int
    victim: str
    moment: str
    killed_after_s: float
    seconds: float
    committed_at_kill: int
    redone: int
    redone_max: int
    committed_redone: int
    recorded_twice: int
    lost: int
    accepted: int
    exhausted: int
    failed: int
    orphans: int
    audit: str
    same_as_undisturbed: bool
    left_over: int
    ok: bool


class Driver:
    """One `renderfarm render`; its log lines as they come."""

    def __init__(self, command: list[str], env: dict[str, str], log: Path) -> None:
        self.begun = time.monotonic()
        self.leased: list[tuple[float, list[Attempt]]] = []
        self.landed: list[tuple[float, Attempt]] = []
        self.process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
        self._log = log
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        with open(self._log, "ab") as log:
            for line in self.process.stderr:
                log.write(line)
                log.flush()
                with contextlib.suppress(ValueError):
                    self._take(json.loads(line))

    def _take(self, event: dict[str, Any]) -> None:
        now, name = time.monotonic() - self.begun, str(event.get("event"))
        if name == "unit.leased":
            self.leased.append((now, [_attempt(text) for text in event["attempts"]]))
        elif name.startswith("image."):
            self.landed.append((now, (event["image"], event["attempt"])))

    def running(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def attempts(self) -> list[Attempt]:
        """Every attempt that was leased, as often as it was."""
        return [attempt for _, unit in self.leased for attempt in unit]

    def end(self) -> Any:
        """Wait for the end; the JSON answer. Raises: RuntimeError for an exit code that a finished job has not."""
        out = self._drain()
        if self.process.returncode not in (0, 3) or not out:
            raise RuntimeError(f"render ended with {self.process.returncode}, said {out[-200:]!r}: see {self._log}")
        return json.loads(out)

    def _drain(self) -> bytes:
        """stdout to its end, while the reader owns stderr."""
        assert self.process.stdout is not None
        out = self.process.stdout.read()
        self.process.wait(timeout=RUN_TIMEOUT_S)
        self._reader.join(timeout=10)
        return out

    def killed(self) -> None:
        """What is left after SIGKILL is read and closed."""
        self._drain()


def _attempt(text: str) -> Attempt:
    image, _, number = text.partition("/")
    return image, int(number)


class Ordeal:
    """One job, its environment, and the rounds over it. `base`: a folder or an s3:// URI for the outputs.

    `engine`: local, ray (a private cluster for each driver), or cluster (one for all of them).
    """

    def __init__(self, folder: Path, base: str, engine: str, log: Path) -> None:
        self.folder, self.base, self.engine, self.log = folder, base, engine, log
        settings = {"XDG_CONFIG_HOME": str(folder / "config"), processes.MARK: str(folder), "RENDERFARM_LOG": "debug"}
        self.env = {**os.environ, **settings, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        write_manifest(folder / "rows.parquet")
        self.cluster = Cluster(folder, self.env) if engine == "cluster" else None
        if self.cluster is not None:
            self.env = self.cluster.env
            self.cluster.add_host()

    def render(self, name: str) -> Driver:
        """Start a driver for an output."""
        path = self.folder / f"{name}.yaml"
        path.write_text(JOB.format(output=f"{self.base}/{name}", farm=FARM["local" if self.engine == "local" else "ray"]))
        where = ["--address", self.cluster.address] if self.cluster is not None else []
        command = [sys.executable, "-m", "renderfarm.cli", "render", str(path), "--json", *where]
        return Driver(command, self.env, self.log)

    def records(self, name: str) -> list[Record]:
        """All attempts in the log of an output, none while there is no log."""
        try:
            return [found for found in reading.records(open_storage(f"{self.base}/{name}")) if found.kind == "attempt"]
        except RenderfarmError:
            return []

    def accepted(self, name: str) -> list[str]:
        """Row and index of what the log accepted, sorted: ids are salted in each output, and marks, which name them, differ with them."""
        return sorted(f"{record.row_id}:{record.index}" for record in self.records(name) if record.outcome == "accepted")

    def round(self, number: int, seed: int, victims: tuple[str, ...]) -> Round | None:
        """Kill, go on to the end, audit; None when the job was over before the kill."""
        rng, name = random.Random(f"{seed}/{number}"), f"round-{seed}-{number}"
        victim = victims[(number - 1) % len(victims)]
        driver = self.render(name)
        moment = self._await_moment(driver, rng)
        killed = self._kill(driver, victim)
        killed_after_s = time.monotonic() - driver.begun
        if not killed:
            driver.end()
            return None
        committed: set[Attempt] = set()
        if victim == "driver":
            driver.killed()
            committed = {_name(record) for record in self.records(name)}
            first, driver = driver, self.render(name)
            final, before, after = driver.end(), set(first.attempts()), driver.attempts()
            redone = len(before & set(after))
        else:
            final, after = driver.end(), driver.attempts()
            redone = len(after) - len(set(after))
        return self._judge(name, number, victim, moment, killed_after_s, driver, final, committed, redone, after)

    def _await_moment(self, driver: Driver, rng: random.Random) -> str:
        """Wait for the drawn moment: some time after the start, or after the k-th finished attempt."""
        if rng.random() < AT_START:
            wait_s = rng.uniform(0.5, 8.0)
            while driver.running() and time.monotonic() - driver.begun < wait_s:
                time.sleep(0.01)
            return "start"
        wanted = rng.randrange(IMAGES + IMAGES // 6)
        while driver.running() and (len(driver.landed) < wanted or not driver.leased):
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.7))
        return f"after {wanted}"

    def _kill(self, driver: Driver, victim: str) -> bool:
        """Kill one process of the kind, as soon as there is one; whether there was one while the job ran."""
        while driver.running():
            pid = self._victim(driver, victim)
            if pid is not None:
                processes.kill(pid)
                if victim == "raylet" and self.cluster is not None:
                    time.sleep(1.0)
                    self.cluster.add_host()
                return True
            time.sleep(0.05)
        return False

    def _victim(self, driver: Driver, victim: str) -> int | None:
        if victim == "driver":
            return driver.process.pid
        if victim == "raylet":
            return self.cluster.raylet() if self.cluster is not None else None
        found = processes.workers(self.folder, victim)
        return found[-1] if found else None

    def _judge(
        self, name: str, number: int, victim: str, moment: str, killed_after_s: float, driver: Driver, final: Any,
        committed: set[Attempt], redone: int, after: list[Attempt],
    ) -> Round:  # fmt: skip
        left_over = self._left_over() if self.cluster is None else 0
        storage = open_storage(f"{self.base}/{name}")
        trust = keys.load(self.folder / "config" / "renderfarm" / "keys").trust()
        report = audit(storage, trust)
        seen = [_name(record) for record in self.records(name)]
        ended = final["accepted"] + final["exhausted"] + final["failed"]
        lost = final["planned"] - ended + (IMAGES - final["planned"])
        redone_max = REDONE_MAX if victim == "driver" else UNITS_IN_FLIGHT * UNIT
        committed_redone = len(committed & set(after))
        twice = len(seen) - len(set(seen))
        same = self.accepted(name) == WANTED
        unused = sum(1 for found in orphans(storage, time.time() + 60) if not found.key.startswith("thumbs/"))
        ok = report.ok and lost == twice == committed_redone == final["remaining"] == 0 and same and redone <= redone_max
        took_s = time.monotonic() - driver.begun
        counts = (final["accepted"], final["exhausted"], final["failed"], unused)
        judged = (len(committed), redone, redone_max, committed_redone, twice, lost, *counts, report.verdict, same, left_over, ok)
        return Round(number, victim, moment, round(killed_after_s, 1), round(took_s, 1), *judged)

    def _left_over(self, wait_s: float = 20.0) -> int:
        """Processes of private clusters that are there `wait_s` after their driver; they are ended, and counted."""
        deadline = time.monotonic() + wait_s
        while any(processes.marked(self.folder)) and time.monotonic() < deadline:
            time.sleep(0.5)
        return processes.end_all(self.folder)


def _name(record: Record) -> Attempt:
    return record.image_id or "", record.attempt or 0


def write_manifest(path: Path) -> None:
    """Twelve rows; every sixth wants a word that the weights cannot draw, and is exhausted."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(ROWS), path)
