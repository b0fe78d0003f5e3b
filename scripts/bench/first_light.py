#!/usr/bin/env python3
"""The example job from the command to the audit: time to the first image, images per second, CPU seconds per attempt by stage.

The ceiling: CPU seconds are spent on `os.cpu_count()` cores, so a run of N attempts that costs c CPU seconds each cannot take less than
N * c / cores; the share of that bound that was reached is printed. Stages are measured inside the workers by `time.process_time`.

    scripts/bench/first_light.py [--limit N] [--job jobs/mockups.yaml]      ends with one JSON line
    scripts/bench/first_light.py --engines local,ray --rounds 2             both by turns, ratios, and whether their pixels are equal
    scripts/bench/first_light.py --before ../renderfarm-c910a75             by turns with a checkout whose package was called `pipeline`
"""

from __future__ import annotations

import argparse
import datetime as dt
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from renderfarm.job import load_job
from renderfarm.log import reading
from renderfarm.log.writer import LogWriter
from renderfarm.notes import Signer
from renderfarm.resolve import resolve_job
from renderfarm.run.session import job_keys
from renderfarm.schema import PLAIN_VERSION, Record
from renderfarm.storage import open_storage


@dataclass(frozen=True)
class Variant:
    """One way to run the job: arguments before `render` and after it, and a checkout to run from."""

    name: str
    package: str = "renderfarm"
    options: tuple[str, ...] = ()
    checkout: Path | None = None

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one command of it."""
        environment = {**os.environ, **({"PYTHONPATH": str(self.checkout)} if self.checkout else {})}
        command = [sys.executable, "-P", "-m", f"{self.package}.cli", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True)


def pixels_of(output: Path) -> dict[str, str]:
    """Digest of each accepted picture's pixels, by row and index."""
    digests = {}
    for record in reading.records(open_storage(str(output))):
        if record.outcome == "accepted" and record.object_key:
            digest = hashlib.sha256(np.asarray(Image.open(output / record.object_key)).tobytes()).hexdigest()
            digests[f"{record.row_id}/{record.index}"] = digest
    return digests


def begin_plain(job: Path, output: Path) -> None:
    """Begins the output as the program did before record version 4. Two salted outputs of one job never have equal pixels: a mark names
    its image, whose id is salted."""
    resolved = resolve_job(load_job(job, output=str(output)))
    signer = job_keys(resolved.job)[0]
    storage = open_storage(str(output), create=True)
    writer = LogWriter.open(storage, resolved.job.name, Signer(signer.log_name, signer.log_public, signer.sign_log))
    writer.record_version = PLAIN_VERSION
    writer.append([Record("plan", PLAIN_VERSION, job=resolved.job.name, plan_digest=resolved.plan_digest, planned=resolved.planned)])


def measure(variant: Variant, job: Path, limit: int | None, plain: bool) -> tuple[dict[str, Any], dict[str, str]]:
    """One fresh run into an output of its own, `plain` where pixels are compared, and its audit; its figures, and its pictures' digests."""
    with tempfile.TemporaryDirectory(prefix="renderfarm-bench-") as name:
        output = Path(name) / "out"
        if plain and variant.checkout is None:
            begin_plain(job, output)
        command = ["render", str(job), "--output", str(output), "--json", *variant.options]
        command += ["--limit", str(limit)] if limit else []
        began, clock = dt.datetime.now(dt.UTC), time.monotonic()
        done = variant.call(*command)
        wall_s = time.monotonic() - clock
        if done.returncode not in (0, 3):
            raise SystemExit(f"render ended with {done.returncode}:\n{done.stderr}")
        run = json.loads(done.stdout)
        clock = time.monotonic()
        audit = variant.call("audit", str(output), "--json")
        verdict = json.loads(audit.stdout)["verdict"]
        audit_s = time.monotonic() - clock
        size = sum(path.stat().st_size for path in (output / "images").rglob("*.png"))
        digests = pixels_of(output)
    first = _first_image_s(done.stderr, began)
    attempts = max(1, run["attempts"])
    stages = {stage: cpu / attempts for stage, cpu in run["cpu_s"].items()}
    cpu_s = sum(stages.values())
    figures = {
        "attempts": run["attempts"],
        "accepted": run["accepted"],
        "exhausted": run["exhausted"],
        "command_to_first_image_s": first and round(first, 1),
        "command_to_end_s": round(wall_s, 1),
        "loop_s": run["seconds"],
        "attempts_per_s": round(run["attempts"] / max(run["seconds"], 1e-9), 3),
        "images_per_s": round(run["accepted"] / max(run["seconds"], 1e-9), 3),
        "cpu_s_per_attempt": {stage: round(cpu, 4) for stage, cpu in sorted(stages.items(), key=lambda item: -item[1])},
        "cpu_s_per_attempt_total": round(cpu_s, 4),
        "share_of_ceiling": round(run["attempts"] * cpu_s / (os.cpu_count() or 1) / max(run["seconds"], 1e-9), 3),
        "kilobytes_per_image": round(size / 1000 / max(1, run["accepted"]), 1),
        "audit": verdict,
        "audit_s": round(audit_s, 1),
        "rejects": run["rejects"],
    }
    return figures, digests


def _first_image_s(log: str, began: dt.datetime) -> float | None:
    """Seconds from the command to the first accepted image in its log."""
    for line in log.splitlines():
        if '"image.accepted"' in line:
            return (dt.datetime.fromisoformat(json.loads(line)["timestamp"]) - began).total_seconds()
    return None


RATIOS = {"command_to_first_image_s": "time to the first image", "attempts_per_s": "attempts/s", "share_of_ceiling": "cores used"}


def compared(runs: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, float]]:
    """The median of the first variant's figures over each other's, by name."""
    first, *others = runs
    middle = {name: {key: statistics.median(run[key] for run in found) for key in RATIOS} for name, found in runs.items()}
    return {other: {key: round(middle[first][key] / middle[other][key], 3) for key in RATIOS} for other in others}


def main() -> None:
    """Measure, print a table, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", type=Path, default=Path(__file__).parents[2] / "jobs" / "mockups.yaml")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--engines", default="auto", help="comma-separated: auto, local, ray; by turns")
    parser.add_argument("--before", type=Path, metavar="DIR", help="a checkout of an earlier commit, by turns with the engines")
    parser.add_argument("--rounds", type=int, default=1)
    args = parser.parse_args()
    variants = [Variant(name, options=("--set", f"farm.engine={name}")) for name in args.engines.split(",")]
    variants += [Variant("before", "pipeline", checkout=args.before.absolute())] if args.before else []
    runs: dict[str, list[dict[str, Any]]] = {variant.name: [] for variant in variants}
    pixels: dict[str, dict[str, str]] = {}
    for _ in range(args.rounds):
        for variant in variants:
            load = os.getloadavg()[0]
            figures, pixels[variant.name] = measure(variant, args.job, args.limit, len(variants) > 1)
            runs[variant.name].append({"load_before": load, **figures})
            first_s, end_s = figures["command_to_first_image_s"], figures["command_to_end_s"]
            print(f"{variant.name}: first image {first_s} s after the command, the end {end_s} s")
            print(f"  {figures['attempts_per_s']} attempts/s, {figures['images_per_s']} images/s")
            for stage, cpu_s in figures["cpu_s_per_attempt"].items():
                print(f"  {stage:<18} {cpu_s * 1000:9.1f} CPU ms an attempt")
            ms = figures["cpu_s_per_attempt_total"] * 1000
            print(f"  {'all':<18} {ms:9.1f} CPU ms; {figures['share_of_ceiling']:.0%} of what the cores allow", flush=True)
    first = variants[0].name
    ratios = compared(runs)
    equal = {name: pixels[first] == digests for name, digests in pixels.items() if name not in (first, "before")}
    for other, found in ratios.items():
        print(f"{first} / {other}: " + ", ".join(f"{what} {found[key]}" for key, what in RATIOS.items()))
    print(json.dumps({"cores": os.cpu_count(), "runs": runs, "ratios": ratios, "pixels_equal": equal}))


if __name__ == "__main__":
    main()
