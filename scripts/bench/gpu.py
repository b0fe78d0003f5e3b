"""Everything that only a GPU can tell, in one call of bounded time: the CUDA tests, then each benchmark; the last line is JSON.

    python scripts/bench/gpu.py --minutes 9 --to gpu-results        the bars of the renderer, the most telling first
    python scripts/bench/gpu.py --list                              what would run
    python scripts/bench/gpu.py --rehearse --to /tmp/rehearsal      the same calls on this CPU, small: shows that they end

Each step has a process, a time limit and a file `<to>/<name>.txt` of its own; its last line goes into the result. A step that does not
end in its time, or fails, is named with its last lines and the next one begins; one for which no time is left is named too. Real
architectures with random weights are built on the device, nothing is downloaded. Exit 0 when every step ended well, else 1.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parents[1]


@dataclass(frozen=True, slots=True)
class Step:
    """One process. `limit_s`: seconds until it is ended; `rehearsal`: the same step's arguments where there is only a CPU."""

    name: str
    limit_s: int
    arguments: tuple[str, ...]
    rehearsal: tuple[str, ...]


def bench(script: str, arguments: str, rehearsal: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The two calls of a benchmark, on CUDA and on the CPU."""
    path = str(BENCH / script)
    return (path, *arguments.split(), "--device", "cuda"), (path, *rehearsal.split(), "--device", "cpu")


TESTS = ("-m", "pytest", "-W", "error", "-q", "tests/gpu")
SMALL = "--case starter --batches 1 --repeats 1 --steps 2"
SMALL_JOB = "--case starter --images 4 --batches 1 --rounds 1 --steps 2"

STEPS = (
    Step("tests", 180, TESTS, TESTS),
    Step("sdxl", 180, *bench("render.py", "--case sdxl --batches 1,8,16 --repeats 1", SMALL)),
    Step("sd21", 90, *bench("render.py", "--case sd21 --batches 1,16,32 --repeats 2", SMALL)),
    Step("pipeline-sd21", 150, *bench("overhead.py", "--case sd21 --images 256 --batches 16,32 --rounds 1", SMALL_JOB)),
    Step("pipeline-sdxl", 180, *bench("overhead.py", "--case sdxl --images 96 --batches 8 --rounds 1", SMALL_JOB)),
    Step("sd35m", 120, *bench("render.py", "--case sd35m --batches 1,8 --repeats 1", SMALL)),
    Step("sdxl4", 90, *bench("render.py", "--case sdxl4 --batches 1,8,16 --repeats 1", SMALL)),
    Step("sd21-memory", 60, *bench("render.py", "--case sd21 --batches 1 --repeats 1 --memory full", SMALL)),
    Step("sd21-sequential", 90, *bench("render.py", "--case sd21 --batches 1 --repeats 1 --memory sequential", SMALL)),
    Step("slots", 60, *bench("slots.py", "--images 128 --batches 8,16", "--images 4 --batches 2 --rounds 1")),
    Step("sd21-lossy", 180, *bench("render.py", "--case sd21 --batches 16 --repeats 1 --lossy", SMALL + " --lossy")),
    Step("sd21-compiled", 240, *bench("render.py", "--case sd21 --batches 16 --repeats 2 --compile", SMALL)),
)


def run(step: Step, folder: Path, left_s: float, *, rehearse: bool) -> dict[str, object]:
    """What one step said: its last line as JSON where it is such, else as text; and how it ended."""
    arguments = step.rehearsal if rehearse else step.arguments
    log = folder / f"{step.name}.txt"
    started = time.monotonic()
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    with log.open("w") as file:
        try:
            done = subprocess.run(
                [sys.executable, *arguments],
                cwd=ROOT,
                env=environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                timeout=min(step.limit_s, left_s),
            )
            ended = "ok" if done.returncode == 0 else f"exit {done.returncode}"
        except subprocess.TimeoutExpired:
            ended = "out of time"
    lines = log.read_text(errors="replace").strip().splitlines() or [""]
    said: object = lines[-1]
    try:
        said = json.loads(lines[-1])
    except ValueError:
        if ended != "ok":
            said = lines[-8:]
    return {"ended": ended, "seconds": round(time.monotonic() - started, 1), "said": said}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=9.0, help="for all steps together")
    parser.add_argument("--to", type=Path, default=Path("gpu-results"), help="folder for what each step prints")
    parser.add_argument("--only", action="append", choices=[step.name for step in STEPS], help="this step alone; may be repeated")
    parser.add_argument("--rehearse", action="store_true", help="small, on this CPU")
    parser.add_argument("--list", action="store_true", help="print the calls and end")
    args = parser.parse_args()
    steps = [step for step in STEPS if not args.only or step.name in args.only]
    if args.list:
        for step in steps:
            print(f"{step.name:16} ≤ {step.limit_s:3} s   python {' '.join(step.rehearsal if args.rehearse else step.arguments)}")
        return 0
    args.to.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + args.minutes * 60
    results: dict[str, dict[str, object]] = {}
    for step in steps:
        left_s = until - time.monotonic()
        if left_s < 20:
            results[step.name] = {"ended": "no time left"}
        else:
            results[step.name] = run(step, args.to, left_s, rehearse=args.rehearse)
        print(f"{step.name:16} {results[step.name]['ended']:14} {results[step.name].get('seconds', '')}", flush=True)
        (args.to / "results.json").write_text(json.dumps(results, indent=1))
    print(json.dumps({"bench": "gpu", "rehearsal": args.rehearse, **results}))
    return 0 if all(result["ended"] == "ok" for result in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
