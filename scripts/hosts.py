#!/usr/bin/env python3
"""Three hosts in network namespaces, one of which goes away in the middle of a job: cut off, stopped, or drained with a notice.

    scripts/hosts.py --how cut      its wire is pulled; after --heal seconds it is back, and Ray is started on it again
    scripts/hosts.py --how stop     SIGTERM to `ray start` and its raylet, as of an operating system that shuts down: gone at once
    scripts/hosts.py --how pod      SIGTERM to `ray start` alone, as of Kubernetes that deletes a pod: Ray drains the host for up to 30 s
    scripts/hosts.py --how drain    a spot notice (`ray drain-node`), and --notice seconds later everything on it is killed

What must hold: the job finishes with everything accepted, exhausted or failed; the audit passes; nothing is in the log twice; the loss is
seen within 15 s; and until then the other host's renderer always works. Root and iproute2; exit 1 where it does not hold, 77 where it
cannot be tried. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from renderfarm import keys
from renderfarm.audit.audit import audit
from renderfarm.log import reading
from renderfarm.storage import open_storage
from scripts.faults import processes
from scripts.faults.namespaces import Hosts
from scripts.faults.ordeal import Attempt, Driver
from scripts.faults.servers import NoServer

NOTICED_MAX_S = 15.0
IDLE_MAX_S = 2.0
"""A gap between two units that is shorter is one step of the driver on a machine where all hosts share two cores."""
LANDED_MIN = 40
"""Attempts that are through before anything happens: the first ones wait for the checks' models."""
VICTIM = 2
JOB = """\
name: hosts
manifest: rows.parquet
output: out
defaults: {{width: 256, height: 256, steps: {steps}, guidance: 1.0}}
model: {{batch: 2}}
checks:
  attempts: 2
  text: {{second_look: false}}
  broken: {{enabled: false}}
  duplicates: {{on_job_twin: ignore, on_fail: flag}}
  copies: {{enabled: false}}
  counts: {{enabled: false}}
  hands: {{enabled: false}}
commit: {{images: 8, interval_s: 3}}
"""


class Watched(Driver):
    """A driver whose every log line is kept, with its time."""

    def __init__(self, command: list[str], env: dict[str, str], log: Path) -> None:
        self.events: list[tuple[float, dict[str, Any]]] = []
        super().__init__(command, env, log)

    def _take(self, event: dict[str, Any]) -> None:
        self.events.append((time.monotonic() - self.begun, event))
        super()._take(event)

    def named(self, *names: str) -> list[tuple[float, dict[str, Any]]]:
        """The events of these names so far."""
        return [found for found in list(self.events) if found[1].get("event") in names]

    def nodes(self) -> Counter[str]:
        """Units rendered, by Ray's name of the host."""
        return Counter(str(event["node"]) for _, event in self.named("unit.rendered"))


def idle_gaps(rendered: list[tuple[float, dict[str, Any]]], node: str, since: float, until: float) -> list[float]:
    """Seconds in which a host rendered nothing, within [since, until]; `rendered` says when a unit came back, and how long it took."""
    spans = sorted((at - event["busy_s"], at) for at, event in rendered if event["node"] == node)
    gaps, busy_to = [], since
    for begin, end in spans:
        if end <= since:
            continue
        if begin > busy_to and busy_to < until:
            gaps.append(min(begin, until) - busy_to)
        busy_to = max(busy_to, end)
    if busy_to < until:
        gaps.append(until - busy_to)
    return gaps


def _write(folder: Path, images: int, steps: int) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"id": f"row-{n:03}", "prompt": "a red mug", "text": "ZYXWV" if n % 12 == 5 else None} for n in range(images)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet")
    (folder / "job.yaml").write_text(JOB.format(steps=steps))
    return folder / "job.yaml"


def _await_middle(driver: Watched) -> None:
    """Until both hosts have rendered, and both finishers have loaded what they check with. Raises: RuntimeError if it ends before."""
    while len(nodes := driver.nodes()) < 2 or min(nodes.values()) < 3 or len(driver.landed) < LANDED_MIN:
        if not driver.running():
            raise RuntimeError(f"the job ended before both hosts worked: {dict(nodes)}; raise --images")
        time.sleep(0.05)


def _strike(hosts: Hosts, how: str, notice_s: int) -> None:
    if how == "cut":
        hosts.cut(VICTIM)
    elif how == "stop":
        hosts.terminate(VICTIM, "ray", "raylet")
    elif how == "pod":
        hosts.terminate(VICTIM, "ray")
    else:
        hosts.drain(VICTIM, notice_s)


def _afterwards(hosts: Hosts, driver: Watched, args: argparse.Namespace, struck_s: float) -> float | None:
    """What comes later to the host that was struck; seconds from the strike to when it was healed."""
    wait_s = args.notice if args.how == "drain" else args.heal
    while driver.running() and time.monotonic() - driver.begun < struck_s + wait_s:
        time.sleep(0.05)
    if not driver.running() or args.how in ("stop", "pod"):
        return None
    if args.how == "drain":
        hosts.end(VICTIM)
        return None
    hosts.heal(VICTIM)
    time.sleep(3.0)
    hosts.end(VICTIM)  # what the cut host still runs belongs to a node that the cluster has given up
    hosts.start(VICTIM)
    return time.monotonic() - driver.begun - struck_s


def _judge(folder: Path, driver: Watched, final: Any, victim: str, struck_s: float, healed_s: float | None, how: str) -> dict[str, Any]:
    rendered = driver.named("unit.rendered")
    seen = [at for at, event in driver.named("unit.lost", "actor.died", "finisher.lost", "actor.leaving") if at >= struck_s]
    noticed_s = seen[0] - struck_s if seen else None
    other = next(node for node in driver.nodes() if node != victim)
    until = struck_s + (noticed_s or 0.0)
    gaps = idle_gaps(rendered, other, struck_s, max(until, struck_s + 10.0))
    storage = open_storage(str(folder / "out"))
    report = audit(storage, keys.load(folder / "config" / "renderfarm" / "keys").trust())
    attempts: list[Attempt] = [(r.image_id or "", r.attempt or 0) for r in reading.records(storage) if r.kind == "attempt"]
    again = driver.attempts()
    told = {
        "how": how,
        "planned": final["planned"],
        **{name: final[name] for name in ("accepted", "exhausted", "failed", "remaining")},
        "noticed_s": noticed_s and round(noticed_s, 1),
        "healed_s": healed_s and round(healed_s, 1),
        "units_by_host": {"victim": driver.nodes()[victim], "other": driver.nodes()[other]},
        "units_of_new_hosts": sum(driver.nodes().values()) - driver.nodes()[victim] - driver.nodes()[other],
        "other_idle_longest_s": round(max(gaps, default=0.0), 2),
        "other_idle_s": round(sum(gaps), 2),
        "units_lost": len(driver.named("unit.lost")),
        "finishers_lost": len(driver.named("finisher.lost")),
        "attempts_rendered_again": len(again) - len(set(again)),
        "recorded_twice": len(attempts) - len(set(attempts)),
        "audit": report.verdict,
        "seconds": round(final["seconds"], 1),
    }
    whole = final["accepted"] + final["exhausted"] + final["failed"] == final["planned"] and final["remaining"] == final["failed"] == 0
    told["ok"] = (
        whole and report.ok and not told["recorded_twice"] and noticed_s is not None and noticed_s <= NOTICED_MAX_S
        and max(gaps, default=0.0) <= IDLE_MAX_S
    )  # fmt: skip
    return told


def main() -> int:
    """One job, one host that goes away."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--how", choices=("cut", "stop", "pod", "drain"), default="cut")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--heal", type=float, default=25.0, help="seconds from the cut to when the wire is back")
    parser.add_argument("--notice", type=int, default=30, help="seconds from a spot notice to the end of the host")
    parser.add_argument("--log", type=Path, help="keep the driver's log here")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rf-hosts-", dir="/tmp") as name:
        folder = Path(name)
        marks = {processes.MARK: name, "XDG_CONFIG_HOME": str(folder / "config"), "RENDERFARM_LOG": "debug"}
        env = {**os.environ, **marks, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        try:
            with Hosts(folder, env).running() as hosts:
                told = _run(hosts, folder, args)
        except NoServer as error:
            print(f"skipped: {error}", file=sys.stderr)
            return 77
    print(json.dumps(told))
    return 0 if told["ok"] else 1


def _run(hosts: Hosts, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    job = _write(folder, args.images, args.steps)
    command = [sys.executable, "-m", "renderfarm.cli", "render", str(job), "--json", "--address", hosts.address]
    driver = Watched(hosts.inside(0, command), hosts.env, args.log or folder / "driver.log")
    _await_middle(driver)
    victim = hosts.node_id(VICTIM)
    struck_s = time.monotonic() - driver.begun
    _strike(hosts, args.how, args.notice)
    healed_s = _afterwards(hosts, driver, args, struck_s)
    return _judge(folder, driver, driver.end(), victim, struck_s, healed_s, args.how)


if __name__ == "__main__":
    sys.exit(main())
