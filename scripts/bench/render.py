"""How fast the renderer draws, beside the plain diffusers loop and the device's own ceiling; the last line is JSON.

    python scripts/bench/render.py                         the starter weights on this CPU, one thread
    python scripts/bench/render.py --case sdxl --device cuda --batches 1,4,8,16 --compile

`--case`: starter, sd21 (512², 25 steps), sdxl (1024², 30), sd35m (1024², 28), sdxl4 (1024², 4 steps, no guidance): real
architectures with random weights, which cost what trained ones cost. A folder of diffusers weights works too, with
--size, --steps and --guidance.

Times on a CPU are CPU seconds of the one thread, which neighbours on the machine do not lengthen; on CUDA wall seconds.
`--lossy` measures each lossy mode too: its speed, and its PSNR against the lossless pictures of the same seeds (per picture, the
mean and the worst). Told to end (SIGTERM), it prints what it has measured so far, with `"cut": true`.

The ceiling: the FLOPs of one image (torch counts matrix products, convolutions and attention) over the matmul rate
measured in this run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from renderfarm.errors import WeightsError
from renderfarm.job.model import LossySettings
from renderfarm.models import ModelSettings, resolve
from renderfarm.models.quiet import drop_foreign_warnings
from renderfarm.render import Renderer
from renderfarm.schema import Attempt, PlannedImage
from scripts.bench import architectures


@dataclass(frozen=True, slots=True)
class Case:
    """What is drawn: side in pixels, denoising steps, guidance scale."""

    weights: str
    size: int
    steps: int
    guidance: float


CASES = {
    "starter": Case("starter", 256, 8, 4.0),
    "sd21": Case("sd21", 512, 25, 7.5),
    "sdxl": Case("sdxl", 1024, 30, 5.0),
    "sd35m": Case("sd35m", 1024, 28, 4.5),
    "sdxl4": Case("sdxl", 1024, 4, 0.0),
}


def attempts(case: Case, count: int, first: int = 0) -> list[Attempt]:
    """Attempts with prompts of their own, as in a manifest; a third share a negative prompt."""
    made = []
    for n in range(first, first + count):
        image = PlannedImage(
            f"{n:032x}", f"row-{n}", "", 0, f"a photo of a mug, number {n}", "blurry" if n % 3 == 0 else "", n, case.size, case.size,
            case.steps, case.guidance, None, (), None, None, None, None, None, None, (),
        )  # fmt: skip
        made.append(Attempt(image, 1, n))
    return made


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def by_turns(works: Sequence[Callable[[], object]], device: torch.device, repeats: int) -> list[float]:
    """The fastest of `repeats` runs of each after one that is not measured: a shared machine can only make a run slower, and by turns
    it does so to all."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    took: list[list[float]] = [[] for _ in works]
    for turn in range(repeats + 1):
        for work, times in zip(works, took, strict=True):
            synchronise(device)
            started = clock()
            work()
            synchronise(device)
            if turn:
                times.append(clock() - started)
    return [min(times) for times in took]


def best_seconds(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Of one."""
    return by_turns([work], device, repeats)[0]


def _products(a: torch.Tensor, b: torch.Tensor, calls: int) -> None:
    for _ in range(calls):
        torch.mm(a, b)


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of the largest rate that a square matrix product reaches here."""
    rates = []
    for side in (512, 1024) if device.type == "cpu" else (4096, 8192):
        a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
        calls = 4 if device.type == "cpu" else 20
        seconds = best_seconds(partial(_products, a, b, calls), device, 5)
        rates.append(2 * side**3 * calls / seconds)
    return max(rates)


def plain_loop(renderer: Renderer, case: Case, batch: Sequence[Attempt]) -> Any:
    """What a user of diffusers would write for these images."""
    pipe = renderer.model.pipe
    arguments = {
        "prompt": [attempt.image.prompt for attempt in batch],
        "generator": [torch.Generator("cpu").manual_seed(attempt.seed) for attempt in batch],
        "num_inference_steps": case.steps,
        "guidance_scale": case.guidance,
        "width": case.size,
        "height": case.size,
        "output_type": "np",
    }
    if renderer.model.family.negative:
        arguments["negative_prompt"] = [attempt.image.negative_prompt for attempt in batch]
    drop_foreign_warnings()
    return pipe(**arguments).images


def stage_shares(renderer: Renderer, case: Case, batch: int) -> dict[str, float]:
    """Seconds of each stage of one batch with prompts not seen before, waiting for the device after each."""
    from renderfarm.render import stages, vae

    model, device = renderer.model, renderer.model.device
    request = stages.Request(case.size, case.size, case.steps, case.guidance)
    shares: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        clock = time.process_time if device.type == "cpu" else time.perf_counter
        synchronise(device)
        started = clock()
        made = work()
        synchronise(device)
        shares[name] = round(clock() - started, 5)
        return made

    drop_foreign_warnings()
    with torch.inference_mode():
        generators = [torch.Generator("cpu").manual_seed(n) for n in range(batch)]
        prompts = timed("encode", lambda: [stages.encode_one(model, f"a mug, {n}", negative=False) for n in range(batch)])
        guided = stages.guided(model, case.guidance)
        negatives = [stages.encode_one(model, "", negative=True)] * batch if guided else []
        latents = timed("denoise", lambda: stages.denoise(model, request, prompts, negatives, generators))
        pictures = timed("decode", lambda: vae.decode(model, latents))
        timed("quantise and copy", lambda: vae.quantise(pictures).cpu())
    return shares


def psnr_db(lossless: np.ndarray, lossy: np.ndarray) -> list[float]:
    """Of each picture, in dB; 99 for the same bytes."""
    squared = np.square(lossless.astype(np.float64) - lossy).reshape(len(lossless), -1).mean(1)
    return [99.0 if error == 0 else float(10 * np.log10(255.0**2 / error)) for error in squared]


def lossy_modes(renderer: Renderer, settings: ModelSettings, case: Case, batch: int, repeats: int) -> dict[str, dict[str, float]]:
    """Each lossy mode that these weights and this installation can give, against the lossless renderer in the same run."""
    many = attempts(case, batch)
    want = renderer.render(many)[0]
    plain = best_seconds(lambda: renderer.render(many), renderer.model.device, repeats)
    found = {}
    for mode in ({"reuse": 2}, {"reuse": 3}, {"reuse": 5}, {"quantise": "int8"}, {"quantise": "fp8"}):
        name = LossySettings.model_validate(mode).name
        try:
            made = variant(settings, {"lossy": mode, "batch": batch})
            got = made.render(many)[0]
        except (WeightsError, RuntimeError, NotImplementedError) as error:
            print(f"{name:32} not here: {str(error).splitlines()[0]}")
            continue
        seconds = best_seconds(partial(made.render, many), made.model.device, repeats)
        quality = psnr_db(want, got)
        found[name] = {
            "speedup": round(plain / seconds, 3),
            "psnr_db_mean": round(sum(quality) / len(quality), 2),
            "psnr_db_min": round(min(quality), 2),
        }
        print(f"{name:32} {found[name]}")
    return found


def overlapped(renderer: Renderer, case: Case, batch: int, units: int = 4) -> float:
    """Seconds a unit when two threads render units by turns, as a renderer's actor does on a GPU; its prompts are new to the cache."""
    many = attempts(case, batch * (units + 2), first=10_000)
    cut = [many[at : at + batch] for at in range(0, len(many), batch)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(renderer.render, cut[:2]))
        synchronise(renderer.model.device)
        started = time.perf_counter()
        list(pool.map(renderer.render, cut[2:]))
        synchronise(renderer.model.device)
    return (time.perf_counter() - started) / units


def run(case: Case, settings: ModelSettings, args: argparse.Namespace, result: dict[str, Any]) -> None:
    """Measures one case into `result`, the figures that a bar hangs on first."""
    batches, repeats = [int(text) for text in args.batches.split(",")], args.repeats
    renderer = Renderer(resolve(settings), settings)
    model = renderer.model
    rate = matmul_rate(model.device, model.dtype)
    one = attempts(case, 1)
    renderer.render(one)
    with FlopCounterMode(display=False) as counter:
        renderer.render(one)
    flops = counter.get_total_flops()
    result |= {
        "size": case.size, "steps": case.steps, "guidance": case.guidance,
        "device": model.driver, "dtype": str(model.dtype).removeprefix("torch."), "memory": model.mode,
        "matmul_tflops": round(rate / 1e12, 4), "tflop_per_image": round(flops / 1e12, 5),
        "ceiling_images_per_s": round(rate / flops, 4),
    }  # fmt: skip
    print(f"ceiling: {flops / 1e12:.4f} TFLOP an image, {rate / 1e12:.3f} TFLOP/s: {rate / flops:.3f} images/s", flush=True)

    def note(name: str, count: int, seconds: float) -> None:
        per_s = count / seconds
        result[name] = round(per_s, 4)
        print(f"{name:32} {per_s:9.3f} images/s   {per_s * flops / rate:6.1%} of the ceiling", flush=True)

    result |= peak(renderer, case)
    for count in batches:
        many = attempts(case, count)
        renderer.settings = settings.model_copy(update={"batch": count})
        works: list[Callable[[], object]] = [partial(renderer.render, many), partial(plain_loop, renderer, case, many)]
        ours, plain = by_turns(works, model.device, repeats)
        note(f"renderer, batch {count}", count, ours)
        note(f"plain loop, batch {count}", count, plain)
    result["stage_seconds"] = stage_shares(renderer, case, max(batches))
    print("seconds by stage:", result["stage_seconds"], flush=True)
    if model.device.type == "cuda" and model.mode == "full" and not args.compile:
        renderer.settings = settings.model_copy(update={"batch": max(batches)})
        unit_s = overlapped(renderer, case, max(batches))
        note("renderer, two threads", max(batches), unit_s)
        result["not_hidden_behind_denoising"] = round(1 - result["stage_seconds"]["denoise"] / unit_s, 4)
        print(f"not hidden behind denoising: {result['not_hidden_behind_denoising']:.1%}", flush=True)
    if args.graphs:
        recorded = variant(settings, {"speed": {"graphs": True}})
        for count in batches:
            recorded.settings = recorded.settings.model_copy(update={"batch": count})
            some = attempts(case, count)
            note(f"renderer, graphs, batch {count}", count, best_seconds(partial(recorded.render, some), model.device, repeats))
    if args.lossy:
        result["lossy"] = lossy_modes(renderer, settings, case, max(batches), repeats)
    many = attempts(case, max(batches))
    if args.compile:
        compiled = variant(settings, {"speed": {"compile": "full"}, "batch": len(many)})
        works = [partial(compiled.render, many), partial(plain_loop, compiled, case, many)]
        ours, plain = by_turns(works, model.device, repeats)
        note("renderer, compiled", len(many), ours)
        note("plain loop, compiled", len(many), plain)
    exact = variant(settings, {"deterministic": True})  # last: it sets kernels for the whole process
    many = many[:4]
    note("renderer, deterministic", len(many), best_seconds(lambda: exact.render(many), model.device, repeats))


def variant(settings: ModelSettings, changes: dict[str, Any]) -> Renderer:
    """Another renderer of the same weights."""
    changed = ModelSettings.model_validate(settings.model_dump() | changes)
    return Renderer(resolve(changed), changed)


def peak(renderer: Renderer, case: Case) -> dict[str, int]:
    """The most memory that one image takes on the GPU, weights and all; nothing on a CPU."""
    device = renderer.model.device
    if device.type != "cuda":
        return {}
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    renderer.render(attempts(case, 1))
    synchronise(device)
    return {"gpu_bytes_max_of_one_image": torch.cuda.max_memory_allocated(device)}


def weights_for(case: Case, folder: Path, device: str) -> str:
    """What a job names: the case's weights, those of a real architecture built into `folder` unless they are there."""
    if case.weights not in ("sd21", "sdxl", "sd35m"):
        return case.weights
    return str(architectures.built(case.weights, folder, device))


def cut(result: dict[str, Any]) -> None:
    """Prints what there is and ends at once: threads that render would take longer than the caller waits."""
    print(json.dumps(result | {"cut": True}), flush=True)
    os._exit(143)


def commit() -> str:
    """The commit that was measured, or `unknown` outside a checkout."""
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", default="starter", help="starter, sd21, sdxl, sd35m, sdxl4, or a diffusers folder")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--batches", default="1,2,4,8", help="batch sizes, comma-separated")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--size", type=int)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--graphs", action="store_true", help="measure CUDA graphs too (without CUDA: the same again)")
    parser.add_argument("--compile", action="store_true", help="measure a compiled denoiser too (minutes of warm-up)")
    parser.add_argument("--memory", choices=("auto", "full", "offload", "sequential"), default="auto")
    parser.add_argument("--lossy", action="store_true", help="measure every lossy mode too")
    parser.add_argument("--built", type=Path, help="folder that keeps real architectures for the next call")
    chosen = parser.parse_args()
    base = CASES.get(chosen.case, Case(chosen.case, 512, 25, 5.0))
    case = Case(
        base.weights,
        chosen.size or base.size,
        chosen.steps or base.steps,
        base.guidance if chosen.guidance is None else chosen.guidance,
    )
    result: dict[str, Any] = {"bench": "render", "case": chosen.case, "date": f"{datetime.now(UTC):%F}", "commit": commit()}
    result |= {"machine": platform.machine(), "torch": torch.__version__}
    signal.signal(signal.SIGTERM, lambda *_: cut(result))
    try:
        with tempfile.TemporaryDirectory() as folder:
            weights = weights_for(case, chosen.built or Path(folder), chosen.device)
            run(case, ModelSettings(weights=weights, device=chosen.device, memory=chosen.memory, batch=1), chosen, result)
    finally:
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
