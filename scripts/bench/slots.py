"""Step-level slots against the static path on ragged work: a prototype, measured before it may enter the renderer.

    python scripts/bench/slots.py                        the starter weights with the Euler sampler, on this CPU, one thread
    python scripts/bench/slots.py --flow                 first: is a flow-matching stand-in's picture the static path's too?

A pool of slots denoises; each slot has its own timestep and its own end, so that a finished image leaves and the next one, or a
re-render, enters at once. The static path is the farm's own: units of one batch key from `WorkQueue`, rendered by `Renderer`. Both get the
same work: mixed steps, one image in five rejected (a rejection is known one unit, or as many steps, later), and a tail. Times are CPU
seconds of the one thread. The last line is JSON.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import os
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from render import Case, attempts, commit

from pipeline.farm.work import Work, WorkQueue
from pipeline.models import ModelSettings, resolve
from pipeline.models.quiet import without_foreign_warnings
from pipeline.plan import attempt_of
from pipeline.render import Renderer, stages
from pipeline.schema import Attempt

STEPS = (6, 8, 10, 14)
REJECTED = 0.2
ATTEMPTS_MAX = 3


@dataclass(slots=True)
class Slot:
    """One image on its way: latents (1, C, h, w), its own noise levels and timesteps, and how far it is."""

    attempt: Attempt
    latents: torch.Tensor
    sigmas: torch.Tensor
    timesteps: torch.Tensor
    prompts: stages.Encoded
    negatives: stages.Encoded
    step: int = 0


class Pool:
    """Slots that step together, each at its own timestep: Euler's method for epsilon, v and flow predictions."""

    def __init__(self, renderer: Renderer, size: int) -> None:
        self.model = renderer.model
        self.cache = stages.PromptCache(self.model)
        self.flow = self.model.family.prediction == "flow"
        self.size = size
        self.slots: list[Slot] = []

    def enter(self, attempt: Attempt) -> None:
        """Puts an image into a free slot."""
        image, pipe = attempt.image, self.model.pipe
        scheduler = copy.deepcopy(pipe.scheduler)
        scheduler.set_timesteps(image.steps)
        noise = stages.draw_noise(self.model, [torch.Generator("cpu").manual_seed(attempt.seed)], image.width, image.height)
        self.slots.append(
            Slot(
                attempt,
                noise if self.flow else noise * scheduler.init_noise_sigma,
                scheduler.sigmas,
                scheduler.timesteps,
                self.cache.encode(image.prompt, None, negative=False),
                self.cache.encode(image.negative_prompt, None, negative=True),
            )
        )

    def tick(self) -> list[Slot]:
        """One step of every slot; returns those that are done, and frees them."""
        latents = torch.cat([slot.latents for slot in self.slots])
        shape = (-1, 1, 1, 1)
        sigma = torch.stack([slot.sigmas[slot.step] for slot in self.slots]).view(shape)
        following = torch.stack([slot.sigmas[slot.step + 1] for slot in self.slots]).view(shape)
        t = torch.stack([slot.timesteps[slot.step] for slot in self.slots])
        scaled = latents if self.flow else latents / (sigma**2 + 1).sqrt()
        sides = [[slot.negatives for slot in self.slots], [slot.prompts for slot in self.slots]]
        encoded = [torch.cat(parts) for parts in zip(*(part for side in sides for part in side), strict=True)]
        without, wanted = self._predict(torch.cat([scaled, scaled]), torch.cat([t, t]), encoded).chunk(2)
        guidance = torch.tensor([slot.attempt.image.guidance for slot in self.slots]).view(shape)
        made = without + guidance * (wanted - without)
        moved = latents + self._slope(latents, made, sigma) * (following - sigma)
        for slot, one in zip(self.slots, moved.split(1), strict=True):
            slot.latents, slot.step = one, slot.step + 1
        done = [slot for slot in self.slots if slot.step == len(slot.timesteps)]
        self.slots = [slot for slot in self.slots if slot.step < len(slot.timesteps)]
        return done

    def _predict(self, latents: torch.Tensor, t: torch.Tensor, encoded: Sequence[torch.Tensor]) -> torch.Tensor:
        if self.flow:
            prompt, pooled = encoded
            out = self.model.pipe.transformer(hidden_states=latents, timestep=t, encoder_hidden_states=prompt, pooled_projections=pooled)
        else:
            out = self.model.pipe.unet(latents, t, encoder_hidden_states=encoded[0])
        predicted: torch.Tensor = out.sample
        return predicted

    def _slope(self, latents: torch.Tensor, made: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """dx/dσ (Karras et al. 2022, algorithm 1); a flow's velocity is it already."""
        if self.flow or self.model.pipe.scheduler.config.prediction_type == "epsilon":
            return made
        clean = made * (-sigma / (sigma**2 + 1).sqrt()) + latents / (sigma**2 + 1)
        return (latents - clean) / sigma

    def pictures(self, slots: Sequence[Slot]) -> np.ndarray:
        """uint8 (B, H, W, 3)."""
        return stages.quantise(stages.decode(self.model, torch.cat([slot.latents for slot in slots]))).cpu().numpy()


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


def static(renderer: Renderer, todo: Sequence[Attempt], batch: int) -> tuple[float, int, int]:
    """CPU seconds, attempts and image steps of the farm's way; a rejection comes back after the unit that follows."""
    renderer.settings = renderer.settings.model_copy(update={"batch": batch})
    queue = WorkQueue(iter([Work(attempt) for attempt in todo]), batch)
    late: deque[list[Attempt]] = deque([[]])
    made = steps = 0
    started = time.process_time()
    while True:
        unit = queue.next_unit()
        if unit is None and not any(late):
            return time.process_time() - started, made, steps
        if unit is not None:
            renderer.render(unit.attempts())
            made += len(unit.works)
            steps += sum(a.image.steps for a in unit.attempts())
        late.append([again(a) for a in unit.attempts() if rejected(a)] if unit is not None else [])
        for attempt in late.popleft():
            queue.put_retry(Work(attempt))


def pooled(renderer: Renderer, todo: Sequence[Attempt], size: int) -> tuple[float, int, int]:
    """CPU seconds, attempts and image steps of the slots; a rejection comes back as many steps later as a unit has."""
    pool = Pool(renderer, size)
    fresh: Iterator[Attempt] = iter(todo)
    retries: deque[tuple[int, Attempt]] = deque()
    clock = made = steps = 0
    started = time.process_time()
    while True:
        while len(pool.slots) < size:
            due = retries.popleft()[1] if retries and retries[0][0] <= clock else next(fresh, None)
            if due is None:
                break
            pool.enter(due)
        if not pool.slots:
            if not retries:
                return time.process_time() - started, made, steps
            clock = retries[0][0]
            continue
        steps += len(pool.slots)
        done = pool.tick()
        clock += 1
        if done:
            pool.pictures(done)
            made += len(done)
            retries.extend((clock + 10, again(slot.attempt)) for slot in done if rejected(slot.attempt))


def apart(renderer: Renderer, todo: Sequence[Attempt]) -> int:
    """The largest difference in grey levels between the pool's pictures and the static path's, each image alone there."""
    pool = Pool(renderer, len(todo))
    for attempt in todo:
        pool.enter(attempt)
    worst = 0
    while pool.slots:
        for slot in pool.tick():
            alone = renderer.render([slot.attempt])[0][0].astype(int)
            worst = max(worst, int(np.abs(alone - pool.pictures([slot])[0]).max()))
    return worst


def flow_apart() -> int:
    """The same for a tiny Stable Diffusion 3.5 with random weights."""
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from tests.standins import save_family

    with tempfile.TemporaryDirectory() as folder:
        settings = ModelSettings(weights=str(save_family("sd3", Path(folder) / "sd3")), device="cpu", batch=1)
        return apart(Renderer(resolve(settings), settings), work(Case("sd3", 64, 8, 4.0), 5))


@torch.inference_mode()
@without_foreign_warnings()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=30)
    parser.add_argument("--batches", default="2,4")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--flow", action="store_true")
    args = parser.parse_args()
    case = Case("starter", 256, 8, 2.0)
    settings = ModelSettings(weights=case.weights, device="cpu", scheduler="euler", batch=1)
    renderer = Renderer(resolve(settings), settings)
    figures: dict[str, Any] = {"grey_levels_apart": apart(renderer, work(case, 5))}
    if args.flow:
        figures["grey_levels_apart_flow"] = flow_apart()
    todo = work(case, args.images)
    for batch in map(int, args.batches.split(",")):
        ways: dict[str, Callable[[Renderer, Sequence[Attempt], int], tuple[float, int, int]]] = {"static": static, "slots": pooled}
        rates = {}
        for name, way in ways.items():
            runs = [way(renderer, todo, batch) for _ in range(args.rounds)]
            seconds, made, steps = min(runs)
            rates[name] = made / seconds
            figures[f"{name}_{batch}"] = round(made / seconds, 4)
            print(f"{name:8} batch {batch}: {made} attempts, {steps} image steps, {made / seconds:.3f} attempts per CPU s")
        figures[f"slots_over_static_{batch}"] = round(rates["slots"] / rates["static"], 4)
    print(json.dumps({"bench": "slots", "commit": commit(), "load": os.getloadavg()[0], "images": args.images, **figures}))


if __name__ == "__main__":
    main()
