"""What the rest of the pipeline costs the renderer: images/s of the whole pipeline over images/s of the bare loop.

    python scripts/bench/overhead.py                                    the starter weights on this CPU, one thread
    python scripts/bench/overhead.py --case sdxl --device cuda --images 400 --batches 4,8,16

The bare loop is plain diffusers: prompts, denoising and decoding to bytes in memory, at the best of `--batches`, nothing else. The whole
pipeline is `renderfarm render` over as many images: watermark and its reading back, hashes, PNG, credential, storing, log. Checks are off:
they run on other cores, and their own cost is not the renderer's. Both run in processes of their own, `--rounds` times by turns, so that
what else the machine does touches both; the best of each counts. The ceiling is 1. Start-up is left out: the pipeline's clock runs from
when its actors are ready to the last commit, the bare loop's after a first batch. The last line is JSON. Told to end (SIGTERM), it prints
what it has measured so far, with `"cut": true`.

(A script named pipeline.py would hide the package from its neighbours.)
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from renderfarm.models import ModelSettings, resolve
from renderfarm.render import Renderer
from scripts.bench.render import CASES, Case, attempts, commit, cut, plain_loop, synchronise, weights_for

CHECKS = ("broken", "text", "duplicates", "copies", "counts", "hands")


def bare(case: Case, device: str, batches: list[int], images: int) -> dict[str, float]:
    """Images per second of the plain loop by batch size, and CPU seconds an image at the best."""
    settings = ModelSettings(weights=case.weights, device=device, batch=1)
    renderer = Renderer(resolve(settings), settings)
    found: dict[str, float] = {}
    for batch in batches:
        many = attempts(case, images)
        plain_loop(renderer, case, many[:batch])
        synchronise(renderer.model.device)
        started, cpu = time.perf_counter(), time.process_time()
        for at in range(0, images, batch):
            pictures = plain_loop(renderer, case, many[at : at + batch])
            assert len(pictures) == len(many[at : at + batch])
        synchronise(renderer.model.device)
        rate = images / (time.perf_counter() - started)
        if rate > found.get("images_per_s", 0.0):
            found = {"images_per_s": rate, "batch": batch, "cpu_s": (time.process_time() - cpu) / images}
    return found


def whole(case: Case, device: str, batch: int | str, images: int, folder: Path) -> dict[str, Any]:
    """What `renderfarm render --json` says of a job of so many images, checks off."""
    rows = [{"id": a.image.row_id, "prompt": a.image.prompt, "negative_prompt": a.image.negative_prompt} for a in attempts(case, images)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet")
    job = {
        "name": "bench-pipeline",
        "manifest": "rows.parquet",
        "output": str(folder / "out"),
        "model": {"weights": case.weights, "device": device, "batch": batch},
        "defaults": {"width": case.size, "height": case.size, "steps": case.steps, "guidance": case.guidance},
        "checks": {"attempts": 1, **{name: {"enabled": False} for name in CHECKS}},
    }
    (folder / "job.yaml").write_text(yaml.safe_dump(job))
    command = [sys.executable, "-m", "renderfarm.cli", "render", str(folder / "job.yaml"), "--json"]
    environment = {**os.environ, "XDG_CONFIG_HOME": str(folder / "config")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode not in (0, 3):
        raise SystemExit(f"render ended with {done.returncode}:\n{done.stderr}")
    run: dict[str, Any] = json.loads(done.stdout)
    assert run["attempts"] == images, run
    return run


def alone(args: argparse.Namespace, case: Case, batches: list[int]) -> dict[str, float]:
    """The bare loop in a process of its own."""
    command = [sys.executable, __file__, "--bare", "--case", case.weights, "--device", args.device, "--images", str(args.images)]
    command += ["--size", str(case.size), "--steps", str(case.steps), "--guidance", str(case.guidance)]
    done = subprocess.run([*command, "--batches", ",".join(map(str, batches))], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"the bare loop ended with {done.returncode}:\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(args: argparse.Namespace, case: Case, result: dict[str, Any]) -> None:
    """Both by turns, and what follows from them, into `result` after each."""
    loops, runs = [], []
    batches = [int(text) for text in args.batches.split(",")]
    for _ in range(args.rounds):
        loops.append(alone(args, case, batches))
        batches = [int(loops[0]["batch"])]
        result |= of_loops(loops)
        with tempfile.TemporaryDirectory(prefix="renderfarm-bench-") as folder:
            runs.append(whole(case, args.device, args.batch, args.images, Path(folder)))
        result |= of_both(loops, runs, args.images)


def of_loops(loops: list[dict[str, float]]) -> dict[str, Any]:
    """The best of the bare loops."""
    best = max(loops, key=lambda found: found["images_per_s"])
    return {
        "bare_images_per_s": round(best["images_per_s"], 4),
        "bare_batch": int(best["batch"]),
        "bare_cpu_s_per_image": round(min(found["cpu_s"] for found in loops), 4),
    }


def of_both(loops: list[dict[str, float]], runs: list[dict[str, Any]], images: int) -> dict[str, Any]:
    """The pipeline's best run, and its share of the best bare loop."""
    bare_rate, bare_cpu_s = max(found["images_per_s"] for found in loops), min(found["cpu_s"] for found in loops)
    rate = images / min(run["seconds"] for run in runs)
    renderer_cpu_s = min((r["cpu_s"]["render"] + r["cpu_s"]["mark.embed"]) / images for r in runs)
    finisher_cpu_s = min(sum(v for k, v in r["cpu_s"].items() if k not in ("render", "mark.embed")) / images for r in runs)
    return {
        "pipeline_images_per_s": round(rate, 4),
        "pipeline_over_bare": round(rate / bare_rate, 4),
        "renderer_cpu_s_per_image": round(renderer_cpu_s, 4),
        "cpu_bare_over_renderer": round(bare_cpu_s / renderer_cpu_s, 4),
        "finisher_cpu_s_per_image": round(finisher_cpu_s, 4),
        "finisher_cores_needed_at_bare_rate": round(finisher_cpu_s * bare_rate, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", default="starter", help="starter, sd21, sdxl, sd35m, sdxl4, or a diffusers folder (512², 25 steps)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--size", type=int)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--batches", default="1,2,4", help="batch sizes that the bare loop tries, comma-separated")
    parser.add_argument("--batch", default="auto", help="model.batch of the pipeline's job")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--bare", action="store_true", help="measure the bare loop only (what this script calls itself with)")
    parser.add_argument("--built", type=Path, help="folder that keeps real architectures for the next call")
    args = parser.parse_args()
    args.batch = args.batch if args.batch == "auto" else int(args.batch)
    known = CASES.get(args.case, Case(args.case, 512, 25, 5.0))
    guidance = known.guidance if args.guidance is None else args.guidance
    case = Case(known.weights, args.size or known.size, args.steps or known.steps, guidance)
    if args.bare:
        print(json.dumps(bare(case, args.device, [int(text) for text in args.batches.split(",")], args.images)))
        return
    result: dict[str, Any] = {"bench": "overhead", "case": args.case, "commit": commit(), "cores": os.cpu_count()}
    result |= {"load": os.getloadavg()[0], "size": case.size, "steps": case.steps, "images": args.images}
    signal.signal(signal.SIGTERM, lambda *_: cut(result))
    try:
        with tempfile.TemporaryDirectory() as folder:
            weights = weights_for(case, args.built or Path(folder), args.device)
            print(f"{args.case}: bare loop and pipeline by turns, {args.rounds} times", flush=True)
            measure(args, Case(weights, case.size, case.steps, case.guidance), result)
        for name, value in result.items():
            print(f"{name:36} {value}")
    finally:
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
