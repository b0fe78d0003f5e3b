#!/usr/bin/env python3
"""Real kills: a job is started, its driver is killed with SIGKILL at a random moment, and the job is run again to its end.

Each round has an output of its own and must end with a passing audit, every planned image accounted for, nothing recorded twice, the same
accepted images as an undisturbed run. Processes left behind are counted, not judged. Prints a table and one JSON line; exit 1 if a round
fails.

    scripts/chaos.py --kills 20 --seed 1            on folders
    scripts/chaos.py --kills 3 --seed 1 --s3        against moto's S3 server over HTTP
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.provenance import reading
from pipeline.storage import open_storage

IMAGES = 12
RUN_TIMEOUT_S = 600
LEFTOVERS_S = 20
JOB = """\
name: chaos
manifest: rows.parquet
output: {output}
defaults: {{width: 256, height: 256, steps: 2, guidance: 1.0}}
checks:
  attempts: 2
  broken: {{enabled: false}}
  duplicates: {{enabled: false}}
  copies: {{enabled: false}}
  counts: {{enabled: false}}
commit: {{seconds: 2}}
"""


@dataclass(frozen=True)
class Round:
    """What one kill came to. `orphans`: pictures that were stored and in no part when the driver died."""

    number: int
    killed_after_s: float
    parts_at_kill: int
    accepted_at_kill: int
    orphans: int
    accepted: int
    exhausted: int
    failed: int
    remaining: int
    audit: str
    same_as_undisturbed: bool
    leftovers: int
    ok: bool


class Ordeal:
    """One job, its environment, and the rounds over it."""

    def __init__(self, folder: Path, s3: bool) -> None:
        self.folder, self.s3 = folder, s3
        self.env = {**os.environ, "XDG_CONFIG_HOME": str(folder / "config"), "RENDERFARM_CHAOS": str(folder)}
        _write_manifest(folder / "rows.parquet")

    def output(self, name: str) -> str:
        """Where a round writes."""
        return f"s3://chaos/{name}" if self.s3 else str(self.folder / name)

    def job(self, name: str) -> Path:
        """The job file of a round."""
        path = self.folder / f"{name}.yaml"
        path.write_text(JOB.format(output=self.output(name)))
        return path

    def start(self, *args: str | Path) -> subprocess.Popen[bytes]:
        """A command in a session of its own, its log in the folder."""
        command = [sys.executable, "-m", "pipeline.cli", *map(str, args)]
        log = open(self.folder / "log.txt", "ab")  # noqa: SIM115 the child keeps it
        return subprocess.Popen(command, env=self.env, stdout=subprocess.PIPE, stderr=log, start_new_session=True)

    def json(self, *args: str | Path, codes: tuple[int, ...] = (0,)) -> Any:
        """A command's JSON answer. Raises: RuntimeError for another exit code."""
        process = self.start(*args, "--json")
        out, _ = process.communicate(timeout=RUN_TIMEOUT_S)
        if process.returncode not in codes:
            raise RuntimeError(f"{args[0]} ended with {process.returncode}: see {self.folder / 'log.txt'}")
        return json.loads(out)

    def accepted(self, name: str) -> list[tuple[str, int]]:
        """(image id, attempt) of what a round's log accepted, sorted; fails on a double."""
        records = reading.records(open_storage(self.output(name)))
        return sorted((record.image_id or "", record.attempt or 0) for record in records if record.outcome == "accepted")

    def undisturbed(self) -> tuple[float, list[tuple[str, int]]]:
        """Seconds of a run that nobody kills, and what it accepts."""
        begun = time.monotonic()
        self.json("render", self.job("undisturbed"), codes=(0, 3))
        return time.monotonic() - begun, self.accepted("undisturbed")

    def round(self, number: int, kill_after_s: float, wanted: list[tuple[str, int]]) -> Round:
        """Kill a run, run it to its end, audit."""
        name = f"round-{number}"
        job, output = self.job(name), self.output(name)
        process = self.start("render", job)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=kill_after_s)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        state = self._state(output)
        final = self.json("render", job, codes=(0, 3))
        leftovers = self._leftovers()
        audit = self.json("audit", output, codes=(0, 4))
        got = self.accepted(name)
        ended = final["accepted"] + final["exhausted"] + final["failed"] + final["remaining"]
        ok = (
            audit["verdict"] == "passed"
            and final["planned"] == ended == IMAGES
            and final["remaining"] == 0
            and got == wanted
            and len(got) == len(set(got))
        )
        counts = (final["accepted"], final["exhausted"], final["failed"], final["remaining"])
        return Round(number, round(kill_after_s, 1), *state, *counts, audit["verdict"], got == wanted, leftovers, ok)

    def _state(self, output: str) -> tuple[int, int, int]:
        """Parts, accepted images and orphans as the kill left them; zeros before anything was written."""
        try:
            status = self.json("status", output)
            audit = self.json("audit", output, codes=(0, 4))
        except RuntimeError:
            return 0, 0, 0
        return audit["parts"], status["accepted"], audit["orphans"] or 0

    def _leftovers(self) -> int:
        """Processes of either driver that are still there when the second one has ended, and LEFTOVERS_S later."""
        mark = f"RENDERFARM_CHAOS={self.folder}".encode()
        for _ in range(2 * LEFTOVERS_S):
            alive = [pid for pid in _processes() if pid != os.getpid() and mark in _environment(pid)]
            if not alive:
                return 0
            time.sleep(0.5)
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(alive)


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _write_manifest(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"id": f"row-{n:02}", "prompt": "a red mug", "text": "ZYXWV" if n % 4 == 3 else None} for n in range(IMAGES)]
    pq.write_table(pa.Table.from_pylist(rows), path)


@contextlib.contextmanager
def _server(wanted: bool) -> Iterator[None]:
    """moto's S3 server with a bucket, for the time of the block."""
    if not wanted:
        yield
        return
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ |= {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "chaos", "AWS_SECRET_ACCESS_KEY": "chaos"}
    os.environ |= {"AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"}
    boto3.client("s3").create_bucket(Bucket="chaos")
    try:
        yield
    finally:
        server.stop()


def main() -> int:
    """All rounds, a table, one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--s3", action="store_true", help="against moto's S3 server over HTTP")
    args = parser.parse_args()
    rng = random.Random(args.seed)
    rounds: list[Round] = []
    with tempfile.TemporaryDirectory(prefix="renderfarm-chaos-") as name, _server(args.s3):
        ordeal = Ordeal(Path(name), args.s3)
        seconds, wanted = ordeal.undisturbed()
        print(f"undisturbed: {seconds:.1f} s, {len(wanted)} of {IMAGES} accepted", flush=True)
        print("round  killed at s  parts  accepted  orphans | accepted  exhausted  failed  left  audit   same set  left over", flush=True)
        for number in range(1, args.kills + 1):
            done = ordeal.round(number, rng.uniform(0.3, 1.0) * seconds, wanted)
            rounds.append(done)
            print(
                f"{done.number:>5}  {done.killed_after_s:>11}  {done.parts_at_kill:>5}  {done.accepted_at_kill:>8}  {done.orphans:>7} | "
                f"{done.accepted:>8}  {done.exhausted:>9}  {done.failed:>6}  {done.remaining:>4}  {done.audit:<7} "
                f"{done.same_as_undisturbed!s:>8}  {done.leftovers:>9}{'' if done.ok else '  FAILED'}",
                flush=True,
            )
    good = sum(done.ok for done in rounds)
    print(json.dumps({"kills": len(rounds), "ok": good, "seed": args.seed, "s3": args.s3, "rounds": [asdict(done) for done in rounds]}))
    return 0 if good == len(rounds) else 1


if __name__ == "__main__":
    sys.exit(main())
