"""Tiny random weights and attempts for the tests. Nothing is downloaded; what is slow to build is kept in the user's
cache."""

from __future__ import annotations

from pathlib import Path

from pipeline.models.fingerprint import cache_folder
from pipeline.models.starter import standin_folder
from pipeline.schema import Attempt, PlannedImage


def sd_folder() -> Path:
    """Returns the random stand-in that renderfarm itself uses: Stable Diffusion 2's architecture, v-prediction."""
    return standin_folder(cache_folder())


def attempt(
    name: str = "a",
    *,
    prompt: str = "a red mug",
    negative: str = "",
    seed: int = 7,
    size: tuple[int, int] = (64, 64),
    steps: int = 2,
    guidance: float = 4.0,
    adapter: str | None = None,
    number: int = 1,
) -> Attempt:
    """Returns an attempt at an image of `size` (width, height) in pixels."""
    image = PlannedImage(
        image_id=name,
        row_id=f"row-{name}",
        row_digest="0" * 64,
        index=0,
        prompt=prompt,
        negative_prompt=negative,
        seed=seed,
        width=size[0],
        height=size[1],
        steps=steps,
        guidance=guidance,
        text=None,
        objects=(),
        adapter=adapter,
        init_image=None,
        init_digest=None,
        mask_image=None,
        mask_digest=None,
        strength=None,
        tags=(),
    )
    return Attempt(image, number, seed)
