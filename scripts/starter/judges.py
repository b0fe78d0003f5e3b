"""Judges of starter pictures that are not the model: colour from pixels, kind and count and place from a small
classifier of drawings, words from RapidOCR. Each states its own accuracy on fresh drawings before it judges."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from scripts.starter.data import pictures, spec_at
from scripts.starter.drawing import SIZE
from scripts.starter.world import BACKGROUNDS, COLOURS, COUNTS, OBJECTS, Spec, draw, sample_spec, slots

_SMALL = 64


def _patch_lab(image: NDArray[np.uint8], x: float, base: float, half: float) -> NDArray[np.float32]:
    """Median CIELAB colour (3) of the middle of an object that stands at (x, base), frame units."""
    left, right = (round((x + u * half) * SIZE) for u in (-0.25, 0.25))
    top, bottom = (round((base + (v - 1) * half) * SIZE) for v in (-0.45, 0.1))
    patch = image[top:bottom, left:right].astype(np.float32) / 255
    lab = cv2.cvtColor(patch, cv2.COLOR_RGB2LAB).reshape(-1, 3)
    return np.asarray(np.median(lab, axis=0), np.float32)


@dataclass(frozen=True, slots=True)
class ColourJudge:
    """Nearest of the ten colours as they look in drawings, in CIELAB, at each place where an object should stand."""

    prototypes: NDArray[np.float32]

    def colours(self, image: NDArray[np.uint8], spec: Spec) -> list[str]:
        """The colour seen at each of the spec's places."""
        names = list(COLOURS)
        seen = [_patch_lab(image, *slot) for slot in slots(spec)]
        return [names[int(np.argmin(np.linalg.norm(self.prototypes - lab, axis=1)))] for lab in seen]

    def right(self, image: NDArray[np.uint8], spec: Spec) -> bool:
        """Whether every place shows the colour asked for."""
        return all(colour == spec.colour for colour in self.colours(image, spec))


def colour_judge(seed: int, drawings: int = 300) -> ColourJudge:
    """Measure the prototypes on drawings."""
    rng = np.random.default_rng([seed, 1])
    seen: dict[str, list[NDArray[np.float32]]] = {name: [] for name in COLOURS}
    for index in range(drawings):
        spec = sample_spec(rng, "train")
        image = draw(spec, seed + index)
        seen[spec.colour] += [_patch_lab(image, *slot) for slot in slots(spec)]
    return ColourJudge(np.stack([np.median(labs, axis=0) for labs in seen.values()]))


class SceneJudge(torch.nn.Module):
    """A small convolutional classifier of 64x64 pictures: logits of object, count and background."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes = (len(OBJECTS), len(COUNTS), len(BACKGROUNDS))
        layers: list[torch.nn.Module] = []
        for inner, outer in ((3, 24), (24, 48), (48, 96)):
            layers += [torch.nn.Conv2d(inner, outer, 3, 2, 1), torch.nn.BatchNorm2d(outer), torch.nn.ReLU()]
        self.body = torch.nn.Sequential(*layers, torch.nn.AdaptiveAvgPool2d((4, 8)), torch.nn.Flatten())
        self.head = torch.nn.Linear(96 * 32, sum(self.sizes))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Float (B, 3, 64, 64) to three logit tensors."""
        logits: torch.Tensor = self.head(self.body(images))
        parts: tuple[torch.Tensor, ...] = logits.split(list(self.sizes), dim=1)
        return parts

    @torch.no_grad()
    def judge(self, images: NDArray[np.uint8]) -> list[tuple[str, int, str]]:
        """Object, count and background seen in pictures (N, 256, 256, 3)."""
        small = torch.cat([_small(image) for image in images])
        objects, counts, places = (part.argmax(1).tolist() for part in self.eval()(small))
        names = list(BACKGROUNDS)
        return [(OBJECTS[o], COUNTS[c], names[p]) for o, c, p in zip(objects, counts, places, strict=True)]


def _small(image: NDArray[np.uint8]) -> torch.Tensor:
    small = cv2.resize(image, (_SMALL, _SMALL), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(small).permute(2, 0, 1)[None].float().div(127.5).sub(1)


def scene_judge(folder: Path, count: int, seed: int, drawings: int = 3000, epochs: int = 6) -> SceneJudge:
    """Train on the first `drawings` training pictures, half of them blurred, so that sharpness is not what it sees."""
    torch.manual_seed(seed)
    drawings = min(drawings, count)
    data = pictures(folder, count, seed)
    specs = [spec_at(index, seed) for index in range(drawings)]
    labels = torch.tensor([[OBJECTS.index(s.object), COUNTS.index(s.count), list(BACKGROUNDS).index(s.background)] for s in specs])
    blurred = [cv2.GaussianBlur(data[i], (0, 0), 3.5) if i % 2 else np.array(data[i]) for i in range(drawings)]
    images = torch.cat([_small(np.asarray(image, np.uint8)) for image in blurred])
    judge = SceneJudge()
    optimiser = torch.optim.AdamW(judge.parameters(), 2e-3)
    per_epoch = math.ceil(drawings / 32)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, epochs * per_epoch)
    judge.train()
    for _ in range(epochs):
        for rows in torch.randperm(drawings).split(32):
            noisy = images[rows] + 0.05 * torch.randn_like(images[rows])
            parts = zip(judge(noisy), labels[rows].unbind(1), strict=True)
            loss = torch.stack([torch.nn.functional.cross_entropy(logits, label) for logits, label in parts]).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return judge


class WordJudge:
    """RapidOCR with its bundled models; a word is right when the joined text is exactly the word."""

    def __init__(self) -> None:
        from rapidocr import RapidOCR

        self.engine: Any = RapidOCR()

    def read(self, image: NDArray[np.uint8]) -> str:
        """The text seen, upper case, letters only, pieces joined; the picture is enlarged twofold first."""
        large = cv2.resize(image, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
        texts = self.engine(large[..., ::-1]).txts or ()
        return "".join(character for character in "".join(texts).upper() if character.isalpha())
