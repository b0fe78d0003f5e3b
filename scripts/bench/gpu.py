"""Everything that only a GPU can tell, in one call of bounded time: the CUDA tests and each benchmark; the last line is JSON.

    python scripts/bench/gpu.py --minutes 9 --to gpu-results        the bars of the renderer, the most telling first
    python scripts/bench/gpu.py --list                              what would run, in which order
    python scripts/bench/gpu.py --rehearse --to /tmp/rehearsal      the same calls on this CPU, small: shows that they end

`--minutes` is the budget of all steps together; steps run in order of what they tell, and those that it no longer covers are reported as
"not run: no time left" (all of them take about forty minutes). Each step has a process, a limit of its own so that one that hangs does not
eat the others' time, and a file `<to>/<name>.txt`; its last line goes into the result. A step that reaches its limit is told to end
(SIGTERM; the benchmarks then print what they have), then it and everything that it started, Ray's processes too, are killed. Real
architectures with random weights are built on the device once, nothing is downloaded. Exit 0 when every step ran and ended well, else 1.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parents[1]

GRACE_S = 8.0
"""For a step that was told to end: a batch of SDXL in flight, and its last line."""

STEP_MIN_S = 20.0
"""With less, nothing that loads weights comes to a figure."""

PR_SET_CHILD_SUBREAPER = 36
"""Of linux/prctl.h: descendants that lose their parent become children of this process, whatever session they are in."""


@dataclass(frozen=True, slots=True)
class Step:
    """One process. `limit_s`: of the budget, at most; `rehearsal`: arguments that are added where there is only a CPU."""

    name: str
    limit_s: int
    arguments: tuple[str, ...]
    rehearsal: tuple[str, ...] = ()


def bench(name: str, limit_s: int, script: str, arguments: str, rehearsal: str) -> Step:
    """A benchmark. Its rehearsal has the same arguments; what follows them makes it small (argparse takes the last of a kind)."""
    return Step(name, limit_s, (str(BENCH / script), *arguments.split()), tuple(rehearsal.split()))


SMALL = "--case starter --batches 1 --repeats 1 --steps 2"
SMALL_JOB = "--case starter --images 4 --batches 1 --batch 1 --rounds 1 --steps 2"
SMALL_SLOTS = "--weights starter --size 64 --images 4 --batches 2 --rounds 1"

STEPS = (
    bench("sdxl", 160, "render.py", "--case sdxl --batches 1,8 --repeats 1", SMALL),
    bench("sd21", 90, "render.py", "--case sd21 --batches 1,16 --repeats 2", SMALL),
    bench("pipeline-sd21", 120, "overhead.py", "--case sd21 --images 192 --batches 8,16 --batch 16 --rounds 1", SMALL_JOB),
    Step("tests", 120, ("-m", "pytest", "-W", "error", "-q", "tests/gpu")),
    bench("pipeline-sdxl", 240, "overhead.py", "--case sdxl --images 64 --batches 8 --batch 8 --rounds 1", SMALL_JOB),
    bench("sdxl-compiled", 300, "render.py", "--case sdxl --batches 8 --repeats 1 --compile", SMALL),
    bench("sd35m", 120, "render.py", "--case sd35m --batches 1,8 --repeats 1", SMALL),
    bench("sdxl4", 90, "render.py", "--case sdxl4 --batches 1,8,16 --repeats 1", SMALL),
    bench("pipeline-sdxl4", 120, "overhead.py", "--case sdxl4 --images 128 --batches 8,16 --batch 16 --rounds 1", SMALL_JOB),
    bench("sd21-graphs", 90, "render.py", "--case sd21 --batches 1,4 --repeats 1 --graphs", SMALL),
    bench("sd21-memory", 60, "render.py", "--case sd21 --batches 1 --repeats 1 --memory full", SMALL),
    bench("sd21-offload", 60, "render.py", "--case sd21 --batches 1 --repeats 1 --memory offload", SMALL),
    bench("sd21-sequential", 90, "render.py", "--case sd21 --batches 1 --repeats 1 --memory sequential", SMALL),
    bench("sd21-compiled", 240, "render.py", "--case sd21 --batches 16 --repeats 2 --compile", SMALL),
    bench("slots", 120, "slots.py", "--weights sd21 --size 512 --images 128 --batches 8,16 --rounds 1", SMALL_SLOTS),
    bench("sd21-lossy", 180, "render.py", "--case sd21 --batches 16 --repeats 1 --lossy", SMALL),
)


def call(step: Step, weights: Path, *, rehearse: bool) -> list[str]:
    """The step's command. `weights`: folder in which real architectures are built once for all steps."""
    if step.arguments[0] == "-m":
        return [sys.executable, *step.arguments]
    small = step.rehearsal if rehearse else ()
    return [sys.executable, *step.arguments, "--built", str(weights), "--device", "cpu" if rehearse else "cuda", *small]


def run(command: Sequence[str], log: Path, limit_s: float, grace_s: float = GRACE_S) -> dict[str, object]:
    """What one step said: its last line as JSON where it is such, else as text; and how it ended. Nothing that it started is left."""
    started = time.monotonic()
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    with log.open("w") as file:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            code = process.wait(max(1.0, limit_s - grace_s))
            ended = "ok" if code == 0 else f"exit {code}"
        except subprocess.TimeoutExpired:
            ended = "out of time"
            os.killpg(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(grace_s)
        finally:
            left = end_all(process)
    lines = log.read_text(errors="replace").strip().splitlines() or [""]
    said: object = lines[-1]
    try:
        said = json.loads(lines[-1])
    except ValueError:
        if ended != "ok":
            said = lines[-8:]
        elif skipped(lines[-1]):
            ended = "skipped"
    result = {"ended": ended, "seconds": round(time.monotonic() - started, 1), "said": said}
    return result | ({"processes_killed": left} if left else {})


def skipped(summary: str) -> bool:
    """Whether pytest's last line says that no test ran."""
    return bool(re.search(r"\b\d+ skipped\b", summary)) and not re.search(r"\b\d+ passed\b", summary)


def end_all(process: subprocess.Popen[bytes]) -> int:
    """Kills what is left of a step: its group, and its descendants with groups of their own. How many those were."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    killed: set[int] = set()
    until = time.monotonic() + GRACE_S
    while time.monotonic() < until and (living := descendants(os.getpid())):
        for pid in living:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        killed.update(living)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.05)
    return len(killed)


def descendants(pid: int) -> list[int]:
    """Processes below `pid`, by /proc (proc(5)): empty where there is none."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(stat.read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found, todo = [], [pid]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def adopt_orphans() -> None:
    """From now on a step's orphans stay below this process, so that they can be found. Linux only; elsewhere its group is ended alone."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def run_all(steps: Sequence[Step], folder: Path, budget_s: float, *, rehearse: bool) -> dict[str, dict[str, object]]:
    """Every step's result by name, also in `<folder>/results.json` after each; together within the budget."""
    until = time.monotonic() + budget_s
    results: dict[str, dict[str, object]] = {}
    with tempfile.TemporaryDirectory(prefix="renderfarm-gpu-") as weights:
        for step in steps:
            left_s = until - time.monotonic()
            if left_s < STEP_MIN_S:
                results[step.name] = {"ended": "not run: no time left"}
            else:
                command = call(step, Path(weights), rehearse=rehearse)
                results[step.name] = run(command, folder / f"{step.name}.txt", min(step.limit_s, left_s))
            print(f"{step.name:16} {results[step.name]['ended']:22} {results[step.name].get('seconds', '')}", flush=True)
            (folder / "results.json").write_text(json.dumps(results, indent=1))
    return results


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
            print(f"{step.name:16} ≤ {step.limit_s:3} s   {' '.join(call(step, Path('BUILT'), rehearse=args.rehearse))}")
        return 0
    args.to.mkdir(parents=True, exist_ok=True)
    adopt_orphans()
    results = run_all(steps, args.to, args.minutes * 60, rehearse=args.rehearse)
    print(json.dumps({"bench": "gpu", "rehearsal": args.rehearse, **results}))
    well = ("ok", "skipped") if args.rehearse else ("ok",)
    return 0 if all(result["ended"] in well for result in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
