"""The pictures that `watermark.py` marks: photographs of installed packages, pictures that the starter weights render, and drawn posters,
gradients, logos and dark ones.

Of eight pictures four are photographs, two generated (one of them at the 256x256 pixels it was rendered in, one enlarged as the others
are) and two drawn; without generated ones photographs take their places.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from renderfarm.models import ModelSettings, resolve
from renderfarm.pictures import decode, read_file
from renderfarm.render import Renderer
from renderfarm.schema import Attempt, PlannedImage
from scripts.bench.watermark_others import Picture
from scripts.starter.world import captions, sample_spec

Rng = np.random.Generator
SIDES = (256, 320, 384, 512, 512, 640, 768, 1024, 1024, 1536, 2048)
FLAT = ("poster", "gradient", "logo", "dark")
STARTER_SIDE, STARTER_STEPS, STARTER_GUIDANCE = 256, 10, 2.0


@dataclass(frozen=True, slots=True)
class Sample:
    """A picture to mark: its kind ("photo", "poster", ...) and pixels, uint8 (H, W, 3)."""

    kind: str
    pixels: Picture


@cache
def photographs() -> list[Picture]:
    """uint8 (H, W, 3) each: what installed packages carry."""
    from skimage import data

    names = "astronaut coffee chelsea camera rocket retina immunohistochemistry hubble_deep_field brick gravel grass coins moon"
    out = [np.asarray(getattr(data, name)()) for name in names.split()]
    out.append(np.asarray(data.stereo_motorcycle()[0]))
    try:
        from sklearn.datasets import load_sample_images

        out += [np.asarray(image) for image in load_sample_images().images]
    except ImportError:
        print("scikit-learn is not installed: without its two photographs", file=sys.stderr)
    return [np.repeat(p[..., None], 3, 2) if p.ndim == 2 else np.ascontiguousarray(p[..., :3]) for p in out]


def of_folder(folder: Path) -> list[Picture]:
    """uint8 (H, W, 3) each: the PNG files of a folder, sixty at most."""
    out = [decode(read_file(path)) for path in sorted(folder.rglob("*.png"))[:60]]
    return [np.repeat(p[..., None], 3, 2) if p.ndim == 2 else np.ascontiguousarray(p[..., :3]) for p in out]


def rendered(count: int, seed: int) -> list[Picture]:
    """uint8 (256, 256, 3) each: what the starter weights draw for prompts that no training saw; unmarked. 1.1 s each."""
    settings = ModelSettings(weights="starter", device="cpu")
    renderer, out = Renderer(resolve(settings), settings), []
    for n in range(count):
        spec = sample_spec(np.random.default_rng([seed, n, 0xE7A1]), "held_out")
        image = PlannedImage(
            f"{n:032x}", f"row-{n}", "", 0, captions(spec)[0], "", n, STARTER_SIDE, STARTER_SIDE, STARTER_STEPS, STARTER_GUIDANCE,
            None, (), None, None, None, None, None, None, (),
        )  # fmt: skip
        out.append(np.asarray(renderer.render([Attempt(image, 1, seed + n)])[0][0], np.uint8))
    return out


def draw(kind: str, height: int, width: int, rng: Rng) -> Picture:
    """uint8 (H, W, 3): a flat poster with shapes and text, a gradient, a logo on white, or a dark picture."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    if kind == "gradient":
        ends, t = rng.uniform(0, 255, (2, 3)), ((x / width + y / height) / 2)[..., None]
        blend: Picture = np.clip(np.round(ends[0] * (1 - t) + ends[1] * t), 0, 255).astype(np.uint8)
        return blend
    ground = {"poster": rng.uniform(30, 225, 3), "logo": np.full(3, 255.0), "dark": np.full(3, rng.uniform(3, 20))}[kind]
    out = np.tile(ground, (height, width, 1))
    top, short = 45 if kind == "dark" else 255, min(height, width)
    for _ in range(rng.integers(2, 7)):
        cy, cx = rng.uniform(0.15, 0.85) * height, rng.uniform(0.15, 0.85) * width
        r = rng.uniform(0.05, 0.22) * short
        shape = np.hypot(y - cy, x - cx) < r if rng.random() < 0.5 else np.maximum(abs(y - cy), 1.7 * abs(x - cx)) < r
        out[shape] = rng.uniform(0, top, 3)
    colour = tuple(float(c) for c in rng.uniform(0, top, 3))
    canvas = np.ascontiguousarray(np.clip(np.round(out), 0, 255).astype(np.uint8))
    place = (int(0.1 * width), int(0.85 * height))
    cv2.putText(canvas, "SUMMER SALE", place, cv2.FONT_HERSHEY_SIMPLEX, short / 300, colour, max(1, short // 150), cv2.LINE_AA)
    return canvas


def sample_at(index: int, rng: Rng, generated: Sequence[Picture], side: int | None = None) -> Sample:
    """One picture (module's text); of one size when `side` is given."""
    short = side or int(rng.choice(SIDES))
    long = short if side or rng.random() < 0.5 else min(2048, int(short * rng.uniform(1.05, 2.0)))
    height, width = (short, long) if rng.random() < 0.5 else (long, short)
    if index % 4 == 3:
        kind = FLAT[index // 4 % len(FLAT)]
        return Sample(kind, draw(kind, height, width, rng))
    if index % 4 == 1 and generated:
        picture = generated[index // 4 % len(generated)]
        return Sample("generated", picture if index % 8 == 1 and not side else _cut(picture, height, width, rng))
    photos = photographs()
    return Sample("photo", _cut(photos[index % len(photos)], height, width, rng))


def _cut(picture: Picture, height: int, width: int, rng: Rng) -> Picture:
    """A part of this size of the picture, resized to be just large enough."""
    zoom = max(height / picture.shape[0], width / picture.shape[1])
    size = (max(width, round(picture.shape[1] * zoom)), max(height, round(picture.shape[0] * zoom)))
    big = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC)
    top, left = (int(rng.integers(0, have - want + 1)) for have, want in ((size[1], height), (size[0], width)))
    return np.ascontiguousarray(big[top : top + height, left : left + width])


def samples(count: int, rng: Rng, generated: Sequence[Picture], side: int | None = None) -> Iterator[Sample]:
    """`count` pictures."""
    return (sample_at(index, rng, generated, side) for index in range(count))
