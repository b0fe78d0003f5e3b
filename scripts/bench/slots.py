"""Slots (`model.slots`) against the static path on ragged work: mixed steps, one image in five rejected, and a tail.

    python scripts/bench/slots.py                        the starter weights with the Euler sampler, on this CPU, one thread
    python scripts/bench/slots.py --weights FOLDER --device cuda --size 512 --batches 8,16 --images 200

Both ways are the farm's own: units from `UnitQueue`, rendered by `Renderer`, a rejection known one unit later. The static path's units
share their steps; a unit for slots holds four times as many images of any steps. Both get the same images and the same fates. Times on
a CPU are CPU seconds of the one thread. The last line is JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from renderfarm.models import ModelSettings, resolve
from renderfarm.plan import attempt_of, batch_key, mixed_key
from renderfarm.render import Renderer
from renderfarm.run.session import SLOT_TURNS
from renderfarm.run.units import PendingAttempt, UnitQueue
from renderfarm.schema import Attempt
from scripts.bench import architectures
from scripts.bench.render import Case, attempts, commit

STEPS = (6, 8, 10, 14)
REJECTED = 0.2
ATTEMPTS_MAX = 3


def rejected(attempt: Attempt) -> bool:
    """The same fate in both paths, drawn from the attempt's name."""
    if attempt.number >= ATTEMPTS_MAX:
        return False
    draw = hashlib.sha256(f"{attempt.image.image_id}/{attempt.number}".encode()).digest()[0] / 256
    return draw < REJECTED


def work(case: Case, count: int) -> list[Attempt]:
    """Rows whose steps differ, as in a manifest of several campaigns."""
    return [replace(a, image=replace(a.image, steps=STEPS[i * 7 % len(STEPS)])) for i, a in enumerate(attempts(case, count))]


def again(attempt: Attempt) -> Attempt:
    return attempt_of(attempt.image, attempt.number + 1)


def run(renderer: Renderer, todo: Sequence[Attempt], batch: int, *, slots: bool) -> tuple[float, int]:
    """Seconds, and attempts made."""
    renderer.settings = renderer.settings.model_copy(update={"batch": batch, "slots": slots})
    members = iter([PendingAttempt(attempt) for attempt in todo])
    queue = UnitQueue(members, batch * SLOT_TURNS, mixed_key) if slots else UnitQueue(members, batch, batch_key)
    late: deque[list[Attempt]] = deque([[]])
    made = 0
    clock = time.process_time if renderer.model.device.type == "cpu" else time.perf_counter
    started = clock()
    while True:
        unit = queue.next_unit()
        if unit is None and not any(late):
            return clock() - started, made
        if unit is not None:
            renderer.render(unit.attempts())
            made += len(unit.members)
        late.append([again(a) for a in unit.attempts() if rejected(a)] if unit is not None else [])
        for attempt in late.popleft():
            queue.put_retry(PendingAttempt(attempt))


def measure(args: argparse.Namespace, settings: ModelSettings) -> None:
    renderer = Renderer(resolve(settings), settings)
    todo = work(Case(args.weights, args.size, 8, 2.0), args.images)
    figures: dict[str, Any] = {}
    for batch in map(int, args.batches.split(",")):
        rates = {}
        for name in ("static", "slots"):
            seconds, made = min(run(renderer, todo, batch, slots=name == "slots") for _ in range(args.rounds))
            rates[name] = made / seconds
            figures[f"{name}_{batch}"] = round(made / seconds, 4)
            print(f"{name:8} batch {batch}: {made} attempts, {made / seconds:.3f} attempts/s")
        figures[f"slots_over_static_{batch}"] = round(rates["slots"] / rates["static"], 4)
    about = {"bench": "slots", "commit": commit(), "device": renderer.model.driver, "load": os.getloadavg()[0]}
    print(json.dumps({**about, "images": args.images, **figures}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="starter", help="starter, sd21 (the architecture, random weights), or a diffusers folder")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--batches", default="2,4")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--built", type=Path, help="folder that keeps real architectures for the next call")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        weights, scheduler = args.weights, "euler" if args.weights in ("starter", "sd21") else None
        if weights == "sd21":
            weights = str(architectures.built(weights, args.built or Path(folder), args.device))
        measure(args, ModelSettings(weights=weights, device=args.device, scheduler=scheduler, batch=1))


if __name__ == "__main__":
    main()
