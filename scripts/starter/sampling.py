"""Pictures from the starter pipeline, and grids of them for people to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

STEPS = 10
GUIDANCE = 2.0


def sample(
    pipeline: Any,
    prompts: Sequence[str],
    seed: int,
    *,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
    negative: str = "",
    batch: int = 8,
) -> NDArray[np.uint8]:
    """One picture per prompt, uint8 (N, 256, 256, 3), sRGB. Prompt number i starts from noise seeded by `seed + i`."""
    pipeline.set_progress_bar_config(disable=True)
    images: list[NDArray[np.uint8]] = []
    for start in range(0, len(prompts), batch):
        part = list(prompts[start : start + batch])
        noise = [torch.Generator().manual_seed(seed + start + index) for index in range(len(part))]
        output = pipeline(
            part, negative_prompt=[negative] * len(part), height=256, width=256, num_inference_steps=steps,
            guidance_scale=guidance, guidance_rescale=0.0, generator=noise, output_type="np",
        ).images  # fmt: skip
        images.append(np.clip(np.round(output * 255), 0, 255).astype(np.uint8))
    return np.concatenate(images)


def grid(images: NDArray[np.uint8], path: Path, columns: int) -> None:
    """Write pictures (N, H, W, 3) as one PNG, row by row; N must be a multiple of `columns`."""
    rows = [np.concatenate(list(images[start : start + columns]), 1) for start in range(0, len(images), columns)]
    cv2.imwrite(str(path), np.concatenate(rows, 0)[..., ::-1])
