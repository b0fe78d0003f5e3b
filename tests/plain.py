"""What a user of diffusers gets: one pipeline, one call, one picture. Ours is held against it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch

from renderfarm.models.quiet import drop_foreign_warnings, quieten

CALL = {"prompt": "a red mug", "num_inference_steps": 2, "guidance_scale": 4.0, "width": 64, "height": 64}
"""What `standins.attempt` asks for by default."""


def loaded(folder: Path, change: Callable[[Any], object] = lambda pipe: None) -> Any:
    """The folder's pipeline, with what a user would do to it next."""
    quieten()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe: Any = diffusers.DiffusionPipeline.from_pretrained(str(folder), safety_checker=None, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    change(pipe)
    return pipe


def drawn(pipe: Any, seed: int = 7, **call: Any) -> np.ndarray:
    """uint8 (H, W, 3)."""
    arguments = {**CALL, "generator": torch.Generator("cpu").manual_seed(seed), "output_type": "np", **call}
    drop_foreign_warnings()
    picture: np.ndarray = pipe(**arguments).images[0]
    return (picture * 255).round().astype(np.uint8)


def apart(one: np.ndarray, other: np.ndarray) -> int:
    """Largest difference of two pictures of one size, in grey levels."""
    assert one.shape == other.shape
    return int(np.abs(one.astype(int) - other.astype(int)).max())
