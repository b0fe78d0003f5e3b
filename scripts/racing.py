#!/usr/bin/env python3
"""Two drivers on one output, as two processes over HTTP: exactly one goes on. Prints one line a round and one JSON line.

    scripts/racing.py --rounds 50 --server moto
    scripts/racing.py --rounds 50 --server ceph

In even rounds both open the output at once and race from the plan on; in odd rounds the second one opens when the first has, and the
race is about the first records. Each round ends with the audit: every image once, whoever committed it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from renderfarm import keys
from renderfarm.audit.audit import audit
from renderfarm.log import reading
from renderfarm.storage import open_storage
from scripts.faults import servers

IMAGES = 120
ROOT = Path(__file__).resolve().parents[1]
JOB = """\
name: racing
manifest: rows.parquet
output: {output}
keys: keys
defaults: {{width: 256, height: 256, steps: 2, guidance: 1.0}}
checks: {{duplicates: {{enabled: false}}}}
commit: {{images: 8, interval_s: 1}}
"""


def _start(job: Path, pause_ms: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "scripts.faults.racer", str(job), f"{pause_ms:.1f}"]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ}, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def _heard(driver: subprocess.Popen[str]) -> bool:
    """Wait until it has said where it is; False for one that has ended."""
    return driver.stdout is not None and bool(driver.stdout.readline())


def _go(*drivers: subprocess.Popen[str]) -> None:
    """Let them go on at once; one that has ended is left alone."""
    for driver in drivers:
        with contextlib.suppress(BrokenPipeError):
            if driver.stdin is not None:
                driver.stdin.write("\n")
                driver.stdin.flush()


def race(folder: Path, base: str, number: int, rng: random.Random) -> tuple[list[int], bool, str]:
    """Exit codes of both, whether what must hold holds, and what was seen."""
    output = f"{base}/race-{number}"
    job = folder / f"race-{number}.yaml"
    job.write_text(JOB.format(output=output))
    drivers = [_start(job, rng.uniform(5, 25)) for _ in range(2)]
    first, second = drivers
    _heard(first)
    _heard(second)
    _go(first)
    if number % 2:
        _heard(first)
    _go(second)
    _heard(second)
    if not number % 2:
        _heard(first)
    _go(first, second)
    told = [driver.communicate(timeout=300) for driver in drivers]
    codes = [driver.returncode for driver in drivers]
    storage = open_storage(output)
    report = audit(storage, keys.load(folder / "keys").trust())
    seen = [(record.image_id, record.attempt) for record in reading.records(storage) if record.kind == "attempt"]
    counts = report.counts
    held = report.ok and len(seen) == len(set(seen)) == IMAGES and counts is not None and counts.accepted == IMAGES
    words = " | ".join((out.strip().splitlines() or [""])[-1] + err.strip()[-120:] for out, err in told)
    return codes, sorted(codes) == [0, 6] and held, words


def main() -> int:
    """All rounds, one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--server", choices=("folder", "moto", "ceph"), default="moto")
    args = parser.parse_args()
    rng, codes, good, begun = random.Random(args.seed), Counter[str](), 0, time.monotonic()
    with tempfile.TemporaryDirectory(prefix="rf-race-", dir="/tmp") as name:
        folder = Path(name)
        keys.init(folder / "keys")
        _write_rows(folder / "rows.parquet")
        try:
            with servers.s3_or_folder(args.server, folder) as base:
                for number in range(1, args.rounds + 1):
                    found, ok, words = race(folder, base, number, rng)
                    codes[" and ".join(map(str, sorted(found)))] += 1
                    good += ok
                    print(f"{number:>3}  exit codes {found}  {'ok' if ok else 'FAILED'}  {words}", flush=True)
        except servers.NoServer as error:
            print(f"skipped: {error}", file=sys.stderr)
            return 77
    told = {"rounds": args.rounds, "ok": good, "server": args.server, "seed": args.seed, "exit_codes": codes}
    print(json.dumps({**told, "wall_s": round(time.monotonic() - begun, 1)}))
    return 0 if good == args.rounds else 1


def _write_rows(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist([{"id": f"row-{n}", "prompt": "a red mug"} for n in range(IMAGES)]), path)


if __name__ == "__main__":
    sys.exit(main())
