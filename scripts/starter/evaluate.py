"""Score starter weights on prompts that were never a caption in training.

    python -m scripts.starter.evaluate pipeline/renderfarm/starter --work .training

Renders `--prompts` held-out prompts (a quarter of them with a word), judges them (`judges`), and a second seed of 40 of
them; also times loading and one picture on one thread. The last line of stdout is the result as one JSON document.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from scripts.starter import judges
from scripts.starter.sampling import GUIDANCE, STEPS, grid, sample
from scripts.starter.world import Spec, captions, draw, sample_spec

_PAIRS = 40
_PAIR_DISTANCE = 2.0  # mean absolute difference in grey levels from which two pictures count as different


def held_out(count: int, seed: int) -> list[tuple[Spec, str]]:
    """`count` distinct held-out scenes with one of their captions; one in four bears a word."""
    rng = np.random.default_rng([seed, 0xE7A1])
    chosen: dict[Spec, str] = {}
    while len(chosen) < count:
        spec = sample_spec(rng, "held_out")
        words = sum(known.word is not None for known in chosen)
        if (spec.word is not None) == (words < count // 4 and len(chosen) % 4 == 0):
            chosen.setdefault(spec, str(rng.choice(captions(spec))))
    return list(chosen.items())


class Panel:
    """All judges together, and how often each is right about fresh held-out drawings."""

    def __init__(self, folder: Path, count: int, seed: int) -> None:
        self.colour = judges.colour_judge(seed)
        self.scene = judges.scene_judge(folder, count, seed)
        self.word = judges.WordJudge()

    def judge(self, images: NDArray[np.uint8], specs: list[Spec]) -> list[dict[str, bool]]:
        """One row per picture: which of the things asked for are seen."""
        rows: list[dict[str, bool]] = []
        for image, spec, (thing, count, place) in zip(images, specs, self.scene.judge(images), strict=True):
            row = {
                "colour": self.colour.right(image, spec),
                "object": thing == spec.object,
                "count": count == spec.count,
                "background": place == spec.background,
            }
            if spec.word is not None:
                row["word"] = self.word.read(image) == spec.word
            rows.append(row)
        return rows


def shares(rows: list[dict[str, bool]]) -> dict[str, float]:
    """Share of pictures in which each thing is right, among those where it was asked."""
    names = ("colour", "object", "count", "background", "word")
    asked = {name: [row[name] for row in rows if name in row] for name in names}
    return {name: round(float(np.mean(values)), 4) for name, values in asked.items() if values}


def pairs_fit(first: NDArray[np.uint8], second: NDArray[np.uint8], rows: list[dict[str, bool]]) -> float:
    """Share of pairs that differ by pixels and both fit; `rows` are the judgements of first and then second."""
    half = len(first)
    distance = np.abs(first.astype(np.int16) - second).mean((1, 2, 3))
    fits = [all(v for row in (rows[i], rows[i + half]) for k, v in row.items() if k != "word") for i in range(half)]
    return round(float(np.mean([f and d >= _PAIR_DISTANCE for f, d in zip(fits, distance, strict=True)])), 4)


def load(folder: Path) -> tuple[Any, float]:
    """The pipeline and the seconds its loading took."""
    from diffusers import StableDiffusionPipeline

    start = time.perf_counter()
    options = {"safety_checker": None, "requires_safety_checker": False}
    pipeline = StableDiffusionPipeline.from_pretrained(folder, **options)
    return pipeline, time.perf_counter() - start


def timed(pipeline: Any) -> float:
    """Fastest of three single pictures, seconds; the fastest is the least disturbed by other processes."""
    seconds = []
    for seed in range(3):
        start = time.perf_counter()
        sample(pipeline, ["a red mug on a wooden table"], seed)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def main() -> None:
    """Render, judge and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the pipeline to score")
    parser.add_argument("--work", type=Path, default=Path(".training"), help="folder with the training pictures")
    parser.add_argument("--pictures", type=int, default=10_000, help="how many training pictures lie there")
    parser.add_argument("--prompts", type=int, default=240)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--guidance", type=float, default=GUIDANCE)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.work.mkdir(parents=True, exist_ok=True)
    pipeline, load_s = load(arguments.folder)
    image_s = timed(pipeline)
    panel = Panel(arguments.work, arguments.pictures, arguments.seed)
    chosen = held_out(arguments.prompts, arguments.seed)
    specs, prompts = [spec for spec, _ in chosen], [prompt for _, prompt in chosen]
    drawn = np.stack([draw(spec, 900_000 + index) for index, spec in enumerate(specs)])
    settings = {"steps": arguments.steps, "guidance": arguments.guidance}
    images = sample(pipeline, prompts, 1000, **settings)
    again = sample(pipeline, prompts[:_PAIRS], 5000, **settings)
    rows, repeat = panel.judge(images, specs), panel.judge(again, specs[:_PAIRS])
    shown = len(images) // 12 * 12
    grid(images[:shown], arguments.work / "evaluation.png", columns=12)
    kept = [{"prompt": p} | row for p, row in zip(prompts, rows, strict=True)]
    (arguments.work / "evaluation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    result = {
        "prompts": len(prompts), **settings, "held_out": shares(rows), "judges_on_drawings": shares(panel.judge(drawn, specs)),
        "pairs": pairs_fit(images[:_PAIRS], again, rows[:_PAIRS] + repeat),
        "load_s": round(load_s, 2), "image_s": round(image_s, 2),
    }  # fmt: skip
    print(json.dumps(result))


if __name__ == "__main__":
    main()
