"""How far a picture moves when its prompt changes and its noise does not, and what a negative prompt takes away.

    python -m scripts.starter.fragility pipeline/renderfarm/starter --scenes 12

Distances are mean absolute differences in grey levels between pictures from the same noise: to a paraphrase, to the
prompt with its colour, object, or background word exchanged, and, as the yardstick, to the same prompt from other noise.
The negative prompt names the scene's own background: the share of pixels of the upper corners that leave its colour
is what it took away. The last line of stdout is one JSON document.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from scripts.starter.evaluate import load
from scripts.starter.sampling import sample
from scripts.starter.world import BACKGROUNDS, COLOURS, OBJECTS, Spec, captions, sample_spec

_MOVED = 12.0  # grey levels from which a corner pixel counts as changed


def edits(spec: Spec, rng: np.random.Generator) -> dict[str, str]:
    """The prompt and its changed forms, by the kind of change."""

    def other(values: list[str], current: str) -> str:
        return str(rng.choice([value for value in values if value != current]))

    return {
        "prompt": captions(spec)[0],
        "paraphrase": captions(spec)[-1],
        "colour": captions(replace(spec, colour=other(list(COLOURS), spec.colour)))[0],
        "object": captions(replace(spec, object=other(list(OBJECTS), spec.object)))[0],
        "background": captions(replace(spec, background=other(list(BACKGROUNDS), spec.background)))[0],
    }


def distance(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Mean absolute difference of two pictures or stacks, grey levels."""
    return round(float(np.abs(first.astype(np.int16) - second).mean()), 2)


def corners_changed(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Share of the pixels in the two upper corners (64x64 each) that differ by `_MOVED` or more in some channel."""
    moved = np.abs(first.astype(np.int16) - second).max(-1)[:, :64] >= _MOVED
    return round(float(np.concatenate([moved[:, :, :64], moved[:, :, -64:]], 2).mean()), 4)


def main() -> None:
    """Render the variants and print their distances."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the pipeline to measure")
    parser.add_argument("--scenes", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pipeline, _ = load(arguments.folder)
    rng = np.random.default_rng([arguments.seed, 0xF4A6])
    specs = [replace(sample_spec(rng, "held_out"), word=None) for _ in range(arguments.scenes)]
    forms = [edits(spec, rng) for spec in specs]
    prompts = {kind: [form[kind] for form in forms] for kind in forms[0]}
    pictures = {kind: sample(pipeline, texts, 100) for kind, texts in prompts.items()}
    plain = pictures.pop("prompt")
    moved = {kind: distance(plain, changed) for kind, changed in pictures.items()}
    moved["other_noise"] = distance(plain, sample(pipeline, prompts["prompt"], 9000))
    without = [
        sample(pipeline, [text], 100 + index, negative=BACKGROUNDS[spec.background][0])
        for index, (text, spec) in enumerate(zip(prompts["prompt"], specs, strict=True))
    ]
    removed = corners_changed(plain, np.concatenate(without))
    print(json.dumps({"scenes": len(specs), "distance": moved, "negative_background_changed": removed}))


if __name__ == "__main__":
    main()
