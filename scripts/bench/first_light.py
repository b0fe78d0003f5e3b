#!/usr/bin/env python3
"""The example job from the command to the audit: time to the first image, images per second, CPU seconds per attempt by stage.

The ceiling: CPU seconds are spent on `os.cpu_count()` cores, so a run of N attempts that costs c CPU seconds each cannot take less than
N * c / cores; the share of that bound that was reached is printed. Stages are measured inside the workers by `time.process_time`.

    scripts/bench/first_light.py [--limit N] [--job jobs/mockups.yaml]      ends with one JSON line
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def measure(job: Path, limit: int | None) -> dict[str, Any]:
    """One fresh run into an output of its own, and its audit."""
    with tempfile.TemporaryDirectory(prefix="renderfarm-bench-") as name:
        output = Path(name) / "out"
        command = [sys.executable, "-m", "renderfarm.cli", "render", str(job), "--output", str(output), "--json"]
        command += ["--limit", str(limit)] if limit else []
        began, clock = dt.datetime.now(dt.UTC), time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True)
        wall_s = time.monotonic() - clock
        if done.returncode not in (0, 3):
            raise SystemExit(f"render ended with {done.returncode}:\n{done.stderr}")
        run = json.loads(done.stdout)
        clock = time.monotonic()
        audit = subprocess.run([sys.executable, "-m", "renderfarm.cli", "audit", str(output), "--json"], capture_output=True, text=True)
        verdict = json.loads(audit.stdout)["verdict"]
        audit_s = time.monotonic() - clock
        size = sum(path.stat().st_size for path in (output / "images").rglob("*.png"))
    first = _first_image_s(done.stderr, began)
    attempts = max(1, run["attempts"])
    stages = {stage: cpu / attempts for stage, cpu in run["cpu_s"].items()}
    cpu_s = sum(stages.values())
    return {
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


def _first_image_s(log: str, began: dt.datetime) -> float | None:
    """Seconds from the command to the first accepted image in its log."""
    for line in log.splitlines():
        if '"image.accepted"' in line:
            return (dt.datetime.fromisoformat(json.loads(line)["timestamp"]) - began).total_seconds()
    return None


def main() -> None:
    """Measure, print a table, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", type=Path, default=Path(__file__).parents[2] / "jobs" / "mockups.yaml")
    parser.add_argument("--limit", type=int)
    args = parser.parse_args()
    figures = {"cores": os.cpu_count(), "load_before": os.getloadavg()[0], **measure(args.job, args.limit)}
    print(f"command to first image {figures['command_to_first_image_s']} s, to the end {figures['command_to_end_s']} s")
    print(f"{figures['attempts_per_s']} attempts/s, {figures['images_per_s']} images/s")
    for stage, cpu_s in figures["cpu_s_per_attempt"].items():
        print(f"  {stage:<18} {cpu_s * 1000:9.1f} CPU ms an attempt")
    print(
        f"  {'all':<18} {figures['cpu_s_per_attempt_total'] * 1000:9.1f} CPU ms; {figures['share_of_ceiling']:.0%} of what the cores allow"
    )
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
