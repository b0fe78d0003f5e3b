"""Trains the counter of starter pictures (`pipeline/renderfarm/checks/starterscene.py`) on drawings, and states how often it is right.

    python -m scripts.starter.counter pipeline/renderfarm/checks/starterscene.safetensors     trains, then measures
    python -m scripts.starter.counter --rendered 96                                measures what is there

Accuracy is stated on fresh drawings of held-out scenes, and on pictures that the starter weights render from held-out captions. There the
caption is taken as the truth, so the model's own mistakes count against the counter. Ends with one JSON line.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from renderfarm.checks.starterscene import CLASSES, COUNTS, SIDE, WEIGHTS, StarterScene
from scripts.starter.world import OBJECTS, Spec, captions, draw, sample_spec

assert CLASSES == OBJECTS
_WIDTHS = ((3, 24), (24, 48), (48, 96))


class Counter(torch.nn.Module):
    """What `StarterScene` computes, before its batch normalisations are folded into the convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Conv2d(a, b, 3, 2, 1) for a, b in _WIDTHS)
        self.norms = torch.nn.ModuleList(torch.nn.BatchNorm2d(b) for _, b in _WIDTHS)
        self.head = torch.nn.Linear(96 * 32, len(CLASSES) + len(COUNTS))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Float (B, 3, 64, 64) to logits (B, 11): classes, then counts."""
        for layer, norm in zip(self.layers, self.norms, strict=True):
            images = torch.relu(norm(layer(images)))
        pooled = images.reshape(len(images), 96, 4, 2, 8, 1).mean(dim=(3, 5))
        logits: torch.Tensor = self.head(pooled.flatten(1))
        return logits

    def folded(self) -> dict[str, torch.Tensor]:
        """The tensors of the package's file."""
        found = {}
        for at, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            assert isinstance(layer, torch.nn.Conv2d) and isinstance(norm, torch.nn.BatchNorm2d)
            assert layer.bias is not None and norm.running_mean is not None and norm.running_var is not None
            gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            found[f"{at}.weight"] = (layer.weight * gain[:, None, None, None]).detach().contiguous()
            found[f"{at}.bias"] = ((layer.bias - norm.running_mean) * gain + norm.bias).detach().contiguous()
        return found | {"head.weight": self.head.weight.detach(), "head.bias": self.head.bias.detach()}


def small(image: NDArray[np.uint8]) -> torch.Tensor:
    """uint8 (H, W, 3) to float (3, 64, 64) in -1..1."""
    resized = np.asarray(cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA))
    return torch.from_numpy(resized).permute(2, 0, 1).float().div(127.5).sub(1)


def train(drawings: int, epochs: int, seed: int) -> Counter:
    """On training scenes, three in four of them blurred as the decoder blurs, with noise, gain and a shift."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    specs = [sample_spec(np.random.default_rng([seed, 0xC0, at])) for at in range(drawings)]
    images = []
    for at, spec in enumerate(specs):
        picture = draw(spec, 7_000_000 + at)
        if at % 4:
            picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.5, 4.5))), np.uint8)
        images.append(small(picture))
    data, labels = torch.stack(images), torch.tensor([[OBJECTS.index(s.object), COUNTS.index(s.count)] for s in specs])
    counter = Counter()
    optimiser = torch.optim.AdamW(counter.parameters(), 2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, epochs * math.ceil(drawings / 64))
    for _ in range(epochs):
        for rows in torch.randperm(drawings).split(64):
            batch = data[rows] * (1 + 0.15 * torch.randn(len(rows), 1, 1, 1)) + 0.1 * torch.randn(len(rows), 3, 1, 1)
            batch = torch.roll(batch, tuple(int(v) for v in rng.integers(-2, 3, 2)), (2, 3)) + 0.06 * torch.randn_like(batch)
            logits = counter(batch)
            loss = torch.nn.functional.cross_entropy(logits[:, : len(CLASSES)], labels[rows, 0])
            loss = loss + torch.nn.functional.cross_entropy(logits[:, len(CLASSES) :], labels[rows, 1])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return counter.eval()


def accuracy(scene: StarterScene, pictures: list[tuple[NDArray[np.uint8], Spec]]) -> dict[str, float | int]:
    """How many counts are right, wrong and not answered, and the CPU time."""
    start = time.process_time()
    answers = [scene.count(image, spec.object) for image, spec in pictures]
    right = sum(a is not None and a.count == spec.count for a, (_, spec) in zip(answers, pictures, strict=True))
    unsure = sum(a is None for a in answers)
    spent = 1000 * (time.process_time() - start) / max(1, len(pictures))
    return {"pictures": len(pictures), "right": right, "wrong": len(pictures) - right - unsure, "unsure": unsure, "cpu_ms": round(spent, 2)}


def rendered(count: int, seed: int) -> list[tuple[NDArray[np.uint8], Spec]]:
    """Pictures of held-out captions by the starter weights, without words."""
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained("pipeline/renderfarm/starter", safety_checker=None, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    found = []
    for at in range(count):
        rng = np.random.default_rng([seed, at])
        spec = next(s for s in (sample_spec(rng, "held_out") for _ in itertools.count()) if s.word is None)
        noise = torch.Generator().manual_seed(at)
        image = pipe(captions(spec)[0], height=256, width=256, num_inference_steps=10, guidance_scale=2.0, generator=noise).images[0]
        found.append((np.asarray(image), spec))
    return found


def main() -> int:
    """Trains where a file is named; measures; one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, nargs="?", help="where to write the trained weights")
    parser.add_argument("--drawings", type=int, default=9000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rendered", type=int, default=0, help="pictures to render and count")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.out:
        save_file(train(args.drawings, args.epochs, args.seed).folded(), args.out)
    scene = StarterScene()
    scene.prepare()
    fresh = [sample_spec(np.random.default_rng([args.seed, 0xF5, at]), "held_out") for at in range(1000)]
    result = {"bench": "starter counter", "bytes": WEIGHTS.stat().st_size}
    result["drawings"] = accuracy(scene, [(draw(spec, 9_000_000 + at), spec) for at, spec in enumerate(fresh)])
    if args.rendered:
        result["rendered"] = accuracy(scene, rendered(args.rendered, args.seed))
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
